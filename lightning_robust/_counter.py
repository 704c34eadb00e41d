"""A counter-based random generator: each number is an integer hash of a seed and of what it is for.

There is no state: number 5 of sample 7 is the same whether it is drawn alone, in a batch, in another process or on
another device, and no global generator is consumed.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The int64 that has the same low 64 bits as `value`."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(h: Tensor, by: int) -> Tensor:
    """Logical right shift of 64-bit words that torch holds as signed integers."""
    return (h >> by) & ((1 << (64 - by)) - 1)


def mix(h: Tensor) -> Tensor:
    """One step of splitmix64, a bijection of 64-bit words in which every input bit moves every output bit.

    Args:
        h: int64 words of any shape.

    Returns:
        int64 words of the same shape: as unsigned numbers, what splitmix64 in state `h` puts out next.

    Example:
        >>> int(mix(torch.tensor(1234567)))
        6457827717110365317

    References:
        Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    h = h + _signed(_GOLDEN)
    h = (h ^ _shift(h, 30)) * _signed(_MIX1)
    h = (h ^ _shift(h, 27)) * _signed(_MIX2)
    return h ^ _shift(h, 31)


def bits(seed: int, *words: Tensor) -> Tensor:
    """Hash a seed and integer tensors that broadcast against each other to one int64 word per entry.

    For one seed and all words but one fixed, different values of that word give different results.

    Args:
        seed: any integer.
        words: int64 tensors; what the random number is for, e.g. the index of a sample and of a coordinate.

    Returns:
        int64 words, of the shape that `words` broadcast to.
    """
    h = mix(torch.tensor(_signed(seed), dtype=torch.int64, device=words[0].device))
    for word in words:
        h = mix(h ^ word)
    return h


def uniform(seed: int, *words: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24, as float32; arguments as in `bits`.

    Example:
        >>> uniform(0, torch.tensor([3, 4, 5]))
        tensor([0.7815, 0.1177, 0.2449])
        >>> uniform(0, torch.tensor([4]))
        tensor([0.1177])
    """
    return _shift(bits(seed, *words), 40).to(torch.float32) * 2.0**-24


def permutation(size: int, seed: int, *key: int) -> Tensor:
    """A random order of `range(size)`, int64 of shape (size,), that depends on the seed and the key alone.

    Entries are sorted by their random words, so dropping entries from the end of the range leaves the order of the
    others.
    """
    words = (torch.tensor(_signed(k), dtype=torch.int64) for k in key)
    return torch.argsort(bits(seed, *words, torch.arange(size)))


def digest(seed: int, words: Tensor) -> int:
    """Hash a seed and a whole vector of int64, order included, to one integer in [0, 2^63)."""
    position = torch.arange(len(words), device=words.device)
    return int(mix(bits(seed, position, words).sum())) & ((1 << 63) - 1)
