"""The work of one process: train a model of the demonstration in its way, and attack it."""

import math
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lightning_robust import PGD, AdversarialTraining, AffineSpace, LatentSpace, Linf, RobustEvaluation, Threat, cells
from lightning_robust._fitting import quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.attacks import margin
from lightning_robust.datamodules import Fonts
from lightning_robust.demo.settings import SCHEMES, Settings
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net
from lightning_robust.plots import Estimate

ATTACKED = ("pixels", "on_manifold")
"""The threats of the evaluation."""
METRICS = ("test error", "pixel robust error", "on-manifold robust error", "on-manifold success rate")
WEIGHTS = "weights.pt"
"""Where a cell keeps its model."""
_TRAIN_BATCH, _TEST_BATCH = 100, 250


def threats(eps: float, eta: float) -> dict[str, Threat]:
    """The three perturbation sets of the demonstration: pixels, the true manifold, affine maps."""
    manifold = FontsManifold("hard")
    ranges = manifold.ranges
    maps = AffineSpace(translation=ranges.translation, shear=ranges.shear, scale=ranges.scale, rotation=ranges.rotation)
    return {
        "pixels": Threat(Linf(eps)),
        "on_manifold": Threat(Linf(eta), LatentSpace(manifold)),
        "transformations": Threat(Linf(eta), maps),
    }


def attack(threat: Threat, options: Settings, **how: Any) -> PGD:
    """The attack of the evaluation."""
    return PGD(threat, options.test_steps, restarts=options.restarts, gain=margin, **how)


def data(options: Settings) -> Fonts:
    """The letters; the seed is that of the order in which they come in training."""
    return Fonts(
        "hard",
        train_size=options.train_size,
        test_size=options.test_size,
        batch_size=_TRAIN_BATCH,
        eval_batch_size=_TEST_BATCH,
        seed=options.seed,
    )


def cost(cell: cells.Cell) -> float:
    """The cost of a model in passes of a batch through the network, the maps of letters included; about."""
    options, threat = _options(cell), SCHEMES[str(cell["model"])]
    step = {None: 0.0, "pixels": 1.0}.get(threat, 2.0)  # on half of the batch
    training = math.ceil(options.train_size / _TRAIN_BATCH) * options.epochs * (3 + step * options.train_steps)
    return training + 0.3 * options.test_size / _TRAIN_BATCH * options.test_steps * options.restarts


def train_and_attack(cell: cells.Row, folder: Path) -> list[dict[str, Any]]:
    """Train and attack the model of a cell; its weights go into the folder."""
    options = _options(cell)
    module = _trained(options, SCHEMES[str(cell["model"])])
    cells.save_artifact(folder / WEIGHTS, module.state_dict())
    return [estimate.row(metric=metric) for metric, estimate in _attacked(module, options).items()]


def _options(cell: cells.Cell) -> Settings:
    return Settings(**{name: value for name, value in cell.items() if name != "model"})  # type: ignore[arg-type]


class _Average(pl.Callback):
    """A running average of the network, batch statistics included, takes its place when training ends.

    average <- average + (1 - f_n) (network - average),    f_n = min(factor, (1 + n) / (10 + n)) at step n
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def moved(average: Tensor, current: Tensor, n: Any) -> Tensor:
            return average + (1 - min(self.factor, (1 + int(n)) / (10 + int(n)))) * (current - average)

        self.average = AveragedModel(cast("nn.Module", pl_module.network), avg_fn=moved, use_buffers=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.average.update_parameters(cast("nn.Module", pl_module.network))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        cast("nn.Module", pl_module.network).load_state_dict(self.average.module.state_dict())


def _trained(options: Settings, threat: str | None) -> RobustClassifier:
    pl.seed_everything(options.seed, verbose=False)
    steps = math.ceil(options.train_size / _TRAIN_BATCH)
    module = RobustClassifier(standard_net(), scheduler=lambda optimizer: ExponentialDecay(optimizer, steps))
    callbacks: list[pl.Callback] = [_Average(options.average)]
    if threat is not None:
        against = threats(options.eps, options.eta)[threat]
        steepest = PGD(against, options.train_steps, rel_step_size=2.5 / options.train_steps)
        callbacks.append(AdversarialTraining(steepest, fraction=0.5, code=2))
    trainer = quiet_trainer(callbacks, accelerator="auto", max_epochs=options.epochs, limit_val_batches=0)
    trainer.fit(module, data(options))
    return module


def _attacked(module: RobustClassifier, options: Settings) -> dict[str, Estimate]:
    """What the model gets wrong, with the intervals of the draw of the test images."""
    given = threats(options.eps, options.eta)
    attacks = {name: attack(given[name], options, early_stop=True) for name in ATTACKED}
    evaluation = RobustEvaluation(attacks, code=2)
    quiet_trainer([evaluation], accelerator="auto").test(module, data(options), verbose=False)
    value, interval = evaluation.results, evaluation.intervals
    n, estimates = round(value["test/n"]), []
    for key in ("test/clean_acc", *(f"test/robust_acc_{name}" for name in ATTACKED)):
        low, high = interval[key]
        estimates.append(Estimate(1 - value[key], 1 - high, 1 - low, n))
    if right := round(n * value["test/clean_acc"]):  # without a letter that is read correctly, nothing is attacked
        success = "test/success_on_manifold"
        estimates.append(Estimate(value[success], *interval[success], right))
    return dict(zip(METRICS, estimates, strict=False))
