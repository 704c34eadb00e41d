import math

import pytest
import torch

from lightning_robust.plots import difference_rgb, image_grid


def samples(n, channels, height=5, width=4):
    generator = torch.Generator().manual_seed(n)
    x = torch.rand(n, channels, height, width, generator=generator)
    return x, (x + 0.2 * torch.rand(x.shape, generator=generator) - 0.1).clamp(0, 1)


@pytest.mark.parametrize("n", [1, 3, 4, 7])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("zoom", [1, 3])
def test_every_image_is_where_the_documentation_says(n, channels, zoom):
    x, x_adv = samples(n, channels)
    height, width = x.shape[2:]
    grid = image_grid(x, x_adv, samples_per_row=3, zoom=zoom, scale=0.1)
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    assert grid.dtype == torch.uint8
    assert grid.shape == (
        3,
        zoom * (height * rows + 4 * (rows + 1)),
        zoom * ((3 * width + 2) * columns + 4 * (columns + 1)),
    )
    small = grid[:, ::zoom, ::zoom]
    assert torch.equal(small.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), grid)
    covered = torch.zeros(small.shape[1:], dtype=torch.bool)
    for i in range(n):
        top = 4 + (i // columns) * (height + 4)
        left = 4 + (i % columns) * (3 * width + 2 + 4)
        expected = (x[i].expand(3, -1, -1), x_adv[i].expand(3, -1, -1), difference_rgb(x, x_adv, 0.1)[i])
        for c, image in enumerate(expected):
            box = (slice(top, top + height), slice(left + c * (width + 1), left + c * (width + 1) + width))
            assert torch.equal(small[(slice(None), *box)], (image * 255).round().byte())
            covered[box] = True
    assert (small[:, ~covered] == 255).all()


def test_default_scale_shows_the_largest_difference_in_full_color():
    x = torch.full((2, 1, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1, 0, 0, 0] += 0.01
    assert torch.equal(image_grid(x, x_adv), image_grid(x, x_adv, scale=(x_adv - x).max().item()))
    assert image_grid(x, x).shape == image_grid(x, x_adv).shape  # no division by a difference of zero


def test_normalized_images_and_half_precision():
    x, x_adv = samples(2, 3)
    grid = image_grid(2 * x - 1, 2 * x_adv - 1, low=-1.0, high=1.0)
    assert (grid.int() - image_grid(x, x_adv).int()).abs().max() <= 1
    assert image_grid(x.bfloat16(), x_adv.bfloat16()).dtype == torch.uint8


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        image_grid(torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2))
