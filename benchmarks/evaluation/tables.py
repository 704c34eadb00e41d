"""The tables, in Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.evaluation.models import MODELS
from benchmarks.evaluation.radii import by_image, optimality
from lightning_robust.metrics.intervals import wilson_interval

Rows = Sequence[Mapping[str, Any]]


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, rule, *lines)) + "\n"


def rate(count: int, of: int) -> str:
    """A share in percent with Wilson's 95 % interval."""
    low, high = wilson_interval(count, of)
    return f"{100 * count / of:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


class Verdict:
    """What some evaluation says of the images of one model, over all its cells.

    Args:
        rows: Rows of one model and one evaluation.
    """

    def __init__(self, rows: Rows) -> None:
        self.images = {int(row["image"]): row for row in rows if int(row["image"]) >= 0}
        self.by_attack: dict[str, int] = defaultdict(int)
        for row in rows:
            if int(row["image"]) < 0:
                self.by_attack[str(row["attack"])] += int(row["passes"])
        self.total = float(sum(self.by_attack.values()) or sum(row.get("counted", 0) for row in rows))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def robust(self) -> set[int]:
        return {image for image, row in self.images.items() if row["clean"] and not row["attack"]}

    @property
    def clean(self) -> int:
        return len([image for image, row in self.images.items() if row["clean"]])

    def only(self, images: Iterable[int]) -> "Verdict":
        """The same for some of the images: their own passes where these are known, and their share of the rest."""
        kept = set(images)
        part = Verdict([row for image, row in self.images.items() if image in kept])
        part.total = part.own + (self.total - self.own) * len(part) / max(1, len(self))
        return part

    @property
    def own(self) -> float:
        """Passes that are known by image."""
        return float(sum(row.get("passes", 0) for row in self.images.values()))


def of_model(rows: Rows, **wanted: Any) -> Rows:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def verdicts(ours: Rows, oracles: Rows) -> str:
    """Robust accuracy by each, the images on which they differ, and passes."""
    columns = [
        "model",
        "N",
        "clean, %",
        "AutoAttack, %",
        "adv-lib APGD-T, %",
        "standard, %",
        "above / below AutoAttack, images",
        "above / below adv-lib, images",
        "passes an image: AutoAttack",
        "adv-lib",
        "standard",
        "of AutoAttack, %",
        "of adv-lib, %",
    ]
    lines = []
    for name in MODELS:
        own = Verdict(of_model(ours, model=name, radii=False))
        judges = [Verdict(of_model(oracles, model=name, oracle=oracle)) for oracle in ("autoattack", "adv-lib")]
        shared = set(own.images).intersection(*(judge.images for judge in judges))
        if not shared:
            continue
        own, auto, lib = (verdict.only(shared) for verdict in (own, *judges))
        n = len(own)
        differ = [f"{len(own.robust - j.robust)} / {len(j.robust - own.robust)}" for j in (auto, lib)]
        passes = [verdict.total / n for verdict in (auto, lib, own)]
        lines.append(
            [
                f"{name}, {MODELS[name].norm} {MODELS[name].eps:.3g}",
                str(n),
                f"{100 * own.clean / n:.1f}",
                *(rate(len(verdict.robust), n) for verdict in (auto, lib, own)),
                *differ,
                *(f"{count:,.0f}" for count in passes),
                *(f"{100 * passes[2] / count:.0f}" for count in passes[:2]),
            ]
        )
    return markdown(columns, lines)


def differences(ours: Rows, oracles: Rows) -> str:
    """Each image that an oracle breaks and `standard` does not: the attack that does."""
    lines = []
    for name in MODELS:
        own = Verdict(of_model(ours, model=name, radii=False))
        for oracle in ("autoattack", "adv-lib"):
            judge = Verdict(of_model(oracles, model=name, oracle=oracle))
            for image in sorted((own.robust & set(judge.images)) - judge.robust):
                lines.append([name, str(image), oracle, str(judge.images[image]["attack"])])
    return markdown(["model", "image", "broken by", "its attack"], lines) if lines else "None.\n"


