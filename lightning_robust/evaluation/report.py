"""What an evaluation found, image by image."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._files import write_text
from lightning_robust._optional import optional
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.plots.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from lightning_robust.plots import Page

_FILES = ("report.html", "report.json", "samples.csv")


@dataclass(frozen=True, eq=False)
class Report:
    """Which samples a model classifies correctly, clean and under each attack.

    Args:
        right: For "clean" and for each attack by name: (N,) bool, right on the clean input, and under the attack too.
        labels: (N,) int64 class of each sample; None where labels are no classes.
        warnings: Why the numbers may be too high.
        attacks: What the attacks are, by name.
        seconds: How long it took.

    Example:
        >>> right = {"clean": torch.tensor([True, True, False]), "pgd": torch.tensor([True, False, False])}
        >>> report = Report(right, labels=torch.tensor([0, 1, 1]))
        >>> print(report)
        3 samples: clean accuracy 66.7 % [20.8, 93.9], robust accuracy 33.3 % [6.1, 79.2]
    """

    right: Mapping[str, Tensor]
    labels: Tensor | None = None
    warnings: tuple[str, ...] = ()
    attacks: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.right["clean"])

    @property
    def robust(self) -> Tensor:
        """(N,) bool: right on the clean input and under every attack."""
        return torch.stack(list(self.right.values())).all(0)

    @property
    def clean_acc(self) -> Estimate:
        """The share of samples that are right on the clean input, with its 95 % Wilson interval."""
        return accuracy(self.right["clean"])

    @property
    def robust_acc(self) -> Estimate:
        """The share of samples that are right on the clean input and under every attack, with its 95 % interval."""
        return accuracy(self.robust)

    def rows(self) -> list[dict[str, Any]]:
        """Accuracy on clean inputs, under each attack, and in the worst case: columns `inputs`, `accuracy`."""
        rows = [{"inputs": name, "accuracy": accuracy(right)} for name, right in self.right.items()]
        return [*rows, {"inputs": "worst case", "accuracy": self.robust_acc}]

    def per_class(self) -> list[dict[str, Any]]:
        """Accuracy class by class: columns `class`, `n`, `clean`, `robust`.

        Raises:
            ValueError: if the labels are no classes.
        """
        if self.labels is None:
            raise ValueError("Expected labels that are classes, one integer per sample, but they are of another kind.")
        rows = []
        for label in self.labels.unique().tolist():
            of_class = self.labels == label
            clean, robust = (accuracy(part[of_class]) for part in (self.right["clean"], self.robust))
            rows.append({"class": label, "n": int(of_class.sum()), "clean": clean, "robust": robust})
        return rows

    def table(self) -> str:
        """The rows as text."""
        rows = [(row["inputs"], row["accuracy"].text()) for row in self.rows()]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def to_pandas(self) -> pd.DataFrame:
        """One row per sample: `label` if known, `clean`, each attack, and `robust`. Needs the extra `report`."""
        columns = {} if self.labels is None else {"label": self.labels.numpy()}
        columns |= {name: right.numpy() for name, right in self.right.items()} | {"robust": self.robust.numpy()}
        return optional("pandas", "report").DataFrame(columns).rename_axis("sample")

    def to_dict(self) -> dict[str, Any]:
        """What JSON can say: number of samples, each accuracy with its interval, warnings, attacks, seconds."""
        return {
            "n": self.n,
            "accuracy": [row["accuracy"].row(inputs=row["inputs"]) for row in self.rows()],
            "warnings": list(self.warnings),
            "attacks": dict(self.attacks),
            "seconds": round(self.seconds, 1),
        }

    def page(self, title: str = "Robust accuracy") -> Page:
        """The report as a page with tables and a figure. Needs the extra `report`."""
        from lightning_robust.plots import Facts, Heading, Picture, Table, bar_chart

        rows = [row["accuracy"].row(inputs=row["inputs"], measure="accuracy") for row in self.rows()]
        figure = bar_chart(rows, group="measure", bar="inputs")
        parts: list[Any] = [Heading("Read with care"), *self.warnings] if self.warnings else []
        parts += [
            Table(self.rows(), caption=f"{self.n:,} samples"),
            Picture(figure, caption="Accuracy with 95 % intervals.", alt=self.table()),
        ]
        if self.labels is not None and len(self.labels.unique()) <= 100:
            parts += [Heading("Class by class"), Table(self.per_class())]
        parts.append(
            "Accuracy under an attack is the share of samples that are right on the clean input and under the attack. "
            "The worst case is the share that withstands all attacks. Attacks bound robustness from one side: a "
            "stronger attack may find more. Brackets are 95 % Wilson intervals for the draw of the samples."
        )
        parts.append(Facts({**self.attacks, "seconds": f"{self.seconds:.1f}"}, caption="Attacks"))
        return _page(title, str(self), parts)

    def write(self, folder: str | Path) -> Path:
        """Write `report.html`, `report.json` and `samples.csv` to a folder, and return the page's path.

        Raises:
            FileExistsError: if one of the files is there already: nothing is overwritten.
        """
        out = Path(_checks.path("folder", folder))
        there = [name for name in _FILES if (out / name).exists()]
        if there:
            raise FileExistsError(f"Expected {out} to have no {', '.join(there)} yet: give another folder.")
        page = self.page().html()
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "samples.csv", self.to_pandas().to_csv())
        write_text(out / "report.json", json.dumps(self.to_dict(), indent=1) + "\n")
        return write_text(out / "report.html", page)

    def __str__(self) -> str:
        return f"{self.n:,} samples: clean accuracy {self.clean_acc.text()}, robust accuracy {self.robust_acc.text()}"

    def __repr__(self) -> str:
        return f"<Report of {self}>"

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><th style='text-align: left'>{html.escape(row['inputs'])}</th><td>{row['accuracy'].text()}</td></tr>"
            for row in self.rows()
        )
        warnings = "".join(f"<p>{html.escape(text)}</p>" for text in self.warnings)
        return f"<table><caption>{self.n:,} samples</caption>{lines}</table>{warnings}"


def accuracy(right: Tensor) -> Estimate:
    """The share of what is right, (N,) bool, N >= 1, with its 95 % Wilson interval."""
    count, n = int(right.sum()), len(right)
    low, high = wilson_interval(count, n)
    return Estimate(count / n, float(low), float(high), n)


def _page(title: str, summary: str, parts: list[Any]) -> Page:
    from lightning_robust.plots import Page

    return Page(title, summary + ".", parts)
