import numpy as np
import pytest
import torch

from lightning_robust_studies.stutz2019.plots import embedding, principal_plane

GENERATOR = torch.Generator().manual_seed(5)
DATA = torch.randn(60, 7, generator=GENERATOR, dtype=torch.float64) * torch.tensor([5.0, 4, 3, 2, 1, 1, 1])
MIXED = DATA @ torch.linalg.qr(torch.randn(7, 7, generator=GENERATOR, dtype=torch.float64)).Q + 10.0


def test_variances_are_the_two_largest_eigenvalues_of_the_covariance():
    plane = principal_plane(MIXED)
    covariance = np.cov(plane.T.numpy())
    largest = np.linalg.eigvalsh(np.cov(MIXED.T.numpy()))[::-1][:2]
    np.testing.assert_allclose(covariance, np.diag(largest), atol=1e-9)
    np.testing.assert_allclose(plane.mean(0), [0.0, 0.0], atol=1e-9)


def test_data_in_a_plane_keep_their_distances():
    flat = MIXED[:, :2] @ torch.linalg.qr(torch.randn(7, 2, generator=GENERATOR, dtype=torch.float64)).Q.T - 3.0
    torch.testing.assert_close(torch.pdist(principal_plane(flat)), torch.pdist(flat))


def test_signs_are_those_of_the_largest_entries():
    centred = MIXED - MIXED.mean(0)
    directions = torch.linalg.lstsq(centred, principal_plane(MIXED)).solution.T  # (2, d)
    for direction in directions:
        assert direction[direction.abs().argmax()] > 0


def test_signs_do_not_depend_on_the_order_of_rows_nor_on_the_mean():
    plane = principal_plane(MIXED)
    order = torch.randperm(60, generator=GENERATOR)
    torch.testing.assert_close(principal_plane(MIXED[order] + 7.0), plane[order])
    torch.testing.assert_close(principal_plane(MIXED.flip(0)), plane.flip(0))


def test_of_equally_large_entries_the_first_is_positive():
    steps = torch.arange(-3.0, 4.0, dtype=torch.float64)
    for noise in (1e-9, -1e-9):
        data = torch.stack((-steps, (1.0 + noise) * steps, 1e-3 * steps**2), dim=1)
        assert principal_plane(data)[0, 0] > 0  # the direction is (1, -1, 0) / sqrt 2


def test_any_float_type_and_gradients_are_taken():
    plane = principal_plane(MIXED.float().requires_grad_())
    assert plane.dtype == torch.float64
    assert not plane.requires_grad
    torch.testing.assert_close(plane, principal_plane(MIXED), atol=1e-4, rtol=0)


def test_equal_rows_lie_at_the_origin():
    assert principal_plane(torch.ones(3, 4)).tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(5, 1), r"`data` to have shape \(N, d\), N and d >= 2, but got \(5, 1\)"),
        (torch.zeros(1, 5), "N and d >= 2"),
        (torch.zeros(5, 1, 4, 4), r"`data` to have shape \(N, d\), none 0, but got \(5, 1, 4, 4\)"),
        (torch.full((5, 2), torch.nan), "`data` to be finite, but got nan"),
    ],
)
def test_no_plane_through_bad_data(data, message):
    with pytest.raises(ValueError, match=message):
        principal_plane(data)


def test_points_are_those_of_their_group_and_later_groups_lie_on_top():
    points = torch.rand(30, 2, generator=GENERATOR)
    group = ["data"] * 10 + ["off", "on"] * 10
    figure = embedding(points, group, title="Title", xlabel="first")
    axes = figure.axes[0]
    assert [dots.get_label() for dots in axes.collections] == ["data", "off", "on"]
    for dots in axes.collections:
        mine = [point for point, name in zip(points.tolist(), group, strict=True) if name == dots.get_label()]
        np.testing.assert_allclose(dots.get_offsets(), mine)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["data", "off", "on"]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("Title", "first")
    assert axes.get_aspect() == 1.0
    assert not axes.get_xticks().size


def test_ten_classes_have_distinct_looks():
    labels = torch.arange(10).repeat(3)
    axes = embedding(torch.rand(30, 2, generator=GENERATOR), labels).axes[0]
    assert [dots.get_label() for dots in axes.collections] == [str(k) for k in range(10)]
    assert all(len(dots.get_offsets()) == 3 for dots in axes.collections)
    drawn = {(*dots.get_facecolor()[0], dots.get_paths()[0].vertices.tobytes()) for dots in axes.collections}
    assert len(drawn) == 10


def test_one_point_and_points_on_a_line_are_drawn():
    for points in ([[1.0, 2.0]], [[0.0, 0.0], [0.0, 5.0]], [[0.0, 0.0], [5.0, 0.0]]):
        figure = embedding(points, ["a"] * len(points))
        figure.draw_without_rendering()
        np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), points)


@pytest.mark.parametrize(
    ("points", "group", "message"),
    [
        (torch.zeros(3, 3), ["a"] * 3, r"`points` to have shape \(N, 2\), but got \(3, 3\)"),
        (torch.zeros(3), ["a"] * 3, r"`points` to have shape \(N, 2\), none 0, but got \(3,\)"),
        (torch.full((1, 2), torch.inf), ["a"], "`points` to be finite, but got inf"),
        (torch.zeros(3, 2), ["a"], "`group` to have 3 entries, but got 1"),
    ],
)
def test_bad_arguments_are_refused(points, group, message):
    with pytest.raises(ValueError, match=message):
        embedding(points, group)
