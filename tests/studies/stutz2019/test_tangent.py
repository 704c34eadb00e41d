from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from lightning_robust_studies.stutz2019.tangent import NeighbourTangent, orthonormal

RANDOM = torch.Generator().manual_seed(0)


def test_orthonormal_is_the_q_of_a_qr_decomposition_where_columns_are_independent():
    vectors = torch.randn(4, 30, 7, generator=RANDOM, dtype=torch.float64)
    q, r = np.linalg.qr(vectors.numpy())
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    torch.testing.assert_close(orthonormal(vectors), torch.from_numpy(q))


def test_dependent_columns_add_nothing_to_the_span():
    vectors = torch.randn(5, 30, 3, generator=RANDOM, dtype=torch.float64)
    vectors = torch.stack([vectors[:, :, 0], 0 * vectors[:, :, 0], vectors[:, :, 0], *vectors.unbind(2)[1:]], dim=2)
    q = orthonormal(vectors)
    u, s, _ = torch.linalg.svd(vectors, full_matrices=False)
    u = torch.where((s > 1e-9)[:, None], u, 0.0)
    torch.testing.assert_close(q @ q.mT, u @ u.mT)
    assert (q.norm(dim=1) > 0).sum(1).tolist() == [3] * 5


def test_neighbours_are_those_of_another_implementation():
    images = torch.rand(200, 3, 4, 5, generator=RANDOM)
    x = images[:20] + 0.05 * torch.rand(20, 3, 4, 5, generator=RANDOM)
    tangent = NeighbourTangent.fit(images, components=8, neighbours=6)
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
    tangent = NeighbourTangent.fit(images, components=4, neighbours=9)
    x = images[:30]
    x_adv = x + 0.3 * torch.randn(x.shape, generator=RANDOM, dtype=torch.float64)
    expected = origin + (x_adv.flatten(1) - origin) @ basis @ basis.T
    torch.testing.assert_close(tangent.project(x_adv, x).flatten(1), expected)


def test_a_sample_is_alone_as_in_company():
    images = torch.rand(120, 1, 6, 6, generator=RANDOM)
    tangent = NeighbourTangent.fit(images, components=10, neighbours=12)
    x, x_adv = images[:7], images[:7] + 0.1 * torch.rand(7, 1, 6, 6, generator=RANDOM)
    together = tangent.project(x_adv, x)
    torch.testing.assert_close(tangent.project(x_adv, x, batch_size=2), together)
    torch.testing.assert_close(tangent.project(x_adv[3:4], x[3:4]), together[3:4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": 17}, "Expected argument `components` .* at most 16, but got 17"),
        ({"components": 2, "neighbours": 51}, "Expected argument `neighbours` .* at most 50, but got 51"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeighbourTangent.fit(torch.rand(50, 1, 4, 4), **arguments)


def test_parts_that_do_not_fit_are_refused_by_name():
    good = NeighbourTangent.fit(torch.rand(50, 1, 4, 4), components=3, neighbours=5)
    for name, wrong in (("mean", good.mean[1:]), ("directions", good.directions[1:]), ("codes", good.codes[1:])):
        with pytest.raises(ValueError, match=f"argument `{name}` to be of shape"):
            replace(good, **{name: wrong})
