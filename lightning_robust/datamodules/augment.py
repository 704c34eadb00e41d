"""Augmentation of training images, a batch at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_robust._checks import boolean, count


@dataclass(frozen=True)
class RandomCropFlip:
    """Shift each image by up to `padding` pixels, with zeros coming in, and mirror every second one.

    The usual augmentation of CIFAR: pad, crop at random, flip left to right with probability 1/2; drawn for each
    image, done for the whole batch at once. Draws from torch's default generator.

    Args:
        padding: the largest shift in pixels, at least 0.
        flip: whether to mirror; not for digits and letters.

    Raises:
        ValueError: if `padding` is negative.

    Example:
        >>> RandomCropFlip(padding=4)(torch.rand(8, 3, 32, 32)).shape
        torch.Size([8, 3, 32, 32])
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", count("padding", self.padding, 0))
        object.__setattr__(self, "flip", boolean("flip", self.flip))

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        number, _, height, width = images.shape
        row, column = torch.randint(0, 2 * self.padding + 1, (2, number, 1))
        rows, columns = row + torch.arange(height), column + torch.arange(width)
        if self.flip:
            columns = torch.where(torch.rand(number, 1) < 0.5, columns.flip(1), columns)
        padded = torch.nn.functional.pad(images, (self.padding,) * 4)
        place = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
        index = place.flatten(start_dim=1)[:, None].expand(-1, images.shape[1], -1)
        return padded.flatten(start_dim=2).gather(2, index).reshape(images.shape)
