"""Attacks on a model that FSDP2 shards, on the CPU in two processes."""

import pytest
import torch
from torch import nn

from lightning_robust.attacks import L2, PGD, Linf
from tests.processes import run_two_ranks

ATTACKS = {"linf": PGD(Linf(0.1), steps=3), "best": PGD(L2(0.3), steps=3, keep="best")}
WRAPPED = {"root": (), "layers": (0, 1, 3)}
"""Which layers are sharded by themselves, besides the root. Where the root owns a layer beside such, torch fails."""

pytestmark = [
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
    ),
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7), reason="torch 2.6 shards on a CPU with an error"
    ),
]


class Attacked(nn.Module):
    """Attacks within its forward, as a step does within that of the strategy."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x, y, attack):
        x_adv = attack.run(self.net, x, y).x_adv
        return x_adv, self.net(x_adv)


def work(folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo")
    x, y = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 2
    results = {}
    for name, attack in ATTACKS.items():
        expected, _ = Attacked()(x, y, attack)
        for wrapped, layers in WRAPPED.items():
            model, mesh = Attacked(), init_device_mesh("cpu", (2,))
            for layer in layers:
                fully_shard(model.net[layer], mesh=mesh)
            fully_shard(model, mesh=mesh)
            x_adv, logits = model(x, y, attack)
            nn.functional.cross_entropy(logits, y).backward()
            trained = all(p.requires_grad and p.grad is not None for p in model.parameters())
            results[f"{name}, {wrapped}"] = (float((x_adv - expected).abs().max()), trained)
        # Here the first forward, which puts the weights together, is that of the attack.
        net = Attacked().net
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
        x_adv = attack(net, x, y)
        nn.functional.cross_entropy(net(x_adv), y).backward()
        trained = all(p.requires_grad and p.grad is not None for p in net.parameters())
        results[f"{name}, first"] = (float((x_adv - expected).abs().max()), trained)
    torch.save(results, folder / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_as_on_the_whole_model(tmp_path):
    run_two_ranks(work, tmp_path, timeout=120)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert results.keys() == {f"{name}, {wrapped}" for name in ATTACKS for wrapped in (*WRAPPED, "first")}
        for difference, trained in results.values():
            assert difference < 1e-5
            assert trained, "the parameters still get gradients"
