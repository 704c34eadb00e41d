"""What the manifold study runs: the settings of each stage, and all of them in one class for the command line.

The results of a stage depend on its own settings and on those of the stages that it reads. So each class adds the
settings of one stage to those before: data, learned manifolds, models, their evaluation, distances. `ManifoldSettings`
adds which cells there are and how they are run. A work is given the settings that its results depend on
(`ManifoldSettings.only`), so that another evaluation does not touch models that are trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from lightning_robust import L2, PGD, Linf, Threat
from lightning_robust._checks import choice, count, counts, number
from lightning_robust.attacks import Ball, stutz
from lightning_robust_studies.stages import RunSettings, choose
from lightning_robust_studies.stutz2019.data import DATA, ManifoldData
from lightning_robust_studies.stutz2019.schemes import SCHEMES

BATCH = 100
"""Images in a batch of the classifiers, in training and evaluation."""
BALLS: Mapping[str, Callable[[float], Ball]] = {"linf": Linf, "l2": L2}
PRESETS = {name: Path(__file__).parent / "presets" / f"{name}.yaml" for name in ("quick", "paper")}
"""The files of the presets: "quick" is for two cores and holds the defaults, "paper" is the full grid, for a GPU."""


def _steepest(threat: Threat, steps: int, restarts: int) -> PGD:
    return PGD(threat, steps, rel_step_size=2.5 / steps, restarts=restarts, keep="best")


ATTACKS: Mapping[str, Callable[[Threat, int, int], PGD]] = {"stutz": stutz, "pgd": _steepest}
"""The attacks of the evaluation, `(threat, steps, restarts) -> attack`: the paper's, by Adam, or PGD."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The data set, and where files are.

    Args:
        out: Folder of the results. The same folder again continues; a larger grid computes only its new cells.
        data: Data set. Only that of letters, "fonts", has a known manifold. The others are downloaded by torchvision.
        root: Folder of downloaded data sets.
    """

    out: str = field(default="runs/manifold", repr=False)
    data: Literal["fonts", "emnist", "fashion", "mnist", "celeba"] = "fonts"
    root: str = field(default="data", repr=False)

    @property
    def source(self) -> ManifoldData:
        """The data set."""
        return DATA[self.data]


@dataclass(frozen=True, kw_only=True)
class LearnedSettings(DataSettings):
    """How manifolds are learned: VAE-GANs, one for each class and one for all.

    Args:
        manifold_size: Training images of the learned manifolds. It may be more than `sizes`, as in the paper.
        manifold_epochs: Passes over them.
        manifold_width: Width of their networks; 1 is the paper's.
        manifold_gamma: Weight of their discriminator; 1 is the paper's, 0 makes them plain VAEs.
        manifold_precision: Precision of their training.
    """

    manifold_size: int = 40_000
    manifold_epochs: int = 10
    manifold_width: float = 0.25
    manifold_gamma: float = 1.0
    manifold_precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"


@dataclass(frozen=True, kw_only=True)
class ModelSettings(LearnedSettings):
    """How models are trained, and the perturbation sets of training and evaluation.

    Args:
        epochs: Passes over the training images.
        min_steps: Least number of optimizer steps, for small sets; the learning rate falls as over the passes.
        decay: Factor of the learning rate after each pass. The paper's 0.95 leaves it at a third after 20 passes, and
            the test error then depends on where training happens to stop.
        norm: Norm of all balls.
        eps: Radius in pixels, in training and evaluation; images in [0, 1].
        eta: Radius in affine parameters and in codes of the true manifold and of that learned for each class.
        eta_data: Radius in codes of the manifold learned for all classes.
        train_steps: Steps of the attacks in training.
    """

    epochs: int = 20
    min_steps: int = 0
    decay: float = 0.8
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.1
    eta: float = 0.3
    eta_data: float = 0.1
    train_steps: int = 5

    def steps(self, n: int) -> int:
        """The optimizer steps of a model of `n` training images."""
        return max(self.min_steps, self.epochs * -(-n // BATCH))


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ModelSettings):
    """How models are tested and attacked.

    Args:
        attack: Attack of the evaluation: "stutz", that of the paper, or "pgd".
        test_steps: Steps of the attacks in evaluation.
        restarts: Random starts of the attacks in evaluation.
        test_size: Number of test images for the test error, at most all there are.
        attacked: Number of test images to attack, the first ones.
    """

    attack: Literal["stutz", "pgd"] = "stutz"
    test_steps: int = 40
    restarts: int = 2
    test_size: int = 10_000
    attacked: int = 400


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(EvaluationSettings):
    """How the distance of examples from the manifold is measured.

    Args:
        neighbor_images: Training images among which neighbors are sought, for the distance to the tangent space.
    """

    neighbor_images: int = 20_000


S = TypeVar("S", bound=DataSettings)
_FROM_ONE = (
    *("seeds", "epochs", "train_steps", "test_steps", "restarts", "test_size", "attacked"),
    *("manifold_size", "manifold_epochs", "neighbor_images"),
)
_FROM_ZERO = ("min_steps", "learned_seeds")


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings(DistanceSettings, RunSettings):
    """All settings of the study; every field is an option of `lightning-robust study manifold`.

    Args:
        sizes: Numbers of training images; each larger set contains the smaller ones.
        schemes: Ways to train, see `lightning_robust_studies.stutz2019.schemes.SCHEMES`. Those that need the true
            manifold are left out, with a word, where it is not known.
        seeds: Models per size and scheme; a seed is that of the initial weights and of the order of the images (of
            data sets other than letters also of the choice of training images).
        learned_seeds: Number of seeds whose models are also attacked along the learned class manifolds (slow); 0:
            none. Without a known manifold it is ignored, and all are.
    """

    sizes: Sequence[int] = (500, 2500)
    schemes: Sequence[str] = (
        "normal",
        "adversarial",
        "on-true",
        "on-learned-class",
        "augmentation",
        "transformations",
    )
    seeds: int = 3
    learned_seeds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", counts("sizes", self.sizes))
        object.__setattr__(self, "schemes", tuple(choose("schemes", self.schemes, SCHEMES)))
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                choice(name, getattr(self, name), get_args(hint))
        for names, least in ((_FROM_ONE, 1), (_FROM_ZERO, 0)):
            for name in names:
                count(name, getattr(self, name), least)
        for name in ("eps", "eta", "eta_data", "manifold_width"):
            number(name, getattr(self, name), 0, above=True)
        number("manifold_gamma", self.manifold_gamma, 0)
        number("decay", self.decay, 0, 1, above=True)
        if self.attacked > self.test_size:
            raise ValueError(
                f"Expected argument `attacked` to be at most `test_size`, {self.test_size}, but got {self.attacked}."
            )
        if not self.possible:
            raise ValueError(
                "Expected argument `schemes` to hold one that does without the true manifold, which is not known for "
                f"{self.data}, but got {', '.join(self.schemes)}. On-manifold training along a learned one is "
                "on-learned-class."
            )

    def only(self, kind: type[S]) -> S:
        """The settings of one stage, which hold those of the stages before it."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(kind)})

    @property
    def possible(self) -> tuple[str, ...]:
        """The schemes that the data can have: without a known manifold, none that takes the true codes."""
        return tuple(name for name in self.schemes if SCHEMES[name].code is None or self.source.true is not None)

    @property
    def left_out(self) -> str:
        """A sentence on the schemes that the data cannot have; empty where it can have all."""
        names = [name for name in self.schemes if name not in self.possible]
        if not names:
            return ""
        return f"Left out: {', '.join(names)}, since the true manifold of {self.data} is not known."

    @property
    def manifolds(self) -> list[str]:
        """Which manifolds are learned: "class", "data", both or none."""
        kinds = {kind for name in self.possible if (kind := SCHEMES[name].manifold) is not None}
        if self.source.true is None or (kinds and self.learned_seeds):
            kinds.add("class")
        return sorted(kinds)
