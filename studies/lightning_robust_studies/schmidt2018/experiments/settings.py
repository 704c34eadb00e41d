"""What the study of sample complexity runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lightning_robust._command import SettingsError
from lightning_robust_studies.schmidt2018.experiments.problems import Problem
from lightning_robust_studies.stages import LAUNCHERS, choose


@dataclass(frozen=True, kw_only=True)
class SampleComplexitySettings:
    """What the study runs; every field is an option of `lightning-robust study sample-complexity`.

    Where an axis is empty, it is that of each problem, see `lightning_robust_studies.schmidt2018.experiments.problems`.

    Args:
        out: folder of the results. The same folder again continues; a larger grid computes only its new cells.
        data: names of the problems.
        root: folder of data sets that are downloaded.
        sizes: numbers of training images.
        eps_train: radii of adversarial training (Linf, images in [0, 1]); 0 is natural training.
        eps_test: radii of the attack in evaluation; 0, accuracy without an attack, is among them.
        models: names of models; those that a problem has not are left out, with a word.
        seeds: models per size, radius and network; a seed is that of the choice of training images, of their order and
            of the initial weights.
        steps: optimiser steps of a model; 0: the problem's.
        train_steps: steps of PGD in training; 0: the problem's.
        test_steps: steps of PGD in evaluation.
        restarts: random starts of it.
        attacks: what evaluates: "pgd", or the worst case over PGD on the log-odds, PGD on the margin and a random
            search.
        images: how many images of each part (training, validation, test) are attacked, the first ones.
        checks: how often a model is validated in training; the best of these states is its "best" checkpoint.
        gap_images: how many training and validation images show the gap over the training.
        masked_images: how many test images are attacked in all ways, to find out whether PGD is misled; 0: none.
        queries: of the random search.
        targets: accuracies for which the number of samples is asked.
        workers: cells at once.
        threads: CPU threads for each; 0 shares the cores out.
        launcher: processes on this machine, or a Ray cluster.
        gpus: GPUs for each cell on a Ray cluster; processes see those of the machine.
        progress: whether to show progress.
    """

    out: str = field(default="runs/sample_complexity", repr=False)
    data: Sequence[str] = field(default=("digits", "fonts"), repr=False)
    root: str = field(default="data", repr=False)
    sizes: Sequence[int] = field(default=(), repr=False)
    eps_train: Sequence[float] = field(default=(), repr=False)
    eps_test: Sequence[float] = field(default=(), repr=False)
    models: Sequence[str] = field(default=(), repr=False)
    seeds: int = field(default=3, repr=False)
    steps: int = 0
    train_steps: int = 0
    test_steps: int = 20
    restarts: int = 1
    attacks: Literal["pgd", "worst"] = "pgd"
    images: int = 500
    checks: int = 5
    gap_images: int = 100
    masked_images: int = field(default=200, repr=False)
    queries: int = 500
    targets: Sequence[float] = field(default=(0.3, 0.5, 0.7, 0.9), repr=False)
    workers: int = field(default=2, repr=False)
    threads: int = field(default=1, repr=False)
    launcher: Literal["processes", "ray", "inline"] = field(default="processes", repr=False)
    gpus: float = field(default=0.0, repr=False)
    progress: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        for name in ("data", "sizes", "eps_train", "eps_test", "models", "targets"):
            object.__setattr__(self, name, tuple(vars(self)[name]))
        counts = [*((name, vars(self)[name], 1) for name in _COUNTS), *(("sizes", size, 1) for size in self.sizes)]
        counts += [(name, vars(self)[name], 0) for name in ("steps", "train_steps", "masked_images", "threads")]
        for name, count, least in counts:
            if not isinstance(count, int) or count < least:
                raise SettingsError(
                    f"Expected argument `{name}` to be an integer of at least {least}, but got {count}."
                )
        if not self.targets or not all(0 < target < 1 for target in self.targets):
            raise SettingsError(f"Expected argument `targets` to be strictly between 0 and 1, but got {self.targets}.")
        choose("attacks", [self.attacks], ("pgd", "worst"))
        choose("launcher", [self.launcher], LAUNCHERS)

    def of(self, name: str, problem: Problem) -> "Grid":
        """The grid of one problem.

        Raises:
            SettingsError: no model is among its own, or a radius is not one of its images.
        """
        for axis in ("eps_train", "eps_test"):
            radii, most = vars(self)[axis] or vars(problem)[axis], problem.high - problem.low
            if not all(0 <= eps <= most for eps in radii):
                raise SettingsError(
                    f"Expected argument `{axis}` to be in [0, {most:g}], the range of the images, but got {radii}."
                )
        tested = self.eps_test or problem.eps_test
        if 0 not in tested or max(tested) == 0:
            raise SettingsError(
                "Expected argument `eps_test` to hold 0, accuracy without an attack, and a positive radius, but got "
                f"{tested}."
            )
        models = tuple(model for model in self.models or problem.models if model in problem.models)
        if not models:
            choose("models", self.models, problem.models)  # refuses, with the nearest name
        return Grid(
            data=name,
            sizes=tuple(sorted(self.sizes or problem.sizes)),
            eps_train=tuple(sorted(self.eps_train or problem.eps_train)),
            eps_test=tuple(sorted(self.eps_test or problem.eps_test)),
            models=models,
            steps=self.steps or problem.steps,
            train_steps=self.train_steps or problem.train_steps,
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is run of one problem.

    Args:
        data: its name.
        sizes: numbers of training images, increasing.
        eps_train: radii of training, increasing.
        eps_test: radii of evaluation, increasing.
        models: names of models.
        steps: optimiser steps.
        train_steps: steps of PGD in training.
    """

    data: str
    sizes: tuple[int, ...] = field(repr=False)
    eps_train: tuple[float, ...] = field(repr=False)
    eps_test: tuple[float, ...]
    models: tuple[str, ...] = field(repr=False)
    steps: int
    train_steps: int


_COUNTS = ("seeds", "test_steps", "restarts", "images", "checks", "gap_images", "queries", "workers")

PRESETS = {name: Path(__file__).parent / "presets" / f"{name}.yaml" for name in ("quick", "mnist", "cifar10", "svhn")}
"""The files of the presets: "quick" holds the defaults, for two cores; the others are for a GPU."""
