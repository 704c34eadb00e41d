"""Auto-encoders trained elsewhere, such as those of latent diffusion models."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust._checks import count, counts
from lightning_robust._modes import evaluating
from lightning_robust.manifolds._inputs import check_manifold
from lightning_robust.manifolds._pixels import cut
from lightning_robust.manifolds.losses import wide
from lightning_robust.manifolds.networks import ImageShape


class AutoencoderManifold(nn.Module):
    r"""An auto-encoder with the interface of diffusers' `AutoencoderKL` and `AutoencoderTiny`, as a manifold.

    .. math::

        z = \frac{\mathrm{enc}(2 x - 1) - m}{s}, \qquad
        \mathrm{dec}(z) = \Big[ \tfrac12 + \tfrac12\, \mathrm{dec}'(m + s z) \Big]_{[0, 1]}

    with mean m and deviation s of each entry of the codes of data, which `fit_bounds` finds. Until then they are 0 and
    1. Codes are flat, Z = C' x H' x W' entries. The auto-encoder sees values in [-1, 1], and images whose sides are
    multiples of its down-sampling: edges are repeated, and cut off again. A gray image is given to all its channels,
    and its channels are averaged. An auto-encoder that is a module runs in evaluation mode. Labels are ignored.

    Args:
        autoencoder: `encode(x)` gives an object with `latent_dist.mean`, or with `latents`; `decode(z)` gives one with
            `sample`. All of shape (N, C', H', W') or (N, C, H, W), x and sample in [-1, 1].
        image_shape: (C, H, W) of the images.
        channels: of the auto-encoder: C, or any number where C is 1; None: `autoencoder.config.in_channels`, or C where
            there is no such thing.
        multiple: what sides must be multiples of; None: 2 to the power of the number of entries of
            `autoencoder.config.block_out_channels` less one, or 1 where there is no such thing.

    Raises:
        TypeError: if `autoencoder` lacks one of the methods, or what they give is something else.
        ValueError: if the number of channels does not fit.

    Example:
        >>> from types import SimpleNamespace
        >>> class Halves:
        ...     def encode(self, x):
        ...         return SimpleNamespace(latents=F.avg_pool2d(x, 2))
        ...     def decode(self, z):
        ...         return SimpleNamespace(sample=F.interpolate(z, scale_factor=2))
        >>> manifold = AutoencoderManifold(Halves(), (1, 3, 3), multiple=2)
        >>> x = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        >>> low, high = manifold.fit_bounds([(x, torch.zeros(50))])
        >>> z = manifold.encode(x)
        >>> z.shape, torch.allclose(z.std(0, correction=0), torch.ones(4)), manifold.decode(z).shape
        (torch.Size([50, 4]), True, torch.Size([50, 1, 3, 3]))

    References:
        Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022 (arXiv 2112.10752).
    """

    mean: Tensor
    deviation: Tensor
    code_low: Tensor
    code_high: Tensor

    def __init__(
        self,
        autoencoder: Any,
        image_shape: ImageShape,
        *,
        channels: int | None = None,
        multiple: int | None = None,
    ) -> None:
        super().__init__()
        check_manifold("autoencoder", autoencoder)
        self.image_shape = cast(ImageShape, counts("image_shape", image_shape))
        if len(self.image_shape) != 3:
            raise ValueError(f"Expected argument `image_shape` to be (C, H, W), but got {image_shape}.")
        own, config = self.image_shape[0], getattr(autoencoder, "config", None)
        self.channels = count("channels", getattr(config, "in_channels", own) if channels is None else channels)
        if own not in (1, self.channels):
            raise ValueError(f"Expected argument `image_shape` to have 1 or {self.channels} channels, but got {own}.")
        blocks = getattr(config, "block_out_channels", (0,))
        self.multiple = count("multiple", 2 ** (len(blocks) - 1) if multiple is None else multiple)
        self.autoencoder = autoencoder
        # Attacks look for networks in the tuples that a module holds, not in objects of any kind.
        self._plain = () if isinstance(autoencoder, nn.Module) else (autoencoder,)
        first = next(self.parameters(), torch.empty(0))
        with torch.no_grad():
            raw = self._raw(first.new_zeros(1, *self.image_shape))
        self.latent_shape = tuple(raw.shape[1:])
        self.latent = math.prod(self.latent_shape)
        for name, value in {"mean": 0.0, "deviation": 1.0, "code_low": math.inf, "code_high": -math.inf}.items():
            self.register_buffer(name, torch.full((self.latent,), value, device=first.device))  # low > high: not known

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The box (low, high) of the codes of data, both (Z,); None before `fit_bounds`."""
        return (self.code_low, self.code_high) if bool((self.code_low <= self.code_high).all()) else None

    @torch.no_grad()
    def fit_bounds(self, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """Standardise the codes of data, and set `bounds` to the least and the greatest of them in each dimension.

        Args:
            batches: of (x, ...), gone through once.

        Returns:
            low and high, both (Z,).

        Raises:
            ValueError: if there is no image.
        """
        total, n = torch.zeros(2, self.latent, dtype=torch.float64, device=self.mean.device), 0
        low, high = torch.full_like(total[0], math.inf), torch.full_like(total[0], -math.inf)
        for x, *_ in batches:
            raw = self._raw(x.to(self.mean.device)).flatten(1).double()
            total, n = total + torch.stack([raw.sum(0), raw.square().sum(0)]), n + len(raw)
            low, high = torch.minimum(low, raw.amin(0)), torch.maximum(high, raw.amax(0))
        if not n:
            raise ValueError("Expected argument `batches` to hold at least one image, but got none.")
        mean, square = total / n
        variance = (square - mean.square()).clamp(min=0)
        deviation = torch.where(variance > 1e-12 * square, variance.sqrt(), torch.ones_like(variance))
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.code_low.copy_((low - mean) / deviation)
        self.code_high.copy_((high - mean) / deviation)
        return self.code_low, self.code_high

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The standardised codes of images, the means of their distributions.

        Args:
            x: (N, C, H, W) in [0, 1].
            y: ignored.

        Returns:
            (N, Z).
        """
        return (self._raw(x).flatten(1) - self.mean) / self.deviation

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The images of codes.

        Args:
            z: (N, Z).
            y: ignored.

        Returns:
            (N, C, H, W) in [0, 1], float32 at least; differentiable in z.
        """
        raw = (z.to(wide(self.mean).dtype) * self.deviation + self.mean).unflatten(1, self.latent_shape)
        with evaluating(*self.children()):
            x = wide(self._given(self.autoencoder.decode(self._typed(raw)), "decode", "sample"))
        top, _, left, _ = self._margins()
        x = x[:, :, top : top + self.image_shape[1], left : left + self.image_shape[2]]
        if self.image_shape[0] != self.channels:
            x = x.mean(1, keepdim=True)
        return cut((x + 1) / 2)

    def _raw(self, x: Tensor) -> Tensor:
        """Codes (N, C', H', W') as the auto-encoder has them."""
        if x.shape[1:] != self.image_shape:
            raise ValueError(f"Expected images of shape {('N', *self.image_shape)}, but got {(*x.shape,)}.")
        top, bottom, left, right = self._margins()
        x = F.pad(2 * self._typed(x) - 1, (left, right, top, bottom), mode="replicate")
        with evaluating(*self.children()):
            code = self.autoencoder.encode(x.expand(-1, self.channels, -1, -1))
        if hasattr(code, "latent_dist"):
            return wide(code.latent_dist.mean)
        return wide(self._given(code, "encode", "latents"))

    def _margins(self) -> tuple[int, int, int, int]:
        """Rows and columns to add: above, below, left and right."""
        rows, columns = (-size % self.multiple for size in self.image_shape[1:])
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    def _typed(self, x: Tensor) -> Tensor:
        """In the type of the auto-encoder's weights."""
        first = next(self.parameters(), None)
        return x if first is None else x.to(first.dtype)

    @staticmethod
    def _given(value: Any, method: str, name: str) -> Tensor:
        if not isinstance(getattr(value, name, None), Tensor):
            wanted = "`latent_dist` or a tensor `latents`" if method == "encode" else f"a tensor `{name}`"
            raise TypeError(f"Expected `autoencoder.{method}` to give {wanted}, but got {type(value).__name__}.")
        return getattr(value, name)
