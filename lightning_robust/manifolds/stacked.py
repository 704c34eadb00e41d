r"""K networks of one architecture as one network with stacked weights.

`Stacked([net_0, ..., net_{K-1}])(x, layout_of(y, K))` is `net_{y_n}(x_n)` for each sample n, in one pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from lightning_robust.manifolds.layouts import Layout
from lightning_robust.manifolds.networks import UpConv2d, interleave, pad_to_half


class StackedLayer(nn.Module, ABC):
    """A layer of K networks: parameters and buffers have a leading dimension K."""

    @abstractmethod
    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        """Apply to each class its own layer."""


@final
class Stacked(nn.Module):
    r"""K networks of one architecture, evaluated in one pass: sample n goes through network :math:`y_n`.

    The networks share nothing: a class has its own weights, statistics and gradients, and those of a class that is not
    in the batch are neither read nor moved. Known layers: `Linear`, `Conv2d`, `UpConv2d`, `BatchNorm2d`, `ReLU`,
    `Flatten`, `Unflatten`; others can be registered with `stack.register`.

    Args:
        members: the K networks; their weights are copied.

    Raises:
        ValueError: if there are none, or they differ in architecture.
        TypeError: if a layer is not one of those known.

    Example:
        >>> from lightning_robust.manifolds.layouts import layout_of
        >>> members = [nn.Sequential(nn.Linear(3, 2)) for _ in range(4)]
        >>> x, y = torch.randn(5, 3), torch.tensor([2, 0, 2, 3, 0])
        >>> out = Stacked(members)(x, layout_of(y, 4))
        >>> torch.allclose(out[1], members[0](x[1]), atol=1e-6)
        True
    """

    def __init__(self, members: Sequence[nn.Sequential]) -> None:
        super().__init__()
        kinds = len({str(member) for member in members})
        if kinds != 1:
            raise ValueError(f"Expected argument `members` to be networks of one architecture, but got {kinds}.")
        self.layers = nn.ModuleList(stack(layers[0], layers) for layers in zip(*members, strict=True))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(N, ...) -> (N, ...), each sample through the network of its class."""
        h = layout.scatter(x)
        for layer in self.layers:
            h = layer(h, layout)
        return layout.gather(h)


@singledispatch
def stack(layer: Any, layers: Sequence[nn.Module]) -> StackedLayer:
    """Make one layer of K; `layer` is the first of `layers`, by whose type the kind is chosen."""
    raise TypeError(
        f"Expected layers of a known kind, but got {type(layer).__name__}; register it with `stack.register`."
    )


def _stacked(layers: Sequence[nn.Module], name: str) -> Tensor:
    tensors = [{**dict(layer.named_parameters()), **dict(layer.named_buffers())}[name] for layer in layers]
    return torch.stack([t.detach() for t in tensors])


def _channels_last(weight: Tensor) -> Tensor:
    """Kernels (K, O, I, h, w) with I last in memory, which is how convolutions on CPUs read them."""
    return weight.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _stacked_bias(layers: Sequence[nn.Module]) -> nn.Parameter | None:
    return nn.Parameter(_stacked(layers, "bias")) if layers[0].bias is not None else None


@final
class StackedLinear(StackedLayer):
    """K `nn.Linear`."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked(layers, "weight"))
        self.bias = nn.Parameter(_stacked(layers, "bias"))

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        return layout.linear(h, self.weight, self.bias)


@final
class StackedConv2d(StackedLayer):
    """K `nn.Conv2d` with square strides and padding."""

    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_channels_last(_stacked(layers, "weight")))
        self.register_parameter("bias", _stacked_bias(layers))
        self.stride, self.padding = layers[0].stride[0], int(layers[0].padding[0])

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        return layout.conv(h, self.weight, self.bias, self.stride, self.padding)


@final
class StackedUpConv2d(StackedLayer):
    """K `UpConv2d`."""

    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[UpConv2d]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_channels_last(_stacked(layers, "weight")))
        self.register_parameter("bias", _stacked_bias(layers))
        self.size = layers[0].size

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        bias = None if self.bias is None else self.bias.repeat_interleave(4, 1)
        return interleave(layout.conv(pad_to_half(h, self.size), self.weight, bias, 1, 1), self.size)


@final
class StackedBatchNorm2d(StackedLayer):
    """K `nn.BatchNorm2d`: in training mode each class is normalised by its own samples of the batch."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layers: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked(layers, "weight"))
        self.bias = nn.Parameter(_stacked(layers, "bias"))
        self.register_buffer("running_mean", _stacked(layers, "running_mean"))
        self.register_buffer("running_var", _stacked(layers, "running_var"))
        self.eps, self.momentum = layers[0].eps, cast(float, layers[0].momentum)

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        terms = (self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        return layout.batch_normalize(h, *terms, self.momentum) if self.training else layout.normalize(h, *terms)


@final
class _Flatten(StackedLayer):
    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        return layout.flatten(h)


@final
class _Unflatten(StackedLayer):
    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        return layout.unflatten(h, self.shape)


@final
class _ReLU(StackedLayer):
    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        return torch.relu(h)


@stack.register
def _(layer: nn.Linear, layers: Any) -> StackedLayer:
    return StackedLinear(layers)


@stack.register
def _(layer: nn.Conv2d, layers: Any) -> StackedLayer:
    return StackedConv2d(layers)


@stack.register
def _(layer: UpConv2d, layers: Any) -> StackedLayer:
    return StackedUpConv2d(layers)


@stack.register
def _(layer: nn.BatchNorm2d, layers: Any) -> StackedLayer:
    return StackedBatchNorm2d(layers)


@stack.register
def _(layer: nn.Flatten, layers: Any) -> StackedLayer:
    return _Flatten()


@stack.register
def _(layer: nn.Unflatten, layers: Any) -> StackedLayer:
    return _Unflatten(tuple(layer.unflattened_size))  # type: ignore[arg-type]


@stack.register
def _(layer: nn.ReLU, layers: Any) -> StackedLayer:
    return _ReLU()
