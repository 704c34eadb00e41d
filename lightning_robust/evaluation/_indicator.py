"""The table of indicators: what a flag means and what to do, with threshold and source."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

_IOAF = "Pintor et al., Indicators of Attack Failure, NeurIPS 2022"
_AUTOATTACK = "Croce & Hein, AutoAttack, ICML 2020, flags of the reference code"
_ATHALYE = "Athalye, Carlini, Wagner, Obfuscated Gradients, ICML 2018"
_CARLINI = "Carlini et al., On Evaluating Adversarial Robustness, 2019"
_MEASURED = "threshold measured on masked and honest networks"


@dataclass(frozen=True)
class Indicator:
    """One reason to believe or to doubt a robust accuracy.

    Args:
        name: By which it is logged.
        value: What was measured; NaN where it could not be.
        threshold: Beyond it there is a doubt.
        flagged: Is there a doubt? The value is beyond the threshold; in the report of an evaluation, also: some sample
            withstood, or the doubt is of the model or of the data and not of attacks (see `indicators.standing`).
        text: What a flag means, and what to do.
        source: Where the indicator and its threshold come from.
    """

    name: str
    value: float
    threshold: float
    flagged: bool
    text: str
    source: str


class _Kind(NamedTuple):
    threshold: float
    text: str
    source: str
    below: bool = False
    of: str = "attacks"  # or "model", or "data": such a doubt stays where nothing withstood


_BPDA = "Attack it through `Bpda` or `finite_differences`, or with an attack without gradients (`RandomSearch`)."
_LOSS = "Try another gain (`margin`, `dlr`) and another precision; where the network rounds or cuts, `Bpda`."
_HONEST = "Look for a backward pass of its own in the model (autograd functions, hooks, detach), and attack without it."
_STEPS = "Take more steps, or a rule that sets its step size by itself (`apgd`)."
_EXPECTATION = "Evaluate it in expectation, `evaluate(expectation(model, 16), ...)`, or turn its noise off."

KINDS = {
    # ---- a few questions to the model
    "random": _Kind(
        1e-3,
        "The model answers the same input differently, by {value:.2g} standard deviations of its output: one forward "
        f"decides by luck. {_EXPECTATION}",
        f"{_AUTOATTACK} (randomized)",
        of="model",
    ),
    "few_draws": _Kind(
        0.05,
        "{value:.1%} of the verdicts in expectation change with other draws. Take more: `expectation(model, draws)`.",
        f"{_ATHALYE}, 5.2",
        of="model",
    ),
    "optimizing": _Kind(
        0.5,
        "The model computes gradients in its own forward pass: a defense that optimizes at test time is not what the "
        "attack differentiates. Attack the whole procedure: unroll it, or use `finite_differences`.",
        f"{_AUTOATTACK} (dynamic)",
    ),
    "grad_mode": _Kind(
        0.02,
        "The model answers otherwise when a gradient is asked for, by {value:.2g} standard deviations of its output: "
        "attacks see another function than the verdict. Remove what depends on `torch.is_grad_enabled()` or on "
        "`x.requires_grad`.",
        f"{_ATHALYE}; {_MEASURED}",
    ),
    "company": _Kind(
        0.05,
        "The answer for a sample depends on what else is in its batch, or on earlier batches, by {value:.2g} standard "
        "deviations of the output. Take away caches, and statistics of the batch: `model.eval()` must reach all of it.",
        _MEASURED,
        of="model",
    ),
    "constant": _Kind(
        1e-6,
        "The output does not depend on the input, so nothing can be attacked. Is an output cached, has the model "
        "collapsed, or are its weights zero?",
        _MEASURED,
        below=True,
        of="model",
    ),
    "probabilities": _Kind(
        0.99,
        "The outputs are probabilities, whose gradient vanishes where the model is confident. Return logits from "
        "`forward`, without the softmax or sigmoid, or say how to get them: forward=...",
        f"{_AUTOATTACK} (softmax)",
    ),
    "broken_logits": _Kind(
        0.0,
        "{value:.1%} of the outputs are NaN or infinite without an attack; they count as wrong and have no gradient. A "
        "class that is masked out should have a large negative logit, not minus infinity.",
        f"{_IOAF}, indicator 1",
        of="model",
    ),
    "zero_gradient": _Kind(
        0.01,
        "{value:.1%} of the samples have a gradient of zero, or none, inside the ball: an attack along it cannot "
        "move them, and queries alone may miss what gradients would find. "
        f"{_LOSS} {_BPDA}",
        f"{_IOAF}, indicator 1; {_AUTOATTACK} (zero gradient)",
    ),
    "silent_classes": _Kind(
        0.05,
        "{value:.1%} of the samples have no gradient in the logits of their two highest wrong classes, only in "
        "that of their own: an attack sees the way out of a class, and none into another. Return all logits as they "
        f"are, before the highest are chosen or low ones are cut off. {_BPDA}",
        _MEASURED,
    ),
    "broken_gradient": _Kind(
        0.001,
        "{value:.1%} of the gradient is NaN or infinite; attacks take zero in its place. Look for roots and logarithms "
        "of zero and for divisions, with torch.autograd.detect_anomaly().",
        f"{_IOAF}, indicator 1",
    ),
    "gradient_moves": _Kind(
        0.05,
        "The gradient at one point changes when it is asked for again (1 - cosine: {value:.2g}). "
        f"{_HONEST} Where the model itself is random: {_EXPECTATION}",
        f"{_ATHALYE} (stochastic gradients)",
    ),
    "gradient_rise": _Kind(
        0.25,
        "A step along the gradient raises the gain {value:.2f} times as much as it promises, in units of random steps "
        f"of the same size: it is not the gradient of this model. {_HONEST} {_BPDA}",
        f"{_ATHALYE} (shattered gradients); {_MEASURED}",
        below=True,
    ),
    "foreign_gradient": _Kind(
        0.93,
        "The model is smooth here, but a small step along its gradient raises the gain only {value:.2f} times as much "
        f"as the gradient promises, in units of random steps: it is the gradient of another function. {_HONEST}",
        f"central differences; {_MEASURED}",
        below=True,
    ),
    "unstable": _Kind(
        0.1,
        "Small random steps change the gain by {value:.1%} of its size in the median, beyond what is in proportion to "
        "the steps: the gradient at a point tells little of what lies around it. Take `expectation` for random models, "
        f"else many restarts. {_BPDA}",
        f"{_IOAF}, indicator 2; without the part in proportion to the step, which is slope",
    ),
    # ---- the loop
    "loop_zero_gradient": _Kind(
        0.01,
        "{value:.1%} of the samples withstood while most of their gradients were zero: they did not move, which is no "
        f"robustness. {_LOSS} {_BPDA}",
        f"{_IOAF}, indicator 1; {_AUTOATTACK} (zero gradient)",
    ),
    "loop_broken_gradient": _Kind(
        0.001,
        "{value:.1%} of the gradients of the samples that withstood were NaN or infinite, and taken as zero. Look for "
        "roots and logarithms of zero and for divisions, with torch.autograd.detect_anomaly().",
        f"{_IOAF}, indicator 1",
    ),
    "loop_rise": _Kind(
        0.1,
        "Over all steps the gain rose by {value:.2f} of what <gradient, step> predicts, and moved the right way in "
        f"{{agreed:.0%}} of them: steps do not do what their gradients say. {_HONEST} {_STEPS} "
        "Where samples act on one another, as the nodes of a graph do, a step that helps others may hurt one.",
        f"{_ATHALYE}; {_MEASURED}",
        below=True,
    ),
    "silent_success": _Kind(
        0.1,
        "{value:.1%} of the samples were misclassified on the way and right at the end. Keep the best iterate "
        "(`keep='best'`), and take smaller steps; a random model needs `expectation`.",
        f"{_IOAF}, indicator 3; {_MEASURED}",
    ),
    "gain_won": _Kind(
        0.05,
        "{value:.1%} of the samples withstood although the attack got what its gain asks for, another class than the "
        "label: `correct` still says right, and what it would call wrong was not looked for. Give the attack a gain "
        "that is positive where `correct` says wrong, or take `standard(threat)`, which tries other classes, too.",
        _MEASURED,
    ),
    "still_rising": _Kind(
        0.05,
        "In its last steps the gain of the samples that withstood still rose by {value:.1%} of its whole rise: the "
        f"attack has not ended. {_STEPS}",
        f"{_IOAF}, indicator 4",
    ),
    "radius_used": _Kind(
        0.5,
        "The perturbations of the samples that withstood use {value:.0%} of the radius in the median: the attack does "
        "not try what it may. Is the radius in the units of the inputs, and does the attack return what it has found?",
        _MEASURED,
        below=True,
    ),
    # ---- the settings of the attacks
    "no_gradients": _Kind(
        0.5,
        "No attack asks for gradients. Queries and random perturbations find fewer adversarial examples than an ascent "
        "does, so the true robust accuracy may be far below. Add `standard(threat)` or `PGD(threat, 20)`; where the "
        "model gives no gradient, through `Bpda` or `finite_differences`.",
        _CARLINI,
        below=True,
    ),
    "one_step": _Kind(
        1.5,
        "The attacks with gradients make one step. It shows how the model does under one-step attacks, on which models "
        "can be right that several steps break: add `PGD(threat, 20)` to know.",
        f"{_CARLINI}; Wong, Rice, Kolter, ICLR 2020 (catastrophic overfitting)",
        below=True,
    ),
    "short_steps": _Kind(
        1.0,
        "The steps of the attacks with gradients go {value:.2g} radii together: none leads from the clean input to the "
        "surface of the ball. Take more steps, larger ones, or `rel_step_size=None`, sizes that fall.",
        f"{_CARLINI}; Madry et al., ICLR 2018, take 2.5 radii",
        below=True,
    ),
    "few_targets": _Kind(
        2.5,
        "The attacks with gradients aim at fixed wrong classes, and of the nearest ones at {value:.0f}: a sample that "
        "withstands them may fall to another. Add `PGD(threat, 20)`, or `targeted_margin` of ranks 1 to 3.",
        _MEASURED,
        below=True,
    ),
    # ---- another run
    "unbounded": _Kind(
        0.05,
        "{value:.1%} of the samples withstand the attack when the perturbation may be of any size, where every model "
        "that tells classes apart can be broken: the attack does not work on this model, or the model gives one class "
        f"to whatever it is shown. {_LOSS} {_BPDA}",
        f"{_IOAF}, indicator 6",
    ),
    "one_class": _Kind(
        0.5,
        "The model gives one class to all inputs that were tried, to samples of several classes and to black, white "
        "and random images alike: no perturbation breaks it, and robust accuracy is the share of that class. Is the "
        "model trained, and is its checkpoint loaded? If it gives other classes to other inputs, the attack does not "
        "work on it.",
        f"{_IOAF}, indicator 6: where nothing can be found, that nothing is found says nothing",
        of="model",
    ),
    "gain_jumps": _Kind(
        0.25,
        "Between clean inputs and misclassified ones, where the verdict changes, the gain makes {value:.0%} of its way "
        "in one jump: the outputs are not continuous there, and their gradients tell nothing of how near another class "
        "is. Return logits before anything is done to the highest of them, or attack the model without the step that "
        "compares or rounds: where the verdicts are the same, its adversarial examples are those of both.",
        f"the highest of continuous logits changes only where two meet; {_MEASURED}",
    ),
    "search_beats_gradients": _Kind(
        0.002,
        "A search without gradients broke {value:.1%} of the samples that no attack with gradients broke ({more}): "
        f"gradients are masked. {_BPDA}",
        f"{_AUTOATTACK} (Square improves)",
    ),
    "transfer_beats_gradients": _Kind(
        0.002,
        "Adversarial examples of another model broke {value:.1%} of the samples that no attack on this model broke "
        f"({{more}}): gradients are masked. {_BPDA}",
        f"{_IOAF}, indicator 5; {_AUTOATTACK}",
    ),
    # ---- the samples
    "sorted_cut": _Kind(
        1e-5,
        "`max_samples`, `drop_last` or a limit of batches, such as `limit_val_batches`, left out the last samples of "
        "data whose labels come in an order, such as class by class: the accuracies are those of some classes, and the "
        "intervals do not cover the rest. Shuffle the data once, "
        "`Subset(data, torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist())`, or evaluate "
        "all of it.",
        "Wald & Wolfowitz 1940, runs of labels: a shuffled order is doubted once in 100,000",
        below=True,
        of="data",
    ),
}

REFUSED = ("random", "constant")
"""Where there can be no verdict."""


def indicator(name: str, value: float | Tensor, **shown: Any) -> Indicator:
    """The indicator of a value; `shown` is what else its text shows."""
    kind, number = KINDS[name], float(value)
    flagged = number < kind.threshold if kind.below else number > kind.threshold
    return Indicator(name, number, kind.threshold, flagged, kind.text.format(value=number, **shown), kind.source)
