"""An evaluation reads its data beside the random streams of the user."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_robust import PGD, Linf, evaluate
from lightning_robust._lightning import pl
from lightning_robust.evaluation._streams import Beside

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


class Augmented(Dataset):
    """Its transforms draw from all streams."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        drawn = float(torch.rand(1)) + np.random.rand() + random.random()  # noqa: NPY002
        return (X[i] + 0.1 * drawn).clamp(0, 1), Y[i]


class Module(pl.LightningDataModule):
    def setup(self, stage):
        self.chosen = torch.randperm(6)[:4]

    def test_dataloader(self):
        return DataLoader(TensorDataset(X[self.chosen], Y[self.chosen]), 2, shuffle=True)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ((X, Y), {}),
        (TensorDataset(X, Y), {}),
        (DataLoader(Augmented(), 2, shuffle=True), {}),
        (DataLoader(Augmented(), 2), {"max_samples": 3}),
        (Module(), {}),
    ],
    ids=["pair", "data set", "loader", "cut", "module"],
)
def test_the_streams_go_on_as_if_nothing_was_read(data, options):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    before = states()
    report = evaluate(model, data, PGD(Linf(0.1), 1), progress=False, **options)
    assert states() == before
    again = evaluate(model, data, PGD(Linf(0.1), 1), progress=False, **options)
    assert report.images.key == again.images.key, "the same state, the same samples in the same order"


def test_other_states_other_orders():
    loader = DataLoader(TensorDataset(torch.arange(50)), 50, shuffle=True)
    orders = []
    for _ in range(2):
        orders += [batch[0].tolist() for batch in Beside().each(loader)]
        torch.rand(1)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))


def test_lazy_layers_are_drawn_from_the_stream_of_the_user():
    weights = []
    torch.manual_seed(0)
    for _ in range(2):
        model = nn.Sequential(nn.LazyLinear(2))
        evaluate(model, (X, Y), PGD(Linf(0.1), 1), progress=False)
        weights.append(model[0].weight.tolist())
    assert weights[0] != weights[1]


def test_the_streams_go_on_after_an_error():
    before = states()

    def draw_and_fail():
        random.random()
        torch.rand(1)
        raise KeyError

    with pytest.raises(KeyError):
        Beside()(draw_and_fail)
    assert states() == before
