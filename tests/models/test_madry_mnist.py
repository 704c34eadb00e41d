import torch
from torch import nn

from lightning_robust.models import madry_mnist


def test_initialisation_of_the_challenge():
    torch.manual_seed(0)
    for module in (m for m in madry_mnist() if isinstance(m, (nn.Conv2d, nn.Linear))):
        assert (module.bias == torch.tensor(0.1)).all()
        assert module.weight.abs().max() <= 0.2
    weight = madry_mnist()[7].weight
    torch.testing.assert_close(weight.std(), torch.tensor(0.0880), rtol=0.01, atol=0)  # a normal cut at 2 deviations
