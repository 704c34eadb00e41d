"""A manifold known by its samples alone: nearest neighbors, and the tangent space that they span."""

import torch
from torch import Tensor

from lightning_robust._checks import count, instance

_RANK = 1e-6
"""Directions whose singular value is below this share of the largest count as rounding."""


class NeighborTangent:
    r"""The tangent space at an image, as its neighbors among many images span it.

    For a clean image x and an input x' near it, let :math:`x_1, \dots, x_k` be the images nearest to x' in the first
    principal components of all images. With Q an orthonormal basis of the span of :math:`x_i - x`,

    .. math:: \pi(x') = x + Q Q^T (x' - x) .

    Args:
        images: clean images (M, C, H, W), usually of the training set, any number of channels.
        components: number of principal components.
        neighbors: k, the number of images that span the tangent space.

    Raises:
        ValueError: there are more components than pixels, or more neighbors than images.

    Example:
        >>> images = torch.rand(100, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> tangent = NeighborTangent(images, components=10, neighbors=5)
        >>> tangent.project(images[:2] + 0.1, images[:2]).shape
        torch.Size([2, 3, 4, 4])

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        measure the distance to the manifold of data other than Fonts so, with 40 components, 51 neighbors and
        grayscale images. Their directions come from batches; ours are exact.
    """

    def __init__(self, images: Tensor, *, components: int = 40, neighbors: int = 51) -> None:
        flat = instance("images", images, Tensor, "a tensor (M, C, H, W)").flatten(1)
        components = count("components", components, 1, flat.shape[1])
        self.neighbors = count("neighbors", neighbors, 1, len(flat))
        mean = flat.double().mean(0)
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=flat.device)
        for part in flat.split(8192):
            centered = part.double() - mean
            covariance += centered.T @ centered
        self._directions = torch.linalg.eigh(covariance).eigenvectors[:, -components:].flip(1).to(flat)
        self._flat, self._mean = flat, mean.to(flat)
        self._codes = (flat - self._mean) @ self._directions

    def nearest(self, x: Tensor) -> Tensor:
        """The indices of the images nearest to inputs (N, C, H, W), int64 (N, k), the nearest first."""
        codes = (x.flatten(1) - self._mean) @ self._directions
        parts = [
            torch.cdist(part, self._codes).topk(self.neighbors, largest=False).indices for part in codes.split(256)
        ]
        return torch.cat(parts)

    def project(self, x_adv: Tensor, x: Tensor, *, batch_size: int = 100) -> Tensor:
        """The points of the tangent spaces nearest to inputs.

        Args:
            x_adv: floating point (N, C, H, W), the inputs; their neighbors span the tangent spaces.
            x: (N, C, H, W), the clean images, where the tangent spaces touch.
            batch_size: number of inputs at once; the result does not depend on it.

        Returns:
            (N, C, H, W), not clipped to valid images.
        """
        pairs = zip(x_adv.split(batch_size), x.split(batch_size), strict=True)
        return torch.cat([self._project(*pair) for pair in pairs])

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        center = x.flatten(1).double()
        spanning = self._flat[self.nearest(x_adv)].double() - center[:, None]  # (N, k, d)
        _, sizes, basis = torch.linalg.svd(spanning, full_matrices=False)
        basis = torch.where((sizes > _RANK * sizes[:, :1])[:, :, None], basis, 0.0)
        delta = (x_adv.flatten(1).double() - center)[:, :, None]
        along = (basis.mT @ (basis @ delta))[:, :, 0]
        return (center + along).reshape(x.shape).to(x_adv)
