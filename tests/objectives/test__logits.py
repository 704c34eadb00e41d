import pytest
import torch
from torch import nn

from lightning_robust.objectives._logits import kl_divergence, logits_of


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


def test_divergence_against_torch_distributions():
    z, w = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = torch.distributions.Categorical(logits=z), torch.distributions.Categorical(logits=w)
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(kl_divergence(z.log_softmax(1), w.log_softmax(1)), expected)


def test_a_probability_that_rounds_to_zero_contributes_nothing():
    log_p = torch.tensor([[0.0, 200.0]]).log_softmax(1)  # exp(-200) is zero in float32
    log_q = torch.tensor([[0.5, 0.5]]).log()
    torch.testing.assert_close(kl_divergence(log_p, log_q), torch.tensor([0.5]).log().neg())
    torch.testing.assert_close(kl_divergence(log_q, log_p), torch.tensor([100.0]) + torch.tensor([0.5]).log())
