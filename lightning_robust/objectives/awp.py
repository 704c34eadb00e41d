"""Adversarial weight perturbation around any objective."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_robust._checks import function, number
from lightning_robust.objectives.objective import Objective, ObjectiveBase
from lightning_robust.objectives.standard import standard

__all__ = ["awp", "weight_perturbation"]

# A power of two, so that it changes no bit of the direction; it keeps gradients of float16 forwards above zero.
_SCALE = 2.0**10


class _Loss(nn.Module):
    """`objective(model, ...)` as a module, whose weights `functional_call` can replace while the objective runs."""

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.model = model

    def forward(self, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        return self.objective(self.model, x, x_adv, y)


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

    for every trainable parameter w_l with two or more dimensions; biases and BatchNorm's scales stay. Nothing of the
    model is written to: the objective runs on detached weights and on clones of the buffers. Where the gradient is
    zero or not finite, v_l = 0.

    Args:
        objective: what to ascend.
        model: images to logits.
        x: (N, C, H, W) clean images.
        x_adv: (N, C, H, W) adversarial images.
        y: (N,) int64 labels.
        gamma: relative size of the step, >= 0.

    Returns:
        Parameter name to v_l, detached, of the shape of the parameter.

    Raises:
        ValueError: if the model has nothing to perturb.
        TypeError: if a parameter is sharded.
    """
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}
    _check_whole(weights)
    leaves = {name: p.detach().requires_grad_() for name, p in weights.items()}
    state: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters()}
    state |= {name: b.detach().clone() for name, b in model.named_buffers()}
    state |= leaves
    with torch.enable_grad():
        loss = functional_call(_Loss(objective, model), {f"model.{k}": v for k, v in state.items()}, (x, x_adv, y))
        grads = torch.autograd.grad(_SCALE * loss, list(leaves.values()), allow_unused=True)
    found = {name: g for name, g in zip(leaves, grads, strict=True) if g is not None}
    return {name: _rescaled(g, weights[name].detach(), gamma) for name, g in found.items()}


def _rescaled(g: Tensor, w: Tensor, gamma: float) -> Tensor:
    wide = torch.promote_types(w.dtype, torch.float32)
    g_norm = torch.linalg.vector_norm(g, dtype=wide)
    w_norm = torch.linalg.vector_norm(w, dtype=wide)
    usable = g_norm.isfinite() & (g_norm > 0)
    return torch.where(usable, g.to(wide) * (gamma * w_norm / g_norm), 0.0).to(w.dtype)


@dataclass(frozen=True)
class awp(ObjectiveBase):  # noqa: N801 (used like a function: `awp(trades(), gamma=0.005)`)
    """Any objective at weights that were first moved against it.

        loss = objective(w + v),    v from `weight_perturbation`, held constant

    so that the descent direction is the gradient at w + v, and the optimiser applies it to w. This prefers flat minima
    of the objective and lessens robust overfitting. Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust
    Generalization" (NeurIPS 2020), section 4. The authors use gamma 0.005 around `trades(6)` and 0.01 around
    `standard`.

    The authors add v to the weights, step, and subtract v. We leave the weights alone and compute the loss at `w + v`
    as a function of w, which gives the same steps. Only weight decay differs: theirs acts on w + v, ours on w. Running
    statistics of BatchNorm are updated by the descent forward alone, as theirs are. In train mode, dropout draws once
    more per step.

    Not supported: FSDP and other sharded parameters (an error). Under DDP each process moves the weights by the
    gradient of its own part of the batch; the gradients are then averaged as usual. The authors start after 10 epochs
    of plain training; an objective has no clock, so train with the wrapped objective first if this is wanted.

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

    objective: Objective = standard
    gamma: float = 0.005

    def __post_init__(self) -> None:
        function("objective", self.objective, "(model, x, x_adv, y) -> loss")
        object.__setattr__(self, "gamma", number("gamma", self.gamma, 0))

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss at the perturbed weights, a scalar."""
        if self.gamma == 0:
            return self.objective(model, x, x_adv, y)
        v = weight_perturbation(self.objective, model, x, x_adv, y, self.gamma)
        moved = {f"model.{name}": p + v[name] for name, p in model.named_parameters() if name in v}
        return functional_call(_Loss(self.objective, model), moved, (x, x_adv, y))
