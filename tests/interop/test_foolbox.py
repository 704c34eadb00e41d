"""`from_foolbox`: radii, ranges, and what is refused."""

import foolbox
import pytest
import torch
from torch import nn

from lightning_robust.attacks import L2, Attack
from lightning_robust.interop import from_foolbox
from tests.interop.test_ours_and_theirs import by_foolbox, images, smooth_network


def test_strictly_within_the_radius():
    """foolbox itself leaves the ball by a rounding error."""
    net, (x, y) = smooth_network(torch.float32), images(0.0, 1.0, 50)
    x, attack, eps = x.float(), foolbox.attacks.LinfPGD(steps=5), 8 / 255
    assert (by_foolbox(attack, net, x, y, eps).double() - x.double()).abs().max() > eps
    assert (from_foolbox(attack, eps)(net, x, y).double() - x.double()).abs().max() <= eps


def test_minimum_norm_attack_without_a_radius():
    net, (x, y) = smooth_network(torch.float32), images(0.3, 0.7)
    x = x.float()
    y = net(x).argmax(1)
    outcome = from_foolbox(foolbox.attacks.L2DeepFoolAttack(), None).run(net, x, y)
    assert outcome.fooled.shape == (1, len(x))
    assert torch.equal(outcome.fooled[0], net(outcome.x_adv).argmax(1) != y)
    assert bool(outcome.fooled.all())


def test_minimum_norm_attack_with_a_radius_succeeds_where_the_nearest_is_within():
    net, (x, y) = smooth_network(torch.float32), images(0.3, 0.7)
    x = x.float()
    y = net(x).argmax(1)
    attack = foolbox.attacks.L2DeepFoolAttack()
    free = from_foolbox(attack, None).run(net, x, y)
    distance = L2(1.0).norm(free.x_adv - x)
    eps = float(distance.median()) + 1e-4
    bound = from_foolbox(attack, eps).run(net, x, y)
    assert 0 < bound.fooled.sum() < len(x)
    assert bool(bound.fooled[0][distance < eps].all())
    assert bool((L2(1.0).norm(bound.x_adv.double() - x.double()) <= eps * (1 + 1e-6)).all())
    assert torch.equal(bound.fooled[0], net(bound.x_adv).argmax(1) != y)


def test_range_of_images_and_radius_in_its_units():
    net, (x, y) = smooth_network(torch.float32), images(0.0, 1.0)
    x = x.float() * 255
    attack = from_foolbox(foolbox.attacks.LinfPGD(steps=5), 8.0, bounds=(0, 255))
    x_adv = attack(lambda v: net(v / 255), x, y)
    assert (x_adv - x).abs().max() == pytest.approx(8, abs=1e-4)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 255


def test_spatial_attack_has_no_ball():
    torch.manual_seed(0)
    net, (x, _) = nn.Sequential(nn.Flatten(), nn.Linear(243, 6, bias=False)), images(0.0, 1.0)
    y = net(x.float()).argmax(1)
    attack = from_foolbox(
        foolbox.attacks.SpatialAttack(max_translation=3, max_rotation=60, num_translations=3, num_rotations=3), None
    )
    outcome = attack.run(net, x.float(), y)
    assert torch.equal(outcome.fooled[0], net(outcome.x_adv).argmax(1) != y)
    assert bool(outcome.fooled.any())


def test_is_an_attack_and_scales():
    attack = from_foolbox(foolbox.attacks.LinfPGD(steps=3), 0.2, seed=4)
    assert isinstance(attack, Attack)
    assert attack.scaled(0.5).eps == 0.1
    assert attack.scaled(0.5).seed == 4
    with pytest.raises(TypeError, match="cannot be scaled"):
        from_foolbox(foolbox.attacks.L2DeepFoolAttack(), None).scaled(0.5)


@pytest.mark.parametrize("attack", [foolbox.attacks.LinfPGD(), foolbox.attacks.LinfPGD().repeat(3)])
def test_refuses_a_fixed_radius_attack_without_a_radius(attack):
    with pytest.raises(ValueError, match=r"Expected argument `eps` to be a number.*LinfProj.*but got None"):
        from_foolbox(attack, None)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), "0.1", True, [0.1, 0.2]])
def test_refuses_a_radius_that_is_none(eps):
    with pytest.raises((TypeError, ValueError), match="Expected argument `eps` to be a number of at least 0"):
        from_foolbox(foolbox.attacks.FGSM(), eps)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bounds", (1, 0)), ("bounds", 255), ("bounds", (0, 1, 2)), ("mean", "0.5"), ("std", 0.0), ("seed", 0.5)],
)
def test_refuses_options_that_cannot_be_meant(name, value):
    options = {"mean": 0.5, "std": 0.2, name: value}
    with pytest.raises((TypeError, ValueError), match=f"Expected argument `{name}` to be"):
        from_foolbox(foolbox.attacks.FGSM(), 0.1, **options)


def test_doubts_a_radius_of_the_whole_range():
    x, _ = images(0.0, 1.0)
    assert from_foolbox(foolbox.attacks.FGSM(), 8 / 255).doubts(x) == []
    assert "covers the whole range" in from_foolbox(foolbox.attacks.FGSM(), 8.0).doubts(x)[0]
    assert from_foolbox(foolbox.attacks.L2DeepFoolAttack(), None).doubts(x) == []


def test_refuses_what_is_no_attack():
    with pytest.raises(TypeError, match="Expected argument `attack` to be an attack of foolbox"):
        from_foolbox(foolbox.attacks.LinfPGD, 0.1)
