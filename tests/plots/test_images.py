import pytest
import torch

from lightning_robust.plots.images import check_pair, difference_rgb, largest_difference, to_rgb


def test_to_rgb_maps_the_range_to_the_unit_interval_and_clips():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.bfloat16).reshape(1, 1, 1, 5)
    rgb = to_rgb(images, low=-1.0, high=1.0)
    assert rgb.dtype == torch.float32
    for channel in range(3):
        assert rgb[0, channel, 0].tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    color = torch.rand(2, 3, 4, 5)
    assert torch.equal(to_rgb(color), color)
    with pytest.raises(ValueError, match=r"`low` to be below `high` = 0\.0, but got 1\.0"):
        to_rgb(images, 1.0, 0.0)


def gray_difference(values, scale):
    x = torch.full((1, 1, 1, len(values)), 0.5)
    return difference_rgb(x, x + torch.tensor(values), scale)[0, :, 0].T


def test_gray_differences_diverge_around_white():
    blue, zero, red = gray_difference([-0.25, 0.0, 0.25], scale=0.25)
    assert zero.tolist() == [1.0, 1.0, 1.0]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert torch.equal(gray_difference([-0.4, 0.4], 0.25), torch.stack([blue, red]))  # clipped


def test_gray_colors_are_continuous_and_darken_away_from_zero():
    steps = torch.linspace(-1.0, 1.0, 401)
    colors = gray_difference(steps.tolist(), 1.0)
    assert (colors.diff(dim=0).abs() < 0.01).all()
    brightness = colors.sum(1)
    assert (brightness[:201].diff() > 0).all()
    assert (brightness[200:].diff() < 0).all()


def test_color_differences_keep_each_channels_sign_around_mid_gray():
    x = torch.full((1, 3, 1, 1), 0.5)
    shown = difference_rgb(x, x + torch.tensor([0.1, 0.0, -0.05]).reshape(1, 3, 1, 1), scale=0.1)
    torch.testing.assert_close(shown.flatten(), torch.tensor([1.0, 0.5, 0.25]))


def test_largest_difference():
    x = torch.rand(3, 1, 4, 4)
    assert largest_difference(x, x) == 1.0
    x_adv = x.clone()
    x_adv[1, 0, 2, 3] -= 0.25
    assert largest_difference(x, x_adv) == pytest.approx(0.25)


def test_gradients_are_not_needed():
    x = torch.rand(1, 1, 2, 2, requires_grad=True)
    assert not difference_rgb(x, x * 1.1, 1.0).requires_grad
    assert not to_rgb(x).requires_grad


@pytest.mark.parametrize(
    ("x", "x_adv", "message"),
    [
        (torch.zeros(2, 28, 28), torch.zeros(2, 28, 28), r"`x` to have shape .* but got \(2, 28, 28\)"),
        (torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), "C = 1 or 3"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4), "N >= 1"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4), "one shape"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "`x_adv` to be of floating point"),
    ],
)
def test_what_cannot_be_shown_is_refused(x, x_adv, message):
    with pytest.raises(ValueError, match=message):
        check_pair(x, x_adv)
