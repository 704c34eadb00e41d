"""What `AdversarialTraining` costs a batch outside the attack: the same fit with an attack that does nothing, and none.

The time is that of this process on one thread, so other work on the machine does not count.

python benchmarks/callback_overhead.py
"""

import argparse
import logging
import statistics
import time
import warnings
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_robust import AdversarialTraining
from lightning_robust.attacks import Attack, Context, Outcome, scope
from lightning_robust.models import RobustClassifier, preact_resnet18, standard_net


@dataclass(frozen=True)
class Nothing(Attack):
    """An attack that only enters and leaves the scope, as every attack does."""

    def run(self, model, x, y, context=Context()):  # noqa: B008
        with scope(model, x, seed=context.key):
            return Outcome(x)


class Timed(pl.Callback):
    """The time from the start of a batch to its end, without what the optimiser and the logger do."""

    def __init__(self):
        self.seconds = []

    def on_train_batch_start(self, *args):
        self.began = time.process_time()

    def on_train_batch_end(self, *args):
        self.seconds.append(time.process_time() - self.began)


def fit(network: nn.Module, batches: list, callbacks: list) -> float:
    """Median milliseconds of a batch."""
    timed = Timed()
    module = RobustClassifier(network)
    # The clock must start before and stop after the callback.
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[timed, *callbacks],
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return 1e3 * statistics.median(timed.seconds[5:])


def sixty() -> nn.Module:
    """A network that is 60 modules together with the LightningModule around it."""
    layers = [part for _ in range(18) for part in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(192, 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    networks = {
        "standard_net, 28 x 28, batches of 2": (standard_net, (2, 1, 28, 28)),
        "60 modules, 8 x 8, batches of 2": (sixty, (2, 3, 8, 8)),
        "preact_resnet18 width 4, 32 x 32, batches of 2": (lambda: preact_resnet18(width=4), (2, 3, 32, 32)),
    }
    for name, (make, shape) in networks.items():
        batches = [(torch.rand(shape), torch.zeros(shape[0], dtype=torch.long)) for _ in range(options.batches)]
        extra = []
        for _ in range(options.rounds):
            without = fit(make(), batches, [])
            extra.append(fit(make(), batches, [AdversarialTraining(Nothing())]) - without)
        low, middle, high = min(extra), statistics.median(extra), max(extra)
        print(f"{name}: {middle:.2f} ms a batch (least {low:.2f}, greatest {high:.2f}, {options.rounds} rounds)")


if __name__ == "__main__":
    main()
