"""Stacked networks against the loop over them, in both layouts: outputs, gradients, statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lightning_robust.manifolds.layouts import Padded, Sorted, layout_of
from lightning_robust.manifolds.networks import decoder, discriminator, encoder
from lightning_robust.manifolds.stacked import Stacked

K = 4
SHAPE = (1, 28, 28)
BUILDERS = {
    "encoder": lambda shape: encoder(shape, 5, 1 / 16, init_std=None),
    "decoder": lambda shape: decoder(shape, 5, 1 / 16, init_std=None),
    "discriminator": lambda shape: discriminator(shape, 1 / 16),
}
LABELS = {"mixed": [2, 0, 2, 3, 2, 0, 1], "one missing": [3, 0, 0, 3, 3], "one class": [1, 1, 1], "one sample": [2]}


def make(name: str, shape=SHAPE) -> list[nn.Sequential]:
    """Networks whose statistics are not those of the start."""
    torch.manual_seed(0)
    members = [BUILDERS[name](shape).double() for _ in range(K)]
    for module in (m for member in members for m in member.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(module.running_mean, -0.5, 0.5)
        nn.init.uniform_(module.running_var, 0.5, 2)
        nn.init.uniform_(module.weight, 0.5, 2)
        nn.init.uniform_(module.bias, -0.5, 0.5)
    return members


def inputs(name: str, n: int, shape=SHAPE) -> Tensor:
    x = torch.randn(n, 5) if name == "decoder" else torch.rand(n, *shape)
    return x.double().requires_grad_()


def loop(members: list[nn.Sequential], x: Tensor, y: Tensor) -> Tensor:
    """Each class's samples through its own network: the textbook version."""
    out = None
    for k, member in enumerate(members):
        if (y == k).any():
            part = member(x[y == k])
            out = part.new_zeros(len(x), *part.shape[1:]) if out is None else out
            out = out.index_put((torch.nonzero(y == k)[:, 0],), part)
    return out


@pytest.mark.parametrize("layout", [Sorted, Padded])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", list(BUILDERS))
@pytest.mark.parametrize("labels", list(LABELS))
def test_equals_the_loop_over_classes(layout, training, name, labels):
    members = [member.train(training) for member in make(name)]
    stacked = Stacked(members).train(training)
    y = torch.tensor(LABELS[labels])
    x = inputs(name, len(y))
    want, got = loop(members, x, y), stacked(x, layout(y, K))
    torch.testing.assert_close(got, want)

    weights = torch.randn_like(want)
    own = [dict(member.named_parameters()) for member in members]
    wanted_x = torch.autograd.grad((want * weights).sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad((got * weights).sum(), x, retain_graph=True)[0], wanted_x)
    gradients = torch.autograd.grad((got * weights).sum(), list(stacked.parameters()))
    for (path, _), gradient in zip(stacked.named_parameters(), gradients, strict=True):
        mine = [parameters[path.removeprefix("layers.")] for parameters in own]
        wanted = torch.autograd.grad((want * weights).sum(), mine, retain_graph=True, allow_unused=True)
        wanted = torch.stack([torch.zeros_like(p) if g is None else g for g, p in zip(wanted, mine, strict=True)])
        torch.testing.assert_close(gradient, wanted)

    for path, buffer in stacked.named_buffers():
        wanted = torch.stack([dict(member.named_buffers())[path.removeprefix("layers.")] for member in members])
        torch.testing.assert_close(buffer, wanted)


@pytest.mark.parametrize("layout", [Sorted, Padded])
def test_colour_images_that_are_not_square(layout):
    shape = (3, 56, 48)
    y = torch.tensor([1, 0, 3, 1])
    for name in BUILDERS:
        members = [member.eval() for member in make(name, shape)]
        x = inputs(name, len(y), shape)
        torch.testing.assert_close(Stacked(members).eval()(x, layout(y, K)), loop(members, x, y))


@pytest.mark.parametrize("layout", [Sorted, Padded])
def test_float32_is_within_1e_5_of_the_loop(layout):
    members = [copy.deepcopy(member).float().eval() for member in make("decoder")]
    y = torch.randint(K, (100,), generator=torch.Generator().manual_seed(1))
    z = torch.randn(100, 5)
    got, want = Stacked(members).eval()(z, layout(y, K)), loop(members, z, y)
    assert (torch.sigmoid(got) - torch.sigmoid(want)).abs().max() < 1e-5


@pytest.mark.parametrize("layout", [Sorted, Padded])
@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_autocast(layout, training):
    members = [copy.deepcopy(member).float().train(training) for member in make("decoder")]
    stacked = Stacked(members).train(training)
    y, z = torch.tensor(LABELS["mixed"]), torch.randn(7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        got = stacked(z, layout(y, K))
    assert (torch.sigmoid(got.float()) - torch.sigmoid(loop(members, z, y))).abs().max() < 0.1


@pytest.mark.parametrize("layout", [Sorted, Padded])
def test_a_sample_does_not_depend_on_its_neighbours(layout):
    stacked = Stacked(make("decoder")).eval()
    z, y = torch.randn(7, 5).double(), torch.tensor(LABELS["mixed"])
    together = stacked(z, layout(y, K))
    alone = torch.cat([stacked(z[i : i + 1], layout(y[i : i + 1], K)) for i in range(7)])
    torch.testing.assert_close(together, alone)


def test_labels_out_of_range_are_refused():
    for y in ([0, 4], [-1, 2], [0, 2**62]):
        for layout in (Sorted, Padded):
            with pytest.raises(ValueError, match="Expected labels from 0 to 3"):
                layout(torch.tensor(y), K)
    assert layout_of(torch.tensor([7, 99]), 1).counts == [2]


def test_networks_that_differ_are_refused():
    with pytest.raises(ValueError, match="Expected argument `members`"):
        Stacked([])
    with pytest.raises(ValueError, match="Expected argument `members`"):
        Stacked([nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 3))])
    with pytest.raises(TypeError, match="LSTM"):
        Stacked([nn.Sequential(nn.LSTM(2, 2))])
