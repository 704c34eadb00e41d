"""Principal components against the eigenvalues, scikit-learn, and what no other subspace can do better."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_robust.datamodules import TensorDataModule
from lightning_robust.datamodules.reconstructed import ReconstructedDataModule
from lightning_robust.manifolds import PCAManifold

SHAPE = (1, 4, 5)


def images(n: int, seed: int = 0) -> Tensor:
    """Images whose pixels depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    return torch.sigmoid(torch.randn(n, 20, generator=generator, dtype=torch.float64) @ mix / 4).view(-1, *SHAPE)


def labels(n: int, classes: int = 3) -> Tensor:
    return torch.arange(n) % classes


@pytest.mark.parametrize("n", [200, 20, 12], ids=["more images than pixels", "as many", "fewer"])
def test_the_error_is_the_sum_of_the_eigenvalues_left_out(n):
    x = images(n)
    manifold = PCAManifold(SHAPE, 6, clamp=False).double().fit(x)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.flatten(1).T, correction=0)).flip(0)
    torch.testing.assert_close(manifold.variances[0], eigenvalues[:6])
    torch.testing.assert_close(manifold.total, eigenvalues.sum()[None])
    error = (manifold.decode(manifold.encode(x)) - x).flatten(1).square().sum(1).mean()
    torch.testing.assert_close(error, eigenvalues[6:].sum())
    torch.testing.assert_close(manifold.explained_variance_ratio[0].sum(), 1 - error / eigenvalues.sum())


@pytest.mark.parametrize("n", [200, 12])
def test_it_is_that_of_scikit_learn(n):
    x = images(n)
    manifold, other = PCAManifold(SHAPE, 6, clamp=False).double().fit(x), PCA(6, whiten=True).fit(x.flatten(1).numpy())
    signs = (manifold.directions[0] * torch.from_numpy(other.components_)).sum(1)
    torch.testing.assert_close(signs.abs(), torch.ones(6, dtype=torch.float64))
    theirs = torch.from_numpy(other.transform(x.flatten(1).numpy())) * (n / (n - 1)) ** 0.5 * signs
    torch.testing.assert_close(manifold.encode(x), theirs, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        manifold.explained_variance_ratio[0], torch.from_numpy(other.explained_variance_ratio_), rtol=1e-6, atol=0
    )
    back = torch.from_numpy(other.inverse_transform(other.transform(x.flatten(1).numpy())))
    torch.testing.assert_close(manifold.decode(manifold.encode(x)).flatten(1), back)


def test_codes_are_standardised_and_fill_the_bounds():
    x = images(100)
    manifold = PCAManifold(SHAPE, 5).fit(x.float())
    z = manifold.encode(x.float())
    torch.testing.assert_close(z.mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(5), rtol=1e-4, atol=0)
    low, high = manifold.bounds
    torch.testing.assert_close(torch.stack([low, high]), torch.stack([z.amin(0), z.amax(0)]))


@pytest.mark.parametrize("n", [200, 7])
def test_with_all_dimensions_it_is_exact_for_any_image(n):
    x = images(n)
    x[:, :, 0, 0] = 0.5  # a pixel that does not vary, and with 7 images many directions
    manifold = PCAManifold(SHAPE, 20).double().fit(x)
    new = torch.rand(30, *SHAPE, dtype=torch.float64)
    new[0], new[1] = 0, 1
    back = manifold.decode(manifold.encode(new))
    torch.testing.assert_close(back, new, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        manifold.directions[0] @ manifold.directions[0].T, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-9
    )
    low, high = manifold.bounds
    assert (high - low).amin() < 1e-9
    assert torch.isfinite(manifold.encode(new)).all()


def test_a_class_has_the_components_of_its_own_images():
    x, y = images(90), labels(90)
    manifold = PCAManifold(SHAPE, 4, num_classes=3).double().fit(x, y)
    z = manifold.encode(x, y)
    for k in range(3):
        alone = PCAManifold(SHAPE, 4).double().fit(x[y == k])
        torch.testing.assert_close(z[y == k], alone.encode(x[y == k]))
        torch.testing.assert_close(manifold.decode(z, y)[y == k], alone.decode(z[y == k]))
    low, high = manifold.bounds
    torch.testing.assert_close(torch.stack([low, high]), torch.stack([z.amin(0), z.amax(0)]))


def test_the_cut_makes_images_and_brings_them_nearer():
    x = (images(100) * 3 - 1).clamp(0, 1)
    cut, plain = PCAManifold(SHAPE, 4).double().fit(x), PCAManifold(SHAPE, 4, clamp=False).double().fit(x)
    image, point = cut.decode(cut.encode(x)), plain.decode(plain.encode(x))
    assert image.min() >= 0
    assert image.max() <= 1
    assert point.min() < 0
    assert point.max() > 1
    assert ((image - x).abs() <= (point - x).abs() + 1e-12).all()
    torch.testing.assert_close(image, point.clamp(0, 1))
    data = TensorDataModule((x[:50].float(), labels(50)), (x[50:].float(), labels(50)), val_size=10)
    batch = next(iter(ReconstructedDataModule(data, cut.float()).train_dataloader()))
    assert batch[0].shape[1:] == SHAPE


def test_many_images_are_taken_in_parts(monkeypatch):
    x, y = images(60), labels(60)
    whole = PCAManifold(SHAPE, 5, num_classes=3).double().fit(x, y)
    monkeypatch.setattr("lightning_robust.manifolds.pca._CHUNK", 7)
    parts = PCAManifold(SHAPE, 5, num_classes=3).double().fit(x, y)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)


def test_what_cannot_be_fitted_is_refused():
    manifold = PCAManifold(SHAPE, 4, num_classes=3)
    x, y = images(9).float(), labels(9)
    assert manifold.bounds is None
    for use in (manifold.encode, lambda x, y: manifold.decode(x.flatten(1)[:, :4], y)):
        with pytest.raises(RuntimeError, match="Call `fit"):
            use(x, y)
    with pytest.raises(RuntimeError, match="Call `fit"):
        _ = manifold.explained_variance_ratio
    with pytest.raises(ValueError, match=r"each class at least once, but got none of \[1\]"):
        manifold.fit(x[y != 1], y[y != 1])
    with pytest.raises(ValueError, match=r"`y` to be labels of shape.* from 0 to 2, but got -1 to 1"):
        manifold.fit(x, y - 1)
    with pytest.raises(ValueError, match=r"`y` to be labels .* but got torch.float32"):
        manifold.fit(x, y + 0.5)
    with pytest.raises(TypeError, match="argument `y`"):
        manifold.fit(x)
    with pytest.raises(ValueError, match="floats of shape"):
        manifold.fit(x[:, :, 1:], y)
    with pytest.raises(ValueError, match="floats of shape"):
        manifold.fit((x * 255).byte(), y)
    with pytest.raises(ValueError, match="finite"):
        manifold.fit(x / 0, y)
    with pytest.raises(ValueError, match=r"`latent`.* at most 20"):
        PCAManifold(SHAPE, 21)
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        PCAManifold((4, 5), 2)


def test_a_range_that_the_cut_would_change_is_refused():
    x = 4 * images(60) - 2
    with pytest.raises(ValueError, match=r"`x` to be images in \[0, 1\]"):
        PCAManifold(SHAPE, latent=3).fit(x)
    manifold = PCAManifold(SHAPE, latent=20, clamp=False).fit(x)
    torch.testing.assert_close(manifold.decode(manifold.encode(x)), x.float(), rtol=0, atol=1e-4)
