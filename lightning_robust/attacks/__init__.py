"""Attacks: balls, spaces, threats, gains, and the one ascent loop. Torch only; usable without Lightning."""

from lightning_robust._noise import Noise
from lightning_robust.attacks._gain import of_classes
from lightning_robust.attacks.affine_space import AffineSpace
from lightning_robust.attacks.anchored import (
    Anchored,
    divergence,
    least_likely,
    normalized,
    runner_up,
    targeted,
    targeted_dlr,
    targeted_margin,
)
from lightning_robust.attacks.attack import Attack, Context, Foreign, Outcome, as_attack
from lightning_robust.attacks.auto_pgd import AutoPGD, Shrinking, apgd
from lightning_robust.attacks.balls import L1, L2, Ball, Box, Linf
from lightning_robust.attacks.binary import binary_correct, binary_cross_entropy, binary_margin, targeted_binary
from lightning_robust.attacks.combinators import in_turn, on_fraction, restarted, worst_of
from lightning_robust.attacks.dense import dense, dense_correct
from lightning_robust.attacks.differences import finite_differences
from lightning_robust.attacks.exhaustive_search import GridSearch
from lightning_robust.attacks.expectation import expectation
from lightning_robust.attacks.fast import fast
from lightning_robust.attacks.gains import confident_margin, cross_entropy, dlr, log_odds, margin
from lightning_robust.attacks.labels import Correct, class_labels, classified
from lightning_robust.attacks.latent_space import LatentSpace
from lightning_robust.attacks.minimum_norm import DDN, FMN, Boundary, MinimumNorm
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.presets import bim, carlini_wagner, fgsm, mim, pgd_cw, rs_fgsm, stutz
from lightning_robust.attacks.random_perturbation import RandomPerturbation
from lightning_robust.attacks.random_search import RandomSearch
from lightning_robust.attacks.rules import Adam, Iterate, Rule, Steepest
from lightning_robust.attacks.schedules import Progress, ScheduleBase, WarmUp
from lightning_robust.attacks.scope import scope
from lightning_robust.attacks.spaces import Chart, Space
from lightning_robust.attacks.square import Square
from lightning_robust.attacks.targets import nearest_classes, nearest_labels
from lightning_robust.attacks.threats import Threat

__all__ = [
    "DDN",
    "FMN",
    "L1",
    "L2",
    "PGD",
    "Adam",
    "AffineSpace",
    "Anchored",
    "Attack",
    "AutoPGD",
    "Ball",
    "Boundary",
    "Box",
    "Chart",
    "Context",
    "Correct",
    "Foreign",
    "GridSearch",
    "Iterate",
    "LatentSpace",
    "Linf",
    "MinimumNorm",
    "Noise",
    "Outcome",
    "PixelSpace",
    "Progress",
    "RandomPerturbation",
    "RandomSearch",
    "Rule",
    "ScheduleBase",
    "Shrinking",
    "Space",
    "Square",
    "Steepest",
    "Threat",
    "WarmUp",
    "apgd",
    "as_attack",
    "bim",
    "binary_correct",
    "binary_cross_entropy",
    "binary_margin",
    "carlini_wagner",
    "class_labels",
    "classified",
    "confident_margin",
    "cross_entropy",
    "dense",
    "dense_correct",
    "divergence",
    "dlr",
    "expectation",
    "fast",
    "fgsm",
    "finite_differences",
    "in_turn",
    "least_likely",
    "log_odds",
    "margin",
    "mim",
    "nearest_classes",
    "nearest_labels",
    "normalized",
    "of_classes",
    "on_fraction",
    "pgd_cw",
    "restarted",
    "rs_fgsm",
    "runner_up",
    "scope",
    "stutz",
    "targeted",
    "targeted_binary",
    "targeted_dlr",
    "targeted_margin",
    "worst_of",
]
