"""A small problem for the tests of the study: two blobs of 4 x 4 pixels; picklable."""

import torch

from lightning_robust.models import RobustClassifier
from lightning_robust_studies.schmidt2018.experiments import Problem, SampleComplexitySettings
from lightning_robust_studies.schmidt2018.threshold import ThresholdFilters
from tests.learning_curves.helpers import blobs


def linear(eps, steps):
    return RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)))


def behind(eps, steps):
    layers = (ThresholdFilters(eps or 0.1), torch.nn.Flatten(), torch.nn.Linear(32, 2))
    return RobustClassifier(torch.nn.Sequential(*layers))


TINY = Problem(
    data=blobs,
    models={"linear": linear, "linear+threshold": behind},
    sizes=(10, 40, 100),
    eps_train=(0.0, 0.1),
    eps_test=(0.0, 0.1),
    steps=10,
    train_steps=2,
)
OPTIONS = SampleComplexitySettings(
    data=("tiny",),
    seeds=1,
    test_steps=3,
    images=40,
    checks=1,
    gap_images=10,
    masked_images=20,
    queries=10,
    verdict_images=20,
    bound_images=30,
    workers=1,
    launcher="inline",
    progress=False,
)
