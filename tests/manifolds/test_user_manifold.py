"""A manifold of the user's own needs two methods and no base class: here an auto-encoder that knows nothing of us."""

import torch
from torch import Tensor, nn

from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat
from lightning_robust.manifolds.projection import project


class AutoEncoder(nn.Module):
    """A user's module, trained elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
        self.up = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 16), nn.Sigmoid())

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        return self.down(x)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return self.up(z).view(-1, 1, 4, 4)


def test_on_manifold_attack_on_a_users_decoder():
    torch.manual_seed(0)
    manifold = AutoEncoder()
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.rand(20, 1, 4, 4), torch.randint(3, (20,))
    z = manifold.encode(x, y).detach()
    outcome = PGD(Threat(Linf(0.5), LatentSpace(manifold)), steps=10, keep="best").run(classifier, x, y)
    assert (outcome.delta.abs() <= 0.5 + 1e-6).all()
    torch.testing.assert_close(outcome.x_adv, manifold.decode(z + outcome.delta, y).detach())
    before = nn.functional.cross_entropy(classifier(manifold.decode(z, y)), y, reduction="none")
    after = nn.functional.cross_entropy(classifier(outcome.x_adv), y, reduction="none")
    assert (after > before).float().mean() > 0.9
    # What the attack found lies on the manifold: the projection from its code is itself.
    assert project(manifold, outcome.x_adv, y, z + outcome.delta, steps=3).distance.max() < 1e-5


def test_bounds_are_optional_and_respected():
    torch.manual_seed(0)
    manifold = AutoEncoder()
    manifold.bounds = (torch.tensor([-0.1, -0.2]), torch.tensor([0.1, 0.2]))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.rand(20, 1, 4, 4), torch.randint(3, (20,))
    z = manifold.encode(x, y).detach()
    outcome = PGD(Threat(Linf(0.5), LatentSpace(manifold)), steps=10).run(classifier, x, y)
    low, high = manifold.bounds
    end = z + outcome.delta
    was_inside = (z >= low) & (z <= high)
    assert was_inside.any()
    assert ((end >= low - 1e-6) & (end <= high + 1e-6))[was_inside].all()
