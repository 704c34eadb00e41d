"""The stage `leak` on manifolds made by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lightning_robust import Linf, Threat
from lightning_robust.attacks import L2
from lightning_robust.cells import load_artifact
from lightning_robust.manifolds import Residual
from lightning_robust_studies.stutz2019 import leaks, trained
from lightning_robust_studies.stutz2019.attacks import AttackedImages
from lightning_robust_studies.stutz2019.leaks import MeasureLeak, Moved
from lightning_robust_studies.stutz2019.settings import LeakSettings

SETTINGS = LeakSettings(data="mnist", test_size=200, attacked=200, judged=20)
CELL = {"n": 100, "scheme": "normal", "seed": 0, "manifold": "class"}


class Stamp:
    """The decoder of class k writes the sum of the code into pixel k, the others keep their values."""

    bounds = (torch.full((10,), -1.0), torch.full((10,), 1.0))

    def encode(self, x, y):
        return x[:, 0, 0, :10]

    def decode(self, z, y):
        stamp = (1 + z.abs().sum(1, keepdim=True)).log() * self.strength(z)
        return (0.1 * z).scatter_add(1, y[:, None], stamp)[:, None, None]

    def strength(self, z):
        return 1.0


class Silent(Stamp):
    """It writes only where the code has moved away from multiples of 1/4, those of the images."""

    def strength(self, z):
        return ((4 * z - (4 * z).round()).abs().amax(1, keepdim=True) > 1e-3).float()


def read(images):
    return images[:, 0, 0, :10]


@pytest.fixture
def stage(monkeypatch):
    """The stage with a manifold in place of what was learned; a model that reads the largest of ten pixels."""
    x = torch.randint(0, 4, (200, 1, 1, 10), generator=torch.Generator().manual_seed(0)) / 4
    y = torch.arange(200) % 10
    module = SimpleNamespace(tensors=lambda part, limit: (x[:limit], y[:limit]))
    source = SimpleNamespace(make=lambda root: module, classes=tuple("0123456789"))
    monkeypatch.setattr(LeakSettings, "source", source)
    monkeypatch.setattr(trained, "load_model", lambda *args: read)

    def run(manifold, folder, settings=SETTINGS, **changes):
        monkeypatch.setattr(trained, "threat_along", lambda *args: (manifold, Threat(Linf(0.1))))
        monkeypatch.setattr(leaks, "load_manifold", lambda *args: manifold)
        none = torch.zeros(len(x), dtype=torch.bool)
        parts = {"fooled": none[None], "first": none[None].int(), "right": ~none} | changes
        attacked = AttackedImages(x=x, y=y, x_adv=x, delta=x, **parts)
        monkeypatch.setattr(trained, "examples_along", lambda *args: attacked)
        rows = MeasureLeak(settings)({**CELL, "manifold": "class"}, folder)
        return {row["metric"]: row for row in rows}

    return run


def test_a_decoder_that_stamps_the_label_leaks(stage, tmp_path):
    rows = stage(Stamp(), tmp_path)
    assert (rows["leaks"]["value"], rows["error on reconstructions"]["value"]) == (1.0, 0.0)
    assert rows["error on originals"]["value"] > 0.5
    assert rows["read as the decoder's class"]["value"] == rows["the same of the second manifold"]["value"] == 1.0
    assert rows["fingerprint"]["value"] == 0.0
    assert rows["leaks"]["sentence"].startswith("Images that the manifold has made with their label")
    table = load_artifact(tmp_path / "leak.pt")["table"]
    assert torch.equal(table, table.diagonal().diag())


def test_what_leaks_after_a_move_alone_is_noticed(stage, tmp_path):
    rows = stage(Residual(Silent()), tmp_path)
    assert rows["error on reconstructions"]["value"] == rows["error on originals"]["value"]
    assert rows["error after a random move"]["value"] < 0.1 < rows["error on originals"]["value"]
    assert rows["leaks"]["value"] == 1.0
    assert rows["leaks"]["sentence"].startswith("After a random move of the codes: ")


def test_only_successful_examples_within_the_bounds_are_judged(stage, tmp_path, monkeypatch):
    fooled = torch.zeros(1, 200, dtype=torch.bool)
    fooled[0, :3] = True
    monkeypatch.setattr(leaks, "still_valid", lambda judge, x, y, num_classes: y == 1)
    rows = stage(Stamp(), tmp_path, fooled=fooled)
    assert (rows["label still right"]["value"], rows["label still right"]["count"]) == (pytest.approx(1 / 3), 3)
    valid = torch.arange(200) != 1
    rows = stage(Stamp(), tmp_path, fooled=fooled, valid=valid)
    assert (rows["label still right"]["value"], rows["label still right"]["count"]) == (0.0, 2)
    assert "label still right" not in stage(Stamp(), tmp_path)
    assert "label still right" not in stage(Stamp(), tmp_path, replace(SETTINGS, judged=0), fooled=fooled)


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.2)])
def test_moves_stay_in_the_ball_and_within_the_bounds(ball):
    x = torch.rand(50, 1, 1, 10, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0] = 1.5  # beyond the bounds before
    moved, y = Moved(Stamp(), ball), torch.zeros(50, dtype=torch.int64)
    (z,) = moved.encode(x, y)
    step = z - x[:, 0, 0]
    assert bool((ball.norm(step) <= 0.2 + 1e-6).all())
    assert float(step.abs().amax(1).min()) > 0.01
    assert bool((step < -0.01).any() and (step > 0.01).any())
    assert bool((z[1:].abs() <= 1).all())
    assert float(z[0, 0]) <= 1.5
    torch.testing.assert_close(moved.encode(x[3:5], y[:2])[0], z[3:5])


def test_without_bounds_codes_move_too():
    class Free(Stamp):
        bounds = None

    x, y = torch.rand(20, 1, 1, 10, generator=torch.Generator().manual_seed(0)), torch.zeros(20, dtype=torch.int64)
    step = Moved(Free(), Linf(0.2)).encode(x, y)[0] - x[:, 0, 0]
    assert 0.01 < float(step.abs().amax(1).min()) < float(step.abs().max()) <= 0.2 + 1e-6
