"""Standardisation of each image by its own mean and deviation."""

import torch
from torch import Tensor, nn

from lightning_robust._checks import number

__all__ = ["PerImageStandardize"]


class PerImageStandardize(nn.Module):
    """Give every image mean 0 and standard deviation 1.

        x -> (x - mean(x)) / max(std(x), 1 / (levels sqrt(d))),    d = C H W, over all pixels and channels of one image

    As TensorFlow's `per_image_standardization`, which Madry et al. put inside their CIFAR-10 network, so that attacks
    differentiate through it. Theirs sees pixels in [0, 255] and bounds the deviation by 1 / sqrt(d); for pixels in [0,
    1] this is `levels=255`. A constant image becomes zero, and its gradient stays finite.

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
        """Standardise images (N, C, H, W), in float32 or better, and return them in their own precision."""
        pixels = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(1)
        variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
        floor = 1 / (self.levels**2 * pixels.shape[1])
        return ((pixels - mean) / variance.clamp_min(floor).sqrt()).view_as(x).to(x.dtype)
