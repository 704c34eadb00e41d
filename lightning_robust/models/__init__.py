"""Networks of the papers, normalisation, schedules, and the LightningModule that trains them."""

from lightning_robust.models.bpda import Bpda
from lightning_robust.models.madry_mnist import madry_mnist
from lightning_robust.models.madry_resnet import madry_resnet
from lightning_robust.models.mlp import mlp
from lightning_robust.models.normalize import Normalize
from lightning_robust.models.per_image_standardize import PerImageStandardize
from lightning_robust.models.preact_resnet18 import preact_resnet18
from lightning_robust.models.resnet import resnet
from lightning_robust.models.robust_classifier import RobustClassifier, adam
from lightning_robust.models.schedules import ExponentialDecay
from lightning_robust.models.standard_net import standard_net
from lightning_robust.models.vgg import vgg

__all__ = [
    "Bpda",
    "ExponentialDecay",
    "Normalize",
    "PerImageStandardize",
    "RobustClassifier",
    "adam",
    "madry_mnist",
    "madry_resnet",
    "mlp",
    "preact_resnet18",
    "resnet",
    "standard_net",
    "vgg",
]
