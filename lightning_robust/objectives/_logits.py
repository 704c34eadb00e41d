"""What objectives share: labels, and the logits of both views of a batch, precise enough for losses."""

from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from lightning_robust.attacks.labels import are_class_labels, check_class_labels, check_output, class_labels

__all__ = ["FORWARDS", "Forward", "both_logits", "labels_of", "logits_of"]

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
    check_output(logits, len(x))
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def labels_of(logits: Tensor, y: Any, who: str) -> Tensor:
    """Return the labels of a K-way classification as `cross_entropy` takes them; waits for the device once.

    Args:
        logits: (N, K), K >= 2.
        y: class labels: integers of any type, (N,) or (N, 1), or probabilities (N, K), as Mixup and CutMix make them.
        who: the objective, for the error.

    Returns:
        (N,) int64, or (N, K) floating.

    Raises:
        ValueError: for labels of any other kind; the text says what to do.
    """
    try:
        check_class_labels(logits, y, f"the objective `{who}`")
    except ValueError as error:
        if are_class_labels(logits, y) and not y.is_floating_point():
            raise
        raise ValueError(f"{error} And write the loss: objective=(model, x, x_adv, y) -> scalar.") from None
    return class_labels(logits, y)


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
