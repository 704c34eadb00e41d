"""What follows the training of a model: its best state, its gap, its accuracy on the images that it learns from."""

import math
from pathlib import Path
from typing import Any

import torch

from lightning_robust._lightning import pl
from lightning_robust.callbacks import RobustGeneralizationGap
from lightning_robust.cells import save_artifact


class Gaps(pl.Callback):
    """Remembers what `RobustGeneralizationGap` found over the training; part of checkpoints.

    Args:
        gap: the callback.
    """

    def __init__(self, gap: RobustGeneralizationGap) -> None:
        self.gap = gap
        self.history: list[tuple[int, float, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep (step, accuracy on training images, on validation images), both under attack."""
        found = self.gap.results
        if found and not trainer.sanity_checking:
            self.history.append((trainer.global_step, found["train/robust_acc"], found["val/robust_acc"]))

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.history = [(int(step), float(a), float(b)) for step, a, b in state_dict["history"]]


class Best(pl.Callback):
    """Keeps the weights of the best state so far, by robust accuracy on validation images.

    Args:
        path: of the artifact.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.value = -math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights, if the accuracy is higher than ever."""
        value = float(trainer.callback_metrics["val/robust_acc"])
        if value > self.value and not trainer.sanity_checking:
            self.value = value
            save_artifact(self.path, {key: part.detach().cpu() for key, part in pl_module.state_dict().items()})

    def state_dict(self) -> dict[str, Any]:
        """The best accuracy."""
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.value = float(state_dict["value"])


class OnTraining(pl.LightningDataModule):
    """Another data module whose validation data is its training data.

    Args:
        data: the other one.
    """

    def __init__(self, data: pl.LightningDataModule) -> None:
        super().__init__()
        self.data = data

    def prepare_data(self) -> None:
        """Whatever it does."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """As for training."""
        self.data.trainer = self.trainer
        self.data.setup("fit")

    def val_dataloader(self) -> Any:
        """The training data."""
        return self.data.train_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)
