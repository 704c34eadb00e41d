"""Auto-encoders of diffusers, and anything with their interface, of random weights."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust.attacks import L2, PGD, LatentSpace, Threat
from lightning_robust.attacks.scope import modules_in
from lightning_robust.manifolds import AutoencoderManifold


class Small(nn.Module):
    """Halves the sides; three channels."""

    def __init__(self, kind: str = "latents", channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.config = kind, SimpleNamespace(in_channels=channels, block_out_channels=(4, 4))
        self.down, self.up = nn.Conv2d(channels, 2, 2, 2), nn.ConvTranspose2d(2, channels, 2, 2)
        self.drop = nn.Dropout(0.5)

    def encode(self, x):
        z = self.drop(self.down(x))
        return (
            SimpleNamespace(latents=z)
            if self.kind == "latents"
            else SimpleNamespace(latent_dist=SimpleNamespace(mean=z))
        )

    def decode(self, z):
        return SimpleNamespace(sample=self.up(z).tanh())


class Same:
    """Keeps its inputs; no module."""

    def encode(self, x):
        return SimpleNamespace(latents=x)

    def decode(self, z):
        return SimpleNamespace(sample=z)


def images(n: int = 12, shape: tuple[int, ...] = (1, 7, 5)) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 6, 4)])
@pytest.mark.parametrize("kind", ["latents", "distribution"])
def test_it_is_the_auto_encoder_in_its_own_range(kind, shape):
    net = Small(kind).eval()
    manifold, x = AutoencoderManifold(net, shape), images(shape=shape)
    rows, columns = shape[1] % 2, shape[2] % 2
    whole = torch.cat([x, x[:, :, -1:]], 2) if rows else x
    whole = torch.cat([whole, whole[..., -1:]], 3) if columns else whole
    raw = net.down(2 * whole.repeat(1, 3 // shape[0], 1, 1) - 1)
    torch.testing.assert_close(manifold.encode(x), raw.flatten(1))
    sample = net.up(raw).tanh()[:, :, : shape[1], : shape[2]]
    sample = sample.mean(1, keepdim=True) if shape[0] == 1 else sample
    torch.testing.assert_close(manifold.decode(raw.flatten(1)), (sample + 1) / 2)
    assert manifold.bounds is None
    assert manifold.latent == raw[0].numel()


def test_what_keeps_its_inputs_gives_images_back():
    x = images()
    x[0], x[1] = 0, 1
    manifold = AutoencoderManifold(Same(), (1, 7, 5), channels=3, multiple=4)
    assert manifold.latent_shape == (3, 8, 8)
    manifold.fit_bounds(zip(x.split(5), torch.arange(12).split(5), strict=True))
    torch.testing.assert_close(manifold.decode(manifold.encode(x)), x, rtol=0, atol=1e-6)


def test_codes_are_standardised_over_batches_of_any_size():
    x, manifold = images(), AutoencoderManifold(Small().eval(), (1, 7, 5))
    low, high = manifold.fit_bounds((part, None) for part in x.split(5))
    z = manifold.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(24), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(24), rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack([low, high]), torch.stack([z.amin(0), z.amax(0)]))
    torch.testing.assert_close(torch.stack(manifold.bounds), torch.stack([low, high]))
    once = AutoencoderManifold(Small().eval(), (1, 7, 5))
    once.fit_bounds([(x,)])
    torch.testing.assert_close(once.encode(x), z)
    same = AutoencoderManifold(Small().eval(), (1, 7, 5))
    same.fit_bounds([(x[:1].expand(4, -1, -1, -1),)])  # no variance: finite all the same
    assert torch.isfinite(same.encode(x)).all()
    with pytest.raises(ValueError, match="at least one image"):
        manifold.fit_bounds([])


def test_modes_and_types():
    net = Small().train()
    manifold, x = AutoencoderManifold(net, (1, 7, 5)), images()
    z = manifold.encode(x)
    assert torch.equal(z, manifold.encode(x))  # no dropout
    assert net.drop.training
    manifold.fit_bounds([(x,)])
    z = manifold.encode(x)
    low = manifold.to(torch.bfloat16)
    assert low.encode(x).dtype == low.decode(z).dtype == torch.float32
    torch.testing.assert_close(low.encode(x), z, rtol=0, atol=0.1)
    net = Small()
    held = AutoencoderManifold(SimpleNamespace(encode=net.encode, decode=net.decode), (1, 8, 6), channels=3)
    assert net in modules_in(LatentSpace(held))


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_those_of_diffusers(kind):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        net = diffusers.AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=2,
            latent_channels=2,
        )
    else:
        channels = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4)}
        blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
        net = diffusers.AutoencoderTiny(latent_channels=2, **channels, **blocks)
    x, y = images(6, (1, 7, 5)), torch.arange(6) % 2
    manifold = AutoencoderManifold(net, (1, 7, 5))
    assert manifold.multiple == 2
    assert manifold.latent_shape == (2, 4, 3)
    low, high = manifold.fit_bounds([(x, y)])
    z = manifold.encode(x, y)
    whole = F.pad(2 * x - 1, (0, 1, 0, 1), mode="replicate").expand(-1, 3, -1, -1)
    with torch.no_grad():
        code = net.eval().encode(whole)
        raw = code.latents if kind == "AutoencoderTiny" else code.latent_dist.mean
        torch.testing.assert_close(z, (raw.flatten(1) - manifold.mean) / manifold.deviation, rtol=1e-4, atol=1e-4)
        sample = net.decode(raw).sample[:, :, :7, :5].mean(1, keepdim=True)
    torch.testing.assert_close(manifold.decode(z, y), ((sample + 1) / 2).clamp(0, 1), rtol=1e-4, atol=1e-4)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(35, 2))
    outcome = PGD(Threat(L2(1.0), LatentSpace(manifold)), steps=3, keep="best").run(classifier, x, y)
    assert ((z + outcome.delta >= low - 1e-5) & (z + outcome.delta <= high + 1e-5)).all()
    loss = [F.cross_entropy(classifier(v), y) for v in (manifold.decode(z), outcome.x_adv)]
    assert loss[1] > loss[0]
    second = AutoencoderManifold(type(net).from_config(net.config), (1, 7, 5))
    second.load_state_dict(manifold.state_dict())
    assert torch.equal(second.encode(x), z)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="a method `encode`, but got Linear"):
        AutoencoderManifold(nn.Linear(2, 2), (1, 4, 4))
    with pytest.raises(TypeError, match="the class Small"):
        AutoencoderManifold(Small, (1, 4, 4))
    with pytest.raises(ValueError, match="1 or 3 channels, but got 2"):
        AutoencoderManifold(Small(), (2, 4, 4))
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        AutoencoderManifold(Small(), (4, 4))
    with pytest.raises(TypeError, match=r"`autoencoder.encode` to give `latent_dist` or .*, but got Tensor"):
        AutoencoderManifold(SimpleNamespace(encode=lambda x: x, decode=lambda z: z), (1, 4, 4))
    manifold = AutoencoderManifold(SimpleNamespace(encode=Same().encode, decode=lambda z: z), (1, 4, 4))
    with pytest.raises(TypeError, match=r"`autoencoder.decode` to give a tensor `sample`, but got Tensor"):
        manifold.decode(torch.zeros(2, 16))
    with pytest.raises(ValueError, match=r"images of shape \('N', 1, 4, 4\), but got \(2, 1, 3, 4\)"):
        manifold.encode(torch.zeros(2, 1, 3, 4))
