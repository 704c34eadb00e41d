"""Images side by side in one tensor, for loggers that take images. Needs no matplotlib."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust._checks import count
from lightning_robust.plots.images import check_pair, difference_rgb, largest_difference, tile, to_rgb


def image_grid(
    x: Tensor,
    x_adv: Tensor,
    *,
    scale: float | None = None,
    samples_per_row: int = 4,
    zoom: int = 1,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """One picture of N samples, each as clean | adversarial | signed difference; what `SummaryWriter.add_image` takes.

    On white: one pixel between the three images of a sample, four between two samples and around all, times `zoom`.

    Args:
        x: clean images (N, C, H, W), C = 1 or 3, on any device, of any floating type.
        x_adv: adversarial images, of the same shape.
        scale: the difference with full color, in the images' units; by default the largest one in the batch. See
            `difference_rgb` for the colors.
        samples_per_row: number of samples side by side, at least 1.
        zoom: number of pixels that a pixel becomes in either direction, at least 1.
        low: the value shown as black.
        high: the value shown as white.

    Returns:
        uint8 of shape (3, height, width) on the CPU.

    Raises:
        ValueError: the shapes differ or are not (N, C, H, W), or a number is out of its range.

    Example:
        >>> x = torch.rand(6, 1, 28, 28)
        >>> image_grid(x, x + 0.1, samples_per_row=3).shape
        torch.Size([3, 68, 274])
    """
    check_pair(x, x_adv)
    samples_per_row, zoom = count("samples_per_row", samples_per_row), count("zoom", zoom)
    difference = difference_rgb(x, x_adv, largest_difference(x, x_adv) if scale is None else scale)
    parts = [pad(images, (0, 1), value=1.0) for images in (to_rgb(x, low, high), to_rgb(x_adv, low, high))]
    return tile(torch.cat((*parts, difference), dim=3), samples_per_row, gap=4, zoom=zoom)
