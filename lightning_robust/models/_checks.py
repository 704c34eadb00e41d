"""Checks of the arguments that networks share."""

from collections.abc import Sequence

from lightning_robust._checks import count, counts

__all__ = ["height_and_width"]


def height_and_width(image_size: int | Sequence[int], least: int = 1) -> tuple[int, int]:
    """Return (H, W) from one number for a square or a pair."""
    if not hasattr(image_size, "__len__"):
        side = count("image_size", image_size, least)
        return side, side
    pair = counts("image_size", image_size, least)
    if len(pair) != 2:
        raise ValueError(f"Expected argument `image_size` to be an integer or a pair (H, W), but got {image_size!r}.")
    return pair[0], pair[1]
