"""Principal components: a manifold in closed form."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust._checks import boolean, count, counts, instance
from lightning_robust.manifolds._inputs import check_range
from lightning_robust.manifolds._labels import own_class
from lightning_robust.manifolds._pixels import cut
from lightning_robust.manifolds.networks import ImageShape

_CHUNK = 4096
_NONE = 1e-12  # of the largest variance: what is below is rounding


class PCAManifold(nn.Module):
    r"""The affine space of the leading principal components, one for all images or one for each class.

    With the mean :math:`\mu` of the images, the eigenvectors :math:`v_1, \ldots, v_Z` of their covariance (divided by
    the number of images) and its eigenvalues :math:`\lambda_1 \ge \ldots \ge \lambda_Z`,

    .. math::

        z_d = \frac{v_d^\top (x - \mu)}{\sqrt{\lambda_d}}, \qquad
        \mathrm{dec}(z) = \Big[ \mu + \sum_d z_d \sqrt{\lambda_d}\, v_d \Big]_{[0, 1]}

    No affine space of Z dimensions is nearer to the images: before the cut, the mean squared distance is the sum of the
    eigenvalues that are left out, and the cut brings no image farther away. Codes of the images have mean 0 and
    deviation 1 in each dimension. A direction in which the images do not vary has codes in units of pixels, and a bound
    of 0 to rounding. With all C x H x W dimensions decode(encode(x)) is x.

    There is nothing to train: call `fit` once. Weights are in `state_dict`, which needs no `fit`.

    Args:
        image_shape: (C, H, W).
        latent: Z, the dimension of a code, at most C x H x W.
        num_classes: K, the number of classes that have components of their own; 1: labels are ignored.
        clamp: whether `decode` cuts pixels to [0, 1]. False: it is affine in z, and no image need come out.

    Raises:
        ValueError: if an argument has another value than said here.

    Example:
        >>> x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> manifold = PCAManifold((1, 4, 4), latent=3).fit(x)
        >>> z = manifold.encode(x)
        >>> z.shape, torch.allclose(z.std(0, correction=0), torch.ones(3))
        (torch.Size([50, 3]), True)
        >>> manifold.decode(z).shape, round(float(manifold.explained_variance_ratio.sum()), 2)
        (torch.Size([50, 1, 4, 4]), 0.35)

    References:
        Eckart, Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    total: Tensor
    code_low: Tensor
    code_high: Tensor

    def __init__(self, image_shape: ImageShape, latent: int, num_classes: int = 1, *, clamp: bool = True) -> None:
        super().__init__()
        shape = torch.Size(counts("image_shape", image_shape))
        if len(shape) != 3:
            raise ValueError(f"Expected argument `image_shape` to be (C, H, W), but got {image_shape}.")
        self.image_shape = cast(ImageShape, tuple(shape))
        self.latent = count("latent", latent, 1, shape.numel())
        self.num_classes, self.clamp = count("num_classes", num_classes), boolean("clamp", clamp)
        sizes = {"mean": (shape.numel(),), "directions": (self.latent, shape.numel()), "variances": (self.latent,)}
        for name, size in {**sizes, "total": ()}.items():  # NaN: not known yet
            self.register_buffer(name, torch.full((self.num_classes, *size), torch.nan))
        for name in ("code_low", "code_high"):
            self.register_buffer(name, torch.full((self.latent,), torch.nan))

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.image_shape}, latent={self.latent}, num_classes={self.num_classes}, clamp={self.clamp}"

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The least and the greatest code of the images of `fit` in each dimension, both (Z,); None before `fit`."""
        return (self.code_low, self.code_high) if bool((self.code_low <= self.code_high).all()) else None

    @property
    def explained_variance_ratio(self) -> Tensor:
        """The share of the images' variance that each direction holds, (K, Z).

        Raises:
            RuntimeError: before `fit`.
        """
        self._check_known()
        return self.variances / self.total[:, None]

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor | None = None) -> "PCAManifold":
        """Find the components, in float64.

        Args:
            x: (N, C, H, W), floats in [0, 1].
            y: int64 of shape (N,), from 0 to K - 1, each of them at least once; None where K is 1.

        Returns:
            The manifold itself.

        Raises:
            ValueError: if there are no images of a class, their shape is another one, or they are not in [0, 1] and
                `clamp` is set.
        """
        flat = self._flat(x)
        if not len(flat) or not bool(torch.isfinite(flat).all()):
            raise ValueError("Expected argument `x` to hold at least one image, and finite numbers alone.")
        if self.clamp:
            check_range("x", flat)
        labels = self._labels(y, len(flat)).to(flat.device)
        present = torch.bincount(labels, minlength=self.num_classes)
        if not bool(present.all()):
            missing = (present == 0).nonzero().flatten().tolist()
            raise ValueError(f"Expected argument `y` to hold each class at least once, but got none of {missing}.")
        for k in range(self.num_classes):
            mean, directions, variances, total = _components(flat[labels == k], self.latent)
            self.mean[k], self.directions[k], self.variances[k], self.total[k] = mean, directions, variances, total
        parts = zip(flat.split(_CHUNK), labels.split(_CHUNK), strict=True)
        codes = [self._code(part.to(self.mean), own.to(self.mean.device)) for part, own in parts]
        self.code_low.copy_(torch.stack([z.amin(0) for z in codes]).amin(0))
        self.code_high.copy_(torch.stack([z.amax(0) for z in codes]).amax(0))
        return self

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The codes of images.

        Args:
            x: (N, C, H, W).
            y: int64 of shape (N,), whose components to take; ignored where K is 1.

        Returns:
            (N, Z).

        Raises:
            RuntimeError: before `fit`.
        """
        self._check_known()
        return self._code(self._flat(x).to(self.mean.dtype), self._labels(y, len(x)))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The images of codes.

        Args:
            z: (N, Z).
            y: int64 of shape (N,), whose components to take; ignored where K is 1.

        Returns:
            (N, C, H, W), differentiable in z; in [0, 1] where `clamp` is set.

        Raises:
            RuntimeError: before `fit`.
        """
        self._check_known()
        labels, scaled = self._labels(y, len(z)), z.to(self.mean.dtype)
        # One product for all classes: the coefficients of the others are 0.
        own = F.one_hot(labels, self.num_classes).to(scaled)[:, :, None]
        coefficients = (own * (scaled * self._deviations()[labels])[:, None]).flatten(1)
        x = (self.mean[labels] + coefficients @ self.directions.flatten(0, 1)).unflatten(1, self.image_shape)
        return cut(x) if self.clamp else x

    def _check_known(self) -> None:
        if not torch.compiler.is_compiling() and self.bounds is None:  # a graph cannot look at values
            raise RuntimeError(
                "Expected a PCAManifold that knows its components, but got a new one. Call `fit(x, y)`, or load a "
                "`state_dict`."
            )

    def _code(self, flat: Tensor, labels: Tensor) -> Tensor:
        coefficients = (flat - self.mean[labels]) @ self.directions.flatten(0, 1).T
        own = coefficients.unflatten(1, (self.num_classes, self.latent))[torch.arange(len(labels)), labels]
        return own / self._deviations()[labels]

    def _deviations(self) -> Tensor:
        """(K, Z), 1 where there is no variance."""
        none = self.variances <= _NONE * self.variances.amax(1, keepdim=True)
        return torch.where(none, torch.ones_like(self.variances), self.variances.sqrt())

    def _flat(self, x: Any) -> Tensor:
        instance("x", x, Tensor, "a tensor (N, C, H, W)")
        if x.shape[1:] != self.image_shape or not x.is_floating_point():
            shape = ("N", *self.image_shape)
            raise ValueError(f"Expected argument `x` to be floats of shape {shape}, but got {x.dtype} {(*x.shape,)}.")
        return x.flatten(1)

    def _labels(self, y: Tensor | None, n: int) -> Tensor:
        return own_class(y, n, self.num_classes, self.mean.device)


def _components(flat: Tensor, latent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of images (N, D): mean (D,), directions (Z, D), their variances (Z,) and the variance of all, in float64.

    The eigenvectors of the covariance where there are more images than pixels, else the singular vectors of the images.
    The largest entry of a direction is positive: eigenvectors are unique up to their sign.
    """
    n, pixels = flat.shape
    mean = flat.mean(0, dtype=torch.float64)
    if n >= pixels:
        covariance = mean.new_zeros(pixels, pixels)
        for part in flat.split(_CHUNK):
            centered = part.double() - mean
            covariance += centered.T @ centered / n
        values, vectors = torch.linalg.eigh(covariance)
        directions, variances, total = vectors.T.flip(0), values.flip(0).clamp(min=0), covariance.trace()
    else:
        _, singular, directions = torch.linalg.svd(flat.double() - mean, full_matrices=latent > n)
        variances = F.pad(singular.square() / n, (0, len(directions) - n))
        total = variances.sum()
    directions = directions[:latent]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return mean, directions * largest.sign(), variances[:latent], total
