"""How much data does a module need: the study of one module, and what its rows say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from lightning_robust import _checks
from lightning_robust._lightning import pl
from lightning_robust.attacks import PGD, Attack, Linf, RandomSearch, finite_differences
from lightning_robust.cells import Cell, Executor, Row, expand, run_cells
from lightning_robust.learning_curves.amounts import AmountEstimate
from lightning_robust.learning_curves.curves import Curves, best_over, curves_of
from lightning_robust.learning_curves.power_law import PowerLawFit, fit_with_bands
from lightning_robust.learning_curves.samples_needed import needed_with_interval, ratio_needed
from lightning_robust.learning_curves.seeds import mean_over_seeds
from lightning_robust.learning_curves.training import FindMasking, TrainAndEvaluate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MISLED = 0.02
"""PGD is considered misled if the lower end of the interval of its excess accuracy is above this."""


@dataclass(frozen=True)
class LearningCurves:
    """The rows of a study of one data set, and what they say.

    Args:
        rows: Accuracies with n, eps_train, seed, checkpoint ("best" or "last"), split, eps_test, value, low, high and
            count; if there are several models, with model.
        gaps: Robust accuracies in training, on training and validation samples, with step and value.
        masking: Accuracies of the largest size and first seed under several attacks, with attack, metric and value.
    """

    rows: Sequence[Row] = field(repr=False)
    gaps: Sequence[Row] = field(default=(), repr=False)
    masking: Sequence[Row] = field(default=(), repr=False)

    def to_pandas(self) -> "DataFrame":
        """The rows as a table."""
        from pandas import DataFrame

        return DataFrame(list(self.rows))

    def best(self, *, split: str = "test", **only: Any) -> "DataFrame":
        """The best candidate for each (n, seed, eps_test), see `best_over`.

        Args:
            split: The split on which it is reported; validation samples choose.
            **only: Values of columns, such as eps_train=0.1 for the best at this training radius.
        """
        table = self.to_pandas()
        return best_over(table[(table[list(only)] == list(only.values())).all(axis=1)], split=split)

    def curves(self, eps_test: float | None = None) -> Curves:
        """The test accuracy of the best under the attack of a radius; None: the largest."""
        best = self.best()
        radii = sorted(set(best["eps_test"]))
        if eps_test is not None and eps_test not in radii:
            raise ValueError(f"Expected argument `eps_test` to be one of {radii}, but got {eps_test}.")
        return curves_of(best[best["eps_test"] == (radii[-1] if eps_test is None else eps_test)])

    def samples_needed(self, target: float, eps_test: float | None = None) -> AmountEstimate:
        """The number of training samples that reach a test accuracy under the attack of a radius; None: the largest."""
        return needed_with_interval(self.curves(eps_test), target)

    def ratio_needed(self, target: float, eps_test: float | None = None) -> AmountEstimate:
        """How many times as many samples as for the same accuracy without an attack."""
        return ratio_needed(self.curves(0), self.curves(eps_test), target)

    def fit(self, eps_test: float | None = None, *, floor: bool = False) -> PowerLawFit:
        """The power law of the test error; it takes 3 sizes, with a floor 4."""
        return fit_with_bands(self.curves(eps_test), floor=floor)

    def misled(self) -> set[Any]:
        """The models for which PGD was too optimistic at some training radius, so their accuracies are too high."""
        excess: list[dict[str, Any]] = [row for row in self.masking if row["metric"] == "too optimistic by"]
        return {row.get("model") for row in excess if row["low"] > MISLED}

    def trusted(self) -> "LearningCurves":
        """The rows of the models that PGD can judge; if there are none, all."""
        misled = self.misled()
        return replace(self, rows=[row for row in self.rows if row.get("model") not in misled] or self.rows)

    def figure(self) -> "Figure":
        """Test accuracy over the size, a line for each radius of the attack, with 95 % intervals."""
        from lightning_robust.plots import curve_panel

        points = means(self.best(), ["n", "eps_test"])
        points["attack"] = [f"radius {eps:g}" if eps else "no attack" for eps in points["eps_test"]]
        names: dict[str, Any] = {"group": "attack", "xlabel": "training samples", "ylabel": "test accuracy"}
        return curve_panel(points, "n", "value", low="low", high="high", xscale="log", **names)


def means(table: "DataFrame", names: Sequence[str]) -> "DataFrame":
    """For each combination of columns the mean over seeds with its interval within [0, 1], see `mean_over_seeds`."""
    from pandas import DataFrame

    rows = []
    for key, group in table.groupby(list(names), sort=False):
        within = list(zip(group["low"], group["high"], strict=True))
        mean = mean_over_seeds(group["value"].tolist(), within, int(group["count"].sum()))
        rows.append({**dict(zip(names, key, strict=True)), **vars(mean.clipped())})
    return DataFrame(rows)


def linf_pgd(eps: float, steps: int = 20, **options: Any) -> PGD:
    """PGD in the maximum norm on images in [0, 1]."""
    return PGD(Linf(eps), steps, rel_step_size=2.5 / steps, **options)


_TRAINING = partial(linf_pgd, steps=10)


def learning_curve(
    data: Callable[[int, int], pl.LightningDataModule],
    module: Callable[[], pl.LightningModule],
    *,
    sizes: Sequence[int],
    out: str | Path,
    eps_train: Sequence[float] = (0.0,),
    eps_test: Sequence[float] | None = None,
    seeds: int = 3,
    steps: int = 1000,
    train_attack: Callable[[float], Attack] = _TRAINING,
    test_attack: Callable[[float], Attack] = linf_pgd,
    images: int = 500,
    checks: int = 5,
    masked_images: int = 100,
    batch: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    **running: Any,
) -> LearningCurves:
    """Train a module on several numbers of samples, radii and seeds, and measure standard and robust accuracy.

    Each training is a cell that survives being killed: the same call continues, and more sizes, radii or seeds over the
    same folder compute only what is new. Functions must be importable, since cells run in other processes.

    Args:
        data: `(n, seed) -> LightningDataModule` with n training samples, of which smaller sets are contained in larger
            ones, held-out validation samples, and the same test samples for all.
        module: `() -> LightningModule`, untrained. It logs neither `val/clean_acc` nor `val/robust_acc`.
        sizes: Numbers of training samples.
        out: The folder of the results.
        eps_train: Radii of adversarial training; 0 is natural training.
        eps_test: Radii of the attack in evaluation; 0 is no attack. None: 0 and those of training.
        seeds: The number of seeds; a seed decides the training samples, their order and the initial weights.
        steps: Optimizer steps of every training, whatever its size.
        train_attack: `eps -> Attack` for training.
        test_attack: `eps -> Attack` for evaluation.
        images: The number of samples of each split to attack.
        checks: The number of validations in training, among which the best state is chosen.
        masked_images: The number of test samples to attack without gradients, to find out if PGD is misled, at the
            largest size and radius; 0: none. It takes a `test_attack` with a threat.
        batch: `input`, `target`, `forward` and `correct` of the callbacks, for batches that are not (x, y).
        executor: Computes the cells; None: processes of this machine.
        **running: `workers`, `threads` and `progress` of `run_cells`.

    Raises:
        ValueError: An argument is not as described, or the data has too few samples.
        CellsFailedError: Cells failed; all others are finished.
    """
    radii, sizes = _checks.values("eps_train", eps_train, 0), sorted(_checks.counts("sizes", sizes))
    tested = sorted({0.0, *radii} if eps_test is None else _checks.values("eps_test", eps_test, 0))
    for n in sizes:
        check_data(data(n, 0), n)
    attacks, models = _Attacks(train_attack, test_attack), Path(out) / "models"
    numbers = {"steps": steps, "checks": checks, "images": images}
    work = TrainAndEvaluate(
        data=data,
        module=_Module(module),
        attacks=attacks,
        eps_test=tuple(tested),
        batch=dict(batch or {}),
        **{name: _checks.count(name, value) for name, value in numbers.items()},
    )
    cells = expand(n=sizes, eps_train=radii, seed=range(_checks.count("seeds", seeds)))
    rows, masking = run_cells(cells, work, models, executor=executor, **running), []
    if _checks.count("masked_images", masked_images, 0) and tested[-1] > 0:
        find = FindMasking(training=work, models=models, attacks=attacks.suspicious, eps=tested[-1])
        places = expand(n=sizes[-1:], eps_train=radii, seed=[0], images=[masked_images])
        masking = run_cells(places, find, Path(out) / "masking", executor=executor, **running)
    accuracies, gaps = ([row for row in rows if row["metric"] == metric] for metric in ("accuracy", "gap"))
    return LearningCurves(accuracies, gaps, masking)


def unmasked(pgd: Any, eps: float, queries: int = 500) -> dict[str, Attack]:
    """PGD, and attacks that masked gradients do not mislead: by scores alone, and by differences across flat zones."""
    search = RandomSearch(pgd.threat, queries)
    return {"pgd": pgd, "random search": search, "numerical gradients": finite_differences(pgd, width=1.5 * eps)}


def check_data(data: pl.LightningDataModule, n: int) -> None:
    """See that data has n training samples and some validation samples, before anything is computed."""
    data.prepare_data()
    data.setup("fit")
    if not data.val_dataloader():
        raise ValueError("Expected argument `data` to have validation samples, which choose the best, but it has none.")
    loader = data.train_dataloader()
    size = len(loader.dataset) if isinstance(loader, DataLoader) and hasattr(loader.dataset, "__len__") else n
    if size != n or not len(loader):
        raise ValueError(
            f"Expected argument `sizes` to hold numbers of samples that the data has, but for {n} its data module has "
            f"{size} training samples in {len(loader)} batches."
        )


@dataclass(frozen=True)
class _Module:
    make: Callable[[], pl.LightningModule]

    def __call__(self, cell: Cell) -> pl.LightningModule:
        return self.make()


@dataclass(frozen=True)
class _Attacks:
    train: Callable[[float], Attack]
    test: Callable[[float], Attack]

    def training(self, eps: float) -> Attack:
        return self.train(eps)

    def evaluation(self, eps: float, module: Any) -> Attack:
        return self.test(eps)

    def suspicious(self, eps: float, module: Any, cell: Cell) -> Mapping[str, Attack]:
        return unmasked(self.test(eps), eps)
