import numpy as np
import pytest
import torch

from lightning_robust_studies.stutz2019.plots.arrays import finite, shaped


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]],
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.bfloat16),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_every_kind_of_input_becomes_plain_float64(values):
    plain = finite("matrix", values, "AB")
    assert plain.dtype == torch.float64
    assert not plain.requires_grad
    assert plain.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_python_floats_keep_their_precision():
    assert finite("x", [0.1, 1.0 + 2.0**-40], "N").tolist() == [0.1, 1.0 + 2.0**-40]


def test_only_shaped_lets_nan_pass():
    assert shaped("x", [float("nan"), 1.0], "N").isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match="argument `x` to be finite, but got nan"):
        finite("x", [1.0, float("nan")], "N")
    with pytest.raises(ValueError, match="argument `x` to be finite, but got -inf"):
        finite("x", torch.tensor([-torch.inf]), "N")


@pytest.mark.parametrize(
    ("values", "letters", "message"),
    [
        ([[1.0]], "N", r"`x` to have shape \(N,\), none 0, but got \(1, 1\)"),
        ([1.0], "AB", r"`x` to have shape \(A, B\), none 0, but got \(1,\)"),
        ([], "N", r"but got \(0,\)"),
    ],
)
def test_another_shape_is_refused(values, letters, message):
    with pytest.raises(ValueError, match=message):
        finite("x", values, letters)
