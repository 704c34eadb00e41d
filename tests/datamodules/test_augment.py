import pytest
import torch

from lightning_robust.datamodules import RandomCropFlip


def crop_flip(image, dy, dx, flip, padding):
    """One image by hand: pad, crop at (dy, dx), mirror."""
    _, height, width = image.shape
    padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    out = padded[:, dy : dy + height, dx : dx + width]
    return torch.flip(out, dims=(2,)) if flip else out


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9)])
def test_every_output_is_a_crop_and_all_are_reached(shape):
    padding = 2
    image = torch.rand(shape)
    torch.manual_seed(0)
    out = RandomCropFlip(padding)(image.expand(3000, *shape))
    counts = torch.zeros(5, 5, 2)
    for dy in range(5):
        for dx in range(5):
            for flip in (0, 1):
                expected = crop_flip(image, dy, dx, flip, padding)
                counts[dy, dx, flip] = (out == expected).flatten(1).all(1).sum()
    assert counts.sum() == 3000
    # Binomial(3000, 1/50): mean 60, deviation 7.7.
    assert ((counts - 60).abs() < 5 * 7.7).all()


def test_each_image_gets_its_own():
    images = torch.rand(2, 3, 8, 8).repeat_interleave(20, dim=0)
    out = RandomCropFlip(4)(images)
    assert len(out[:20].flatten(1).unique(dim=0)) > 10
    assert out.shape == images.shape
    assert out.is_contiguous()


def test_without_flip_and_without_padding():
    images = torch.rand(50, 1, 6, 6)
    assert torch.equal(RandomCropFlip(0, flip=False)(images), images)
    flipped = (RandomCropFlip(0)(images) == images.flip(3)).flatten(1).all(1)
    assert 5 < flipped.sum() < 45
