"""What the manifold study runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_robust import L2, PGD, Linf, Threat
from lightning_robust.attacks import Ball, stutz
from lightning_robust.cells.axes import choose
from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust_studies.stages import LAUNCHERS
from lightning_robust_studies.stutz2019.data import DATA, ManifoldData
from lightning_robust_studies.stutz2019.schemes import SCHEMES

BALLS: Mapping[str, Callable[[float], Ball]] = {"linf": Linf, "l2": L2}


def _steepest(threat: Threat, steps: int, attempts: int) -> PGD:
    return PGD(threat, steps, restarts=attempts, keep="best")


ATTACKS: Mapping[str, Callable[[Threat, int, int], PGD]] = {"stutz": stutz, "pgd": _steepest}
"""What tests the models, `(threat, steps, attempts) -> attack`: the paper's, by Adam, or PGD by steepest steps."""


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings:
    """What the study runs; every field is an option of `lightning-robust study manifold`.

    Args:
        out: folder of the results. The same folder again continues; a larger grid computes only its new cells.
        data: the data set; only that of letters has a known manifold. The others are downloaded by torchvision.
        root: folder of downloaded data sets.
        sizes: numbers of training images; each larger set contains the smaller ones.
        schemes: how to train, see `lightning_robust_studies.stutz2019.schemes.SCHEMES`. Those that take the true
            manifold are left out, with a word, where it is not known.
        seeds: models per size and scheme; a seed is that of the initial weights and of the order of the images (of
            data sets other than letters also of the choice of training images).
        epochs: passes over the training images.
        min_steps: optimiser steps at least, for small sets; the learning rate falls as over the passes.
        decay: the learning rate falls by this factor with each pass. The paper's 0.95 leaves it at a third after 20
            passes, and the test error then depends on where training happens to stop.
        norm: of all balls.
        eps: radius in pixels, in training and evaluation; images in [0, 1].
        eta: radius in affine parameters and codes of the true manifold and of that learned for each class, likewise.
        eta_data: radius in codes of the manifold learned for all classes.
        train_steps: steps of the attacks in training.
        attack: what tests the models: "stutz", that of the paper, or "pgd".
        test_steps: steps of the attacks in evaluation.
        attempts: random starts of the attacks in evaluation.
        test_size: test images for the test error, or all there are.
        attacked: the first so many of them are attacked.
        learned_seeds: so many seeds are also attacked along the codes of the manifold learned for each class, which
            costs a pass through its decoder for every step; 0: none. Data without a known manifold: always all.
        manifold_size: training images of the learned manifolds. It may be more than `sizes`, as in the paper.
        manifold_epochs: passes over them.
        manifold_width: of their networks; 1 is the paper's.
        manifold_gamma: weight of their discriminator; 1 is the paper's, 0 makes them plain VAEs.
        manifold_precision: of their training.
        neighbour_images: training images among which neighbours are sought, for the distance to the tangent space.
        workers: cells at once.
        threads: CPU threads for each; 0 shares the cores out.
        launcher: processes on this machine, or a Ray cluster.
        gpus: GPUs for each cell on a Ray cluster; processes see those of the machine.
        progress: whether to show progress.
    """

    out: str = field(default="runs/manifold", repr=False)
    data: Literal["fonts", "emnist", "fashion", "mnist", "celeba"] = "fonts"
    root: str = field(default="data", repr=False)
    sizes: Sequence[int] = field(default=(500, 2500), repr=False)
    schemes: Sequence[str] = field(
        default=("normal", "adversarial", "on-true", "on-learned-class", "augmentation", "transformations"), repr=False
    )
    seeds: int = field(default=3, repr=False)
    epochs: int = 20
    min_steps: int = 0
    decay: float = 0.8
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.1
    eta: float = 0.3
    eta_data: float = 0.1
    train_steps: int = 5
    attack: Literal["stutz", "pgd"] = "stutz"
    test_steps: int = 40
    attempts: int = 2
    test_size: int = 10_000
    attacked: int = 400
    learned_seeds: int = 1
    manifold_size: int = 40_000
    manifold_epochs: int = 10
    manifold_width: float = 0.25
    manifold_gamma: float = 1.0
    manifold_precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    neighbour_images: int = 20_000
    workers: int = field(default=2, repr=False)
    threads: int = field(default=1, repr=False)
    launcher: Literal["processes", "ray", "inline"] = field(default="processes", repr=False)
    gpus: float = field(default=0.0, repr=False)
    progress: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        choose("data", [self.data], DATA)
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "schemes", tuple(choose("schemes", self.schemes, SCHEMES)))
        if not self.possible:
            raise StudyArgumentError(
                f"Expected argument `schemes` to hold one that does without the true manifold, which is not known for "
                f"{self.data}, but got {', '.join(self.schemes)}. On-manifold training along a learned one is "
                "on-learned-class."
            )
        counts = [*((name, vars(self)[name], 1) for name in _COUNTS), *(("sizes", size, 1) for size in self.sizes)]
        counts += [(name, vars(self)[name], 0) for name in ("min_steps", "learned_seeds", "threads")]
        for name, count, least in counts:
            if not isinstance(count, int) or count < least:
                raise StudyArgumentError(
                    f"Expected argument `{name}` to be an integer of at least {least}, but got {count}."
                )
        for name in ("eps", "eta", "eta_data", "manifold_width"):
            if not 0 < vars(self)[name] < math.inf:
                raise StudyArgumentError(f"Expected argument `{name}` to be positive, but got {vars(self)[name]}.")
        if not self.sizes:
            raise StudyArgumentError("Expected argument `sizes` to hold a number of training images, but got none.")
        if not self.manifold_gamma >= 0:
            raise StudyArgumentError(
                f"Expected argument `manifold_gamma` to be at least 0, but got {self.manifold_gamma}."
            )
        if self.attacked > self.test_size:
            raise StudyArgumentError(
                f"Expected argument `attacked` to be at most `test_size`, {self.test_size}, but got {self.attacked}."
            )
        if not 0 < self.decay <= 1:
            raise StudyArgumentError(f"Expected argument `decay` to be in (0, 1], but got {self.decay}.")
        choose("norm", [self.norm], BALLS)
        choose("attack", [self.attack], ATTACKS)
        choose("launcher", [self.launcher], LAUNCHERS)
        choose("manifold_precision", [self.manifold_precision], ("32-true", "bf16-mixed"))

    @property
    def source(self) -> ManifoldData:
        """The data set."""
        return DATA[self.data]

    @property
    def possible(self) -> tuple[str, ...]:
        """The schemes that the data can have: without a known manifold, none that takes the true codes."""
        return tuple(name for name in self.schemes if SCHEMES[name].code is None or self.source.true is not None)

    @property
    def left_out(self) -> str:
        """A sentence on the schemes that it cannot have; nothing where it can have all."""
        names = [name for name in self.schemes if name not in self.possible]
        if not names:
            return ""
        return f"Left out: {', '.join(names)}, since the true manifold of {self.data} is not known."

    @property
    def manifolds(self) -> list[str]:
        """Which manifolds are learned: "class", "data", both or none."""
        kinds = {SCHEMES[name].manifold for name in self.possible} - {None}
        if self.source.true is None or (kinds and self.learned_seeds):
            kinds |= {"class"}
        return sorted(str(kind) for kind in kinds)

    def along_learned(self, seed: int) -> bool:
        """Is the model of this seed attacked along learned codes too?"""
        return "class" in self.manifolds and (self.source.true is None or seed < self.learned_seeds)

    def steps(self, n: int, batch_size: int) -> int:
        """Optimiser steps of a model of `n` training images."""
        return max(self.min_steps, self.epochs * -(-n // batch_size))


_COUNTS = (
    "seeds",
    "epochs",
    "train_steps",
    "test_steps",
    "attempts",
    "test_size",
    "attacked",
    "manifold_size",
    "manifold_epochs",
    "neighbour_images",
    "workers",
)

_PAPER_SCHEMES = tuple(name for name in SCHEMES if not name.endswith("-100"))

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "paper": {
        "sizes": (500, 2500, 10_000, 20_000),
        "schemes": _PAPER_SCHEMES,
        "seeds": 5,
        "decay": 0.95,
        "eps": 0.3,
        "train_steps": 40,
        "attempts": 5,
        "test_size": 160_000,
        "attacked": 2500,
        "learned_seeds": 5,
        "manifold_size": 950_000,
        "manifold_epochs": 10,
        "manifold_width": 1.0,
        "manifold_precision": "32-true",
        "neighbour_images": 240_000,
        "workers": 1,
    },
}
"""What each preset changes of the defaults: "quick" is for two cores, "paper" is the full grid, for a GPU."""
