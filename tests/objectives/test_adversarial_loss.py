import math

import torch
from torch import nn

from lightning_robust.objectives import adversarial_loss


def test_is_the_cross_entropy_of_the_adversarial_view():
    z = torch.tensor([[0.0, math.log(3.0)]])
    loss = adversarial_loss(
        nn.Identity(), torch.full_like(z, torch.nan), z, torch.tensor([0])
    )  # the clean view is not looked at
    torch.testing.assert_close(loss, torch.tensor(math.log(4.0)))
