import pytest
import torch

from lightning_robust.metrics._checks import check_bool, check_float, counted, describe, has_sizes


@pytest.mark.parametrize(
    ("shape", "sizes", "agrees"),
    [
        ((3, 4), (3, "N"), True),
        ((3, 4), ("V", "N"), True),
        ((2, 4), (3, "N"), False),
        ((3,), (3, "N"), False),
        ((3, 4, 5), (3, "N"), False),
        ((3, 4, 5), ("N", "d", "..."), True),
        ((3, 4), ("N", "d", "..."), True),
        ((3,), ("N", "d", "..."), False),
        ((0, 4), (0, 4), True),
    ],
)
def test_has_sizes(shape, sizes, agrees):
    assert has_sizes(torch.empty(shape), sizes) is agrees


def test_describe():
    assert describe(torch.zeros(2, 0, dtype=torch.bfloat16)) == "a bfloat16 tensor of shape (2, 0)"
    assert describe([1]) == "list [1]"
    assert describe(None) == "NoneType None"


def test_messages_say_argument_expectation_and_value():
    with pytest.raises(ValueError) as error:
        check_bool("mask", torch.ones(3), (3,))
    expected = "Expected argument `mask` to be a boolean tensor of shape (3,), but got a float32 tensor of shape (3,)."
    assert str(error.value) == expected
    with pytest.raises(ValueError) as error:
        check_float("x", 1.0, ("N", "d", "..."))
    expected = "Expected argument `x` to be a floating point tensor of shape (N, d, ...), but got float 1.0."
    assert str(error.value) == expected


def test_all_samples_count_without_a_mask():
    assert counted(None, 3, torch.device("cpu")).tolist() == [True, True, True]
    assert counted(torch.tensor([True, False]), 2, torch.device("cpu")).tolist() == [True, False]
