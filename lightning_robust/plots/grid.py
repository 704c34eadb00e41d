"""Images side by side in one tensor, for loggers that take images. Torch only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust._checks import count
from lightning_robust.plots.images import check_pair, difference_rgb, largest_difference, to_rgb


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
    r"""One picture of N samples, each as clean | adversarial | signed difference; what `SummaryWriter.add_image` takes.

    The three images of a sample are parted by ``zoom`` white pixels, two samples by ``4 * zoom`` white pixels, and
    ``4 * zoom`` pixels frame the whole. With ``z = zoom`` and ``S = min(N, samples_per_row)`` the picture is
    ``z (3 W + 2) S + 4 z (S + 1)`` wide and ``z H R + 4 z (R + 1)`` high, for ``R = ceil(N / S)`` rows.

    Args:
        x: clean images (N, C, H, W), C = 1 or 3, on any device, of any floating type.
        x_adv: adversarial images, of the same shape.
        scale: the difference with full colour, in the images' units; by default the largest one in the batch. See
            `difference_rgb` for the colours.
        samples_per_row: how many samples stand side by side, at least 1.
        zoom: how many pixels a pixel becomes in either direction, at least 1.
        low: the value shown as black.
        high: the value shown as white.

    Returns:
        uint8 of shape (3, height, width) on the CPU.

    Raises:
        ValueError: if the shapes differ or are not (N, C, H, W), or a number is out of its range.

    Example:
        >>> x = torch.rand(6, 1, 28, 28)
        >>> image_grid(x, x + 0.1, samples_per_row=3).shape
        torch.Size([3, 68, 274])
    """
    check_pair(x, x_adv)
    samples_per_row, zoom = count("samples_per_row", samples_per_row), count("zoom", zoom)
    difference = difference_rgb(x, x_adv, largest_difference(x, x_adv) if scale is None else scale)
    triple = (to_rgb(x, low, high), to_rgb(x_adv, low, high), difference)
    thin, wide = 1, 4
    parts = [pad(images, (0, thin), value=1.0) for images in triple[:2]]
    samples = torch.cat((*parts, triple[2]), dim=3)  # (N, 3, H, 3 W + 2)
    samples = pad(samples, (wide, 0, wide, 0), value=1.0)  # room above and to the left of each sample
    columns = min(len(samples), samples_per_row)
    samples = torch.cat((samples, samples.new_ones(-len(samples) % columns, *samples.shape[1:])))
    rows = [torch.cat(tuple(row), dim=2) for row in samples.split(columns)]
    picture = pad(torch.cat(rows, dim=1), (0, wide, 0, wide), value=1.0)
    picture = picture.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)
    return picture.mul(255.0).round().to(torch.uint8)
