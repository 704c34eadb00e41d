import hashlib
import math
from importlib.resources import files

import numpy as np
import pytest
import torch

from lightning_robust import _fonts
from lightning_robust._affine import IDENTITY
from lightning_robust._fonts import glyph, load_glyphs, render, theta_range


def test_the_data_file():
    glyphs = load_glyphs()
    assert glyphs.images.shape == (1000, 10, 28, 28)
    assert glyphs.images.dtype == torch.uint8
    assert glyphs.family.shape == (1000,)
    assert glyphs.family.unique().tolist() == list(range(360))
    assert load_glyphs(torch.device("cpu")).images is glyphs.images
    # Every glyph has ink.
    assert (glyphs.images.flatten(2).sum(2) > 0).all()


def test_damaged_data_are_refused(monkeypatch):
    monkeypatch.setattr(_fonts, "_SHA256", hashlib.sha256(b"other").hexdigest())
    with pytest.raises(RuntimeError, match="SHA-256"):
        _fonts._load.__wrapped__("cpu")


def test_loading_in_inference_mode_gives_normal_tensors():
    with torch.inference_mode():
        assert not _fonts._load.__wrapped__("cpu").images.is_inference()


def test_notice_and_licences_travel_with_the_data():
    data = files("lightning_robust").joinpath("datamodules/data")
    lines = data.joinpath("fonts_notice.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1001
    header = lines[0].split("\t")
    used = {line.split("\t")[header.index("licence")] for line in lines[1:]}
    texts = {path.name.removesuffix(".txt") for path in data.joinpath("LICENSES").iterdir()}
    assert used <= texts
    assert all(len(path.read_text(encoding="utf-8")) > 300 for path in data.joinpath("LICENSES").iterdir())
    with data.joinpath("fonts.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        assert [line.split("\t")[1] for line in lines[1:]] == arrays["font_family"].tolist()
        assert [line.split("\t")[header.index("licence")] for line in lines[1:]] == arrays["font_licence"].tolist()


def test_ranges_of_the_paper():
    rows = {
        "easy": ([-0.1, -0.1, -0.2, -0.2, 0.9, -math.pi / 6], [0.1, 0.1, 0.2, 0.2, 1.1, math.pi / 6]),
        "moderate": ([-0.2, -0.2, -0.4, -0.4, 0.85, -math.pi / 3], [0.2, 0.2, 0.4, 0.4, 1.15, math.pi / 3]),
        "hard": ([-0.2, -0.2, -0.5, -0.5, 0.75, -math.pi / 2], [0.2, 0.2, 0.5, 0.5, 1.15, math.pi / 2]),
    }
    for difficulty, (low, high) in rows.items():
        bounds = theta_range(difficulty).bounds()
        assert torch.equal(bounds[0], torch.tensor(low))
        assert torch.equal(bounds[1], torch.tensor(high))
    with pytest.raises(ValueError, match=r"`difficulty` to be one of .*, but got 'Hard'"):
        theta_range("Hard")


def test_a_clean_glyph_is_at_the_identity():
    font, y = torch.tensor([0, 412, 999]), torch.tensor([0, 5, 9])
    images = render(torch.tensor([IDENTITY]).expand(3, 6), y, font)
    assert torch.equal(images, glyph(font, y))
    assert torch.equal(images[1, 0], load_glyphs().images[412, 5] / 255)


def test_rendering_agrees_with_a_slow_resampler():
    rng = np.random.default_rng(0)
    low, high = (bound.double().numpy() for bound in theta_range("hard").bounds())
    for _ in range(3):
        theta, font, y = rng.uniform(low, high), int(rng.integers(1000)), int(rng.integers(10))
        image = load_glyphs().images[font, y].double().numpy() / 255
        t_x, t_y, l_x, l_y, s, r = theta
        expected = np.zeros((28, 28))
        for v in range(28):
            for u in range(28):
                x, z = (u - 13.5) / 13.5, (v - 13.5) / 13.5
                x, z = x * np.cos(r) - z * np.sin(r), x * np.sin(r) + z * np.cos(r)
                x, z = s * (x + l_x * z) + t_x, s * (l_y * x + z) + t_y
                column, row = 13.5 * x + 13.5, 13.5 * z + 13.5
                weights = np.maximum(0, 1 - abs(np.arange(28) - row))[:, None] * np.maximum(
                    0, 1 - abs(np.arange(28) - column)
                )
                expected[v, u] = (weights * image).sum()
        theta = torch.from_numpy(theta)[None]
        out = render(theta, torch.tensor([y]), torch.tensor([font]))
        assert out.dtype == torch.float64
        np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-7)
        out = render(theta.float(), torch.tensor([y]), torch.tensor([font]))
        np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-5)


def test_images_are_in_the_unit_interval_and_differentiable():
    low, high = theta_range("hard").bounds()
    theta = (low + (high - low) * torch.rand(200, 6)).requires_grad_()
    y, font = torch.randint(10, (200,)), torch.randint(1000, (200,))
    images = render(theta, y, font)
    assert images.min() >= 0
    assert images.max() <= 1
    (gradient,) = torch.autograd.grad(images.square().sum(), theta)
    assert (gradient.abs().sum(1) > 0).all()


def test_half_precision_codes_are_rendered_in_float32():
    theta = torch.tensor([IDENTITY], dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert render(theta, torch.tensor([0]), torch.tensor([0])).dtype == torch.float32
