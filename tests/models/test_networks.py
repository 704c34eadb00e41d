"""What holds for every network: one list, all tests."""

import jsonargparse
import pytest
import torch
from torch import nn

from lightning_robust.models import madry_mnist, madry_resnet, mlp, preact_resnet18, resnet, standard_net, vgg

# name, factory, image shape, number of parameters (the papers' where they tell, else counted by hand)
NETWORKS = [
    ("standard_net", standard_net, {}, (1, 28, 28), 100_262),
    ("standard_net", standard_net, {"in_channels": 3, "num_classes": 2, "image_size": (56, 48)}, (3, 56, 48), 196_622),
    ("mlp", mlp, {}, (1, 28, 28), 152_330),
    ("resnet", resnet, {}, (1, 28, 28), 2_776_522),
    ("resnet", resnet, {"in_channels": 3, "num_classes": 2, "units": (3, 3, 3)}, (3, 56, 48), 4_325_698),
    ("vgg", vgg, {}, (1, 28, 28), 15_014_922),
    ("madry_mnist", madry_mnist, {}, (1, 28, 28), 3_274_634),
    ("madry_resnet", madry_resnet, {}, (3, 32, 32), 464_154),
    ("madry_resnet", madry_resnet, {"filters": (16, 64, 128, 256)}, (3, 32, 32), 7_357_146),
    ("madry_resnet", madry_resnet, {"filters": (16, 160, 320, 640), "units": 1}, (3, 32, 32), 7_176_794),
    ("preact_resnet18", preact_resnet18, {}, (3, 32, 32), 11_172_170),
]
every = pytest.mark.parametrize(
    ("name", "make", "kwargs", "shape", "count"), NETWORKS, ids=[f"{n[0]}-{i}" for i, n in enumerate(NETWORKS)]
)


@every
def test_parameters_logits_and_gradient(name, make, kwargs, shape, count):
    torch.manual_seed(0)
    network = make(**kwargs)
    assert sum(p.numel() for p in network.parameters()) == count
    x = torch.rand(2, *shape, requires_grad=True)
    logits = network(x)
    assert logits.shape == (2, kwargs.get("num_classes", 10))
    (g,) = torch.autograd.grad(logits.square().sum(), x)
    assert g.isfinite().all()
    assert (g != 0).float().mean() > 0.5


@every
def test_samples_do_not_see_each_other_in_eval_mode(name, make, kwargs, shape, count):
    torch.manual_seed(0)
    network = make(**kwargs).eval()
    x = torch.rand(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-3, atol=1e-4)


@every
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_comes_from_a_command_line(name, make, kwargs, shape, count):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=nn.Module)
    init = {k: list(v) if isinstance(v, tuple) else v for k, v in kwargs.items()}
    config = parser.parse_object({"network": {"class_path": f"lightning_robust.models.{name}", "init_args": init}})
    network = parser.instantiate_classes(config).network
    assert [p.shape for p in network.parameters()] == [p.shape for p in make(**kwargs).parameters()]
