"""One network that is told the class, against the same network on inputs that hold it."""

import pytest
import torch
from torch import nn

from lightning_robust.manifolds._given_class import GivenClass

Y = torch.tensor([2, 0, 2, 1])


def test_vectors_get_one_entry_for_each_class():
    network, z = nn.Linear(2 + 3, 4), torch.randn(4, 2)
    weight, bias = network.weight, network.bias
    want = torch.stack([weight[:, :2] @ row + weight[:, 2 + int(k)] + bias for row, k in zip(z, Y, strict=True)])
    torch.testing.assert_close(GivenClass(network, 3)(z, Y), want)


def test_images_get_the_plane_of_their_class():
    given, x = GivenClass(nn.Identity(), 3, (4, 5)), torch.rand(4, 2, 4, 5)
    seen = given(x, Y)
    assert seen.shape == (4, 3, 4, 5)
    assert torch.equal(seen[:, :2], x)
    assert torch.equal(seen[0, 2], seen[2, 2])
    assert not torch.equal(seen[0, 2], seen[1, 2])
    seen.sum().backward()
    (plane,) = given.parameters()
    assert plane.grad[:, 0].tolist() == [1, 1, 2]


def test_a_batch_of_any_size_and_half_precision():
    given = GivenClass(nn.Linear(5, 4), 3)
    assert given(torch.randn(0, 2), Y[:0]).shape == (0, 4)
    assert given.bfloat16()(torch.randn(4, 2).bfloat16(), Y).dtype is torch.bfloat16


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
@pytest.mark.parametrize("size", [None, (4, 4)])
def test_labels_out_of_range_are_refused(labels, size):
    x = torch.zeros(2, 1) if size is None else torch.zeros(2, 1, *size)
    with pytest.raises(ValueError, match=r"Expected argument `y` to be labels of shape .* from 0 to 2"):
        GivenClass(nn.Identity(), 3, size)(x, torch.tensor(labels))
