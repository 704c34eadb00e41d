"""What the manifold study runs: the settings of each stage, and all of them in one class for the command line.

The results of a stage depend on its own settings and on those of the stages that it reads. So each class adds the
settings of one stage to those before: data, learned manifolds, models, their evaluation, distances. `ManifoldSettings`
adds which cells there are and how they are run. A work is given the settings that its results depend on
(`ManifoldSettings.only`), so that another evaluation does not touch models that are trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args, get_origin, get_type_hints

from lightning_robust._checks import choice, count, counts, number
from lightning_robust_studies.settings import RunSettings, choose
from lightning_robust_studies.stutz2019.kinds import KINDS, weights_of

if TYPE_CHECKING:  # what needs torch is imported where it is used, so that help comes at once
    from lightning_robust.cells import Row
    from lightning_robust_studies.stutz2019.data import ManifoldData
    from lightning_robust_studies.stutz2019.schemes import Scheme

BATCH = 100
"""Images in a batch of the classifiers, in training and evaluation."""
PRESETS = {name: Path(__file__).parent / "presets" / f"{name}.yaml" for name in ("quick", "fashion", "paper")}
"""The files of the presets: "quick" is for two cores and holds the defaults, "fashion" is for two cores and a night on
Fashion-MNIST, "paper" is the full grid, for a GPU."""


JUDGE, JUDGE_SEED = "class", 1
"""The class manifolds, learned again: those that made an image would explain it best whatever it shows."""


def _schemes() -> "Mapping[str, Scheme]":
    from lightning_robust_studies.stutz2019.schemes import SCHEMES

    return SCHEMES


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
    def source(self) -> "ManifoldData":
        """The data set."""
        from lightning_robust_studies.stutz2019.data import DATA

        return DATA[self.data]


@dataclass(frozen=True, kw_only=True)
class LearnedSettings(DataSettings):
    """How manifolds are learned: VAE-GANs, principal components and flows, for each class or for all together.

    Args:
        manifold_size: Training images of the learned manifolds. It may be more than `sizes`, as in the paper.
        manifold_epochs: Passes over them; of principal components there are none.
        manifold_width: Width of the networks of VAE-GANs; 1 is the paper's.
        manifold_gamma: Weight of their discriminator; 1 is the paper's, 0 makes them plain VAEs.
        manifold_precision: Precision of their training; flows are trained in float32.
    """

    manifold_size: int = 40_000
    manifold_epochs: int = 6
    manifold_width: float = 0.25
    manifold_gamma: float = 1.0
    manifold_precision: Literal["32-true", "bf16-mixed"] = "32-true"


@dataclass(frozen=True, kw_only=True)
class ModelSettings(LearnedSettings):
    """How models are trained, and the perturbation sets of training and evaluation.

    Args:
        epochs: Passes over the training images.
        min_steps: Least number of optimizer steps, for small sets; the learning rate falls as over the passes.
        decay: Factor of the learning rate after each pass. The paper's 0.95 leaves it at a third after 20 passes, and
            the test error then depends on where training happens to stop. Residual networks have it, over 80 passes.
        norm: Norm of all balls.
        eps: Radius in pixels, in training and evaluation; images in [0, 1].
        eta: Radius in affine parameters and in codes of the true manifold, of that learned for each class and of
            "conditional".
        eta_data: Radius in codes of the manifold learned for all classes and of "blind", which move images more.
        eta_pca: Radius in codes of principal components, which have deviation 1.
        eta_flow: Radius in codes of flows, which have as many entries as images: 0.03 moves them by as much as `eta`.
        train_steps: Steps of the attacks in training.
        resnet_width: Channels of the first stage of residual networks; 64 is the paper's.
    """

    epochs: int = 20
    min_steps: int = 0
    decay: float = 0.8
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.1
    eta: float = 0.3
    eta_data: float = 0.1
    eta_pca: float = 0.3
    eta_flow: float = 0.03
    train_steps: int = 5
    resnet_width: int = 64

    def passes(self, scheme: str) -> int:
        """The passes over the training images that a scheme makes."""
        return self.epochs * _schemes()[scheme].passes

    def steps(self, n: int, scheme: str) -> int:
        """The optimizer steps of a model of `n` training images."""
        return max(self.min_steps, self.passes(scheme) * -(-n // BATCH))


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ModelSettings):
    """How models are tested and attacked.

    Args:
        attack: Attack of the evaluation: "stutz", that of the paper, or "pgd". Both may be run in one folder, which
            keeps the cells of both; tables and report are those of the last.
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

    def stage(self, name: str) -> str:
        """The folder of a stage that attacks: those of "pgd" stand beside those of the paper's attack."""
        return name if self.attack == "stutz" else f"{name}-{self.attack}"


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(EvaluationSettings):
    """How the distance of examples from the manifold is measured.

    Args:
        neighbor_images: Training images among which neighbors are sought, for the distance to the tangent space.
    """

    neighbor_images: int = 20_000


@dataclass(frozen=True, kw_only=True)
class LeakSettings(EvaluationSettings):
    """How it is measured what the decoders of learned manifolds tell of the label.

    Args:
        judged: Number of on-manifold examples of which it is asked whether the label is still the right one, by class
            manifolds that are learned a second time, from another seed; 0: none. These are learned all the same where
            `along` holds class manifolds, to tell what is read of the network from what is read in the picture.
    """

    judged: int = 100


