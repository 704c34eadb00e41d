"""Samples that are evaluated more than once, which intervals take for independent draws."""

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.evaluation._pool import classes_of
from lightning_robust.evaluation._reader import Sample

_NONE = torch.iinfo(torch.int64).min


class Repeats:
    """What the samples are that a process counts: 8 bytes for each, made of its input and its class."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []

    def see(self, sample: Sample, mask: Tensor) -> None:
        """Take in a batch. A device is not waited for.

        The input is known by a hash of 32 bits: of a million samples a hundred are taken for another one.

        Args:
            sample: The batch, N samples.
            mask: (N,) bool, the samples that count.
        """
        known, labels = Noise.of(sample.x.reshape(len(sample), -1)).words.long() << 32, classes_of(sample)
        if labels is not None:
            known |= labels.to(known.device) & 0xFFFFFFFF
        self._seen.append(torch.where(mask, known, _NONE))

    @property
    def distinct(self) -> Tensor:
        """(M,) int64 on the CPU, each of them once, in order."""
        seen = torch.cat(self._seen).cpu().unique() if self._seen else torch.empty(0, dtype=torch.int64)
        return seen[seen != _NONE]


def repeated(n: int, distinct: int) -> list[str]:
    """A text where more than 5 % of at least 50 samples repeat another one, content and label.

    Args:
        n: Number of samples.
        distinct: Number of those that differ.
    """
    text = (
        f"Only {distinct} of {n} samples are distinct, in input and label. The intervals take all samples for "
        "independent draws: if these are copies, and not draws that happen to be equal, the intervals are too narrow, "
        "and what is repeated weighs more. Evaluate each sample once."
    )
    return [text] if n >= 50 and n - distinct > 0.05 * n else []
