r"""Random numbers that belong to a sample, not to a batch.

A starting point is drawn from a counter-based generator: the number at coordinate :math:`i` of a sample is a fixed
integer hash of (content of the sample, key, :math:`i`). Hence a sample draws the same numbers alone as in company, on
every rank and device; nothing is consumed from the global generators and there is no generator state to save.

An attack draws a number for each pixel, so words have 32 bits: those of `_counter.py`, of 64 bits, take 9
times as long on a CPU. Neither can replace the other: their numbers define random starts and data sets.

Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), for the idea; the integer hash is the
public-domain ``lowbias32`` of C. Wellons.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MIX1, _MIX2 = 0x7FEB352D, 0x846CA68B - (1 << 32)
_GOLDEN = 0x9E3779B9 - (1 << 32)


def _mix_(h: Tensor) -> Tensor:
    """Mix an int32 tensor in place: a bijection of 32-bit words in which every input bit moves every output bit."""
    h ^= (h >> 16) & 0xFFFF
    h *= _MIX1
    h ^= (h >> 15) & 0x1FFFF
    h *= _MIX2
    h ^= (h >> 16) & 0xFFFF
    return h


def _mix_int(*words: int) -> int:
    """Hash Python integers of any size to one int32."""
    h, low = 0, 0xFFFFFFFF
    for word in words:
        for part in (word, word >> 32):
            h = (h ^ part) & low
            h ^= h >> 16
            h = h * _MIX1 & low
            h ^= h >> 15
            h = h * _MIX2 & low
            h ^= h >> 16
            h = (h + _GOLDEN) & low
    return (h + (1 << 31)) % (1 << 32) - (1 << 31)


def _bits(x: Tensor) -> Tensor:
    """(N, ...) tensor -> (N, d) int32 words that hold its content."""
    x = x.detach().flatten(1).contiguous()
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.view(torch.int16).to(torch.int32)
    if x.dtype == torch.float64:
        x = x.float()
    return x.view(torch.int32) if x.dtype == torch.float32 else x.to(torch.int32)


@dataclass(frozen=True)
class Noise:
    """A keyed source of random numbers, one independent stream per sample.

    Args:
        words: (N,) int32, the hash of each sample and key. Use `Noise.of`.
    """

    words: Tensor

    @classmethod
    def of(cls, x: Tensor, *key: int) -> "Noise":
        """Key the generator by the content of each sample of `x` (N, ...) and by integers.

        Example:
            >>> x = torch.linspace(0, 1, 12).reshape(3, 4)
            >>> together = Noise.of(x, 7).uniform((4,))
            >>> torch.equal(together[1:2], Noise.of(x[1:2], 7).uniform((4,)))
            True
        """
        bits = _bits(x)
        place = torch.arange(1, bits.shape[1] + 1, dtype=torch.int32, device=x.device)
        weights = _mix_(place * _GOLDEN) | 1
        # Mixed before the sum: a product alone drops what stands in the high bits only, as in 0.0, 1.0 and -1.0.
        content = _mix_(bits ^ weights).sum(1).to(torch.int32)
        return cls(_mix_(content ^ _mix_int(*key)))

    def fold(self, *key: int) -> "Noise":
        """The noise of a sub-stream, e.g. of one restart."""
        return Noise(_mix_(self.words ^ _mix_int(*key)))

    def take(self, rows: Tensor) -> "Noise":
        """The noise of some of the samples."""
        return Noise(self.words[rows])

    def seed(self) -> int:
        """One seed of 32 bits for a generator that knows no samples; waits for the device."""
        return int(self.words.sum(dtype=torch.int64)) % (1 << 32)

    def uniform(self, shape: tuple[int, ...], *stream: int) -> Tensor:
        """Uniform numbers in the open interval (0, 1), float32 (N, *shape), multiples of 2^-23 plus 2^-24."""
        count = 1
        for size in shape:
            count *= size
        place = torch.arange(count, dtype=torch.int32, device=self.words.device)
        h = _mix_(place * _GOLDEN) ^ _mix_(self.words ^ _mix_int(*stream, 1))[:, None]
        u = ((_mix_(h) >> 9) & 0x7FFFFF).to(torch.float32)
        return u.add_(0.5).mul_(2.0**-23).reshape(-1, *shape)

    def normal(self, shape: tuple[int, ...], *stream: int) -> Tensor:
        """Standard normal numbers, float32 of shape (N, *shape), by inversion of the distribution function."""
        return torch.special.ndtri(self.uniform(shape, *stream))

    def exponential(self, shape: tuple[int, ...], *stream: int) -> Tensor:
        """Exponential numbers of mean 1, float32 of shape (N, *shape)."""
        return -torch.log(self.uniform(shape, *stream))


def normal_within(uniform: Tensor, bound: float) -> Tensor:
    r"""Numbers of the standard normal distribution on :math:`[-b, b]`, by inversion of its distribution function.

    .. math::

        \Phi^{-1}\big( \Phi(-b) + (1 - 2 \Phi(-b))\, u \big)

    Args:
        uniform: u, in [0, 1], of any shape; in float64 where the tails matter.
        bound: b.

    Example:
        >>> normal_within(torch.tensor([0.0, 0.75, 1.0]), bound=2.0)
        tensor([-2.0000,  0.6391,  2.0000])
    """
    tail = 0.5 * math.erfc(bound / math.sqrt(2))
    return torch.special.ndtri(tail + (1 - 2 * tail) * uniform).clamp(-bound, bound)
