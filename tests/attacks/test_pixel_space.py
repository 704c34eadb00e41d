"""A type of inputs in which a radius is lost in rounding."""

import math

import pytest
import torch

from lightning_robust.attacks import L1, L2, Linf, PixelSpace


def rounds_to(x, dtype, size):
    """The share of moves of this size that survives x + size and x - size in a type, towards x; without bounds."""
    kept = 0.0
    for move in (size, -size):
        fine = x.double() + move * torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None, None]
        steps = (fine.to(dtype).double() - x.double()).abs()
        steps[steps > size * (1 + 1e-9)] = 0
        kept += float(steps.amax(0).mean()) / size / 2
    return kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("units", [0.75, 1.3, 1.6, 2.5, 4.2])
def test_a_radius_that_rounding_takes_away_is_doubted(dtype, units):
    """By more than a quarter, also of inputs in which the same radius is many units of small numbers."""
    free, x = PixelSpace(-math.inf, math.inf), (0.5 + torch.rand(4, 50) / 2.1).to(dtype)
    size = units * torch.finfo(dtype).eps / 2
    lost = 1 - rounds_to(x, dtype, size)
    for ball in (Linf(size), L2(size * 50**0.5), L1(size)):
        said = free.doubts(ball, x)
        assert len(said) == (lost > 0.25), (ball, lost)
        assert not said or (f"takes {lost:.0%} of" in said[0] and "float32" in said[0])
        assert not free.doubts(ball, (x / 64).to(dtype))
    scaled = PixelSpace(-math.inf, math.inf, 0.0, 0.5)  # x = pixels / 0.5, so a perturbation is twice as long in x
    assert len(scaled.doubts(Linf(size / 2), x)) == (lost > 0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_ordinary_radii_are_not_doubted_for_rounding(dtype):
    x = torch.rand(4, 3, 8, 8).to(dtype)
    radii = [0.0, 8 / 255, 0.03, 0.3] + ([0.003] if dtype != torch.bfloat16 else [])
    for radius in radii:
        assert not [text for text in PixelSpace().doubts(Linf(radius), x) if "Rounding" in text], radius
    assert not [text for text in PixelSpace().doubts(L2(0.5), x) if "Rounding" in text]
    assert not [text for text in PixelSpace().doubts(L1(12.0), x) if "Rounding" in text]
    assert (len(PixelSpace().doubts(Linf(0.003), 0.5 + x / 2)) > 0) == (dtype == torch.bfloat16)


@pytest.mark.parametrize(("units", "doubted"), [(1.32, False), (1.35, True)])  # 24 % and 26 % of it are lost
def test_a_quarter_of_the_radius_may_be_lost(units, doubted):
    x, unit = torch.full((2, 9), 0.75, dtype=torch.bfloat16), torch.finfo(torch.bfloat16).eps / 2
    assert bool(PixelSpace().doubts(Linf(units * unit), x)) == doubted


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize(
    ("ball", "share", "said"),
    [
        (Linf, 1.01, "covers the whole range"),
        (Linf, 0.99, None),
        (Linf, 1 / 990, None),
        (Linf, 1 / 1010, "less than a thousandth"),
        (L1, 1 / 254, None),
        (L1, 1 / 256, "more than a 255th"),
    ],
)
def test_radii_in_shares_of_the_range(ball, share, said, high):
    x = high * torch.rand(4, 1, 3, 3)
    texts = PixelSpace(0, high).doubts(ball(share * high), x)
    assert len(texts) == (said is not None)
    assert all(said in text for text in texts)


@pytest.mark.parametrize(("share", "doubted"), [(1 / 49, False), (1 / 51, True), (0.0, False)])
def test_images_that_use_a_fiftieth_of_the_range(share, doubted):
    """Images of one value may be just that."""
    x = 0.3 + share * torch.linspace(0, 1, 36).reshape(4, 1, 3, 3)
    assert ["divided by 255 twice" in text for text in PixelSpace().doubts(Linf(0.1), x)] == [True] * doubted


@pytest.mark.parametrize(("dtype", "fine", "beyond"), [(torch.float32, 9e-4, 1.1e-3), (torch.bfloat16, 0.016, 0.024)])
@pytest.mark.parametrize("high", [1, 255])
def test_images_may_leave_the_range_by_rounding(dtype, fine, beyond, high):
    space = PixelSpace(0, high)
    for end, sign in ((0, -1), (high, 1)):
        space.check(torch.tensor([[0.5 * high, end + sign * fine * high]]).to(dtype))
        with pytest.raises(ValueError, match="Expected images in"):
            space.check(torch.tensor([[0.5 * high, end + sign * beyond * high]]).to(dtype))


def test_means_of_other_channels_than_deviations_are_refused():
    with pytest.raises(ValueError, match="as many numbers in `mean` as in `std`"):
        PixelSpace(mean=(0.5, 0.5), std=(0.2, 0.2, 0.2))
    PixelSpace(mean=(0.5, 0.5), std=0.2)
