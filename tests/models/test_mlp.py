from torch import nn

from lightning_robust.models import mlp


def test_batch_norm_comes_after_relu():
    kinds = [type(m) for m in mlp(hidden=(8, 4))]
    block = [nn.Linear, nn.ReLU, nn.BatchNorm1d]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear]
    assert [type(m) for m in mlp(hidden=())] == [nn.Flatten, nn.Linear]  # a linear classifier
