"""Evaluation mode for a while, one submodule at a time: `model.eval()` and `.train()` would thaw what a user froze."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from torch import nn


@contextmanager
def own_modes(modules: Sequence[nn.Module], *, evaluate: bool) -> Iterator[None]:
    """Modules may change their modes inside; afterwards, also after an exception, each is in the mode it was in.

    Args:
        modules: each module alone, without its submodules.
        evaluate: whether they are in evaluation mode inside. Recurrent layers are in training mode with a dropout of
            0, which computes the same: cuDNN has gradients in training mode only.
    """
    before = [(module, module.training) for module in modules if hasattr(module, "training")]  # frozen TorchScript: no
    dropped: list[tuple[nn.RNNBase, float]] = []
    try:
        if evaluate:
            for module, _ in before:
                wanted = type(module) in (nn.RNN, nn.LSTM, nn.GRU)  # others may drop in ways of their own
                if isinstance(module, nn.RNNBase) and wanted and module.dropout:
                    dropped.append((module, module.dropout))
                    module.dropout = 0.0
                if module.training != wanted:
                    _set(module, wanted)
        yield
    finally:
        for module, dropout in dropped:
            module.dropout = dropout
        for module, training in before:
            if module.training != training:
                _set(module, training)


def _set(module: nn.Module, training: bool) -> None:
    """Set the flag; of a usual module without the detour through what parameters and submodules need."""
    if type(module).__setattr__ is nn.Module.__setattr__ and "training" in vars(module):
        vars(module)["training"] = training
    else:
        module.training = training


def evaluating(*networks: nn.Module) -> AbstractContextManager[None]:
    """Networks in evaluation mode, with all their submodules.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
        >>> with evaluating(network):
        ...     [module.training for module in network]
        [False, False]
        >>> [module.training for module in network]
        [False, True]
    """
    return own_modes([module for network in networks for module in network.modules()], evaluate=True)
