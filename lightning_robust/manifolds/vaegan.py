"""A variational auto-encoder with a discriminator: a manifold learned from data."""

from collections.abc import Callable, Sequence
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lightning_robust import _checks
from lightning_robust._checks import boolean, count, counts, number, one_or_more
from lightning_robust._noise import Noise
from lightning_robust.manifolds._given_class import GivenClass
from lightning_robust.manifolds._learned import EncoderDecoder
from lightning_robust.manifolds._per_class import PerClass
from lightning_robust.manifolds.losses import (
    below,
    confusion_loss,
    discriminator_loss,
    generator_loss,
    kl_divergence,
    reconstruction_loss,
    wide,
)
from lightning_robust.manifolds.networks import ImageShape, code_classifier, decoder, discriminator, encoder, plan


@final
class VAEGAN(EncoderDecoder):
    r"""A VAE-GAN: one for all data, one for each class, or one that is given the class; trained in one run.

    With code :math:`z = \mu + \sigma \epsilon`, :math:`(\mu, \sigma) = \mathrm{enc}(x)`, reconstruction :math:`\hat x =
    \mathrm{dec}(z)` and discriminator D, the networks minimise

    .. math::

        \text{enc:} \quad & \mathrm{KL}(N(\mu, \sigma^2) \| N(0, 1)) + \beta \|x - \hat x\|_1
            - \gamma \log \sigma(D(\hat x)) + \eta \|\log \sigma^2\|_1 \\
        \text{dec:} \quad & \beta \|x - \hat x\|_1 - \gamma \log \sigma(D(\hat x)) \\
        D: \quad & \gamma \big[ -\log \sigma(D(x)) - \log(1 - \sigma(D(\hat x))) \big]

    summed over samples and pixels. All gradients are taken at the same weights, then three Adam steps are made. (The
    paper's code steps the encoder before it differentiates the decoder's loss, which PyTorch refuses since 1.5.) Where
    `gamma` is 0 there is no discriminator, and this is a plain VAE.

    It is a manifold: `LatentSpace(vaegan)` moves codes within `bounds`. Put it on the device of the classifier
    (`vaegan.to(device)`).

    The logarithm of the variance is kept below 10, smoothly: Adam's first steps can take it to where its exponential
    overflows.

    - Class-agnostic: `num_classes=1`, trained on all data. Labels are ignored.
    - Class-specific: `num_classes=1`, trained on the images of one class; `bank` joins such models.
    - Conditional: `num_classes=K, conditional=True`. One encoder, decoder and discriminator for all classes. Decoder
      and discriminator get the class, the encoder does not. So the class is drawn by the label, and there is no network
      by which it could be known. With `confusion` codes are trained not to tell the class, see below.
    - A bank: `num_classes=K`. Each class has its own three networks, which see its own samples only, and all classes
      train in one run. The label of a sample chooses its networks. Classes do not influence each other: not by batch
      normalization, which takes the statistics of each class; not by clipping, which takes the norm of each class; and
      a class that a batch has no sample of makes no step. Give it K times the batch size of one model.

    Codes of a conditional model may still hold the class, although the decoder knows it. With `confusion` =
    :math:`\lambda > 0` a classifier q of codes, with their noise, is an adversary of the encoder:

    .. math::

        \text{enc:} \quad & \ldots + \lambda\, \mathrm{KL}\big( \tfrac1K \,\big\|\, q(\cdot \mid z) \big) \\
        q: \quad & - \lambda \log q(y \mid z)

    Batches are (x, y, ...), x in [0, 1] of shape (N, C, H, W). Logged are `train/rec`, `train/kl`, `train/gan`,
    `train/disc` and, with `confusion`, `train/confusion` and `train/code_class` per sample, and for validation and test
    `val/rec_mse` (mean squared error of a pixel, from the mean code), `val/code_mean`, `val/code_var` and
    `val/code_within_2`, see `CodeQuality`. `trainer.global_step` counts the steps of all optimizers.

    The noise in the codes depends on (content of the sample, `seed`, epoch) and nothing else. Hence training goes on
    from a checkpoint, also in the middle of an epoch, as if it had never stopped, provided that the loader brings the
    same batches.

    Under DDP with W processes gradients are those of the sum over all processes; batch normalization takes statistics
    of each process.

    Args:
        image_shape: (C, H, W): 28 x 28 and 56 x 48 as in the paper, or any other of at least 4 x 4 pixels.
        latent: Z, the dimension of a code. The paper: 10; CelebA 25.
        num_classes: K, the number of classes that have networks of their own, or that the networks are told; 1: one
            model for all that it is given.
        conditional: whether one network of each kind is for all classes, where K is above 1.
        confusion: weight of the term that keeps codes from telling the class; above 0 in conditional models alone.
        width: of the networks: 1 is the paper's (64, 128, 256 channels), 0.25 a quarter of it.
        beta: weight of the reconstruction, or K of them. The paper: 3; EMNIST 2.25 (5 for class 1, 3 for class 7);
            Fashion-MNIST 2.75.
        gamma: weight of the discriminator; 0: a plain VAE.
        eta: weight of the penalty on the logarithm of the variance.
        p: the reconstruction is the sum of absolute (1) or squared (2) errors.
        lr: step size of Adam, with betas (0.5, 0.9).
        lr_decay: what the step size is multiplied by over an epoch, in small parts after each batch.
        weight_decay: of Adam, added to the gradient.
        gradient_clip_val: the largest Euclidean norm of the gradient of one network of one class; None: no clipping.
            (The Trainer's argument of this name does not reach manual optimization.)
        init_std: the deviation of the first weights of encoder and decoder, 0.001 in the paper's code; None: by fan-in.
        bound: codes are valid in [-bound, bound]; None: between the least and the greatest entry of the training codes,
            in each dimension, as in the paper's attacks, set after each epoch (one more pass of the encoder) or by
            `fit_bounds`.
        seed: of the noise in the codes.

    Raises:
        ValueError: if an argument has another value than said here.

    Example:
        >>> model = VAEGAN((1, 28, 28), latent=4, num_classes=3, width=1 / 16, bound=2.0)
        >>> x, y = torch.rand(5, 1, 28, 28), torch.tensor([2, 0, 0, 1, 2])
        >>> z = model.encode(x, y)
        >>> z.shape, model.decode(z, y).shape
        (torch.Size([5, 4]), torch.Size([5, 1, 28, 28]))

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        section 3.3 and supplementary material; Larsen et al., "Autoencoding beyond pixels using a learned similarity
        metric", ICML 2016. Conditional models: Sohn, Lee, Yan, "Learning structured output representation using deep
        conditional generative models", NeurIPS 2015, whose encoder gets the class too; Mirza, Osindero, "Conditional
        generative adversarial nets", 2014 (arXiv 1411.1784). An adversary on codes: Lample et al., "Fader networks",
        NeurIPS 2017 (arXiv 1706.00409), with the confusion term of Tzeng et al., ICCV 2015 (arXiv 1510.02192).
    """

    beta: Tensor

    def __init__(
        self,
        image_shape: ImageShape = (1, 28, 28),
        *,
        latent: int = 10,
        num_classes: int = 1,
        conditional: bool = False,
        confusion: float = 0.0,
        width: float = 1.0,
        beta: float | Sequence[float] = 3.0,
        gamma: float = 1.0,
        eta: float = 0.0,
        p: int = 1,
        lr: float = 0.005,
        lr_decay: float = 0.9,
        weight_decay: float = 1e-4,
        gradient_clip_val: float | None = None,
        init_std: float | None = 0.001,
        bound: float | None = None,
        seed: int = 0,
    ) -> None:
        plan(image_shape, width)
        image_shape, width = cast(ImageShape, counts("image_shape", image_shape)), number("width", width)
        latent, num_classes = count("latent", latent), count("num_classes", num_classes)
        beta = one_or_more("beta", beta, 0, above=True)
        beta = list(beta) if isinstance(beta, tuple) else beta  # as a checkpoint keeps it
        betas = torch.tensor(beta, dtype=torch.float32).flatten()
        if len(betas) not in (1, num_classes):
            raise ValueError(f"Expected argument `beta` to be one number or {num_classes}, but got {len(betas)}.")
        gamma, eta = number("gamma", gamma, 0), number("eta", eta, 0)
        conditional, confusion = boolean("conditional", conditional), number("confusion", confusion, 0)
        if conditional and num_classes == 1:
            raise ValueError("Expected argument `num_classes` to be at least 2 where `conditional` is set, but got 1.")
        if confusion and not conditional:
            raise ValueError(
                f"Expected argument `confusion` to be 0 unless `conditional` is set, but got {confusion}: a decoder "
                "that is not told the class needs it in the code."
            )
        p, seed = count("p", p, 1, 2), _checks.seed("seed", seed)
        lr, lr_decay = number("lr", lr, 0, above=True), number("lr_decay", lr_decay, 0, 1, above=True)
        weight_decay = number("weight_decay", weight_decay, 0)
        if gradient_clip_val is not None:
            gradient_clip_val = number("gradient_clip_val", gradient_clip_val, 0, above=True)
        init_std = None if init_std is None else number("init_std", init_std, 0)
        bound = None if bound is None else number("bound", bound, 0, above=True)

        def one_each(build: Callable[[], nn.Module]) -> PerClass:
            return PerClass([build() for _ in range(1 if conditional else num_classes)])

        encoding = one_each(lambda: encoder(image_shape, latent, width, init_std))
        if conditional:
            decoding: nn.Module = GivenClass(decoder(image_shape, latent + num_classes, width, init_std), num_classes)
        else:
            decoding = one_each(lambda: decoder(image_shape, latent, width, init_std))
        super().__init__(encoding, decoding, latent, num_classes, bound)
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.seed = seed
        self.discriminator: nn.Module | None = None
        if gamma and conditional:
            channels, *size = image_shape
            seeing = discriminator((channels + 1, size[0], size[1]), width)
            self.discriminator = GivenClass(seeing, num_classes, (size[0], size[1]))
        elif gamma:
            self.discriminator = one_each(lambda: discriminator(image_shape, width))
        self.adversary = one_each(lambda: code_classifier(latent, num_classes)) if confusion else None
        self.register_buffer("beta", betas.expand(num_classes).clone(), persistent=False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> "VAEGAN":
        """As any LightningModule; a checkpoint of another module is refused."""
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"Expected argument `checkpoint_path` to be a checkpoint of a VAEGAN, but {str(checkpoint_path)!r} "
                f"cannot be read as one: {error}"
            ) from error

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for each network; the networks of a class that has no gradient stay as they are."""
        options = {"lr": self.hparams["lr"], "betas": (0.5, 0.9), "weight_decay": self.hparams["weight_decay"]}
        return [torch.optim.Adam(network.parameters(), **options) for network in self._networks()]

    def on_fit_start(self) -> None:
        """Refuse float16: losses summed over pixels do not fit into it."""
        if "16" in str(self.trainer.precision) and "bf16" not in str(self.trainer.precision):
            raise ValueError(f'Expected a precision of 32, 64 or "bf16-mixed", but got {self.trainer.precision!r}.')

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of all networks."""
        x, y = batch[0], batch[1]
        terms, loss = self._losses(x, y)
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self._backward(loss, y)
        for network, optimizer in zip(self._networks(), optimizers, strict=True):
            if self.hparams["gradient_clip_val"] is not None:
                for member in network.members if isinstance(network, PerClass) else (network,):
                    nn.utils.clip_grad_norm_(member.parameters(), self.hparams["gradient_clip_val"])
            for group in optimizer.param_groups:
                group["lr"] = self._lr(batch_idx)
            optimizer.step()
        self.log_dict({f"train/{name}": term.detach().mean() for name, term in terms.items()}, batch_size=len(x))

    def _losses(self, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The terms of the losses, (N,) each, and a sum whose gradient is, for each network, that of its own loss.

        No network appears in another's terms: the decoder's parameters are not in the KL, the discriminator's are
        constants in `gan`, and the others are cut off in `disc`; likewise those of the adversary in `confusion` and
        `code_class`. So one backward pass is enough.
        """
        # No normal number made of 24 random bits is beyond 5.5: the clamp guards against a uniform number rounded to 1.
        noise = Noise.of(x, self.seed, self.current_epoch).normal((self.latent,)).clamp(-6, 6)
        mean, log_var = (wide(part) for part in self.encoder(x, y).chunk(2, dim=1))
        log_var = below(log_var, 10.0)
        z = mean + torch.exp(0.5 * log_var) * noise
        x_rec = torch.sigmoid(wide(self.decoder(z, y)))
        beta = self.beta[0] if self.num_classes == 1 else self.beta[y]
        terms = {"rec": reconstruction_loss(x, x_rec, self.hparams["p"]), "kl": kl_divergence(mean, log_var)}
        loss = (beta * terms["rec"]).sum() + terms["kl"].sum() + self.hparams["eta"] * log_var.abs().sum()
        if self.discriminator is not None:
            terms["gan"] = generator_loss(_fixed(self.discriminator, x_rec, y))
            terms["disc"] = discriminator_loss(self.discriminator(x, y), self.discriminator(x_rec.detach(), y))
            loss = loss + self.hparams["gamma"] * (terms["gan"].sum() + terms["disc"].sum())
        if self.adversary is not None:
            terms["confusion"] = confusion_loss(_fixed(self.adversary, z, y))
            told = wide(self.adversary(z.detach(), y))
            terms["code_class"] = F.cross_entropy(told, y, reduction="none")
            loss = loss + self.hparams["confusion"] * (terms["confusion"].sum() + terms["code_class"].sum())
        return terms, loss

    def _backward(self, loss: Tensor, y: Tensor) -> None:
        """Gradients of the sum over all processes; None for the networks of a class that no process has a sample of."""
        if self.trainer.world_size == 1 or self.num_classes == 1 or self.hparams["conditional"]:
            self.manual_backward(loss * self.trainer.world_size)
            return
        # DDP waits for a gradient of every parameter, also of the classes that this process has no sample of.
        nothing = sum(0 * p.sum() for network in self._networks() for p in network.parameters())
        self.manual_backward(loss * self.trainer.world_size + nothing)
        present = torch.bincount(y, minlength=self.num_classes).float()
        present = self.trainer.strategy.reduce(present, reduce_op="sum")  # type: ignore[assignment]
        for network in self._networks():
            for member, samples in zip(network.members, present.tolist(), strict=True):
                if not samples:
                    member.zero_grad()

    def _networks(self) -> list[Any]:
        optional = [network for network in (self.discriminator, self.adversary) if network is not None]
        return [self.encoder, self.decoder, *optional]

    def _lr(self, batch_idx: int) -> float:
        """The step size: it falls with each batch, where the number of batches is known."""
        part = batch_idx / self.trainer.num_training_batches  # 0 where it is infinite
        return self.hparams["lr"] * self.hparams["lr_decay"] ** (self.current_epoch + part)


def _fixed(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What a network makes of x, its parameters as constants."""
    return functional_call(network, {name: p.detach() for name, p in network.named_parameters()}, (x, y))
