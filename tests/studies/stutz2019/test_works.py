"""The works of the later stages on attacks whose outcome is made by hand."""

from dataclasses import replace

import pytest
import torch

from lightning_robust.cells import load_artifact
from lightning_robust.manifolds import FontsManifold
from lightning_robust_studies.stutz2019 import trained, works
from lightning_robust_studies.stutz2019.attacks import AttackedImages
from lightning_robust_studies.stutz2019.pictures import picture_figures, plane_of
from lightning_robust_studies.stutz2019.settings import ManifoldSettings

OPTIONS = ManifoldSettings(schemes=("normal",), learned_seeds=0, attacked=60, neighbor_images=100)


@pytest.fixture(scope="module")
def letters():
    """Test images of one letter, their labels and codes."""
    x, y, (theta, font) = trained.test_images(OPTIONS)
    rows = (y == y[0]).nonzero()[:4, 0]
    return x[rows], y[rows], (theta[rows], font[rows])


def outcome(letters, x_adv, hit):
    """The outcome of an attack that hit some of the images."""
    x, y, _ = letters
    fooled = torch.tensor(hit)[None]
    return AttackedImages(
        x=x, y=y, x_adv=x_adv, delta=x_adv - x, right=torch.ones(len(x), dtype=bool), fooled=fooled, first=fooled.int()
    )


@pytest.fixture
def attacked(letters):
    """Off the manifold: pixels that no letter has; on it: the letters a little turned."""
    x, y, (theta, font) = letters
    off = (x + 0.3 * (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.5)).clamp(0, 1)
    manifold = FontsManifold("hard")
    with torch.no_grad():
        on = manifold.decode((theta + 0.05).clamp(*manifold.bounds), y, font)
    return {"off": outcome(letters, off, [True] * 4), "on": outcome(letters, on, [True, True, True, False])}


def test_distances_are_those_of_the_images_that_were_hit(attacked, letters, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "load_model", lambda *args: None)
    monkeypatch.setattr(trained, "test_images", lambda options: letters)
    monkeypatch.setattr(trained, "examples", lambda *args: attacked)
    rows = works.MeasureDistance(OPTIONS)({"n": 100, "scheme": "normal", "seed": 0}, tmp_path)
    value = {(row["threat"], row["manifold"], row["metric"]): row["value"] for row in rows}
    assert set(value) == {
        (threat, *each)
        for threat in ("off", "on")
        for each in (
            ("none", "size"),
            ("true", "tangent share"),
            *((m, metric) for m in ("true", "tangent") for metric in ("distance", "angle")),
        )
    }
    assert {(row["threat"], row["count"]) for row in rows if row["metric"] == "distance"} == {("off", 4), ("on", 3)}
    kept = load_artifact(tmp_path / "examples.pt")
    torch.testing.assert_close(kept["on size"], (attacked["on"].x_adv - letters[0])[:3].flatten(1).norm(dim=1))
    assert value["off", "true", "distance"] > 10 * value["on", "true", "distance"]
    assert value["on", "true", "tangent share"] > 0.4 > 0.1 > value["off", "true", "tangent share"]
    assert value["off", "true", "angle"] > value["on", "true", "angle"]


def test_where_no_image_was_hit_there_is_no_distance(attacked, letters, tmp_path, monkeypatch):
    nothing = outcome(letters, letters[0], [False] * 4)
    monkeypatch.setattr(trained, "load_model", lambda *args: None)
    monkeypatch.setattr(trained, "test_images", lambda options: letters)
    monkeypatch.setattr(trained, "examples", lambda *args: {"off": nothing, "on": nothing})
    assert works.MeasureDistance(OPTIONS)({"n": 100, "scheme": "normal", "seed": 0}, tmp_path) == []
    assert load_artifact(tmp_path / "examples.pt") == {}


def test_three_images_that_both_attacks_hit_make_a_plane(attacked, letters):
    _, y, code = letters
    kept = plane_of(attacked["off"], attacked["on"], code, OPTIONS)
    assert int(kept["class"]) == int(y[0])
    assert kept["group"].bincount()[1:].tolist() == [3, 3, 3]
    assert kept["plane"].shape == (len(kept["group"]), 2)
    assert list(picture_figures(kept, OPTIONS)) == ["embedding"]
    fewer = replace(attacked["off"], fooled=torch.tensor([[True, True, False, True]]))
    assert plane_of(fewer, attacked["on"], code, OPTIONS) == {}


@pytest.mark.parametrize("data", ["fonts", "emnist", "fashion", "mnist", "celeba"])
def test_networks_take_the_images_of_their_data(data):
    options = replace(OPTIONS, data=data)
    for scheme in ("normal", "normal-resnet"):
        net = trained.network(replace(options, resnet_width=4), scheme)
        assert net(torch.rand(2, *options.source.image_shape)).shape == (2, len(options.source.classes))
