import pytest
import torch
from torch import nn

from lightning_robust.attacks import divergence
from lightning_robust.objectives._logits import logits_of


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_logits_are_float32_or_better(dtype, expected):
    assert logits_of(nn.Identity(), torch.zeros(2, 3, dtype=dtype)).dtype == expected


def test_a_probability_that_rounds_to_zero_contributes_nothing():
    log_p = torch.tensor([[0.0, 200.0]]).log_softmax(1)  # exp(-200) is zero in float32
    log_q = torch.tensor([[0.5, 0.5]]).log()
    torch.testing.assert_close(divergence(log_q, log_p), torch.tensor([0.5]).log().neg())
    torch.testing.assert_close(divergence(log_p, log_q), torch.tensor([100.0]) + torch.tensor([0.5]).log())
