"""The page of the demonstration."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import torch

from lightning_robust import plots
from lightning_robust._versions import versions
from lightning_robust.demo.settings import SCHEMES, Settings
from lightning_robust.demo.work import METRICS, attack, data, threats
from lightning_robust.models import RobustClassifier

LETTERS = tuple("ABCDEFGHIJ")
SHOWN = ("normal", "on-manifold")
"""The models of which examples are shown."""

_SETTING = (
    "Four models with the same network, {train_size:,} training images, {epochs} passes over them and, for each seed, "
    "the same initial weights. In all but normal training half of each batch is attacked."
)
_DRAW = (
    "Brackets and whiskers: 95 % intervals for the draw of the test images, from one seed. They do not cover the draw "
    "of the training images, the initial weights, nor the processor, whose rounding ends in other weights. For these "
    "take several seeds: lightning-robust demo --seeds 5."
)
_SEEDS = (
    "Brackets and whiskers: 95 % intervals of the mean over {seeds} seeds of initial weights and order of the training "
    "images (Student's t). Another processor, whose rounding ends in other weights, is like another seed. They do not "
    "cover the draw of the training and of the test images, which are the same for all."
)
_MEANING = (
    "Test error: the share of {test_size:,} test images that are misread. Robust error: the share that is misread as "
    "it is or after an attack of {test_steps} steps from {restarts} random starts, each of which keeps its best "
    "iterate. Pixel attacks change every pixel by at most {eps:g}. On-manifold attacks move each of the six "
    "parameters that drew the letter by at most {eta:g}, within the range of the data, and draw it again: the result "
    "is the same letter in the same face. Success rate: the share of attempts that succeed on letters that were read "
    "correctly."
)
_REFERENCES = (
    "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019. Madry et al., Towards "
    "Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018."
)
_CLAIMS = (
    ("On-manifold training lowers the test error", "on-manifold", METRICS[0]),
    ("Training against pixel attacks lowers the pixel robust error", "adversarial", METRICS[1]),
    ("On-manifold training lowers the on-manifold robust error", "on-manifold", METRICS[2]),
)
"""Claim, the model that it is about, and what it shall lower compared with normal training."""

Drawn: TypeAlias = Mapping[str, plots.Picture]
"""Figures by the name of their file."""


def line_of(rows: list[dict[str, Any]], model: str) -> dict[str, plots.Estimate]:
    """The numbers of a model by metric."""
    return {
        row["metric"]: plots.Estimate(row["value"], row["low"], row["high"], row["count"])
        for row in rows
        if row["model"] == model
    }


def judged(rows: list[dict[str, Any]]) -> list[plots.Claim]:
    """What is claimed of the four trainings, and whether it holds."""
    claims = []
    for title, model, metric in _CLAIMS:
        before, after = line_of(rows, "normal")[metric], line_of(rows, model)[metric]
        verdict = "holds" if after.high < before.low else "does not hold" if after.low > before.high else "not decided"
        numbers = f"{model} {after.text()}, normal {before.text()}"
        claims.append(plots.Claim(f"{title}.", verdict, numbers, "It is lower, and the intervals are apart."))
    return claims


def finding(rows: list[dict[str, Any]]) -> str:
    """What came out, in a sentence with its numbers."""
    error, pixels, _, _ = METRICS
    normal, adversarial, on = (line_of(rows, model) for model in ("normal", "adversarial", "on-manifold"))

    def number(line: dict[str, plots.Estimate], metric: str) -> str:
        return plots.PERCENT.text(line[metric].value)

    return (
        f"The test error is {number(normal, error)} after normal training, {number(on, error)} after on-manifold "
        f"training and {number(adversarial, error)} after training against pixel attacks. Under pixel attacks "
        f"{number(normal, pixels)} of the letters are misread after normal training and {number(adversarial, pixels)} "
        "after training against them."
    )


def figures(rows: list[dict[str, Any]], modules: Mapping[str, RobustClassifier], options: Settings) -> Drawn:
    """All figures, by the name of the file."""
    bars = plots.bar_chart(rows, title="Error and success rates by training", ylabel="share of test images")
    setting = f"{_SETTING} {_SEEDS if options.seeds > 1 else _DRAW}".format(**vars(options))
    drawn = {"bars": plots.Picture(bars, caption=setting, alt=finding(rows))}
    for name, module in modules.items():
        title = f"The model of {name} training under three threats"
        sheet = plots.example_sheet(_examples(module, options), class_names=LETTERS, title=title)
        caption = f"{title}: the first test images; third in a group: the difference."
        drawn[f"examples_{name}"] = plots.Picture(sheet, caption=caption, alt=caption)
    return drawn


def demo_page(rows: list[dict[str, Any]], drawn: Drawn, options: Settings) -> plots.Page:
    """The page: what came out, the numbers, examples, and how it was made."""
    lines = [{"training": model, **dict.fromkeys(METRICS), **line_of(rows, model)} for model in SCHEMES]
    bars, *sheets = drawn.values()
    parts: list[plots.Part] = [
        plots.Claims(judged(rows)),
        plots.Heading("Results"),
        plots.Table(lines, caption="Lower is better everywhere"),
        bars,
        plots.Heading("What the numbers are"),
        _MEANING.format(**vars(options)),
        plots.Heading("Examples"),
        *sheets,
        plots.Heading("How it was made"),
        plots.Facts(asdict(options)),
        plots.Facts(versions(), caption="Command, versions and machine"),
        _REFERENCES,
    ]
    return plots.Page("Robustness and generalization on letters", finding(rows), parts)


def _examples(module: RobustClassifier, options: Settings, count: int = 8) -> list[plots.AttackedSamples]:
    x, y, code = data(options).tensors("test", limit=count)
    groups = []
    for name, threat in threats(options.eps, options.eta).items():
        x_adv = attack(threat, options, keep="best")(module, x, y, code=code)
        with torch.no_grad():
            before, after = module(x).argmax(1), module(x_adv).argmax(1)
        heading = f"{name.replace('_', '-')}, Linf {threat.ball.radius:g}"
        groups.append(plots.AttackedSamples(name=heading, x=x, x_adv=x_adv, y=y, before=before, after=after))
    return groups
