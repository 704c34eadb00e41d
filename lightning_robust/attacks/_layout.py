"""Convolutions with channels last, for the time of an attack: the values are the same, the place in memory is not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust.attacks._joined import Decode, joined
from lightning_robust.attacks.attack import rows_of
from lightning_robust.attacks.scope import is_sharded, modules_in


@contextmanager
def channels_last_weights(model: Any) -> Iterator[None]:
    """The weights of two-dimensional convolutions with channels last; afterwards the module has its own memory back.

    What training reads and writes is the memory that was there before. Sharded parameters stay as they are.
    """
    modules = modules_in(model)
    weights = {} if is_sharded(modules) else {id(w): w for part in modules if (w := _weight(part)) is not None}
    kept: list[tuple[nn.Parameter, Tensor]] = []
    try:
        with torch.inference_mode(False):
            for weight in weights.values():
                kept.append((weight, weight.data))
                # Not `contiguous`: of one input channel both layouts are one, and the strides decide for the output.
                weight.data = weight.data.clone(memory_format=torch.channels_last)
        yield
    finally:
        for weight, data in kept:
            weight.data = data


def _weight(part: nn.Module) -> nn.Parameter | None:
    """The weight of a convolution of images, where it is a plain one in the usual order."""
    weight = part._parameters.get("weight") if isinstance(part, nn.modules.conv._ConvNd) else None
    if type(weight) is not nn.Parameter or weight.ndim != 4 or weight.is_inference():
        return None
    _, c, h, w = weight.shape
    return None if weight.stride() == (h * w * c, 1, w * c, c) else weight


class ChannelsLast(nn.Module):
    """A model whose images come with channels last: on GPUs that is enough for its convolutions to do the same."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def rows(self, rows: slice | Tensor) -> "ChannelsLast":
        """For some samples of the batch."""
        return ChannelsLast(rows_of(self.model, rows))

    def after_decode(self, decode: Decode) -> Callable[[Tensor], Any]:
        """The model behind the map of a space, as one function of the perturbation."""
        return joined(self.model, lambda delta: _channels_last(decode(delta)))

    def forward(self, x: Any) -> Any:
        """The output of the model."""
        return self.model(_channels_last(x))


def _channels_last(x: Any) -> Any:
    image = isinstance(x, Tensor) and x.ndim == 4
    return x.contiguous(memory_format=torch.channels_last) if image else x
