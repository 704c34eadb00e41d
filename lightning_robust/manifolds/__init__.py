"""Manifolds: decoders whose codes an on-manifold attack moves, known (Fonts) or learned (VAE, VAE-GAN)."""

from lightning_robust.manifolds._leaks import Fingerprint, Leak
from lightning_robust.manifolds._learned import Samples
from lightning_robust.manifolds._share import Share
from lightning_robust.manifolds.bank import bank
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.fonts import FontsManifold
from lightning_robust.manifolds.leak import fingerprint, leak
from lightning_robust.manifolds.pca import PCAManifold
from lightning_robust.manifolds.projection import Nearest, project
from lightning_robust.manifolds.protocol import Code, Manifold
from lightning_robust.manifolds.quality import CodeQuality
from lightning_robust.manifolds.residual import Residual
from lightning_robust.manifolds.vaegan import VAEGAN

__all__ = [
    "VAEGAN",
    "Code",
    "CodeQuality",
    "Fingerprint",
    "FontsManifold",
    "Leak",
    "Manifold",
    "Nearest",
    "PCAManifold",
    "Residual",
    "Samples",
    "Share",
    "bank",
    "fingerprint",
    "leak",
    "project",
    "truncated_normal",
]