S = TypeVar("S", bound=DataSettings)
_FROM_ONE = (
    *("seeds", "epochs", "train_steps", "test_steps", "restarts", "test_size", "attacked"),
    *("manifold_size", "manifold_epochs", "neighbor_images", "resnet_width", "resnet_seeds"),
)
_FROM_ZERO = ("min_steps", "learned_seeds", "leak_seeds", "judged", "resnet_from", "one_seed_from")
_POSITIVE = ("eps", "eta", "eta_data", "eta_pca", "eta_flow", "manifold_width")


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings(DistanceSettings, LeakSettings, RunSettings):
    """All settings of the study; every field is an option of `lightning-robust study manifold`.

    Args:
        sizes: Numbers of training images; each larger set contains the smaller ones.
        schemes: Ways to train, see `lightning_robust_studies.stutz2019.schemes.SCHEMES`. Those that need the true
            manifold are left out, with a word, where it is not known.
        seeds: Models per size and scheme; a seed is that of the initial weights and of the order of the images (of
            data sets other than letters also of the choice of training images).
        one_seed_from: From this size on there is one seed; 0: nowhere.
        resnet_from: From this size on schemes that end in `-resnet` are trained; 0: at the largest size alone.
        resnet_seeds: Models per size of these schemes, at most `seeds`.
        along: Learned manifolds that models are attacked along, see `lightning_robust_studies.stutz2019.kinds.KINDS`.
            Where the true manifold is not known, the first stands in for it in transfer, distances and pictures.
        learned_seeds: Number of seeds whose models are also attacked along them (slow); 0: none. Without a known
            manifold it is ignored, and all are.
        leak_seeds: Number of seeds whose models are asked what these manifolds tell of the label; 0: none.
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
    one_seed_from: int = 0
    resnet_from: int = 0
    resnet_seeds: int = 1
    along: Sequence[str] = ("class", "residual-pca-class")
    learned_seeds: int = 1
    leak_seeds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", counts("sizes", self.sizes))
        object.__setattr__(self, "schemes", tuple(choose("schemes", self.schemes, _schemes())))
        object.__setattr__(self, "along", tuple(choose("along", self.along, KINDS)))
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                choice(name, getattr(self, name), get_args(hint))
        for names, least in ((_FROM_ONE, 1), (_FROM_ZERO, 0)):
            for name in names:
                count(name, getattr(self, name), least)
        for name in _POSITIVE:
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
        if not self.cells():
            raise ValueError(
                f"Expected argument `resnet_from` to be at most the largest of `sizes`, {max(self.sizes)}, where all "
                f"`schemes` are of residual networks, but got {self.resnet_from}."
            )

    def only(self, kind: type[S]) -> S:
        """The settings of one stage, which hold those of the stages before it."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(kind)})

    @property
    def possible(self) -> tuple[str, ...]:
        """The schemes that the data can have: without a known manifold, none that takes the true codes."""
        return tuple(name for name in self.schemes if _schemes()[name].code is None or self.source.true is not None)

    @property
    def left_out(self) -> str:
        """A sentence on the schemes that the data cannot have; empty where it can have all."""
        names = [name for name in self.schemes if name not in self.possible]
        if not names:
            return ""
        return f"Left out: {', '.join(names)}, since the true manifold of {self.data} is not known."

    def cells(self, seeds: int | None = None) -> "list[Row]":
        """The models that there are, by n, scheme and seed; of seeds at most this many."""
        resnet_from = self.resnet_from or max(self.sizes)
        return [
            {"n": n, "scheme": scheme, "seed": seed}
            for n in self.sizes
            for scheme in self.possible
            if _schemes()[scheme].network != "resnet" or n >= resnet_from
            for seed in range(min(self.seeds_at(n, scheme), self.seeds if seeds is None else seeds))
        ]

    def seeds_at(self, n: int, scheme: str) -> int:
        """The number of seeds of a size and a scheme."""
        seeds = 1 if self.one_seed_from and n >= self.one_seed_from else self.seeds
        return min(seeds, self.resnet_seeds) if _schemes()[scheme].network == "resnet" else seeds

    @property
    def measured(self) -> list[str]:
        """Those that models are attacked along: none where the true manifold is known and no scheme needs another."""
        needed = self.source.true is None or (self.learned_seeds and self._trained_along)
        return list(self.along) if needed else []

    @property
    def on(self) -> str | None:
        """The learned manifold that stands in for the true one; None where that is known."""
        return self.along[0] if self.source.true is None else None

    @property
    def manifolds(self) -> "list[Row]":
        """The manifolds to learn, by name and seed: for schemes, for attacks, and the judge of what attacks made."""
        needed = {weights_of(name) for name in (*self._trained_along, *self.measured)}
        cells: list[Row] = [{"manifold": name, "seed": 0} for name in KINDS if name in needed]
        return [*cells, {"manifold": JUDGE, "seed": JUDGE_SEED}] if self._second_learned else cells

    @property
    def _second_learned(self) -> bool:
        """Whether the class manifolds are learned again: they judge labels, and tell what is read of the network."""
        told = any(weights_of(name) == JUDGE for name in self.measured)
        return bool(self.measured and self.leak_seeds and (self.judged or told))

    @property
    def _trained_along(self) -> list[str]:
        return [kind for name in self.possible if (kind := _schemes()[name].manifold) is not None]
