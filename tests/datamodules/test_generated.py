import pytest
import torch

from lightning_robust.datamodules import GeneratedDataModule
from lightning_robust.manifolds import VAEGAN

from .planes import PARTS, SHAPE, Gives, Plane


def codes(part="test", size=12, **kwargs):
    torch.rand(1)
    module = GeneratedDataModule(Plane(), 2, 3, value_range=(-10, 10), **{f"{part}_size": size}, **kwargs)
    return module.tensors(part)[2]


def test_samples_are_the_decoded_codes_with_balanced_labels():
    torch.manual_seed(0)
    manifold = VAEGAN(SHAPE, latent=4, width=1 / 16, num_classes=3, init_std=None)
    data = GeneratedDataModule(manifold, 3, 4, train_size=30, val_size=7, test_size=10, chunk=4, batch_size=8)
    for part, size in (("train", 30), ("val", 7), ("test", 10)):
        x, y, z = data.tensors(part)
        assert torch.equal(y, torch.arange(size) % 3)
        with torch.no_grad():
            torch.testing.assert_close(x, manifold.decode(z, y))
    assert (data.num_classes, data.image_shape, data.value_range) == (3, SHAPE, (0.0, 1.0))
    assert manifold.training
    assert sorted(len(batch[0]) for batch in data.train_dataloader()) == [6, 8, 8, 8]


def test_codes_are_truncated_normal():
    """By the distribution function at 17 places, within five deviations, and no two coordinates go together."""
    z = codes(size=20_000)
    normal = torch.distributions.Normal(0.0, 1.0)
    at = torch.linspace(-1.9, 1.9, 17)
    expected = (normal.cdf(at) - normal.cdf(torch.tensor(-2.0))) / (2 * normal.cdf(torch.tensor(2.0)) - 1)
    below = (z.flatten()[:, None] <= at).double().mean(0)
    assert ((below - expected).abs() < 5 * (expected * (1 - expected) / 60_000).sqrt()).all()
    assert z.abs().max() <= 2
    correlation = torch.corrcoef(torch.cat([z[1:].T, z[:-1].T])) - torch.eye(6)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_codes_depend_on_seed_part_row_and_coordinate_alone():
    z = codes()
    assert torch.equal(z, codes(chunk=5))
    assert torch.equal(z, codes(size=40)[:12])
    assert torch.equal(z, codes(seed=7))
    assert not torch.equal(z, codes(data_seed=1))
    everything = torch.cat([codes(part).flatten() for part in PARTS])
    assert len(everything.unique()) == len(everything)
    narrow = codes(bound=0.5)
    assert narrow.abs().max() <= 0.5
    assert (narrow.flatten().argsort() == z.flatten().argsort()).all()


def test_needs_a_decoder_only_and_leaves_everything_as_it_was():
    class Decoder(torch.nn.Dropout):
        def decode(self, z, y):
            assert not torch.is_grad_enabled()
            torch.rand(1)
            return self(torch.sigmoid(z))

    stream, decoder = torch.get_rng_state(), Decoder(0.5)
    x, _, z = GeneratedDataModule(decoder, 2, 3, test_size=5).tensors("test")
    assert torch.equal(x, torch.sigmoid(z)), "images of any shape"
    assert decoder.training
    assert torch.equal(torch.get_rng_state(), stream)
    with pytest.raises(TypeError, match=r"`manifold` to have a method `decode`, but got int"):
        GeneratedDataModule(3, 2, 3)


def test_what_a_decoder_may_not_give():
    with pytest.raises(ValueError, match=r"images in \[0.0, 1.0\], but got values in \[2, 2\]"):
        GeneratedDataModule(Gives(x=lambda n: torch.full((n, *SHAPE), 2.0)), 2, 3)
    with pytest.raises(ValueError, match=r"float images of shape \(1, ...\), but got torch.float32 \(3, 1, 4, 4\)"):
        GeneratedDataModule(Gives(x=lambda n: torch.zeros(3, *SHAPE)), 2, 3)
