"""From image batches to colors: clean and adversarial images as RGB, their difference as blue - white - red."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust._checks import instance, number

_BELOW = (0.0196, 0.1882, 0.3804)  # dark blue
_HALF_BELOW = (0.2627, 0.5765, 0.7647)
_ZERO = (1.0, 1.0, 1.0)
_HALF_ABOVE = (0.8392, 0.3765, 0.3020)
_ABOVE = (0.4039, 0.0, 0.1216)  # dark red
_MID_GRAY = 0.5


def check_pair(x: Tensor, x_adv: Tensor) -> None:
    """Refuses what cannot be shown: anything but two floating-point batches (N, C, H, W), N >= 1, C = 1 or 3, alike."""
    for name, images in (("x", x), ("x_adv", x_adv)):
        if (
            instance(name, images, Tensor, "a tensor (N, C, H, W)").ndim != 4
            or images.shape[0] < 1
            or images.shape[1] not in (1, 3)
        ):
            raise ValueError(
                f"Expected argument `{name}` to have shape (N, C, H, W) with N >= 1 and C = 1 or 3, "
                f"but got {tuple(images.shape)}."
            )
        if not images.is_floating_point():
            raise ValueError(f"Expected argument `{name}` to be of floating point, but got {images.dtype}.")
    if x.shape != x_adv.shape:
        raise ValueError(
            f"Expected arguments `x` and `x_adv` to have one shape, but got {tuple(x.shape)} and {tuple(x_adv.shape)}."
        )


def to_rgb(images: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Images (N, C, H, W) with values from `low` to `high` as RGB (N, 3, H, W) in [0, 1], float32 on the CPU."""
    low, high = number("low", low), number("high", high)
    if not low < high:
        raise ValueError(f"Expected argument `low` to be below `high` = {high}, but got {low}.")
    return _plain(images).sub(low).div(high - low).clamp(0.0, 1.0).expand(-1, 3, -1, -1)


def largest_difference(x: Tensor, x_adv: Tensor) -> float:
    """`max |x_adv - x|` over the whole batch, or 1 where nothing differs: the scale that shows every difference."""
    return (_plain(x_adv) - _plain(x)).abs().max().item() or 1.0


def difference_rgb(x: Tensor, x_adv: Tensor, scale: float) -> Tensor:
    r"""The signed difference `d = (x_adv - x) / scale` as colors (N, 3, H, W) in [0, 1].

    Grayscale: white at 0, blue below (to dark blue at -1), red above (to dark red at 1), piecewise linear: blue and red
    are told apart with every common kind of color vision. RGB: each channel is shown as `(1 + d) / 2`, so that
    mid-gray means no change and a channel's own sign is kept.

    Args:
        x: clean images (N, C, H, W).
        x_adv: adversarial images, of the same shape.
        scale: the difference that has full color, positive, in the images' units; larger ones are clipped.

    Example:
        >>> x = torch.zeros(1, 1, 1, 3)
        >>> difference_rgb(x, x + torch.tensor([-0.1, 0.0, 0.1]), scale=0.1)[0, :, 0].T
        tensor([[0.0196, 0.1882, 0.3804],
                [1.0000, 1.0000, 1.0000],
                [0.4039, 0.0000, 0.1216]])
    """
    check_pair(x, x_adv)
    scale = number("scale", scale, 0, above=True)
    d = (_plain(x_adv) - _plain(x)).div(scale).clamp(-1.0, 1.0)
    if d.shape[1] == 3:
        return _MID_GRAY * (1.0 + d)
    anchors = torch.tensor((_BELOW, _HALF_BELOW, _ZERO, _HALF_ABOVE, _ABOVE), dtype=torch.float32)
    position = (d[:, 0] + 1.0) * 2.0  # (N, H, W) from 0 to 4, one unit between two anchors
    left = position.floor().clamp(max=3.0)
    colors = torch.lerp(anchors[left.long()], anchors[left.long() + 1], (position - left).unsqueeze(-1))
    return colors.permute(0, 3, 1, 2)


def tile(images: Tensor, columns: int, *, gap: int = 2, zoom: int = 2) -> Tensor:
    """Images in rows on a white ground.

    Args:
        images: (N, 3, H, W) in [0, 1] on the CPU.
        columns: number of images in a row; the last row is filled up with white.
        gap: width of the lines between and around images, in pixels of the images.
        zoom: side of the square that a pixel becomes.

    Returns:
        uint8 of shape (3, zoom (R (H + gap) + gap), zoom (columns (W + gap) + gap)) for R = ceil(N / columns).

    Example:
        >>> tile(torch.rand(5, 3, 8, 6), columns=3, zoom=1).shape
        torch.Size([3, 22, 26])
    """
    from torchvision.utils import make_grid  # here: training and evaluation go without torchvision

    if len(images) == 1:  # `make_grid` gives a single image back as it is
        picture = pad(images[0], (gap, gap, gap, gap), value=1.0)
    else:
        picture = make_grid(images, nrow=columns, padding=gap, pad_value=1.0)
    picture = picture.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)
    return picture.mul(255.0).round().to(torch.uint8)


def _plain(images: Tensor) -> Tensor:
    return images.detach().to("cpu", torch.float32)
