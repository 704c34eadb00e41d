import math

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from lightning_robust.metrics import PerturbationNorm, perturbation_norm

ORDERS = [1, 2, math.inf]


def pair(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(dtype), torch.rand(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("shape", [(6, 3, 5, 4), (6, 10), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_agrees_with_numpy(p, shape, dtype):
    x, x_adv = pair(shape, dtype)
    reference = np.linalg.norm((x_adv.double() - x.double()).numpy().reshape(6, -1), ord=p, axis=1)
    norms = perturbation_norm(x, x_adv, p)
    assert norms.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(norms.numpy(), reference, rtol=1e-5)

    metric, name = PerturbationNorm(p), {1: "l1", 2: "l2", math.inf: "linf"}[p]
    metric.update(x[:4], x_adv[:4])
    metric.update(x[4:], x_adv[4:])
    result = metric.compute()
    assert list(result) == [f"{name}_mean", f"{name}_max", f"{name}_count"]
    assert result[f"{name}_mean"].item() == pytest.approx(reference.mean(), rel=1e-5)
    assert result[f"{name}_max"].item() == pytest.approx(reference.max(), rel=1e-5)
    assert result[f"{name}_count"] == 6


def test_mixed_precision_inputs_are_compared_in_the_wider_one():
    x, x_adv = torch.zeros(1, 4, dtype=torch.bfloat16), torch.full((1, 4), 0.1)
    assert perturbation_norm(x, x_adv, math.inf).item() == pytest.approx(0.1, rel=1e-6)


def test_mask_keeps_the_successes():
    x, x_adv = pair((8, 5))
    x_adv[0] = math.nan
    mask = torch.tensor([False, True, True, False, True, False, False, True])
    metric = PerturbationNorm(2)
    metric.update(x, x_adv, mask)
    norms = (x_adv - x)[mask].norm(dim=1)
    result = metric.compute()
    torch.testing.assert_close(result["l2_mean"], norms.mean())
    torch.testing.assert_close(result["l2_max"], norms.max())
    assert result["l2_count"] == 4


def test_a_broken_example_shows():
    x, x_adv = pair((8, 5))
    x_adv[3, 2] = math.nan
    metric = PerturbationNorm(2)
    metric.update(x, x_adv)
    metric.update(*pair((8, 5), seed=1))
    assert metric.compute()["l2_mean"].isnan()
    assert metric.compute()["l2_max"].isnan()


def test_orders_in_a_collection_do_not_share_their_states():
    """On the first batch nothing is moved, so the sums of all orders agree; on the second they differ."""
    metrics = MetricCollection(
        {"one": PerturbationNorm(1), "two": PerturbationNorm(2), "inf": PerturbationNorm(math.inf)}
    )
    x = torch.zeros(1, 4)
    metrics.update(x, x)
    metrics.update(x, x + 1)
    result = metrics.compute()
    assert (result["l1_max"], result["l2_max"], result["linf_max"]) == (4, 2, 1)


def test_no_graph_is_kept():
    x, x_adv = pair((4, 5))
    metric = PerturbationNorm(2)
    metric.update(x, x_adv.requires_grad_())
    assert not metric.norm_sum.requires_grad
    assert not metric(x, x_adv)["l2_mean"].requires_grad


@pytest.mark.parametrize("p", [0, 3, -1, math.nan, "2"])
def test_wrong_order(p):
    with pytest.raises((TypeError, ValueError), match=r"argument `p` to be .*, but got"):
        PerturbationNorm(p)
    with pytest.raises((TypeError, ValueError), match="argument `p`"):
        perturbation_norm(torch.zeros(1, 1), torch.zeros(1, 1), p)


@pytest.mark.parametrize(
    ("x", "x_adv", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 3), "`x` to be a floating point tensor .* uint8"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), "`x_adv` to be a floating point tensor .* int64"),
        (torch.zeros(2, 3), torch.zeros(2, 1), r"`x_adv` .* \(2, 3\), but got a float32 tensor of shape \(2, 1\)"),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 3, 1),
            r"`x_adv` .* \(2, 3\), but got a float32 tensor of shape \(2, 3, 1\)",
        ),
        (torch.zeros(2), torch.zeros(2), r"`x` .* \(N, d, \.\.\.\), but got a float32 tensor of shape \(2,\)"),
    ],
)
def test_wrong_data_names_the_argument(x, x_adv, message):
    with pytest.raises(ValueError, match=message):
        PerturbationNorm(2).update(x, x_adv)
