"""What objectives share: the logits of both views of a batch, in a precision in which losses may be computed."""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

__all__ = ["FORWARDS", "Forward", "both_logits", "kl_divergence", "logits_of"]

Forward: TypeAlias = Literal["joint", "separate"]
FORWARDS: tuple[Forward, ...] = get_args(Forward)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return `model(x)` in float32 or better, so that no loss is summed in half precision.

    Args:
        model: images to logits.
        x: (N, C, H, W) floating.

    Returns:
        (N, K), float64 where the model computes in float64, else float32.
    """
    logits = model(x)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def both_logits(model: nn.Module, x: Tensor, x_adv: Tensor, forward: Forward) -> tuple[Tensor, Tensor]:
    """Return the logits of `x` and of `x_adv`.

    In train mode the two ways differ where a layer looks at the whole batch, that is, in BatchNorm:

    - `"joint"`: one forward of [x; x_adv]. Both views share one mean and variance, and running statistics are updated
      once, with the statistics of the mixture, which is what the model sees in use when half of its inputs are
      attacked. The batch doubles, so a model whose forward also reads other fields of the batch (a mask, say) needs
      the other way.
    - `"separate"`: a forward of `x`, then one of `x_adv`. Each view has its own mean and variance, and running
      statistics are updated twice, the second time with adversarial images.

    Args:
        model: images to logits.
        x: (N, C, H, W).
        x_adv: (N, C, H, W).
        forward: which of the two ways.

    Returns:
        Two tensors (N, K), in float32 or better.
    """
    if x.shape != x_adv.shape:
        raise ValueError(
            f"Expected argument `x_adv` to have the shape of `x`, {tuple(x.shape)}, but got {tuple(x_adv.shape)}."
        )
    if forward == "separate":
        return logits_of(model, x), logits_of(model, x_adv)
    clean, adversarial = logits_of(model, torch.cat([x, x_adv])).chunk(2)
    return clean, adversarial


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) = sum_k p_k (log p_k - log q_k) per sample.

    Written with log-probabilities only, so that no probability is rounded to 0 or 1 on the way.

    Args:
        log_p: (N, K) log-probabilities, finite.
        log_q: (N, K) log-probabilities, finite.

    Returns:
        (N,), not negative up to rounding.
    """
    return nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
