import pytest
import torch

from lightning_robust.attacks import L2, AffineSpace, LatentSpace, Linf, PixelSpace, Threat
from lightning_robust.attacks.threats import as_threat
from tests.helpers import Plane, images


def test_a_bare_ball_means_pixels():
    assert as_threat(Linf(0.1)) == Threat(Linf(0.1), PixelSpace())
    threat = Threat(L2(0.5), AffineSpace())
    assert as_threat(threat) is threat


@pytest.mark.parametrize("wrong", ["linf", 0.3, Linf, None])
def test_anything_else_is_refused(wrong):
    with pytest.raises(TypeError, match=r"`threat` to be a Ball such as .* A norm is a class here"):
        as_threat(wrong)
    with pytest.raises(TypeError, match=r"`ball` to be a Ball .*, but got"):
        Threat(wrong)
    with pytest.raises(TypeError, match=r"`space` to be a Space .*, but got"):
        Threat(Linf(0.1), wrong)


def test_contains_counts_the_rounding_of_the_type():
    x = images(4)
    edge = torch.where(x < 0.5, x + 0.1, x - 0.1)
    assert Threat(Linf(0.1)).contains(x, edge).all()
    assert not Threat(Linf(0.1)).contains(x, torch.where(x < 0.5, x + 0.1001, x - 0.1001)).any()
    assert Threat(Linf(0.1)).contains(x, x).all()


def test_contains_is_per_sample():
    x = torch.full((3, 1, 1, 2), 0.5)
    threat = Threat(Linf(torch.tensor([0.1, 0.2, 0.3])))
    assert threat.contains(x, x + 0.15).tolist() == [False, True, True]


def test_contains_finds_what_is_out_of_the_range_of_images():
    x = torch.tensor([[0.95, 0.5], [0.5, 0.5]])
    assert Threat(Linf(0.1)).contains(x, x + 0.1).tolist() == [False, True]


@pytest.mark.parametrize("space", [AffineSpace(), LatentSpace(Plane())], ids=["affine", "latent"])
def test_in_other_spaces_the_perturbation_decides(space):
    x, y = images(2), torch.zeros(2).long()
    threat = Threat(Linf(0.1), space)
    with pytest.raises(TypeError, match=rf"in {type(space).__name__} is decided by the perturbation: use `admits"):
        threat.contains(x, x)
    chart = space.chart(x, y)
    delta = chart.zero.clone()
    delta[1, 0] = 0.11
    assert threat.admits(chart, delta).tolist() == [True, False]


def test_scaled():
    assert Threat(Linf(0.4), AffineSpace()).scaled(0.5) == Threat(Linf(0.2), AffineSpace())
