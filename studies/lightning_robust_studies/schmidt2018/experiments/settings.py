"""What the study of sample complexity runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning_robust import _checks
from lightning_robust._command import SettingsError
from lightning_robust_studies.settings import RunSettings, choose

if TYPE_CHECKING:
    from lightning_robust_studies.schmidt2018.experiments.attacks import Attacks
    from lightning_robust_studies.schmidt2018.experiments.problems import Problem

PRESETS = {
    name: Path(__file__).parent / "presets" / f"{name}.yaml"
    for name in ("quick", "fashion", "fashion-full", "mnist", "cifar10", "svhn")
}
"""The files of the presets: "quick", with the defaults, and those of clothes are for two cores, others for a GPU."""


@dataclass(frozen=True, kw_only=True)
class SampleComplexitySettings(RunSettings):
    """The options of `lightning-robust study sample-complexity`.

    An empty axis is that of each problem, see `lightning_robust_studies.schmidt2018.experiments.problems`.

    Args:
        data: Names of the problems.
        root: Folder of downloaded data sets.
        sizes: Numbers of training images.
        eps_train: Radii of adversarial training (Linf, images in [0, 1]); 0 is natural training.
        eps_test: Radii of the attack in evaluation; 0, accuracy without an attack, is among them.
        models: Names of models; a problem leaves out those that it does not have.
        seeds: Number of seeds; a seed decides the training images, their order and the initial weights.
        largest_seeds: Number of seeds at the largest size; 0: as many as at the others.
        steps: Optimizer steps of a model; 0: those of the problem.
        steps_per_image: Optimizer steps for each training image, where these are more than `steps`; 0: those of the
            problem, and none if `steps` is given.
        train_steps: Steps of PGD in training; 0: those of the problem.
        test_steps: Steps of PGD in evaluation.
        restarts: Random starts of PGD in evaluation.
        attacks: Attack of the evaluation: "pgd", or the worst case over PGD on the log-odds, PGD on the margin and a
            random search.
        images: Number of images of each part (training, validation, test) to attack.
        checks: Number of validations in training; the best of these states is the "best" checkpoint.
        gap_images: Number of training and of validation images that show the gap over the training.
        masked_images: Number of test images to attack in all ways, to find out if PGD is misled; 0: none.
        queries: Queries of the random search.
        verdict_images: Number of test images on which the best models of the largest size are judged by the standard
            plan of `lightning_robust.evaluation`; 0: none.
        bound_images: Number of test images, the first ones, of which the least robust error of any classifier is
            computed; 0: none.
        targets: Accuracies for which the number of samples is asked.
    """

    out: str = "runs/sample_complexity"
    data: Sequence[str] = ("digits", "fonts")
    root: str = "data"
    sizes: Sequence[int] = ()
    eps_train: Sequence[float] = ()
    eps_test: Sequence[float] = ()
    models: Sequence[str] = ()
    seeds: int = 3
    largest_seeds: int = 0
    steps: int = 0
    steps_per_image: float = 0.0
    train_steps: int = 0
    test_steps: int = 20
    restarts: int = 1
    attacks: Literal["pgd", "worst"] = "pgd"
    images: int = 500
    checks: int = 5
    gap_images: int = 100
    masked_images: int = 200
    queries: int = 500
    verdict_images: int = 200
    bound_images: int = 1000
    targets: Sequence[float] = (0.3, 0.5, 0.7, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("data", "eps_train", "eps_test", "models"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "sizes", _checks.counts("sizes", self.sizes, empty=True))
        object.__setattr__(self, "targets", _checks.values("targets", self.targets, 0, 1, above=True, below=True))
        for name in ("seeds", "test_steps", "restarts", "images", "checks", "gap_images", "queries"):
            _checks.count(name, getattr(self, name))
        for name in ("steps", "train_steps", "masked_images", "verdict_images", "bound_images"):
            _checks.count(name, getattr(self, name), 0)
        _checks.count("largest_seeds", self.largest_seeds, 0, self.seeds)
        _checks.number("steps_per_image", self.steps_per_image, 0)
        _checks.choice("attacks", self.attacks, ("pgd", "worst"))

    def of(self, name: str, problem: "Problem") -> "Grid":
        """The grid of one problem.

        Raises:
            SettingsError: The problem has none of the models, or a radius is outside the range of its images.
        """
        axes = {
            axis: tuple(sorted(getattr(self, axis) or getattr(problem, axis))) for axis in ("eps_train", "eps_test")
        }
        try:
            for axis, radii in axes.items():
                _checks.values(axis, radii, 0, problem.high - problem.low)
            models = tuple(model for model in self.models or problem.models if model in problem.models)
            if not models:
                choose("models", self.models, problem.models)  # refuses
        except ValueError as error:
            raise SettingsError(str(error)) from error
        if 0 not in axes["eps_test"] or max(axes["eps_test"]) == 0:
            raise SettingsError(
                "Expected argument `eps_test` to hold 0, accuracy without an attack, and a positive radius, but got "
                f"{axes['eps_test']}."
            )
        return Grid(
            sizes=tuple(sorted(self.sizes or problem.sizes)),
            models=models,
            steps=self.steps or problem.steps,
            steps_per_image=self.steps_per_image or (0.0 if self.steps else problem.steps_per_image),
            train_steps=self.train_steps or problem.train_steps,
            data=name,
            **axes,
        )

    def attacks_on(self, problem: "Problem") -> "Attacks":
        """The attacks on the images of a problem."""
        from lightning_robust_studies.schmidt2018.experiments.attacks import Attacks

        return Attacks(
            low=problem.low,
            high=problem.high,
            train_steps=self.train_steps or problem.train_steps,
            test_steps=self.test_steps,
            restarts=self.restarts,
            attacks=self.attacks,
            queries=self.queries,
            own_inputs="forward" in problem.batch,
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is run of one problem.

    Args:
        data: Its name.
        sizes: Numbers of training images, increasing.
        eps_train: Radii of training, increasing.
        eps_test: Radii of evaluation, increasing.
        models: Names of models.
        steps: Optimizer steps.
        train_steps: Steps of PGD in training.
        steps_per_image: Optimizer steps for each training image, where these are more.
    """

    data: str
    sizes: tuple[int, ...]
    eps_train: tuple[float, ...]
    eps_test: tuple[float, ...]
    models: tuple[str, ...]
    steps: int
    train_steps: int
    steps_per_image: float = 0.0


@dataclass(frozen=True)
class Steps:
    """The optimizer steps of a model of n training images.

    Args:
        least: those of few images.
        per_image: steps for each training image, where these are more.

    Example:
        >>> steps = Steps(200, 0.1)
        >>> steps(100), steps(5000)
        (200, 500)
    """

    least: int
    per_image: float

    def __call__(self, n: int) -> int:
        """The larger of the two."""
        return max(self.least, round(self.per_image * n))
