"""Metrics of robustness: torchmetrics, so that they accumulate over batches and synchronise over processes."""

from lightning_robust.metrics.attack_success import AttackSuccessRate
from lightning_robust.metrics.intervals import clustered_interval, mcnemar_test, paired_interval, wilson_interval
from lightning_robust.metrics.manifold_distance import ManifoldDistance, angle_between
from lightning_robust.metrics.per_class_robust_accuracy import PerClassRobustAccuracy
from lightning_robust.metrics.perturbation_norm import PerturbationNorm, perturbation_norm
from lightning_robust.metrics.robust_accuracy import RobustAccuracy
from lightning_robust.metrics.tangent_share import TangentShare, decoder_jacobian, tangent_share

__all__ = [
    "AttackSuccessRate",
    "ManifoldDistance",
    "PerClassRobustAccuracy",
    "PerturbationNorm",
    "RobustAccuracy",
    "TangentShare",
    "angle_between",
    "clustered_interval",
    "decoder_jacobian",
    "mcnemar_test",
    "paired_interval",
    "perturbation_norm",
    "tangent_share",
    "wilson_interval",
]
