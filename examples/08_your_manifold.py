"""A manifold of your own
======================

Anything that encodes and decodes is a manifold. Here a plane found by principal components.
"""

import torch

from lightning_robust import L2, PGD, LatentSpace, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.models import standard_net


class Plane:
    """Codes are coordinates in the leading directions of the data."""

    def __init__(self, x, dimensions):
        flat = x.flatten(1)
        self.mean = flat.mean(0)
        self.directions = torch.linalg.svd(flat - self.mean, full_matrices=False).Vh[:dimensions]

    def encode(self, x, y):
        return (x.flatten(1) - self.mean) @ self.directions.T

    def decode(self, z, y):
        return (self.mean + z @ self.directions).reshape(-1, 1, 28, 28)


# %%
# Any attack takes it. The adversarial examples are on the plane.

x, y, _ = Fonts().tensors("test", limit=200)
plane = Plane(x, dimensions=20)
attack = PGD(Threat(L2(2.0), LatentSpace(plane)), steps=10)
x_adv = attack(standard_net(), x, y)
residual = x_adv - plane.decode(plane.encode(x_adv, y), y)
print("distance of the adversarial examples to the plane:", float(residual.flatten(1).norm(dim=1).max()))
