"""The random generators that other packages draw from: torch's on every device, numpy's and Python's."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mixed(seed: int, key: int) -> int:
    """One seed of 31 bits, which every generator takes, made of two integers of any size.

    Example:
        >>> mixed(0, 1) == mixed(0, 1), mixed(0, 1) == mixed(1, 0)
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(f"{seed},{key}".encode(), digest_size=4).digest(), "little") >> 1


@contextmanager
def own_global_streams(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's global generators, and put them and those of all CUDA devices back.

    torch's generators on the CPU and on the device of the batch are seeded by `scope`. But `torch.manual_seed`, which
    some attacks call, seeds every device there is.
    """
    # Attacks of other packages draw from numpy's legacy global generator, so that is the one to seed.
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    states = [generator.get_state() for generator in devices]
    try:
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        for generator, state in zip(devices, states, strict=True):
            generator.set_state(state)
