"""A short LightningModule for classifiers, to use or to subclass."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_robust._checks import choice, count, function, instance, number, one_or_more
from lightning_robust._lightning import pl
from lightning_robust.models.normalize import Normalize

__all__ = ["RobustClassifier"]


class RobustClassifier(pl.LightningModule):
    """A classifier of images in [0, 1], trained by cross-entropy.

        logits = network((x - mean) / std),    loss = cross_entropy(logits, y)

    It knows nothing of attacks: those are callbacks. `AdversarialTraining` puts adversarial examples into the batch
    (or an objective in place of the loss), and `RobustEvaluation` logs `val/clean_acc`, `val/robust_acc` and the same
    under `test/`. The module itself logs `train/loss` and `train/acc`, on the batch that it is given
    (adversarial under `AdversarialTraining`), `val/loss` and `test/loss`, each averaged over the epoch.

    Batches are `(x, y)` or `(x, y, code)`: x (N, C, H, W) floating, y (N,) int64; a code is for attacks and is not
    looked at. The loss is computed in float32 whatever the precision of the Trainer.

    To change a part, subclass and override the method that says it: `forward`, `loss` or `configure_optimizers`.

    Args:
        network: normalized images (N, C, H, W) to logits (N, K).
        optimizer: parameters to optimizer; None: Adam with learning rate 0.01, betas (0.5, 0.9) and weight decay 1e-4,
            as in Stutz et al. (CVPR 2019).
        scheduler: optimizer to learning-rate scheduler; none by default. `ReduceLROnPlateau` watches `val/loss`.
            Those that count steps, such as `OneCycleLR(total_steps=...)`, need `interval="step"`.
        interval: when the scheduler steps: after every optimizer step or every epoch. None: as the scheduler says by
            its attribute `interval`, as `ExponentialDecay` does ("step"); else every epoch, as Lightning has it.
        mean: normalization as the first layer, one number or one per channel; none by default.
        std: given with `mean`.
        num_classes: K; if given, another number of logits is refused at the first batch.
        label_smoothing: probability spread over all classes, in [0, 1). It acts on the training loss only.

    Raises:
        ValueError: if an argument is out of range, or only one of `mean` and `std` is given.
        TypeError: if a batch is not a tuple or list that starts with `x, y`.

    Example:
        >>> from lightning_robust.models import standard_net
        >>> module = RobustClassifier(standard_net(), num_classes=10, mean=0.5, std=0.5)
        >>> module(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

        In a configuration file of LightningCLI::

            model:
              class_path: lightning_robust.models.RobustClassifier
              init_args:
                network:
                  class_path: lightning_robust.models.preact_resnet18
                optimizer:
                  class_path: torch.optim.SGD
                  init_args: {lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4}

        Networks and optimizers are not hyper-parameters of a checkpoint: pass `network=` to `load_from_checkpoint`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        *,
        interval: Literal["step", "epoch"] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        network = instance("network", network, nn.Module, "an nn.Module")
        if optimizer is not None:
            optimizer = function("optimizer", optimizer, "parameters -> optimizer, such as torch.optim.Adam", Optimizer)
        if scheduler is not None:
            scheduler = function("scheduler", scheduler, "optimizer -> learning rate scheduler", LRScheduler)
        if interval is not None:
            interval = choice("interval", interval, ("step", "epoch"))
        label_smoothing = number("label_smoothing", label_smoothing, 0, 1, below=True)
        num_classes = None if num_classes is None else count("num_classes", num_classes, 2)
        if (mean is None) != (std is None):
            raise ValueError(f"Expected arguments `mean` and `std` to be given together, but got {mean} and {std}.")
        mean, std = _plain("mean", mean), _plain("std", std)
        self.save_hyperparameters("interval", "mean", "std", "num_classes", "label_smoothing")
        self.network = network
        self.normalize = nn.Identity() if mean is None or std is None else Normalize(mean, std)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._interval = interval

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W) in [0, 1]."""
        return self.network(self.normalize(x))

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, K) and labels (N,)."""
        smoothing = self.label_smoothing if self.training else 0.0
        return nn.functional.cross_entropy(logits, y, label_smoothing=smoothing)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss; log `train/loss` and `train/acc`."""
        logits, y = self._logits(batch)
        loss = self.loss(logits, y)
        accuracy = (logits.detach().argmax(dim=1) == y).float().mean()
        self._log_epoch({"train/loss": loss.detach(), "train/acc": accuracy}, len(y))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log `val/loss`; accuracies come from `RobustEvaluation`."""
        logits, y = self._logits(batch)
        self._log_epoch({"val/loss": self.loss(logits, y)}, len(y))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log `test/loss`; accuracies come from `RobustEvaluation`."""
        logits, y = self._logits(batch)
        self._log_epoch({"test/loss": self.loss(logits, y)}, len(y))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return class probabilities (N, K) of the images of a batch, which may come without labels."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        return _wide(self(x)).softmax(dim=1)

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the scheduler if there is one."""
        make = self._make_optimizer or partial(Adam, lr=0.01, betas=(0.5, 0.9), weight_decay=1e-4)
        optimizer = make(self.parameters())
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        said = getattr(scheduler, "interval", None)
        interval = self._interval or (said if said in ("step", "epoch") else "epoch")
        when: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            when["monitor"] = "val/loss"
        return {"optimizer": optimizer, "lr_scheduler": when}

    def _logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(
                f"Expected argument `batch` to be `(x, y)` or `(x, y, code)`, but got {type(batch).__name__}. "
                "For other batches, subclass `RobustClassifier` and override its steps."
            )
        x, y = batch[0], batch[1]
        logits = _wide(self(x))
        if self.num_classes is not None and logits.shape[1] != self.num_classes:
            raise ValueError(
                f"Expected argument `network` to return {self.num_classes} logits, but got shape {tuple(logits.shape)}."
            )
        return logits, y

    def _log_epoch(self, values: dict[str, Tensor], n: int) -> None:
        self.log_dict(values, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=n)


def _plain(name: str, value: float | Sequence[float] | None) -> float | list[float] | None:
    """A mean or deviation as a checkpoint and a configuration file keep it."""
    plain = None if value is None else one_or_more(name, value)
    return list(plain) if isinstance(plain, tuple) else plain


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
