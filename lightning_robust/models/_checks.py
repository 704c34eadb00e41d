"""Checks of the arguments that networks share."""

from collections.abc import Sequence

__all__ = ["check_counts", "height_and_width"]


def check_counts(**counts: int) -> None:
    """Refuse numbers of channels, classes or units that are not positive integers."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"Expected argument `{name}` to be a positive integer, but got {value!r}.")


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) from one number for a square or a pair."""
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(
            f"Expected argument `image_size` to be a positive integer or a pair (H, W) of them, but got {image_size!r}."
        )
    return pair[0], pair[1]
