import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from lightning_robust_studies.stutz2019.tangent import NeighborTangent

RANDOM = torch.Generator().manual_seed(0)


def test_neighbors_are_those_of_another_implementation():
    images = torch.rand(200, 3, 4, 5, generator=RANDOM)
    x = images[:20] + 0.05 * torch.rand(20, 3, 4, 5, generator=RANDOM)
    tangent = NeighborTangent(images, components=8, neighbors=6)
    flat = images.flatten(1).numpy().astype(np.float64)
    pca = PCA(8, svd_solver="full").fit(flat)
    search = NearestNeighbors(n_neighbors=6).fit(pca.transform(flat))
    expected = search.kneighbors(pca.transform(x.flatten(1).numpy().astype(np.float64)), return_distance=False)
    assert tangent.nearest(x).tolist() == expected.tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_on_a_plane_the_projection_is_onto_the_plane(channels):
    size = channels * 16
    basis = torch.linalg.qr(torch.randn(size, 4, generator=RANDOM, dtype=torch.float64))[0]
    origin = torch.rand(size, generator=RANDOM, dtype=torch.float64)
    images = (origin + torch.randn(300, 4, generator=RANDOM, dtype=torch.float64) @ basis.T).reshape(
        300, channels, 4, 4
    )
    # Nine neighbors in four dimensions depend on each other, and the image itself is among them: a vector of zeros.
    tangent = NeighborTangent(images, components=4, neighbors=9)
    x = images[:30]
    x_adv = x + 0.3 * torch.randn(x.shape, generator=RANDOM, dtype=torch.float64)
    expected = origin + (x_adv.flatten(1) - origin) @ basis @ basis.T
    torch.testing.assert_close(tangent.project(x_adv, x).flatten(1), expected)


def test_the_projection_is_the_least_squares_fit_of_the_neighbors():
    images = torch.rand(50, 1, 6, 6, generator=RANDOM, dtype=torch.float64)
    tangent = NeighborTangent(images, components=10, neighbors=5)
    x, x_adv = images[:3], images[:3] + 0.5 * torch.rand(3, 1, 6, 6, generator=RANDOM, dtype=torch.float64)
    for point, clean, moved, rows in zip(tangent.project(x_adv, x), x, x_adv, tangent.nearest(x_adv), strict=True):
        spanning = (images[rows] - clean).flatten(1).T.numpy()
        weights, *_ = np.linalg.lstsq(spanning, (moved - clean).flatten().numpy(), rcond=None)
        np.testing.assert_allclose((point - clean).flatten(), spanning @ weights, atol=1e-9)


def test_a_sample_is_alone_as_in_company():
    images = torch.rand(120, 1, 6, 6, generator=RANDOM)
    tangent = NeighborTangent(images, components=10, neighbors=12)
    x, x_adv = images[:7], images[:7] + 0.1 * torch.rand(7, 1, 6, 6, generator=RANDOM)
    together = tangent.project(x_adv, x)
    torch.testing.assert_close(tangent.project(x_adv, x, batch_size=2), together)
    torch.testing.assert_close(tangent.project(x_adv[3:4], x[3:4]), together[3:4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": 17}, "Expected argument `components` .* at most 16, but got 17"),
        ({"components": 2, "neighbors": 51}, "Expected argument `neighbors` .* at most 50, but got 51"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeighborTangent(torch.rand(50, 1, 4, 4), **arguments)
