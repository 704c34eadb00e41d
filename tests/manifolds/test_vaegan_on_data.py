"""The VAE-GAN and the schemes of Stutz et al. on each public data set: tiny files in the original formats, one step."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from lightning_robust import PGD, AdversarialTraining, AffineSpace, LatentSpace, Linf, Threat, datamodules
from lightning_robust._affine import IDENTITY, warp
from lightning_robust.datamodules import ImageDataModule, ReconstructedDataModule
from lightning_robust.manifolds import VAEGAN
from lightning_robust.models import RobustClassifier, standard_net
from tests.datamodules import test_celeba
from tests.datamodules.test_vision import digits, written
from tests.manifolds.test_vaegan import trainer

celeba_root = test_celeba.root  # the fixture


class Case(NamedTuple):
    """A data set and the settings of the paper's manifold for it."""

    latent: int
    beta: float | list[float]
    classes: int
    shape: tuple[int, int, int]


DIGITS = (10, (1, 28, 28))
CASES = {
    "EMNISTDigits": Case(10, [2.25, 5.0, *[2.25] * 5, 3.0, 2.25, 2.25], *DIGITS),
    "FashionMNIST": Case(10, 2.75, *DIGITS),
    "MNIST": Case(10, 2.25, *DIGITS),
    "CelebA": Case(25, 3.0, 2, (3, 56, 48)),
}
every_set = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def data(name, tmp_path, request) -> ImageDataModule:
    if name == "CelebA":
        return test_celeba.fetched(request.getfixturevalue("celeba_root"), batch_size=14)
    rng, parts = np.random.default_rng(0), ("train", "t10k")
    if name == "EMNISTDigits":
        parts = ("emnist-digits-train", "emnist-digits-test")
    folder = tmp_path / name.removesuffix("Digits")
    written(folder, {part: digits(rng, size) for part, size in zip(parts, (60, 20), strict=True)})
    return getattr(datamodules, name)(tmp_path, val_size=10, batch_size=50)


def learned(case, kind, data, path):
    """After two epochs, of a sixteenth of the paper's width: one for each class, or one for all data.

    From weights of the paper's deviation of 0.001 a decoder is constant for longer than that.
    """
    torch.manual_seed(0)
    classes, beta = (case.classes, case.beta) if kind == "class" else (1, 3.0)
    options = {"latent": case.latent, "num_classes": classes, "beta": beta}
    vaegan = VAEGAN(case.shape, **options, width=1 / 16, init_std=None)
    before = {name: value.clone() for name, value in vaegan.state_dict().items()}
    run = trainer(path, max_epochs=2)
    run.fit(vaegan, data)
    assert all(value.isfinite() for value in run.callback_metrics.values())
    for network in ("encoder", "decoder", "discriminator"):
        moved = [not torch.equal(v, before[n]) for n, v in vaegan.state_dict().items() if n.startswith(network)]
        assert all(moved), network
    return vaegan


class Recorded(PGD):
    """Keeps the clean batches and its outcomes for them."""

    def run(self, model, x, y, context):
        outcome = super().run(model, x, y, context)
        recorded.append((x.clone(), y.clone(), context.code, outcome))
        return outcome


recorded = []


class Classifier(RobustClassifier):
    """Keeps what it is given to train on."""

    def training_step(self, batch, batch_idx):
        self.x, self.y = batch[0].detach().clone(), batch[1].clone()
        return super().training_step(batch, batch_idx)


def one_step(case, data, threat, path, code=None):
    """One step of adversarial training; returns the clean batch, its codes, and the perturbations of what it saw."""
    torch.manual_seed(1)
    recorded.clear()
    module = Classifier(standard_net(case.shape[0], case.classes, case.shape[1:]), num_classes=case.classes)
    before = [p.detach().clone() for p in module.parameters()]
    run = trainer(path, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    run.callbacks.append(AdversarialTraining(Recorded(threat, steps=3), code=code))
    run.fit(module, data)
    assert run.callback_metrics["train/loss"].isfinite()
    assert not all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    ((x, y, z, outcome),) = recorded
    assert x.shape == (len(y), *case.shape)
    assert torch.equal(module.x, outcome.x_adv)
    assert torch.equal(module.y, y)
    assert module.x.aminmax().min >= 0
    assert module.x.aminmax().max <= 1
    assert outcome.delta.flatten(1).any(1).all()
    return x, y, z, outcome.delta, module.x


@every_set
@pytest.mark.parametrize("kind", ["class", "data"])
def test_learned_manifolds(name, kind, data, tmp_path):
    case = CASES[name]
    vaegan = learned(case, kind, data, tmp_path)
    assert vaegan.sample(4).x.shape == (4, *case.shape)
    low, high = vaegan.bounds
    z = vaegan.encode(*data.tensors("train"))
    torch.testing.assert_close(low, z.amin(0))
    torch.testing.assert_close(high, z.amax(0))

    on_learned = Threat(Linf(0.3), LatentSpace(vaegan))
    # The paper attacks around the codes of the images; on reconstructed images the codes come with the batch.
    for module, code in ((data, None), (ReconstructedDataModule(data, vaegan), 2)):
        x, y, z, delta, x_adv = one_step(case, module, on_learned, tmp_path, code)
        z = vaegan.encode(x, y).detach() if z is None else z
        assert z.shape == (len(y), case.latent)
        assert delta.abs().max() <= 0.3 + 1e-6
        inside = (z >= low) & (z <= high)
        assert inside.any()
        assert ((z + delta >= low - 1e-6) & (z + delta <= high + 1e-6))[inside].all()
        torch.testing.assert_close(x_adv, vaegan.decode(z + delta, y).detach())


@every_set
def test_pixels_and_transformations(name, data, tmp_path):
    case = CASES[name]
    assert (data.num_classes, data.image_shape) == (case.classes, case.shape)
    x, _, _, delta, x_adv = one_step(case, data, Linf(0.3), tmp_path)
    assert delta.abs().max() <= 0.3
    torch.testing.assert_close(x_adv, x + delta)

    x, _, _, delta, x_adv = one_step(case, data, Threat(Linf(0.3), AffineSpace()), tmp_path)
    assert (delta.abs() <= torch.tensor([0.15, 0.15, 0.2, 0.2, 0.15, 0.3]) + 1e-6).all()
    torch.testing.assert_close(x_adv, warp(x, torch.tensor(IDENTITY) + delta))
