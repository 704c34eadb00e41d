"""The result of an evaluation, sample by sample."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._files import write_text
from lightning_robust._optional import optional
from lightning_robust.metrics._checks import check_bool, check_integers
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.plots.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from lightning_robust.plots import Page

_FILES = ("report.html", "report.json", "samples.csv")
_OWN_NAMES = ("sample", "label", "clean", "robust", "worst case")


@dataclass(frozen=True, eq=False)
class Report:
    """Which samples a model classifies correctly, clean and under each attack.

    Args:
        right: For "clean" and for each attack by name: (N,) bool, right on the clean input, and under the attack too.
        labels: (N,) int64 class of each sample; None where labels are no classes.
        warnings: Why the numbers may be too high.
        attacks: What the attacks are, by name.
        seconds: How long it took.

    Raises:
        ValueError: if the tensors do not fit together, or an attack has a name that the report uses itself.

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

    def __post_init__(self) -> None:
        clean = _checks.instance("right", self.right, Mapping, "a mapping from names to tensors").get("clean")
        if not isinstance(clean, Tensor) or clean.ndim != 1 or not len(clean):
            raise ValueError('Expected argument `right` to have an entry "clean", (N,) bool with N of at least 1.')
        for name, right in self.right.items():
            check_bool(f"right[{name!r}]", right, (len(clean),))
        check_names("right", (name for name in self.right if name != "clean"))
        if self.labels is not None:
            check_integers("labels", self.labels, len(clean))
        object.__setattr__(self, "seconds", _checks.number("seconds", self.seconds, 0))

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
        from lightning_robust.plots import Facts, Heading, Page, Picture, Table, bar_chart

        rows = [row["accuracy"].row(inputs=row["inputs"], measure="accuracy") for row in self.rows()]
        figure = bar_chart(rows, group="measure", bar="inputs")
        parts: list[Any] = [Heading("Read with care"), *self.warnings] if self.warnings else []
        parts += [
            Table(self.rows(), caption=f"{_samples(self.n)}, attacked in {self.seconds:.1f} s"),
            Picture(figure, caption="Accuracy with 95 % intervals.", alt=self.table()),
        ]
        if self.labels is not None and len(self.labels.unique()) <= 100:
            parts += [Heading("Class by class"), Table(self.per_class())]
        parts.append(
            "Accuracy under an attack is the share of samples that are right on the clean input and under the attack. "
            "The worst case is the share that withstands all attacks. Attacks bound robustness from one side: a "
            "stronger attack may find more. Brackets are 95 % Wilson intervals for the draw of the samples."
        )
        if self.attacks:
            parts.append(Facts(self.attacks, caption="Attacks"))
        return Page(title, f"{self}.", parts)

    def write(self, folder: str | Path) -> Path:
        """Write `report.html`, `report.json` and `samples.csv` to a folder, and return the page's path.

        Raises:
            FileExistsError: if one of the files is there already: nothing is overwritten.
        """
        out = Path(_checks.path("folder", folder))
        check_new("folder", out)
        page = self.page().html()
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "samples.csv", self.to_pandas().to_csv())
        write_text(out / "report.json", json.dumps(self.to_dict(), indent=1) + "\n")
        return write_text(out / "report.html", page)

    def __str__(self) -> str:
        return f"{_samples(self.n)}: clean accuracy {self.clean_acc.text()}, robust accuracy {self.robust_acc.text()}"

    def __repr__(self) -> str:
        return f"<Report of {self}>"

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><th style='text-align: left'>{html.escape(row['inputs'])}</th><td>{row['accuracy'].text()}</td></tr>"
            for row in self.rows()
        )
        warnings = "".join(f"<p>{html.escape(text)}</p>" for text in self.warnings)
        return f"<table><caption>{_samples(self.n)}</caption>{lines}</table>{warnings}"


def accuracy(right: Tensor) -> Estimate:
    """The share of what is right, (N,) bool, N >= 1, with its 95 % Wilson interval."""
    count, n = int(right.sum()), len(right)
    low, high = wilson_interval(count, n)
    return Estimate(count / n, float(low), float(high), n)


def check_names(argument: str, names: Iterable[str]) -> None:
    """Refuse names of attacks that the report uses itself."""
    for name in names:
        if name in _OWN_NAMES:
            raise ValueError(
                f"Expected argument `{argument}` to have no attack of the name {name!r}: the report itself uses "
                f"{', '.join(map(repr, _OWN_NAMES))}. Give it another name."
            )


def check_new(argument: str, folder: Path) -> None:
    """Refuse a folder that holds a report."""
    present = [name for name in _FILES if (folder / name).exists()]
    if present:
        raise FileExistsError(
            f"Expected argument `{argument}` to be a folder without a report, but {folder} holds "
            f"{', '.join(present)}. Give another folder."
        )


def _samples(n: int) -> str:
    return f"{n:,} sample{'' if n == 1 else 's'}"
