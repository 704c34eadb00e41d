"""Normalization as the first layer of a model, where attacks differentiate through it and images stay in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_robust._checks import number, one_or_more

__all__ = ["Normalize", "PerImageStandardize"]


class Normalize(nn.Module):
    """Subtract a mean and divide by a deviation, per channel.

        x -> (x - mean) / std

    As the first layer of a model it keeps images in [0, 1] outside, where the radius of an attack is measured. Do not
    normalize in the transforms of the data as well. `torchvision.transforms.v2.Normalize` computes the same, but its
    numbers are no buffers: they are copied to the device at every forward, and no checkpoint holds them.

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
        numbers = one_or_more("mean", mean), one_or_more("std", std, 0, above=True)
        pair = [torch.atleast_1d(torch.tensor(value, dtype=torch.float32)) for value in numbers]
        sizes = {len(vector) for vector in pair} - {1}
        if len(sizes) > 1:
            raise ValueError(f"Expected arguments `mean` and `std` to have as many entries, but got {mean} and {std}.")
        for name, vector in zip(("mean", "std"), pair, strict=True):
            self.register_buffer(name, vector.expand(max(sizes, default=1)).clone())

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"

    def forward(self, x: Tensor) -> Tensor:
        """Normalize images (N, C, H, W), or any floating (N, C, ...)."""
        if not x.is_floating_point():
            raise TypeError(f"Expected argument `x` to be floating, in [0, 1], but got {x.dtype}: divide by 255 first.")
        channels = len(self.mean)
        if channels > 1 and x.shape[1] != channels:
            raise ValueError(f"Expected argument `x` to have {channels} channels, but got shape {tuple(x.shape)}.")
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.mean.to(x.dtype).view(shape)) / self.std.to(x.dtype).view(shape)


class PerImageStandardize(nn.Module):
    """Give every image mean 0 and standard deviation 1.

        x -> (x - mean(x)) / max(std(x), 1 / (levels sqrt(d))),    d = C H W, over all pixels and channels of one image

    As TensorFlow's `per_image_standardization`, which Madry et al. put inside their CIFAR-10 network. Theirs sees
    pixels in [0, 255] and bounds the deviation by 1 / sqrt(d); for pixels in [0, 1] this is `levels=255`. A constant
    image becomes zero, and its gradient stays finite.

    Args:
        levels: the largest pixel value of the original images, for which the bound was made.

    Raises:
        ValueError: if `levels` is not positive.

    Example:
        >>> x = torch.tensor([[[[0.0, 1.0]]]])
        >>> PerImageStandardize()(x)
        tensor([[[[-1.,  1.]]]])
    """

    def __init__(self, levels: float = 255.0) -> None:
        super().__init__()
        self.levels = number("levels", levels, 0, above=True)

    def extra_repr(self) -> str:
        """Show the argument."""
        return f"levels={self.levels}"

    def forward(self, x: Tensor) -> Tensor:
        """Standardize images (N, C, H, W), in float32 or better, and return them in their own precision."""
        pixels = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(1)
        variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
        floor = 1 / (self.levels**2 * pixels.shape[1])
        return ((pixels - mean) / variance.clamp_min(floor).sqrt()).view_as(x).to(x.dtype)
