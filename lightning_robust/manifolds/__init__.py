"""Manifolds: decoders whose codes an on-manifold attack moves, known (Fonts) or learned (VAE, VAE-GAN)."""

from lightning_robust.manifolds._leaks import Fingerprint, Leak
from lightning_robust.manifolds._learned import Samples
from lightning_robust.manifolds._share import Share
from lightning_robust.manifolds.autoencoder import AutoencoderManifold
from lightning_robust.manifolds.bank import bank
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.flow import FlowManifold
from lightning_robust.manifolds.fonts import FontsManifold
from lightning_robust.manifolds.leak import fingerprint, leak
from lightning_robust.manifolds.pca import PCAManifold
from lightning_robust.manifolds.projection import Nearest, project
from lightning_robust.manifolds.protocol import Code, Manifold
from lightning_robust.manifolds.quality import CodeQuality
from lightning_robust.manifolds.residual import Residual
from lightning_robust.manifolds.vaegan import VAEGAN
from lightning_robust.manifolds.validity import Explanation, explain, still_valid

__all__ = [
    "VAEGAN",
    "AutoencoderManifold",
    "Code",
    "CodeQuality",
    "Explanation",
    "Fingerprint",
    "FlowManifold",
    "FontsManifold",
    "Leak",
    "Manifold",
    "Nearest",
    "PCAManifold",
    "Residual",
    "Samples",
    "Share",
    "bank",
    "explain",
    "fingerprint",
    "leak",
    "project",
    "still_valid",
    "truncated_normal",
]
