"""Evaluation mode for a while, one submodule at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Every submodule in evaluation mode inside; afterwards, also after an exception, each in the mode it was in.

    `network.eval()` and `network.train()` would thaw what a user froze.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
        >>> with evaluating(network):
        ...     [module.training for module in network]
        [False, False]
        >>> [module.training for module in network]
        [False, True]
    """
    training = [module for module in _submodules(networks) if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _submodules(networks: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for network in networks for module in network.modules()]
