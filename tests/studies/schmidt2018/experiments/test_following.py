import pytest
import torch

from lightning_robust import RobustEvaluation
from lightning_robust._fitting import quiet_trainer
from lightning_robust.datamodules import Fonts
from lightning_robust_studies.schmidt2018.experiments.following import OnTraining
from tests.studies.schmidt2018.experiments.tiny import linear


def test_training_images_are_validated_as_they_come():
    data = Fonts("easy", train_size=20, batch_size=10)
    module = linear(0, 1)
    module.network[1] = torch.nn.Linear(784, 10)
    evaluation = RobustEvaluation(lambda m, x, y: x)
    quiet_trainer([evaluation]).validate(module, OnTraining(data), verbose=False)
    x, y, _ = data.tensors("train")
    assert evaluation.results["val/n"] == 20
    assert evaluation.results["val/clean_acc"] == pytest.approx((module.eval()(x).argmax(1) == y).float().mean().item())
