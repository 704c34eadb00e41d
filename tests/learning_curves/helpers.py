"""Learning curves and a small problem for the tests; picklable."""

import torch

from lightning_robust.datamodules import TensorDataModule
from lightning_robust.learning_curves import Curves
from lightning_robust.models import RobustClassifier

SIZES = (500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)


def curves(*rows, count=1000, n=SIZES):
    """The curves of seeds 0, 1, ..., each with its accuracies."""
    return Curves(n=n[: len(rows[0])], accuracy=dict(enumerate(rows)), count=(count,) * len(rows[0]))


def blobs(n, seed, images=200):
    """Two classes of 4 x 4 pixels."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(images) % 2
    x = (0.25 + 0.5 * y[:, None, None, None] + 0.2 * torch.randn(images, 1, 4, 4, generator=generator)).clamp(0, 1)
    options = {"val_size": 30, "train_size": n, "batch_size": 10, "eval_batch_size": 50, "seed": seed}
    return TensorDataModule((x[:150], y[:150]), (x[150:], y[150:]), **options)


def linear():
    return RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)))
