import torch
from torch import nn

from lightning_robust.metrics import PerturbationNorm


def test_sums_survive_a_module_in_bfloat16():
    """A sum in bfloat16 would stop at 256: 256 + 1 rounds to 256."""
    module = nn.ModuleDict({"net": nn.Linear(2, 2), "metric": PerturbationNorm(1)})
    metric = module["metric"]
    metric.update(torch.zeros(1, 1), torch.ones(1, 1) / 3)
    before = metric.norm_sum.clone()
    module.to(torch.bfloat16)
    assert module["net"].weight.dtype == torch.bfloat16
    assert metric.norm_sum.dtype == torch.float64
    assert metric.norm_sum == before
    metric.reset()
    for _ in range(300):
        metric.update(torch.zeros(1, 1), torch.ones(1, 1))
    assert metric.norm_sum == 300
    assert metric.compute()["l1_mean"] == 1


def test_states_follow_to_another_device():
    metric = PerturbationNorm(1).to("meta")
    assert metric.norm_sum.device.type == "meta"
    assert metric.total.device.type == "meta"
    assert metric.device.type == "meta"
