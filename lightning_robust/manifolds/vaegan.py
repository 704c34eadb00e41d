"""A variational auto-encoder with a discriminator: a manifold learned from data."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._checks import count, counts, number, one_or_more
from lightning_robust._lightning import pl
from lightning_robust._noise import Noise
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.layouts import layout_of
from lightning_robust.manifolds.losses import (
    below,
    discriminator_loss,
    generator_loss,
    kl_divergence,
    reconstruction_loss,
    wide,
)
from lightning_robust.manifolds.networks import ImageShape, decoder, discriminator, encoder, plan
from lightning_robust.manifolds.quality import CodeQuality
from lightning_robust.manifolds.stacked import Stacked
from lightning_robust.manifolds.stacked_adam import StackedAdam


class Samples(NamedTuple):
    """Images that a manifold makes of random codes.

    Fields:
        x: (N, C, H, W) in [0, 1].
        y: int64 of shape (N,), the classes whose decoders made them.
        z: (N, Z), the codes.
    """

    x: Tensor
    y: Tensor
    z: Tensor


@final
class VAEGAN(pl.LightningModule):
    r"""A VAE-GAN, or one for each class, trained in one run.

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
    - A bank: `num_classes=K`. Each class has its own three networks, which see its own samples only, and all classes
      train in one run. The label of a sample chooses its networks. Classes do not influence each other: not by batch
      normalisation, which takes the statistics of each class; not by clipping, which takes the norm of each class; and
      a class that a batch has no sample of makes no step. Give it K times the batch size of one model: a step costs as
      much, whatever the batch.

    Batches are (x, y, ...), x in [0, 1] of shape (N, C, H, W). Logged are `train/rec`, `train/kl`, `train/gan`,
    `train/disc` per sample, and for validation and test `val/rec_mse` (mean squared error of a pixel, from the mean
    code), `val/code_mean`, `val/code_var` and `val/code_within_2`, see `CodeQuality`. `trainer.global_step` counts the
    steps of all three optimisers.

    The noise in the codes depends on (content of the sample, `seed`, epoch) and nothing else. Hence training goes on
    from a checkpoint, also in the middle of an epoch, as if it had never stopped, provided that the loader brings the
    same batches.

    Under DDP with W processes gradients are those of the sum over all processes; batch normalisation takes statistics
    of each process.

    Args:
        image_shape: (C, H, W): 28 x 28 and 56 x 48 as in the paper, or any other of at least 4 x 4 pixels.
        latent: Z, the dimension of a code. The paper: 10; CelebA 25.
        num_classes: K, how many classes have networks of their own; 1: one model for all that it is given.
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
            (The Trainer's argument of this name does not reach manual optimisation.)
        init_std: the deviation of the first weights of encoder and decoder, 0.001 in the paper's code; None: by fan-in.
        bound: codes are valid in [-bound, bound]; None: between the least and the greatest entry of the training codes,
            in each dimension, as in the paper's attacks, found after each epoch (one more pass of the encoder) or by
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
        metric", ICML 2016.
    """

    code_low: Tensor
    code_high: Tensor
    beta: Tensor

    def __init__(
        self,
        image_shape: ImageShape = (1, 28, 28),
        *,
        latent: int = 10,
        num_classes: int = 1,
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
        super().__init__()
        plan(image_shape, width)
        image_shape, width = cast(ImageShape, counts("image_shape", image_shape)), number("width", width)
        latent, num_classes = count("latent", latent), count("num_classes", num_classes)
        beta = one_or_more("beta", beta, 0, above=True)
        beta = list(beta) if isinstance(beta, tuple) else beta  # as a checkpoint keeps it
        betas = torch.tensor(beta, dtype=torch.float32).flatten()
        if len(betas) not in (1, num_classes):
            raise ValueError(f"Expected argument `beta` to be one number or {num_classes}, but got {len(betas)}.")
        gamma, eta = number("gamma", gamma, 0), number("eta", eta, 0)
        p, seed = count("p", p, 1, 2), _checks.seed("seed", seed)
        lr, lr_decay = number("lr", lr, 0, above=True), number("lr_decay", lr_decay, 0, 1, above=True)
        weight_decay = number("weight_decay", weight_decay, 0)
        if gradient_clip_val is not None:
            gradient_clip_val = number("gradient_clip_val", gradient_clip_val, 0, above=True)
        init_std = None if init_std is None else number("init_std", init_std, 0)
        bound = None if bound is None else number("bound", bound, 0, above=True)
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.latent, self.num_classes, self.seed = latent, num_classes, seed
        self.encoder = Stacked([encoder(image_shape, latent, width, init_std) for _ in range(num_classes)])
        self.decoder = Stacked([decoder(image_shape, latent, width, init_std) for _ in range(num_classes)])
        self.discriminator = (
            Stacked([discriminator(image_shape, width) for _ in range(num_classes)]) if gamma > 0 else None
        )
        limit = torch.inf if bound is None else bound
        self.register_buffer("code_low", torch.full((latent,), limit if bound is None else -limit))
        self.register_buffer("code_high", torch.full((latent,), -limit if bound is None else limit))
        self.register_buffer("beta", betas.expand(num_classes).clone(), persistent=False)
        self._quality = CodeQuality()

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

    # The manifold

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The box (low, high) of valid codes, both (Z,); None: not known yet, train the model or call `fit_bounds`."""
        return (self.code_low, self.code_high) if bool((self.code_low <= self.code_high).all()) else None

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        """The codes of images, the means of their distributions, with the statistics of training and without noise.

        Args:
            x: (N, C, H, W).
            y: int64 of shape (N,), which class's encoder to take; ignored where there is one.

        Returns:
            (N, Z).
        """
        with _evaluating(self.encoder):
            return self.encoder(x.to(self.code_low.dtype), layout_of(y, self.num_classes)).chunk(2, dim=1)[0]

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The images of codes, with the statistics of training.

        Args:
            z: (N, Z).
            y: int64 of shape (N,), which class's decoder to take; ignored where there is one.

        Returns:
            (N, C, H, W) in [0, 1], float32 at least; differentiable in z.
        """
        with _evaluating(self.decoder):
            return torch.sigmoid(wide(self.decoder(z.to(self.code_low.dtype), layout_of(y, self.num_classes))))

    def reconstruct(self, x: Tensor, y: Tensor) -> Tensor:
        """The images (N, C, H, W) of the codes of images: the paper's projection onto the manifold."""
        return self.decode(self.encode(x, y), y)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, bound: float = 2.0, seed: int = 0) -> Samples:
        """Images of random codes, standard normal within [-bound, bound].

        Args:
            n: N, how many.
            y: int64 of shape (N,), their classes; None: 0, 1, ..., K - 1, 0, 1, ...
            bound: beyond which there are no codes.
            seed: of the codes.
        """
        z = truncated_normal(n, self.latent, bound=bound, seed=seed).to(self.code_low)
        y = torch.arange(n, device=self.device) % self.num_classes if y is None else y.to(self.device)
        return Samples(self.decode(z, y), y, z)

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, y: Tensor, steps: int = 10) -> Tensor:
        """Images on the straight lines between codes.

        Args:
            start: (N, Z), the first codes.
            end: (N, Z), the last ones.
            y: int64 of shape (N,), the classes.
            steps: S, how many images on each line, both ends among them.

        Returns:
            (N, S, C, H, W).
        """
        z = torch.lerp(
            start[:, None], end[:, None], torch.linspace(0, 1, count("steps", steps)).to(start)[None, :, None]
        )
        return self.decode(z.flatten(0, 1), y.repeat_interleave(z.shape[1])).unflatten(0, z.shape[:2])

    @torch.no_grad()
    def fit_bounds(self, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """Set `bounds` to the least and the greatest entry of the codes of data, in each dimension.

        Args:
            batches: of (x, y, ...).

        Returns:
            low and high, both (Z,).
        """
        low, high = torch.full_like(self.code_low, torch.inf), torch.full_like(self.code_low, -torch.inf)
        for x, y, *_ in batches:
            z = self.encode(x.to(self.device), y.to(self.device)).to(low)
            low, high = torch.minimum(low, z.amin(0)), torch.maximum(high, z.amax(0))
        self.code_low.copy_(low)
        self.code_high.copy_(high)
        return self.code_low, self.code_high

    # Training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for each network."""
        options = {"lr": self.hparams["lr"], "betas": (0.5, 0.9), "weight_decay": self.hparams["weight_decay"]}
        return [StackedAdam(network.parameters(), **options) for network in self._networks()]

    def on_fit_start(self) -> None:
        """Refuse float16: losses summed over pixels do not fit into it."""
        if "16" in str(self.trainer.precision) and "bf16" not in str(self.trainer.precision):
            raise ValueError(f'Expected a precision of 32, 64 or "bf16-mixed", but got {self.trainer.precision!r}.')

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of all networks."""
        x, y = batch[0], batch[1]
        layout = layout_of(y, self.num_classes)
        present = [count > 0 for count in layout.counts]
        # No normal number made of 24 random bits is beyond 5.5: the clamp guards against a uniform number rounded to 1.
        noise = Noise.of(x, self.seed, self.current_epoch).normal((self.latent,)).clamp(-6, 6)

        mean, log_var = (wide(part) for part in self.encoder(x, layout).chunk(2, dim=1))
        log_var = below(log_var, 10.0)
        x_rec = torch.sigmoid(wide(self.decoder(mean + torch.exp(0.5 * log_var) * noise, layout)))
        beta = self.beta[0] if self.num_classes == 1 else self.beta[y]
        terms = {"rec": reconstruction_loss(x, x_rec, self.hparams["p"]), "kl": kl_divergence(mean, log_var)}
        loss = (beta * terms["rec"]).sum() + terms["kl"].sum() + self.hparams["eta"] * log_var.abs().sum()
        if self.discriminator is not None:
            with _frozen(self.discriminator):
                terms["gan"] = generator_loss(self.discriminator(x_rec, layout))
            real, fake = self.discriminator(x, layout), self.discriminator(x_rec.detach(), layout)
            terms["disc"] = discriminator_loss(real, fake)
            loss = loss + self.hparams["gamma"] * (terms["gan"].sum() + terms["disc"].sum())

        # No network appears in another's terms: the decoder's parameters are not in the KL, the discriminator is frozen
        # in `gan`, and the others are cut off in `disc`. So the gradient of the sum is that of each network's own loss,
        # in one backward pass.
        optimizers = self._optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss * self.trainer.world_size)
        if self.num_classes > 1 and self.trainer.world_size > 1:
            here = torch.tensor(present, dtype=torch.float32, device=self.device)
            present = (self.trainer.strategy.reduce(here, reduce_op="sum") > 0).tolist()  # type: ignore[union-attr]
        for network, optimizer in zip(self._networks(), optimizers, strict=True):
            if self.hparams["gradient_clip_val"] is not None:
                _clip(network, self.hparams["gradient_clip_val"])
            for group in optimizer.param_groups:
                group["lr"] = self._lr(batch_idx)
            optimizer.step(present=present)
        self.log_dict({f"train/{name}": term.detach().mean() for name, term in terms.items()}, batch_size=len(x))

    def on_train_epoch_end(self) -> None:
        """Find the bounds of the codes, where there was no validation to find them before."""
        self._refresh_bounds()

    def on_validation_start(self) -> None:
        """Find the bounds of the codes at the end of an epoch, before checkpoints are written."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and self._epoch_is_over():
            self._refresh_bounds()

    # Evaluation

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch."""
        self._evaluate(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the quality of codes and reconstructions."""
        self._log_quality("val")

    def on_test_epoch_end(self) -> None:
        """Log the quality of codes and reconstructions."""
        self._log_quality("test")

    # Parts

    def _networks(self) -> list[Stacked]:
        return [self.encoder, self.decoder, *([] if self.discriminator is None else [self.discriminator])]

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _lr(self, batch_idx: int) -> float:
        """The step size: it falls with each batch, where the number of batches is known."""
        part = batch_idx / self.trainer.num_training_batches  # 0 where it is infinite
        return self.hparams["lr"] * self.hparams["lr_decay"] ** (self.current_epoch + part)

    def _epoch_is_over(self) -> bool:
        return self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch

    def _refresh_bounds(self) -> None:
        """The bounds for the weights that this epoch ended with, the same on all processes."""
        step = self.trainer.global_step
        if self.hparams["bound"] is not None or self._bounded_at == step:
            return
        strategy, limit = self.trainer.strategy, self.trainer.num_training_batches
        batches = islice(self.trainer.train_dataloader, None if limit == float("inf") else int(limit))  # type: ignore[arg-type]
        if self.trainer.world_size > 1:
            for buffer in self.encoder.buffers():
                buffer.copy_(strategy.broadcast(buffer))
        with torch.random.fork_rng(devices=[]):
            self.fit_bounds(strategy.batch_to_device(batch, dataloader_idx=0) for batch in batches)
        if self.trainer.world_size > 1:
            self.code_low.copy_(cast(Tensor, self.all_gather(self.code_low)).amin(0))
            self.code_high.copy_(cast(Tensor, self.all_gather(self.code_high)).amax(0))
        self._bounded_at = step

    _bounded_at = -1

    def _evaluate(self, batch: Any) -> None:
        x, y = batch[0], batch[1]
        z = self.encode(x, y)
        self._quality.update(x, self.decode(z, y), z)

    def _log_quality(self, stage: str) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in self._quality.compute().items()}, sync_dist=True)
        self._quality.reset()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, then each submodule's own mode again."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients of parameters for a while."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)


@torch.no_grad()
def _clip(network: nn.Module, limit: float) -> None:
    """Scale the gradient of each class's network down to a norm of at most `limit`."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    squared = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    scale = (limit / (squared.sqrt() + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
