"""Adversarial weight perturbation around any objective."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from lightning_robust._checks import function, number
from lightning_robust.attacks._state import State
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.scope import modules_in
from lightning_robust.objectives.adversarial_loss import adversarial_loss
from lightning_robust.objectives.objective import Objective, ObjectiveBase

__all__ = ["Awp", "awp", "weight_perturbation"]

# Powers of two, which change no bit of a gradient. Where a forward computes in float16, they are tried in this order.
_SCALES = (2.0**14, 2.0**8, 2.0**2, 2.0**-4, 2.0**-10)


class _Gradients(NamedTuple):
    """The value of an objective, and `scale` times its gradients at the leaves of its graph."""

    loss: Tensor
    half: bool
    scale: float
    leaves: list[Tensor]
    grads: list[Tensor]


class _Objective(nn.Module):
    """`objective(model, ...)` with its gradients, as a module, so that `functional_call` can replace its weights.

    The backward runs inside, too: activation checkpointing runs parts of the forward again in it, which must see the
    same weights.
    """

    def __init__(self, objective: Objective, model: nn.Module, leaves: list[Tensor] | None, scale: float) -> None:
        super().__init__()
        self.objective = objective
        self.model = model
        self.leaves = leaves
        self.scale = scale
        self.replaced = {id(p): name for name, p in model.named_parameters() if p.requires_grad}

    def forward(self, *batch: Any) -> _Gradients:
        loss = self.objective(self.model, *batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"Expected argument `objective` to return a scalar tensor, but got {shown}.")
        leaves, half = _graph(loss)
        for leaf in leaves:
            if id(leaf) in self.replaced:
                raise ValueError(
                    "Expected argument `model` to read its parameters from its modules, but got one that uses "
                    f"`{self.replaced[id(leaf)]}` from elsewhere, such as a list, where it cannot be moved."
                )
        if not loss.requires_grad:
            return _Gradients(loss.detach(), False, 1.0, [], [])
        leaves = leaves if self.leaves is None else self.leaves
        scale = self.scale if half else 1.0
        start = torch.full_like(loss, scale, dtype=torch.promote_types(loss.dtype, torch.float32))
        grads = torch.autograd.grad(loss, leaves, start, allow_unused=True)
        torch.clear_autocast_cache()  # it holds copies of the replaced weights
        used = [(leaf, g) for leaf, g in zip(leaves, grads, strict=True) if g is not None]
        return _Gradients(loss.detach(), half, scale, [leaf for leaf, _ in used], [g for _, g in used])


def _graph(loss: Tensor) -> tuple[list[Tensor], bool]:
    """The leaves of the graph of `loss`, and whether float16 appears in it."""
    kind = loss.device.type
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    leaves, seen, waiting = [], set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        half = half or any(output.dtype == torch.float16 for output in getattr(node, "_input_metadata", ()))
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
        waiting += [following for following, _ in node.next_functions]
    return leaves, half


def _finite(grads: list[Tensor]) -> bool:
    """Are all entries finite? Waits for the device once."""
    return not grads or bool(torch.stack([g.to_dense().isfinite().all().to(grads[0].device) for g in grads]).all())


class _HandOut(torch.autograd.Function):
    """A loss whose gradients are known already: `grads / scale` at the tensors that are passed after them."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, scale: float, grads: list[Tensor], *_: Tensor) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(*grads)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        return (None, None, None, *(_times(g, grad_output.reshape(()), ctx.scale) for g in grads))


def _times(g: Tensor, factor: Tensor, scale: float) -> Tensor:
    wide = torch.promote_types(g.dtype, torch.float32)
    return (g.to(wide) * (factor.to(g.device, wide) / scale)).to(g.dtype)


def _check_whole(weights: dict[str, nn.Parameter]) -> None:
    if not weights:
        raise ValueError(
            "Expected argument `model` to have a trainable parameter with two or more dimensions, but got none. "
            "`awp` does not support FSDP, which flattens parameters: use DDP."
        )
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.tensor import DTensor

        for name, weight in weights.items():
            if isinstance(weight, DTensor):
                raise TypeError(
                    f"Expected argument `model` to have whole parameters, but `{name}` is sharded. Use DDP."
                )


def weight_perturbation(
    objective: Objective, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, gamma: float
) -> dict[str, Tensor]:
    """Return one ascent step on the weights, relative to the norm of each.

        v_l = gamma * ||w_l||_2 * g_l / ||g_l||_2,    g_l = d objective / d w_l

    for every trainable parameter w_l with two or more dimensions; biases and BatchNorm's scales stay. The model is left
    as it was, its buffers and plain attributes too. Where the gradient is zero or not finite, v_l = 0.

    Args:
        objective: what to ascend.
        model: images to logits.
        x: (N, C, H, W) clean images.
        x_adv: (N, C, H, W) adversarial images.
        y: labels, as the objective takes them.
        gamma: relative size of the step, >= 0.

    Returns:
        Parameter name to v_l, detached, of the shape of the parameter.

    Raises:
        ValueError: if the model has nothing to perturb, or a parameter is used that is not read from its module.
        TypeError: if a parameter is sharded.
    """
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}
    _check_whole(weights)
    leaves = {name: p.detach().requires_grad_() for name, p in weights.items()}
    state: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters()} | leaves
    with torch.enable_grad(), _aside(model):
        at = _gradients(objective, model, state, (x, x_adv, y), list(leaves.values()))
    names = {id(leaf): name for name, leaf in leaves.items()}
    grads = {names[id(leaf)]: g for leaf, g in zip(at.leaves, at.grads, strict=True)}
    return {name: _rescaled(g, weights[name].detach(), gamma) for name, g in grads.items()}


