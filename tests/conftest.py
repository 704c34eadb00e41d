"""What every test needs: fixed seeds, one thread, and nothing left behind in the global state of torch."""

import random

import numpy as np
import pytest
import torch

from tests.fresh import Fresh


@pytest.fixture(autouse=True)
def seeds_and_defaults():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the global stream is what attacks must not move
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` writes down its caller for each kind of device: 0.8 ms
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def fresh():
    """Programs in fresh interpreters."""
    with Fresh() as server:
        yield server
