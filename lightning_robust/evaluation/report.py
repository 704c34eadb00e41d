"""The result of an evaluation, image by image."""

from __future__ import annotations

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
from lightning_robust.evaluation import _rows
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation.comparison import Comparison, compared
from lightning_robust.evaluation.images import Images
from lightning_robust.metrics._checks import check_bool, check_integers
from lightning_robust.plots.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from lightning_robust.plots import Page

FILES = ("report.html", "report.json", "samples.csv")
_OF_IMAGES = ("key", "broken_by", "target", "restart", "step", "gain", "radius", "passes")
_OWN_NAMES = ("sample", "label", "clean", "robust", "worst case", *_OF_IMAGES)


@dataclass(frozen=True, eq=False)
class Report:
    """Which images a model classifies correctly, without an attack and under each attack, and why to believe it.

    Args:
        right: For "clean" and for each attack that was made in full by name: (N,) bool, right on the clean input, and
            under the attack too.
        labels: (N,) int64 class of each sample; None where labels are no classes.
        warnings: Why the numbers may be too high.
        attacks: What the attacks are, by name, in the order in which they were made.
        seconds: How long it took.
        images: What is known of each image.
        indicators: What was looked at to find attacks that failed.
        passes: Number of forward and of backward passes of this run, each of one image through the model. Those of
            `images` leave out questions to the model, such as those of `probe`, and count earlier runs.
        eps: Radius of the threat.
        threat: What the threat is, in words.
        about: What else was set, by name.

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
    images: Images | None = field(default=None, kw_only=True)
    indicators: tuple[Indicator, ...] = field(default=(), kw_only=True)
    passes: tuple[int, int] = field(default=(0, 0), kw_only=True)
    eps: float | None = field(default=None, kw_only=True)
    threat: str = field(default="", kw_only=True)
    about: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        clean = _checks.instance("right", self.right, Mapping, "a mapping from names to tensors").get("clean")
        if not isinstance(clean, Tensor) or clean.ndim != 1 or not len(clean):
            raise ValueError('Expected argument `right` to have an entry "clean", (N,) bool with N of at least 1.')
        for name, right in self.right.items():
            check_bool(f"right[{name!r}]", right, (len(clean),))
        check_names("right", (name for name in self.right if name != "clean"))
        if self.images is not None:
            _checks.instance("images", self.images, Images, "an Images")
            if len(self.images) != len(clean) or not torch.equal(self.images.clean, clean.cpu()):
                raise ValueError('Expected argument `images` to be right where `right["clean"]` is, but they differ.')
        if self.labels is None and self.images is not None:
            object.__setattr__(self, "labels", self.images.label)
        if self.labels is not None:
            check_integers("labels", self.labels, len(clean))
        for one in _checks.sequence("indicators", self.indicators, "a sequence of Indicator"):
            _checks.instance("indicators", one, Indicator, "a sequence of Indicator")
        _checks.sequence("passes", self.passes, "a pair (forward, backward)", 2)
        passes = tuple(_checks.count(f"passes[{i}]", number, 0) for i, number in enumerate(self.passes))
        eps = None if self.eps is None else _checks.number("eps", self.eps, 0)
        _checks.text("threat", self.threat, empty=True)
        _checks.instance("about", self.about, Mapping, "a mapping from names to values")
        seconds = _checks.number("seconds", self.seconds, 0)
        for name, value in {
            "seconds": seconds,
            "passes": passes,
            "eps": eps,
            "indicators": tuple(self.indicators),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.right["clean"])

    @property
    def robust(self) -> Tensor:
        """(N,) bool: right on the clean input and under every attack."""
        robust = torch.stack(list(self.right.values())).all(0)
        return robust if self.images is None else robust & self.images.robust.to(robust.device)

    @property
    def clean_acc(self) -> Estimate:
        """The share of images that are right on the clean input, with its 95 % Wilson interval."""
        return _rows.accuracy(self.right["clean"])

    @property
    def robust_acc(self) -> Estimate:
        """The share of images that are right on the clean input and under every attack, with its 95 % interval."""
        return _rows.accuracy(self.robust)

    @property
    def worst_class(self) -> dict[str, Any]:
        """The row of `per_class` with the lowest robust accuracy, the first of several; raises as `per_class`.

        It is the lowest of several estimates, so it is too low on average where classes have few images.
        """
        return min(self.per_class(), key=lambda row: row["robust"].value)

    @property
    def flagged(self) -> tuple[Indicator, ...]:
        """The indicators that say not to believe the robust accuracy."""
        return tuple(one for one in self.indicators if one.flagged)

    def rows(self) -> list[dict[str, Any]]:
        """Accuracy on clean inputs, under each attack, and in the worst case: columns `inputs`, `accuracy`."""
        rows = [{"inputs": name, "accuracy": _rows.accuracy(right)} for name, right in self.right.items()]
        return [*rows, {"inputs": "worst case", "accuracy": self.robust_acc}]

    def stages(self) -> list[dict[str, Any]]:
        """What each attack added to those before it: columns `attack`, `broke`, `accuracy after`.

        An image counts for the first attack that broke it. The first row, "clean", has the images that are wrong
        without an attack.

        Raises:
            ValueError: if the report was made without images.
        """
        return _rows.stages(self)

    def per_class(self) -> list[dict[str, Any]]:
        """Accuracy class by class: columns `class`, `n`, `clean`, `robust`.

        Raises:
            ValueError: if the labels are no classes.
        """
        return _rows.per_class(self)

    def radius_curve(self, radii: Iterable[float] | None = None) -> list[dict[str, Any]]:
        """Robust accuracy over the radius, from the least radius at which each image was seen to fall.

        At radius r it is the share of images that are right and whose least radius is greater than r. The interval at
        each radius is Wilson's at 95 %; it does not hold for all radii together. As every accuracy under attack, the
        curve is an upper bound. It is tight where an attack looked for least radii, up to the radius of the attacks; a
        warning says where none did.

        Args:
            radii: Where; None: 25 radii from 0 to `eps`, or to the greatest radius that was seen if `eps` is not known.

        Returns:
            Rows with the columns `radius`, `value`, `low`, `high`, `count`, as `plots.radius_curve` takes them beside a
            column `model`.

        Raises:
            ValueError: if the report was made without images, or an attack did not say at which radius it succeeded.
        """
        return _rows.radius_curve(self, radii)

    def table(self) -> str:
        """The rows as text, and all doubts; where images are known, also the worst class and passes."""
        return _rows.table(self)

    def passes_text(self) -> str:
        """The passes spent, in words; per image without questions to the model, and with those of earlier runs."""
        forward, backward = self.passes
        spent = forward + backward if self.images is None else int(self.images.passes.sum())
        what = "" if spent == forward + backward else " in the attacks"
        return f"{forward:,} forward, {backward:,} backward; {spent / self.n:,.1f} per image{what}"

    def to_pandas(self) -> pd.DataFrame:
        """One row per image: `label` if known, `clean`, each attack, `robust`, and what `images` says, the first attack
        that broke an image as `broken_by`. Needs the extra `report`.
        """
        columns: dict[str, Any] = {} if self.labels is None else {"label": self.labels.numpy()}
        columns |= {name: right.numpy() for name, right in self.right.items()} | {"robust": self.robust.numpy()}
        if self.images is not None:
            for name in _OF_IMAGES:
                values = getattr(self.images, "attack" if name == "broken_by" else name)
                columns[name] = values.numpy() if isinstance(values, Tensor) else values
        return optional("pandas", "report").DataFrame(columns).rename_axis("sample")

    def to_dict(self) -> dict[str, Any]:
        """What JSON can say: number of images, accuracies with intervals, indicators, what was run and what it cost.

        NaN and infinity are strings.
        """
        return _rows.content(self)

    def compare(self, other: Report) -> Comparison:
        """This report's robust accuracy minus that of another one, image by image; see `Comparison`.

        Images are paired by their content and label, in whatever order they were attacked.

        Raises:
            ValueError: if the reports are not on the same images.
        """
        return compared(self, _checks.instance("other", other, Report, "a Report"))

    def robustbench_info(self, **about: Any) -> dict[str, Any]:
        """The entry of a model in RobustBench's `model_info`: `unreliable` where the report has a doubt.

        Args:
            about: What the entry says besides: `name`, `authors`, `link`, `venue`, `dataset`, `architecture`,
                `additional_data`, `number_forward_passes`, `autoattack_acc` (from 0 to 1) and `footnote`.

        Raises:
            ValueError: if the report does not say the radius.
        """
        from lightning_robust.evaluation.robustbench import model_info

        return model_info(self, **about)

    def page(self, title: str = "Robust accuracy") -> Page:
        """The report as a page with tables and figures. Needs the extra `report`."""
        from lightning_robust.evaluation._pages import report_page

        return report_page(self, title)

    def write(self, folder: str | Path) -> Path:
        """Write `report.html`, `report.json` and `samples.csv` to a folder, and return the page's path.

        Raises:
            FileExistsError: if one of the files is there already: nothing is overwritten.
            ModuleNotFoundError: without the extra `report`.
        """
        check_packages()
        out = Path(_checks.path("folder", folder))
        check_new("folder", out)
        page = self.page().html()
        content = json.dumps(self.to_dict(), indent=1, default=str, allow_nan=False)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "samples.csv", self.to_pandas().to_csv())
        write_text(out / "report.json", f"{content}\n")
        return write_text(out / "report.html", page)

    @classmethod
    def load(cls, folder: str | Path) -> Report:
        """Read the report that `write` has written, or where there is none, what the ledgers of a folder say.

        Adversarial examples are not among it. Nothing in the files is executed. Where an evaluation has not come to its
        end, a warning says so, and stands in `warnings`.

        Raises:
            FileNotFoundError: if the folder has neither.
            ValueError: if a file is damaged.
        """
        from lightning_robust.evaluation._saved import saved_fields

        return cls(**saved_fields(_checks.path("folder", folder), frozenset(_OWN_NAMES) - {"clean"}))

    def __str__(self) -> str:
        found = len(_rows.doubts(self))
        doubted = f", {found} doubt{'' if found == 1 else 's'}" if found else ""
        accuracies = f"clean accuracy {self.clean_acc.text()}, robust accuracy {self.robust_acc.text()}"
        return f"{_rows.samples(self)}: {accuracies}{doubted}"

    def __repr__(self) -> str:
        return f"<Report of {self}>"

    def _repr_html_(self) -> str:
        from lightning_robust.evaluation._pages import report_html

        return report_html(self)


def check_packages() -> None:
    """Refuse to begin what ends with `Report.write`, where the packages for it are not installed."""
    for package in ("jinja2", "matplotlib", "pandas"):
        optional(package, "report")


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
    present = [name for name in FILES if (folder / name).exists()]
    if present:
        raise FileExistsError(
            f"Expected argument `{argument}` to be a folder without a report, but {folder} holds "
            f"{', '.join(present)}. Give another folder."
        )
