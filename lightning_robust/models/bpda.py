"""Gradients through maps that have none."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_robust import _checks

__all__ = ["Bpda"]


def _identity(x: Tensor) -> Tensor:
    return x


class Bpda(nn.Module):
    """A map with the gradient of another one: forward `function`, backward `substitute`.

    The backward pass differentiable approximation (Athalye, Carlini, Wagner, ICML 2018, section 4.1), for attacks on
    networks whose own gradient is zero or absent. Attack the network with it, and count the successes on the network
    without.

    Args:
        function: any map of tensors, e.g. `torch.sign`.
        substitute: a map to the same shape whose gradient is used; the identity where shapes do not change.

    Example:
        >>> x = torch.tensor([0.3, -2.0], requires_grad=True)
        >>> sign = Bpda(torch.sign)(x)
        >>> sign.sum().backward()
        >>> sign.tolist(), x.grad
        ([1.0, -1.0], tensor([1., 1.]))
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], substitute: Callable[[Tensor], Tensor] = _identity
    ) -> None:
        super().__init__()
        self.function = _checks.function("function", function, "of one tensor")
        self.substitute = _checks.function("substitute", substitute, "of one tensor")

    def forward(self, x: Tensor) -> Tensor:
        """The value of `function`, exactly, with the gradient of `substitute`."""
        with torch.no_grad():
            value = self.function(x)
        smooth = self.substitute(x)
        if smooth.shape != value.shape:
            raise ValueError(
                f"Expected argument `substitute` to map to shape {tuple(value.shape)} as `function` does, but got "
                f"{tuple(smooth.shape)}."
            )
        return value + (smooth - smooth.detach())