def _gradients(
    objective: Objective,
    model: nn.Module,
    state: dict[str, Tensor],
    batch: tuple[Any, ...],
    leaves: list[Tensor] | None = None,
) -> _Gradients:
    """The gradients at `leaves` (None: at all that the loss depends on), with `state` in place of the model's own.

    Where gradients overflow in float16, forward and backward run again with a lower scale. The statistics of BatchNorm
    are those of the first forward.
    """
    replaced = {f"model.{name}": value for name, value in state.items()}
    for scale in _SCALES:
        with nullcontext() if scale == _SCALES[0] else _aside(model):
            at = functional_call(_Objective(objective, model, leaves, scale), replaced, batch)
        if not at.half or _finite(at.grads):
            break
    return at


@contextmanager
def _aside(model: nn.Module) -> Iterator[None]:
    """Forwards inside leave no trace: in buffers, in plain attributes, and in the log of a model that can be quiet."""
    with State(modules_in(model), swap=True), getattr(model, "quietly", nullcontext)():
        yield


def _rescaled(g: Tensor, w: Tensor, gamma: float) -> Tensor:
    wide = torch.promote_types(w.dtype, torch.float32)
    g = g.to_dense()
    g_norm = torch.linalg.vector_norm(g, dtype=wide)
    w_norm = torch.linalg.vector_norm(w, dtype=wide)
    usable = g_norm.isfinite() & (g_norm > 0)
    return torch.where(usable, g.to(wide) * (gamma * w_norm / g_norm), 0.0).to(w.dtype)


@dataclass(frozen=True)
class Awp(ObjectiveBase):
    """The objective that `awp` makes."""

    objective: Objective = adversarial_loss
    gamma: float = 0.005

    def __post_init__(self) -> None:
        function("objective", self.objective, "(model, x, x_adv, y) -> loss", takes=4)
        set_fields(self, gamma=number("gamma", self.gamma, 0))

    @property
    def gain(self) -> Any:
        """The gain of the wrapped objective."""
        return getattr(self.objective, "gain", None)

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss at the perturbed weights, a scalar."""
        if self.gamma == 0:
            return self.objective(model, x, x_adv, y)
        v = weight_perturbation(self.objective, model, x, x_adv, y, self.gamma)
        originals: dict[int, Tensor] = {}

        def instead(original: Tensor, value: Tensor) -> Tensor:
            originals[id(value)] = original
            return value.requires_grad_()

        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        state = {name: instead(p, p.detach() + v.pop(name) if name in v else p.detach()) for name, p in trained.items()}
        batch = tuple(instead(t, t.detach()) if isinstance(t, Tensor) and t.requires_grad else t for t in (x, x_adv, y))
        at = _gradients(self.objective, model, state, batch)
        return _HandOut.apply(at.loss, at.scale, at.grads, *(originals.get(id(leaf), leaf) for leaf in at.leaves))


def awp(objective: Objective = adversarial_loss, gamma: float = 0.005) -> Awp:
    """Any objective at weights that were first moved against it.

        loss = objective(w + v),    v from `weight_perturbation`, held constant

    so that the descent direction is the gradient at w + v, and the optimizer applies it to w. This prefers flat minima
    of the objective and lessens robust overfitting. Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust
    Generalization" (NeurIPS 2020), section 4. The authors use gamma 0.005 around `trades(6)` and 0.01 around
    `adversarial_loss`.

    The authors add v to the weights, step, and subtract v. We leave the weights alone: inside the call the model runs
    forward and backward with w + v in their place, and the backward of the loss hands these gradients to w. The steps
    are the same, with activation checkpointing too; the gradients are there from the call on, which takes the memory
    of one more copy until the backward. Only weight decay differs: theirs acts on w + v, ours on w. Running statistics
    of BatchNorm, and whatever else a forward changes, are changed by the descent alone. In train mode, dropout draws
    once more per step. Where a forward computes in float16, the backward inside is scaled by a power of two that leaves
    all gradients finite.

    Not supported: FSDP and other sharded parameters, and second derivatives of the loss (errors). Under DDP each
    process moves the weights by the gradient of its own part of the batch; the gradients are then averaged as usual.
    The authors start after 10 epochs of plain training; an objective has no clock, so train with the wrapped objective
    first if this is wanted.

    Args:
        objective: the objective to wrap.
        gamma: size of the perturbation relative to the norm of each weight, >= 0; `gamma=0` is `objective` itself.

    Raises:
        ValueError: if `gamma` is negative or not finite.

    Example:
        >>> import torch
        >>> from lightning_robust.objectives import trades
        >>> objective = awp(trades(beta=6.0), gamma=0.005)
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.eye(2))
        >>> x, x_adv = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
        >>> y = torch.tensor([1])
        >>> before = trades(beta=6.0)(model, x, x_adv, y)
        >>> bool(objective(model, x, x_adv, y) > before)
        True
    """
    return Awp(objective, gamma)
