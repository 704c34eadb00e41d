import torch
from torch import nn

from lightning_robust.models import preact_resnet18
from lightning_robust.models.preact_resnet18 import _PreActivationBlock


def test_stages_halve_the_image():
    network = preact_resnet18(width=4).eval()
    x, sides = torch.rand(1, 3, 32, 32), []
    for module in network[:-4]:
        x = module(x)
        sides.append((x.shape[1], x.shape[2]))
    assert sides == [(4, 32)] * 3 + [(8, 16)] * 2 + [(16, 8)] * 2 + [(32, 4), (32, 4), (32, 4)]  # the last is BatchNorm


def test_without_the_last_norm_it_has_the_parameters_of_the_older_form():
    with torch.device("meta"):
        network = preact_resnet18()
    assert isinstance(network[-5], nn.BatchNorm2d)
    older = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network[-5].parameters())
    assert older == 11_171_146
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules()) == 17  # and one linear


def test_shortcut_starts_after_the_activation_only_where_the_shape_changes():
    x = torch.randn(2, 4, 6, 6)
    same, wider = (_PreActivationBlock(4, after, stride).eval() for after, stride in ((4, 1), (8, 2)))
    with torch.no_grad():
        same.residual[-1].weight.zero_()
        wider.residual[-1].weight.zero_()
    torch.testing.assert_close(same(x), x)
    expected = torch.einsum("oi, nihw -> nohw", wider.shortcut.weight[:, :, 0, 0], wider.activate(x)[:, :, ::2, ::2])
    torch.testing.assert_close(wider(x), expected)
