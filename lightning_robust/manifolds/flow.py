"""A normalizing flow: a manifold without an error of projection."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import count, counts, number
from lightning_robust._noise import Noise
from lightning_robust._optional import optional
from lightning_robust.manifolds._labels import own_class
from lightning_robust.manifolds._learned import LearnedManifold
from lightning_robust.manifolds._pixels import cut
from lightning_robust.manifolds.networks import ImageShape

_ALPHA = 0.05
_LEAST_SCALE = math.exp(-2)


@final
class FlowManifold(LearnedManifold):
    r"""A flow of affine couplings (Real NVP): an invertible map between images and codes, trained by likelihood.

    With the pixels x of an image, D = C x H x W of them, dequantised by noise u in [0, 1),

    .. math::

        t = \frac{255 x + u}{256}, \qquad
        s = \mathrm{logit}\big(\alpha + (1 - 2 \alpha)\, t\big), \qquad z = f_T \circ \ldots \circ f_1 (s), \qquad
        f_i(s_a, s_b) = (s_a,\; s_b\, e^{h_i(s_a, c)} + g_i(s_a, c))

    where :math:`\alpha = 0.05`, (a, b) are random halves of the entries, another one for each coupling, and
    (h, g) are networks that see the class c, if there are several. |h| is below 2, smoothly, so that
    rounding stays small. Training lowers the mean over images of

    .. math::

        -\frac{1}{D} \log_2 \Big( N(z; 0, 1) \,\Big| \det \frac{\partial z}{\partial x} \Big| \Big) + \log_2 255,

    an upper bound for the bits that a pixel takes. `encode` and `decode` are without noise: u = 1/2, the center of a
    grey level. Then decode(encode(x)) is x up to rounding, and exactly so where a pixel is 0 or 1. All D entries of a
    code move. Pixels are cut to [0, 1].

    It is a manifold: `LatentSpace(flow)` moves codes within `bounds`. Any image is on it, so what keeps a perturbed
    image natural is the size of the perturbation of its code alone.

    Batches are (x, y, ...), x in [0, 1] of shape (N, C, H, W). Logged are `train/bits_per_dim`, and for validation and
    test `val/bits_per_dim` and those of `CodeQuality`, as of VAEGAN. Noise depends on (content of the sample, `seed`,
    epoch) and nothing else. Clip gradients by the Trainer's argument `gradient_clip_val`.

    Needs zuko: `pip install "lightning-robust[flow]"`.

    Args:
        image_shape: (C, H, W), of at least two pixels.
        num_classes: K, the number of classes that the flow is given; 1: labels are ignored.
        transforms: T, the number of couplings.
        hidden: widths of the hidden layers of each coupling's network.
        lr: step size of Adam.
        lr_decay: what the step size is multiplied by after each epoch.
        weight_decay: of Adam, added to the gradient.
        bound: codes are valid in [-bound, bound]; None: between the least and the greatest entry of the training codes,
            in each dimension, set after each epoch or by `fit_bounds`.
        seed: of the noise.

    Raises:
        ModuleNotFoundError: without zuko.
        ValueError: if an argument has another value than said here.

    Example:
        >>> flow = FlowManifold((1, 4, 4), num_classes=3, transforms=2, hidden=(8,), bound=3.0)
        >>> x, y = torch.rand(5, 1, 4, 4), torch.tensor([2, 0, 0, 1, 2])
        >>> z = flow.encode(x, y)
        >>> z.shape, torch.allclose(flow.decode(z, y), x, atol=1e-5), flow.log_prob(x, y).shape
        (torch.Size([5, 16]), True, torch.Size([5]))

    References:
        Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017 (arXiv 1605.08803), with its alpha;
        its networks are convolutional, these are not. Theis, van den Oord, Bethge, "A note on the evaluation of
        generative models", ICLR 2016, on the noise.
    """

    def __init__(
        self,
        image_shape: ImageShape = (1, 28, 28),
        *,
        num_classes: int = 1,
        transforms: int = 8,
        hidden: Sequence[int] = (256, 256),
        lr: float = 0.001,
        lr_decay: float = 0.9,
        weight_decay: float = 0.0,
        bound: float | None = None,
        seed: int = 0,
    ) -> None:
        image_shape = cast(ImageShape, counts("image_shape", image_shape))
        pixels = math.prod(image_shape)
        if len(image_shape) != 3 or pixels < 2:
            raise ValueError(f"Expected argument `image_shape` to be (C, H, W) of two pixels, but got {image_shape}.")
        num_classes, transforms = count("num_classes", num_classes), count("transforms", transforms)
        hidden = list(counts("hidden", hidden))
        lr, lr_decay = number("lr", lr, 0, above=True), number("lr_decay", lr_decay, 0, 1, above=True)
        weight_decay, seed = number("weight_decay", weight_decay, 0), _checks.seed("seed", seed)
        bound = None if bound is None else number("bound", bound, 0, above=True)
        super().__init__(pixels, num_classes, bound)
        self.save_hyperparameters()
        self.seed, self.image_shape = seed, image_shape
        context = 0 if num_classes == 1 else num_classes
        flows, affine = optional("zuko.flows", "flow"), optional("zuko.transforms", "flow").MonotonicAffineTransform
        couplings = {"randmask": True, "hidden_features": hidden, "univariate": partial(affine, slope=_LEAST_SCALE)}
        self.flow = flows.NICE(pixels, context, transforms, **couplings).transform

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        """The codes of images.

        Args:
            x: (N, C, H, W) in [0, 1].
            y: int64 of shape (N,), the classes; ignored where there is one.

        Returns:
            (N, D).
        """
        return self._forward(x, y, 0.5)[0]

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The images of codes.

        Args:
            z: (N, D).
            y: int64 of shape (N,), the classes; ignored where there is one.

        Returns:
            (N, C, H, W) in [0, 1], differentiable in z.
        """
        with torch.autocast(z.device.type, enabled=False):
            s = self._transform(y, len(z)).inv(z.to(self.code_low.dtype))
            t = (torch.sigmoid(s) - _ALPHA) / (1 - 2 * _ALPHA)
            return cut((256 * t - 0.5) / 255, snap=True).unflatten(1, self.image_shape)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """The logarithm of the density of images, without noise.

        Args:
            x: (N, C, H, W) in [0, 1].
            y: int64 of shape (N,), the classes; ignored where there is one.

        Returns:
            (N,), natural logarithms of a density over pixels in [0, 1].
        """
        z, log_det = self._forward(x, y, 0.5)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def bits_per_dim(self, x: Tensor, y: Tensor, epoch: int = -1) -> Tensor:
        """The bits that each pixel of images with 256 grey levels takes, at most: a draw of the noise.

        Args:
            x: (N, C, H, W) in [0, 1].
            y: int64 of shape (N,), the classes; ignored where there is one.
            epoch: of the noise; a number of its own where nothing is trained.

        Returns:
            (N,).
        """
        z, log_det = self._forward(x, y, Noise.of(x, self.seed, epoch).uniform((self.latent,)))
        nats = log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        return math.log2(255) - nats / (self.latent * math.log(2))

    def configure_optimizers(self) -> Any:
        """Adam, with a step size that falls after each epoch."""
        adam = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])
        return [adam], [torch.optim.lr_scheduler.ExponentialLR(adam, self.hparams["lr_decay"])]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The mean of the bits per dimension."""
        loss = self.bits_per_dim(batch[0], batch[1], self.current_epoch).mean()
        self.log("train/bits_per_dim", loss.detach(), batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch, and take its bits per dimension."""
        super().validation_step(batch, batch_idx)
        stage = "test" if self.trainer.testing else "val"
        bits = self.bits_per_dim(batch[0], batch[1]).mean()
        self.log(f"{stage}/bits_per_dim", bits, batch_size=len(batch[0]), on_epoch=True, sync_dist=True)

    def _forward(self, x: Tensor, y: Tensor, noise: float | Tensor) -> tuple[Tensor, Tensor]:
        """Codes (N, D), and the logarithms (N,) of the determinants of their derivatives by x."""
        with torch.autocast(x.device.type, enabled=False):
            t = (255 * x.flatten(1).to(self.code_low.dtype) + noise) / 256
            s = torch.logit(_ALPHA + (1 - 2 * _ALPHA) * t)
            z, log_det = self._transform(y, len(x)).call_and_ladj(s)
            # logit(p)' = 1 / (p (1 - p)), and log(p (1 - p)) = -softplus(s) - softplus(-s)
            slope = F.softplus(s) + F.softplus(-s) + math.log((1 - 2 * _ALPHA) * 255 / 256)
            return z, log_det + slope.sum(1)

    def _transform(self, y: Tensor, n: int) -> Any:
        if self.num_classes == 1:
            return self.flow(None)
        labels = own_class(y, n, self.num_classes, self.device)
        return self.flow(F.one_hot(labels, self.num_classes).to(self.code_low.dtype))
