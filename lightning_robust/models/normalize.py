"""Normalisation as the first layer of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_robust._checks import one_or_more

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """Subtract a mean and divide by a deviation, per channel.

        x -> (x - mean) / std

    As the first layer of a model it keeps images in [0, 1] outside, where the radius of an attack is measured. Do not
    normalise in the transforms of the data as well.

    Args:
        mean: one number, or one per channel.
        std: one number, or one per channel, positive.

    Raises:
        ValueError: if the arguments do not fit together, or images have another number of channels.
        TypeError: if images are integers.

    Example:
        >>> normalize = Normalize(mean=[0.5, 0.0], std=[0.25, 1.0])
        >>> normalize(torch.ones(1, 2, 1, 1)).flatten()
        tensor([2., 1.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        pair = {"mean": _vector(one_or_more("mean", mean)), "std": _vector(one_or_more("std", std, 0, above=True))}
        channels = max(len(v) for v in pair.values())
        for name, vector in pair.items():
            if len(vector) not in (1, channels):
                raise ValueError(
                    f"Expected arguments `mean` and `std` to have as many entries, but got {mean} and {std}."
                )
            self.register_buffer(name, vector.expand(channels).clone())

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images (N, C, H, W), or any floating (N, C, ...)."""
        if not x.is_floating_point():
            raise TypeError(f"Expected argument `x` to be floating, in [0, 1], but got {x.dtype}: divide by 255 first.")
        channels = len(self.mean)
        if channels > 1 and x.shape[1] != channels:
            raise ValueError(f"Expected argument `x` to have {channels} channels, but got shape {tuple(x.shape)}.")
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.mean.to(x.dtype).view(shape)) / self.std.to(x.dtype).view(shape)


def _vector(value: float | Sequence[float]) -> Tensor:
    return torch.atleast_1d(torch.tensor(value, dtype=torch.float32))
