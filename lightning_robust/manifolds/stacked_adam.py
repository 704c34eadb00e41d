"""Adam for stacked parameters: K optimisers in one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor


@final
class StackedAdam(torch.optim.Optimizer):
    r"""Adam for parameters (K, ...) of K networks, each of which has its own count of steps.

    For each network k that is present, with :math:`g` its gradient plus `weight_decay` times its weights,

    .. math::

        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        t \leftarrow t + 1, \quad
        w \leftarrow w - \text{lr} \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}.

    A network that is not present keeps its weights, moments and count. So a network trained in company is the network
    trained alone with `torch.optim.Adam`, also where some batches have no sample for it.

    Args:
        params: parameters with a leading dimension K.
        lr: the step size.
        betas: the decay rates of both moments.
        eps: added to the root.
        weight_decay: as in the original Adam, added to the gradient.

    References:
        Kingma, Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Any] | None = None, *, present: Sequence[bool] | Tensor | None = None
    ) -> Any:
        """Take one step.

        Args:
            closure: evaluates the loss anew.
            present: which of the K networks step; None: all.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mask = p.new_ones(len(p)) if present is None else torch.as_tensor(present).to(p)
                    self._update(
                        p, p.grad, mask, **{name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
                    )
        return loss

    def _update(
        self,
        p: Tensor,
        grad: Tensor,
        present: Tensor,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(len(p), dtype=torch.float32, device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        step, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        step += present
        t = step.clamp(min=1).double() if p.device.type != "mps" else step.clamp(min=1)
        correction1, correction2 = ((1 - beta**t).to(p.dtype) for beta in betas)
        column = (len(p), *[1] * (p.ndim - 1))
        g = torch.add(grad, p, alpha=weight_decay) if weight_decay else grad
        m.lerp_(g, ((1 - betas[0]) * present).view(column))
        v.lerp_(g.square(), ((1 - betas[1]) * present).view(column))
        root = v.sqrt().mul_(correction2.rsqrt().view(column)).add_(eps)
        p.addcdiv_(m * (-lr * present / correction1).view(column), root)
