"""Each learned manifold of the table on a few images: learned, kept, read back."""

from functools import partial

import pytest
import torch

from lightning_robust.cells import cell_folder
from lightning_robust.datamodules import TensorDataModule
from lightning_robust.manifolds import VAEGAN, FlowManifold, PCAManifold, Residual
from lightning_robust_studies.stutz2019 import learned
from lightning_robust_studies.stutz2019.data import DATA, ManifoldData
from lightning_robust_studies.stutz2019.kinds import KINDS, along, weights_of
from lightning_robust_studies.stutz2019.learned import MANIFOLDS, inside, learn_manifold, load_manifold, reconstructed
from lightning_robust_studies.stutz2019.settings import LearnedSettings

LEARNERS = {"vaegan": VAEGAN, "pca": PCAManifold, "flow": FlowManifold}


@pytest.fixture(scope="module")
def images():
    return torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3


@pytest.fixture
def settings(images, monkeypatch, tmp_path):
    x, y = images
    data = partial(TensorDataModule, train=(x, y), test=(x[:30], y[:30]))
    module = lambda *, root, val_size, **options: data(val_size=15, **options)  # noqa: E731
    source = ManifoldData(module=module, classes=tuple("abc"), image_shape=(1, 4, 4), latent=2)
    monkeypatch.setitem(DATA, "mnist", source)
    return LearnedSettings(out=str(tmp_path), data="mnist", manifold_size=75, manifold_epochs=1, manifold_width=1 / 16)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read_back_is_what_was_learned(name, settings, images, tmp_path):
    kind, (x, y) = KINDS[name], images
    folder = cell_folder(tmp_path / MANIFOLDS, {"manifold": weights_of(name), "seed": 1})
    folder.mkdir(parents=True)
    rows = learn_manifold(weights_of(name), settings, folder, seed=1)
    metrics = {row["metric"]: row["value"] for row in rows}
    assert {"rec_mse", "code_mean", "code_var", "code_within_2"} <= set(metrics)
    assert 0 <= metrics["class read from codes"] <= 1
    assert ("bits_per_dim" in metrics) == (kind.learner == "flow")
    manifold = load_manifold(settings, name, seed=1)
    assert not any(weight.requires_grad for weight in manifold.parameters())
    inner = manifold if kind.around is None else manifold.manifold
    assert isinstance(manifold, Residual) == (kind.around is not None)
    assert type(inner) is LEARNERS[kind.learner]
    assert inner.num_classes == (3 if kind.per_class or kind.conditional else 1)
    if kind.learner == "vaegan":
        assert len(inner.decoder.members) == (3 if kind.per_class else 1)
        assert (inner.adversary is None) == (kind.confusion == 0)
    decoded, code = reconstructed(manifold, x, y)
    if kind.around is not None or kind.learner == "flow":
        torch.testing.assert_close(decoded, x, atol=1e-4, rtol=0)
    else:
        assert float((decoded - x).square().mean()) == pytest.approx(metrics["rec_mse"], rel=0.5)
    assert inside(manifold, code[0]).shape == (90,)


def test_names_are_those_of_the_paper_and_no_two_are_equal():
    names = [along(name) for name in KINDS]
    assert names[:2] == ["on-learned-class", "on-learned-data"]
    assert len(set(names)) == len(names)


def test_another_seed_is_another_manifold(settings):
    first, again, second = (learned.new_manifold("class", settings, seed).state_dict() for seed in (0, 0, 1))
    name = next(name for name, value in first.items() if value.ndim == 4)
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], second[name])


def test_codes_beyond_the_bounds_do_not_count(settings):
    manifold = learned.new_manifold("data", settings)
    assert inside(manifold, torch.tensor([[0.0, 2.0], [-2.1, 0.0], [0.0, 0.0]])).tolist() == [True, False, True]
