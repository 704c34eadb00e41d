"""What the demonstration runs, apart from all that needs torch, so that its help comes at once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from lightning_robust import _checks

SCHEMES: Mapping[str, str | None] = MappingProxyType(
    {"normal": None, "adversarial": "pixels", "on-manifold": "on_manifold", "transformations": "transformations"}
)
"""The four models, and the threat that each is trained against."""
_ELSEWHERE = ("out", "seeds", "workers", "threads")


@dataclass(frozen=True)
class Settings:
    """What the demonstration runs; every field is an option of `lightning-robust demo`.

    Args:
        out: Folder of the results. The same folder again goes on, and more seeds train only the new models.
        seed: The first seed, of the initial weights and the order of the training images; the same for all four.
        seeds: Number of seeds. With several, numbers are means with intervals over seeds; time grows with it.
        train_size: Number of training images.
        test_size: Number of test images; all models are attacked on the same ones.
        epochs: Passes over the training images.
        average: Factor of the running average of weights, from step to step: the model is this average, which depends
            far less than the last weights on where training happens to stop. 0: the last weights.
        eps: Radius of the pixel ball (Linf, images in [0, 1]), in training and evaluation.
        eta: Radius of the balls of latent codes and of affine parameters (Linf, raw units), likewise.
        train_steps: Steps of the attacks in training.
        test_steps: Steps of the attacks in evaluation.
        restarts: Random starts of the attacks in evaluation.
        workers: Number of models at once, each in a process of its own; 0: one for each core, at most four.
        threads: CPU threads for each; 0 shares the cores out.
    """

    out: str = "runs/demo"
    seed: int = 0
    seeds: int = 1
    train_size: int = 2500
    test_size: int = 2000
    epochs: int = 20
    average: float = 0.99
    eps: float = 0.1
    eta: float = 0.3
    train_steps: int = 10
    test_steps: int = 40
    restarts: int = 3
    workers: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        _checks.text("out", self.out)
        _checks.count("seed", self.seed, 0, 2**32 - 1)
        _checks.count("seeds", self.seeds, 1, 2**32 - self.seed)
        for name in ("train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts"):
            _checks.count(name, getattr(self, name))
        for name in ("eps", "eta"):
            _checks.number(name, getattr(self, name), 0)
        _checks.number("average", self.average, 0, 1, below=True)
        for name in ("workers", "threads"):
            _checks.count(name, getattr(self, name), 0)

    @property
    def shared(self) -> dict[str, Any]:
        """All that changes the numbers of a model, besides its seed and its training."""
        return {name: value for name, value in asdict(self).items() if name not in (*_ELSEWHERE, "seed")}

    def models(self) -> list[dict[str, Any]]:
        """The models: each with its training, its seed and what they share."""
        seeds = range(self.seed, self.seed + self.seeds)
        return [{"model": model, "seed": seed, **self.shared} for seed in seeds for model in SCHEMES]
