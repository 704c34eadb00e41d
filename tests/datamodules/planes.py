"""A manifold whose projection is known, and data near it."""

import torch
from torch import nn

from lightning_robust.datamodules import TensorDataModule

SHAPE = (1, 4, 4)
PARTS = ("train", "val", "test")


class Plane(nn.Module):
    """The images 0.5 + z A for orthonormal rows of A, (3, 16): encode is the orthogonal projection."""

    def __init__(self):
        super().__init__()
        basis = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(0))).Q.T
        self.register_buffer("basis", basis)
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(3)
        self.calls = []

    def encode(self, x, y):
        self.calls.append((len(x), self.dropout.training, torch.is_grad_enabled(), torch.rand(1).item()))
        return self.dropout((x - 0.5).flatten(1).to(self.basis) @ self.basis.T)

    def decode(self, z, y):
        self.calls.append((len(z), self.norm.training, torch.is_grad_enabled(), torch.rand(1).item()))
        return (0.5 + (self.dropout(z) @ self.basis)).reshape(-1, *SHAPE)


class Gives:
    """A manifold that gives what it is asked to give."""

    def __init__(self, z=None, x=None):
        self.z, self.x = z, x

    def encode(self, x, y):
        return torch.zeros(len(x), 2) if self.z is None else self.z(len(x))

    def decode(self, z, y, *fixed):
        return torch.zeros(len(z), *SHAPE) if self.x is None else self.x(len(z))


def images(n=130, seed=0):
    """Near mid-gray, so that projections are valid images."""
    x = 0.5 + 0.1 * (torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) - 0.5)
    return x, torch.arange(n) % 10


def base(**kwargs):
    return TensorDataModule(images(), images(30, seed=1), **{"val_size": 30, "batch_size": 16, **kwargs})
