"""The flow: exact codes, a density that is one, training, and the Lightning side."""

import math
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust._lightning import pl
from lightning_robust._noise import Noise
from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat

pytest.importorskip("zuko")

from lightning_robust.manifolds import FlowManifold

SHAPE = (1, 3, 4)


def data(n: int = 16, classes: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randint(256, (n, *SHAPE), generator=torch.Generator().manual_seed(0)) / 255
    x[:2], x[2:4] = 0, 1
    return x, torch.arange(n) % classes


def flow(**options) -> FlowManifold:
    """A flow that does more than nothing: weights of twice their first size."""
    torch.manual_seed(0)
    made = FlowManifold(SHAPE, **{"num_classes": 2, "transforms": 4, "hidden": (8,), **options})
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(2)
    return made


def fit(model: FlowManifold, x: Tensor, y: Tensor, path, size: int = 8, **options) -> pl.Trainer:
    loader = DataLoader(TensorDataset(x, y), batch_size=size)
    defaults = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(default_root_dir=path, enable_model_summary=False, **{**defaults, **options})
    trainer.fit(model, loader, loader)
    return trainer


def logit(p: Tensor) -> Tensor:
    return torch.log(p / (1 - p))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("classes", [1, 2])
def test_codes_are_exact(dtype, most, classes):
    x, y = data()
    model = flow(num_classes=classes).to(dtype)
    z = model.encode(x, y)
    assert z.shape == (16, 12)
    assert z.dtype == dtype
    back = model.decode(z, y)
    torch.testing.assert_close(back, x.to(dtype), rtol=0, atol=most)
    for end in (0, 1):
        assert torch.equal(back[x == end], x[x == end].to(dtype)) or dtype == torch.float32
    torch.testing.assert_close(model.encode(model.decode(z, y), y), z, rtol=0, atol=100 * most)
    assert torch.equal(model.encode(x, 1 - y), z) == (classes == 1)


def test_pixels_at_the_ends_come_back_as_they_were_and_can_move():
    x, y = data()
    model = flow(transforms=2)
    z = model.encode(x, y).requires_grad_()
    back = model.decode(z, y)
    ends = (x == 0) | (x == 1)
    assert ends.sum() > 48
    assert torch.equal(back[ends], x[ends])
    (gradient,) = torch.autograd.grad(back[0, 0, 1, 2], z)
    assert gradient[0].abs().max() > 0


def test_with_couplings_that_do_nothing_it_is_the_logit_of_centers_of_grey_levels():
    x, y = data()
    model = flow().double()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    grey = 255 * x.double().flatten(1)
    torch.testing.assert_close(model.encode(x.double(), y), logit(0.05 + 0.9 * (grey + 0.5) / 256))


def jacobian(model: FlowManifold, x: Tensor, y: Tensor) -> Tensor:
    """Of codes by pixels, (D, D), of one image."""
    return torch.autograd.functional.jacobian(lambda v: model.encode(v.view(1, *SHAPE), y[None])[0], x.flatten())


@pytest.mark.parametrize("classes", [1, 2])
def test_the_density_is_that_of_the_jacobian(classes):
    x, y = data()
    model = flow(num_classes=classes).double()
    found = model.log_prob(x.double(), y)
    for i in range(len(x)):
        z = model.encode(x[i : i + 1].double(), y[i : i + 1])
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        wanted = normal + torch.linalg.slogdet(jacobian(model, x[i].double(), y[i])).logabsdet
        torch.testing.assert_close(found[i], wanted)


def test_bits_are_those_of_noisy_grey_levels():
    x, y = data()
    model = flow(seed=3).double()
    noise = Noise.of(x, 3, 5).uniform((12,)).view_as(x)
    # Encoding is at the center of a grey level: the noise moves it by (u - 1/2) / 255.
    wanted = -model.log_prob(x.double() + (noise - 0.5) / 255, y) / (12 * math.log(2)) + math.log2(255)
    torch.testing.assert_close(model.bits_per_dim(x, y, epoch=5), wanted)
    assert not torch.equal(model.bits_per_dim(x, y, epoch=5), model.bits_per_dim(x, y, epoch=6))
    # The density of grey levels that all have the same probability takes 8 bits: no model does better on noise.
    uniform = torch.randint(256, (4000, *SHAPE), generator=torch.Generator().manual_seed(1)) / 255
    plain = flow(transforms=1).double()
    with torch.no_grad():
        for p in plain.parameters():
            p.zero_()
    t = (255 * uniform + Noise.of(uniform, 0, -1).uniform((12,)).view_as(uniform)).flatten(1).double() / 256
    p = 0.05 + 0.9 * t
    ratio = torch.distributions.Normal(0.0, 1.0).log_prob(logit(p)) - torch.log(p * (1 - p) / 0.9)
    bits = plain.bits_per_dim(uniform, torch.zeros(4000, dtype=torch.int64))
    torch.testing.assert_close(bits, 8 - ratio.mean(1) / math.log(2))
    assert bits.mean() > 8


def test_training_makes_images_likely_and_keeps_codes_exact(tmp_path):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(128) % 2
    level = torch.rand(128, 1, 1, 1, generator=generator) * 0.3 + 0.5 * y.view(-1, 1, 1, 1)
    x = ((level + 0.05 * torch.rand(128, *SHAPE, generator=generator)) * 255).round() / 255
    torch.manual_seed(0)
    model = FlowManifold(SHAPE, num_classes=2, transforms=4, hidden=(16,), lr=0.02)
    before = model.bits_per_dim(x, y).mean()
    trainer = fit(model, x, y, tmp_path, size=32, max_epochs=10)
    after = model.bits_per_dim(x, y).mean()
    # Independent pixels that know their class take log2(90) bits.
    assert after < before - 2
    assert after < math.log2(90) - 0.5
    torch.testing.assert_close(trainer.callback_metrics["val/bits_per_dim"], after.detach(), rtol=1e-4, atol=0)
    assert trainer.callback_metrics["val/rec_mse"] < 1e-8
    assert trainer.callback_metrics["train/bits_per_dim"] < 7
    z = model.encode(x, y)
    torch.testing.assert_close(model.decode(z, y), x, rtol=0, atol=1e-4)
    low, high = model.bounds
    torch.testing.assert_close(torch.stack([low, high]), torch.stack([z.amin(0), z.amax(0)]), rtol=1e-4, atol=1e-4)
    assert (model.log_prob(x, y) > model.log_prob(x, 1 - y)).float().mean() > 0.8


def test_training_is_adam_on_the_bits(tmp_path):
    x, y = data()
    model, plain = flow().double(), flow().double()
    fit(model, x.double(), y, tmp_path, precision="64-true")
    adam = torch.optim.Adam(plain.parameters(), lr=0.001)
    for epoch in range(2):
        adam.param_groups[0]["lr"] = 0.001 * 0.9**epoch
        for i in range(0, 16, 8):
            loss = plain.bits_per_dim(x[i : i + 8].double(), y[i : i + 8], epoch).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_checkpoint_has_all(tmp_path):
    x, y = data()
    model = flow()
    trainer = fit(model, x, y, tmp_path)
    trainer.save_checkpoint(tmp_path / "flow.ckpt")
    torch.manual_seed(5)  # other halves and weights, before they are loaded
    loaded = FlowManifold.load_from_checkpoint(tmp_path / "flow.ckpt", weights_only=True)
    assert torch.equal(loaded.encode(x, y), model.encode(x, y))
    assert torch.equal(torch.stack(loaded.bounds), torch.stack(model.bounds))
    assert trainer.test(model, DataLoader(TensorDataset(x, y), 8), verbose=False)[0]["test/bits_per_dim"] > 0


def test_half_precision_outside_does_not_reach_it():
    x, y = data()
    model = flow()
    z = model.encode(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(x, y), z)
        assert torch.equal(model.decode(z, y), model.decode(z, y).float())
    torch.testing.assert_close(model.decode(z, y), x, rtol=0, atol=1e-4)


def test_an_attack_along_the_flow():
    x, y = data(64)
    x = 0.3 + 0.4 * x
    model = flow(bound=20.0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    outcome = PGD(Threat(Linf(0.1), LatentSpace(model)), steps=3).run(net, x, y)
    loss = [torch.nn.functional.cross_entropy(net(v), y) for v in (x, outcome.x_adv)]
    assert loss[1] > loss[0]
    # An image that was not cut has the code that the attack gave it.
    inside = ((outcome.x_adv > 0) & (outcome.x_adv < 1)).flatten(1).all(1)
    assert inside.sum() > 10
    found, wanted = model.encode(outcome.x_adv, y), model.encode(x, y) + outcome.delta
    torch.testing.assert_close(found[inside], wanted[inside], rtol=1e-3, atol=1e-3)


def test_without_zuko_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ModuleNotFoundError, match=r"lightning-robust\[flow\]"):
        FlowManifold(SHAPE)


def test_wrong_arguments():
    for shape in ((1, 1, 1), (4, 4)):
        with pytest.raises(ValueError, match="`image_shape`"):
            FlowManifold(shape)
    x, y = data()
    with pytest.raises(ValueError, match=r"`y` to be labels of shape \(16,\) from 0 to 1, but got 1 to 2"):
        flow().encode(x, y + 1)
