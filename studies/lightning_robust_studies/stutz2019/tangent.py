"""A manifold known by its samples alone: nearest neighbours, and the tangent space that they span."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_robust._checks import count, instance


def orthonormal(vectors: Tensor, tolerance: float = 1e-6) -> Tensor:
    r"""The Q of a QR decomposition :math:`V = Q R`, by Gram-Schmidt, made for columns that may depend on each other.

    A column that lies in the span of those before it, up to `tolerance` of its length, gives a column of zeros, where
    Householder's QR would give a direction that is in no span. So :math:`Q Q^T` always projects onto the span of V.

    Args:
        vectors: V, floating point (N, d, k).
        tolerance: below which share of its length the rest of a column counts as rounding.

    Returns:
        Q (N, d, k), its columns orthonormal or zero.

    Example:
        >>> orthonormal(torch.tensor([[[3.0, 6.0, 1.0], [0.0, 0.0, 1.0]]]))
        tensor([[[1., 0., 0.],
                 [0., 0., 1.]]])
    """
    q = torch.zeros_like(vectors)
    for k in range(vectors.shape[2]):
        rest = vectors[:, :, k]
        length = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        before = q[:, :, :k]
        for _ in range(2):  # the second time removes what rounding left
            rest = rest - (before @ (before.transpose(1, 2) @ rest[:, :, None]))[:, :, 0]
        left = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        independent = left > tolerance * length
        q[:, :, k] = torch.where(independent, rest / torch.where(independent, left, 1.0), 0.0)
    return q


@dataclass(frozen=True, eq=False)
class NeighbourTangent:
    r"""The tangent space at an image, as its neighbours among many images span it.

    For a clean image x and an input x' near it, let :math:`x_1, \dots, x_k` be the images nearest to x' in the first
    principal components of all images. With Q an orthonormal basis of the span of :math:`x_i - x`,

    .. math:: \pi(x') = x + Q Q^T (x' - x) .

    Args:
        images: what the neighbours are taken from, (M, C, H, W), any number of channels.
        mean: (d,) their mean, d = C H W.
        directions: (d, c) the principal directions.
        codes: (M, c) the images in these directions.
        neighbours: k, how many.

    Example:
        >>> images = torch.rand(100, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> tangent = NeighbourTangent.fit(images, components=10, neighbours=5)
        >>> tangent.project(images[:2] + 0.1, images[:2]).shape
        torch.Size([2, 3, 4, 4])

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        measure the distance to the manifold of data other than Fonts so, with 40 components, 51 neighbours and
        greyscale images. Their directions come from batches; ours are exact.
    """

    images: Tensor
    mean: Tensor
    directions: Tensor
    codes: Tensor
    neighbours: int = 51

    def __post_init__(self) -> None:
        images = instance("images", self.images, Tensor, "a tensor (M, C, H, W)").flatten(1)
        components = instance("codes", self.codes, Tensor, "a tensor (M, c)").shape[-1:]
        for name, value, shape in (
            ("mean", self.mean, images.shape[1:]),
            ("directions", self.directions, images.shape[1:] + components),
            ("codes", self.codes, images.shape[:1] + components),
        ):
            if instance(name, value, Tensor, "a tensor").shape != shape:
                raise ValueError(
                    f"Expected argument `{name}` to be of shape {tuple(shape)}, but got {tuple(value.shape)}."
                )
        object.__setattr__(self, "neighbours", count("neighbours", self.neighbours, 1, len(images)))

    @classmethod
    def fit(cls, images: Tensor, *, components: int = 40, neighbours: int = 51) -> "NeighbourTangent":
        """Find the principal directions.

        Args:
            images: (M, C, H, W), clean ones, usually of the training set.
            components: c, how many directions.
            neighbours: k, how many images span the tangent space.

        Raises:
            ValueError: if there are more components than pixels, or more neighbours than images.
        """
        flat = instance("images", images, Tensor, "a tensor (M, C, H, W)").flatten(1)
        components = count("components", components, 1, flat.shape[1])
        neighbours = count("neighbours", neighbours, 1, len(flat))
        mean = flat.double().mean(0)
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=flat.device)
        for part in flat.split(8192):
            centred = part.double() - mean
            covariance += centred.T @ centred
        directions = torch.linalg.eigh(covariance).eigenvectors[:, -components:].flip(1).to(flat)
        mean = mean.to(flat)
        return cls(images, mean, directions, (flat - mean) @ directions, neighbours)

    def nearest(self, x: Tensor) -> Tensor:
        """Which images are nearest to inputs (N, C, H, W), int64 (N, k), the nearest first."""
        codes = (x.flatten(1) - self.mean) @ self.directions
        found = [
            torch.cdist(part, self.codes).topk(self.neighbours, largest=False).indices for part in codes.split(256)
        ]
        return torch.cat(found)

    def project(self, x_adv: Tensor, x: Tensor, *, batch_size: int = 100) -> Tensor:
        """The points of the tangent spaces nearest to inputs.

        Args:
            x_adv: floating point (N, C, H, W), the inputs; their neighbours span the tangent spaces.
            x: (N, C, H, W), the clean images, where the tangent spaces touch.
            batch_size: how many at once; the result does not depend on it.

        Returns:
            (N, C, H, W), not clipped to valid images.
        """
        return torch.cat(
            [self._project(*pair) for pair in zip(x_adv.split(batch_size), x.split(batch_size), strict=True)]
        )

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        centre = x.flatten(1).double()
        spanning = self.images[self.nearest(x_adv)].flatten(2).double() - centre[:, None]
        q = orthonormal(spanning.transpose(1, 2))
        delta = (x_adv.flatten(1).double() - centre)[:, :, None]
        along = (q @ (q.transpose(1, 2) @ delta))[:, :, 0]
        return (centre + along).reshape(x.shape).to(x_adv)
