"""Networks of the papers, normalization, a schedule, and the LightningModule that trains them."""

from lightning_robust.models.bpda import Bpda
from lightning_robust.models.feedforward import madry_mnist, mlp, standard_net, vgg
from lightning_robust.models.normalize import Normalize, PerImageStandardize
from lightning_robust.models.residual import madry_resnet, preact_resnet18, resnet
from lightning_robust.models.robust_classifier import RobustClassifier
from lightning_robust.models.schedules import ExponentialDecay

__all__ = [
    "Bpda",
    "ExponentialDecay",
    "Normalize",
    "PerImageStandardize",
    "RobustClassifier",
    "madry_mnist",
    "madry_resnet",
    "mlp",
    "preact_resnet18",
    "resnet",
    "standard_net",
    "vgg",
]
