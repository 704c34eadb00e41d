"""What an evaluation knows of each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.metrics._checks import check_bool, check_float, check_integers

_INTEGERS = ("target", "restart", "step", "passes")
_FLOATS = ("gain", "radius")

LEAST_RADII = {"least radii": "looked for"}
"""In `Report.about` where an attack did; else `Images.radius` is that at which some attack happened to succeed."""


@dataclass(frozen=True, eq=False)
class Images:
    """What an evaluation knows of each image, in the order of the data; tensors are (N,), on the CPU.

    Args:
        key: 16 hexadecimal digits made of the content of the input in float32. Equal images have equal keys, wherever
            they stand: by it two evaluations are paired.
        label: int64, the class; None where labels are no classes.
        clean: bool, right without an attack.
        attack: the first attack that broke the image; "" where none did.
        target: int64, the class that the model gave instead; -1: none, or unknown.
        restart: int64, the restart of that success, from 0; -1 likewise.
        step: int64, the step of that success; -1 likewise.
        gain: float64, the highest gain of the last attack that ran; NaN: unknown.
        radius: float64, the least radius at which an adversarial example was seen, in the units of the threat; 0 where
            the image is wrong without an attack; infinite: none was.
        passes: int64, forward plus backward passes spent on the image.
        examples: (N, ...) an adversarial example where there is one, else the input; None: they were not kept.

    Raises:
        ValueError: if the parts do not fit together.

    Example:
        >>> none, inf = torch.tensor([-1, -1]), float("inf")
        >>> images = Images(
        ...     key=["00c0ffee00c0ffee", "00facade00facade"],
        ...     label=torch.tensor([3, 1]),
        ...     clean=torch.tensor([True, True]),
        ...     attack=["margin", ""],
        ...     target=torch.tensor([5, -1]),
        ...     restart=torch.tensor([0, -1]),
        ...     step=torch.tensor([4, -1]),
        ...     gain=torch.tensor([0.2, -1.5], dtype=torch.float64),
        ...     radius=torch.tensor([0.02, inf], dtype=torch.float64),
        ...     passes=torch.tensor([10, 812]),
        ... )
        >>> images.robust
        tensor([False,  True])
    """

    key: Sequence[str]
    label: Tensor | None
    clean: Tensor
    attack: Sequence[str]
    target: Tensor
    restart: Tensor
    step: Tensor
    gain: Tensor
    radius: Tensor
    passes: Tensor
    examples: Tensor | None = None

    def __post_init__(self) -> None:
        check_bool("clean", self.clean, ("N",))
        n = len(self.clean)
        for name in ("key", "attack"):
            texts = _checks.sequence(name, getattr(self, name), "a string for each image", n)
            for text in texts:
                _checks.text(name, text, empty=name == "attack")
            object.__setattr__(self, name, list(texts))
        if self.label is not None:
            check_integers("label", self.label, n)
        for name in _INTEGERS:
            check_integers(name, getattr(self, name), n)
        for name in _FLOATS:
            check_float(name, getattr(self, name), (n,))
        if self.examples is not None:
            check_float("examples", self.examples, (n, "..."))

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def robust(self) -> Tensor:
        """(N,) bool: right without an attack, and under all that were made."""
        return self.clean & torch.tensor([not name for name in self.attack], dtype=torch.bool)