def linear_models(rows: Rows) -> str:
    """Verdicts on linear models beside the exact ones."""
    lines = []
    for classes in sorted({int(row["classes"]) for row in rows}):
        of_it = sorted(of_model(rows, classes=classes), key=lambda row: float(row["scale"]))
        errors = ", ".join(f"{row['scale']:g}: {int(row['robust']) - int(row['exact']):+d}" for row in of_it)
        n, exact = int(of_it[0]["count"]), int(of_it[0]["exact"])
        wrong = max(int(row["count"]) - int(row["agree"]) for row in of_it)
        passes = max(float(row["passes"]) for row in of_it)
        lines.append([str(classes), str(n), f"{100 * exact / n:.1f}", errors, str(wrong), f"{passes:.0f}"])
    columns = ["K", "N", "exact, %", "images too many, by scale of the logits", "images that differ, most", "passes"]
    return markdown(columns, lines)


def _radii(rows: Rows, images: Sequence[int]) -> Tensor:
    radius = by_image(rows)
    return torch.tensor([radius.get(image, torch.inf) for image in images], dtype=torch.float64)


def _once(ours: Rows, name: str) -> dict[int, Mapping[str, Any]]:
    """The rows with radii of a model by image: cells of other numbers of images have the first ones as well."""
    return {int(row["image"]): row for row in of_model(ours, model=name, radii=True)}


def optimalities(ours: Rows, others: Rows) -> str:
    """How close the radii of each attack are to the best known ones."""
    lines = []
    for name in dict.fromkeys(str(row["model"]) for row in others):
        of_it = of_model(others, model=name)
        by_attack = {str(row["attack"]): of_model(of_it, attack=row["attack"]) for row in of_it}
        images = sorted(by_image(next(iter(by_attack.values()))))
        found = {attack: _radii(rows, images) for attack, rows in by_attack.items()}
        passes = {attack: float(rows[0]["passes"]) for attack, rows in by_attack.items()}
        own = [row for image, row in _once(ours, name).items() if image in images]
        if own:
            found["standard, with radii"] = _radii(own, images)
            passes["standard, with radii"] = sum(float(row["passes"]) for row in own) / len(own)
        best = torch.stack(list(found.values())).amin(0)
        known = best.isfinite()
        for attack, radius in sorted(found.items(), key=lambda pair: -optimality(pair[1], best, known)):
            equal = int((radius <= best * 1.001).sum())
            value = f"{optimality(radius, best, known):.3f}"
            lines.append([name, attack, str(int(known.sum())), value, str(equal), f"{passes[attack]:,.0f}"])
    return markdown(["model", "attack", "N", "optimality", "within 0.1 % of the best", "passes an image"], lines)


def curves(ours: Rows, fixed: Rows) -> str:
    """Robust accuracy over the radius, of one run with radii and of a run for each radius."""
    lines = []
    for name in dict.fromkeys(str(row["model"]) for row in fixed):
        own = _once(ours, name)
        for row in sorted(of_model(fixed, model=name), key=lambda row: float(row["fraction"])):
            n, eps = int(row["count"]), MODELS[name].eps * float(row["fraction"])
            kept = [r for image, r in own.items() if image < n]
            if len(kept) < n:
                continue
            curve = len([r for r in kept if r["clean"] and not 0 <= float(r["radius"]) <= eps])
            passes = sum(float(r["counted"]) for r in kept) / n
            low, high = wilson_interval(int(row["robust"]), n)
            inside = "yes" if float(low) <= curve / n <= float(high) else "no"
            shown = f"{100 * curve / n:.1f}"
            cost = f"{passes:,.0f} / {float(row['passes']):,.0f}"
            lines.append([name, f"{eps:.3g}", str(n), shown, rate(int(row["robust"]), n), inside, cost])
    columns = ["model", "radius", "N", "curve, %", "a run for it, %", "within its interval", "passes: curve / run"]
    return markdown(columns, lines)
