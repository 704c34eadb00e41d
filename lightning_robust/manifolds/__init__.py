"""Manifolds: decoders whose codes an on-manifold attack moves, known (Fonts) or learned (VAE, VAE-GAN)."""

from lightning_robust.manifolds.bank import bank
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.fonts import FontsManifold, Projection
from lightning_robust.manifolds.projection import Nearest, project
from lightning_robust.manifolds.protocol import Code, Manifold
from lightning_robust.manifolds.quality import CodeQuality
from lightning_robust.manifolds.vaegan import VAEGAN, Samples

__all__ = [
    "VAEGAN",
    "Code",
    "CodeQuality",
    "FontsManifold",
    "Manifold",
    "Nearest",
    "Projection",
    "Samples",
    "bank",
    "project",
    "truncated_normal",
]
