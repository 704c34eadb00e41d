"""A metric, a data set and a recipe as somebody else would write them: the code of the pages in docs/extend."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn

from lightning_robust import PGD, AdversarialTraining, Linf, RobustClassifier, RobustEvaluation, recipes
from lightning_robust.datamodules import InMemoryDataModule


class Confidence(torchmetrics.Metric):
    """Mean probability of the predicted class under attack: how sure a model is of what it was led to."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, mask: Tensor) -> None:
        """Take in a batch: `preds` (N, K), the outputs under attack; `mask` (N,), the samples that count."""
        self.total += preds.softmax(1).amax(1)[mask].double().sum()
        self.count += mask.sum()

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.count


class Stripes(InMemoryDataModule):
    """Images with stripes, upright (0) or across (1), in noise."""

    num_classes = 2
    image_shape = (1, 8, 8)

    def load(self, source: str) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0 if source == "train" else 1)
        y = torch.arange(400) % 2
        stripes = (torch.arange(8) % 2 * 0.4 + 0.3).expand(8, 8)
        x = torch.where(y[:, None, None] == 0, stripes, stripes.T)
        return (x + 0.1 * torch.randn(400, 8, 8, generator=generator)).clamp(0, 1)[:, None], y


def quarter(threat: Any, **options: Any) -> recipes.Recipe:
    """A quarter of each batch adversarial, by three steps."""
    return recipes.Recipe([AdversarialTraining(PGD(threat, steps=3), fraction=0.25, **options)])


@pytest.fixture(scope="module")
def trained():
    evaluation = RobustEvaluation(PGD(Linf(0.05), steps=3), metrics={"confidence": Confidence()})
    module = RobustClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), num_classes=2)
    callbacks = [*quarter(Linf(0.05)), evaluation]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=3, callbacks=callbacks, enable_model_summary=False, **quiet)
    trainer.fit(module, Stripes(train_size=200, val_size=100, batch_size=40))
    return trainer, evaluation, module


def test_a_metric_of_your_own_is_logged(trained):
    trainer, evaluation, module = trained
    x, y = trainer.datamodule.tensors("val")
    with torch.no_grad():
        output = module(evaluation.attacks[""](module, x, y))
    logged = trainer.callback_metrics["val/confidence"]
    assert float(logged) == pytest.approx(float(output.softmax(1).amax(1).mean()), abs=0.01)


def test_a_data_set_of_your_own_has_its_parts():
    data = Stripes(train_size=200, val_size=100)
    x, y = data.tensors("train")
    assert x.shape == (200, 1, 8, 8)
    assert y.bincount().tolist() == [100, 100]
    assert len(data.tensors("val")[0]) == 100
    assert len(data.tensors("test")[0]) == 400


def test_a_recipe_of_your_own_trains(trained):
    assert trained[0].callback_metrics["val/robust_acc"] > 0.9
