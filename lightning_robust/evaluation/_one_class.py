"""Does a model give one class to all that it is shown?"""

from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks import binary_correct
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.labels import are_class_labels, class_labels
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._questions import questions


def shown_to(
    model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context, delta: Tensor
) -> dict[str, Tensor]:
    """The answers (N, 5, L) to samples: clean, where an attack led, and at corners of the space, -1 where the output is
    not finite; and their labels (N, L). Nothing, where labels do not tell what is right.

    An attack that does not work leads nowhere. Black, white and random corners do not depend on it.

    Args:
        model: x (N, ...) -> output.
        x: (N, ...) clean inputs.
        y: Labels.
        threat: Its space, of pixels with bounds, is that of `delta`.
        gain: What is raised.
        context: What "right" means.
        delta: (N, ...) perturbations.
    """
    with questions(model, x, y, threat, gain, context) as asked, torch.no_grad():
        chart, y = asked.batch.chart, asked.batch.y
        assert chart.lower is not None
        assert chart.upper is not None
        low, high = chart.lower.expand_as(chart.zero), chart.upper.expand_as(chart.zero)
        mixed = torch.where(asked.noise.normal(tuple(chart.zero.shape[1:]), 1, 0) > 0, high, low)
        outputs = torch.cat([asked.clean, *map(asked.output, (delta, low, high, mixed))])
    finite = outputs.reshape(len(outputs), -1).isfinite().all(1, keepdim=True)
    if context.correct is binary_correct:
        labels, answers = y.reshape(len(y), -1), (outputs > 0).reshape(len(outputs), -1)
    elif context.correct is None and are_class_labels(asked.clean, y):
        labels, answers = class_labels(asked.clean, y), outputs.argmax(1)[:, None]
        labels = labels.argmax(1)[:, None] if labels.ndim == 2 else labels[:, None]
    else:
        return {}
    answers = torch.where(finite, answers.long(), -1)
    return {"shown": answers.reshape(5, len(x), -1).transpose(0, 1), "label": labels}


def one_class(shown: Tensor, labels: Tensor) -> bool:
    """Is the answer one class for samples of several?

    Where all labels are alike, a good model gives one class to all clean inputs, too, and nothing is said.

    Args:
        shown: (N, 5, L) of `shown_to`.
        labels: (N, L) likewise.
    """
    return bool((shown >= 0).all() & (shown == shown[0, 0]).all() & (labels != labels[0]).any())
