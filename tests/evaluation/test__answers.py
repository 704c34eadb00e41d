"""Questions are put to batch after batch: what is doubted does not depend on the size and the order of batches."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import PGD, Linf, RobustEvaluation, evaluate
from lightning_robust.attacks import margin
from lightning_robust.attacks.attack import NO_CONTEXT
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._answers import _spread
from lightning_robust.evaluation._measured import Measured
from lightning_robust.evaluation._probe import measure
from lightning_robust.evaluation._unbounded import at_any_size
from lightning_robust.evaluation.ledger import Ledger

ATTACK = PGD(Linf(0.05), 3)
X = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Branches(pl.LightningModule):
    """The sum of two networks: no gradient flows through the second one where `frozen(x)` says so."""

    def __init__(self, frozen):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
        self.frozen = frozen

    def forward(self, x):
        second = self.b(x)
        return self.a(x) + torch.where(self.frozen(x), second.detach(), second)

    def test_step(self, batch, batch_idx):
        pass


ALWAYS, NEVER = (lambda x, value=value: torch.full((len(x), 1), value) for value in (True, False))


def right(model, x):
    """Samples that the model gets right."""
    with torch.no_grad():
        return TensorDataset(x, model(x).argmax(1))


def doubts(model, data, **given):
    return {one.name for one in evaluate(model, data, ATTACK, progress=False, **given).flagged}


@pytest.mark.parametrize("size", [1, 3, 60])
@pytest.mark.parametrize(
    ("frozen", "expected"), [(ALWAYS, "foreign_gradient"), (NEVER, None)], ids=["frozen", "honest"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_doubts_do_not_depend_on_the_size_of_batches(size, frozen, expected):
    model = Branches(frozen)
    data = right(model, X if size == 60 else X[:18])
    loader = DataLoader(data, batch_size=size)
    names = set() if expected is None else {expected}
    assert doubts(model, data.tensors, batch_size=size) == names
    assert doubts(model, loader, forward=lambda model, batch: model(batch[0])) == names
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    (found,) = pl.Trainer(accelerator="cpu", callbacks=[RobustEvaluation(ATTACK)], **quiet).test(
        model, loader, verbose=False
    )
    assert found["test/suspicious"] == len(names)


def test_measurements_of_batches_add_up_to_those_of_all_samples():
    """Of networks with bends, of which some samples have no gradient."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model = lambda x: net(torch.where(x.flatten(1)[:, :1, None, None] > 0.6, x.detach(), x))  # noqa: E731
    x, y = X[:12], net(X[:12]).argmax(1)

    def measured(x, y):
        asked = measure(model, x, y, Threat(Linf(0.05)), margin, NO_CONTEXT)
        return asked + at_any_size(model, x, y, Threat(Linf(0.05)), margin, NO_CONTEXT)

    whole = measured(x, y)
    for sizes in ([1] * 12, [5, 7]):
        parts = [measured(*pair) for pair in zip(x.split(sizes), y.split(sizes), strict=True)]
        total = sum(parts, Measured())
        assert total.n == whole.n == 12
        assert total.each.keys() == whole.each.keys()
        for name, values in whole.each.items():
            assert torch.allclose(total.each[name].double(), values.double(), atol=2e-2, equal_nan=True), name
        ours, theirs = total.values(), whole.values()
        assert theirs.keys() - ours.keys() == ({"company"} if sizes[0] == 1 else set())
        of_each = theirs.keys() - {"company", "constant", "random", "grad_mode"}
        assert [ours[name] for name in of_each] == pytest.approx([theirs[name] for name in of_each], abs=2e-2)
    assert 0 < theirs["zero_gradient"] < 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_output_that_is_the_same_in_all_batches_is_constant():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    with pytest.raises(ValueError, match=r"can be evaluated\. The output does not depend on the input"):
        evaluate(model, right(model, X[:4]).tensors, ATTACK, batch_size=1, progress=False)
    same = evaluate(model, right(model, X[:1].expand(4, -1, -1, -1)).tensors, ATTACK, batch_size=1, progress=False)
    assert "constant" not in {one.name for one in same.indicators}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("all_of_it", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_domain_that_is_masked_is_doubted_wherever_it_lies(flip, all_of_it):
    """Two domains, one after the other: of the bright one a branch is frozen, or all."""
    bright = lambda x: x.flatten(1).mean(1, keepdim=True) > 0.5  # noqa: E731
    model = Branches(bright)
    if all_of_it:
        model.forward = lambda x: Branches.forward(
            model, torch.where(bright(x)[..., None, None], x.detach() + 0 * x, x)
        )
    n = 30 if all_of_it else 140  # any sample without a gradient is doubted; of a foreign one most must have it
    light = torch.arange(70 + n)[:, None, None, None] >= 70
    data = right(model, torch.rand(70 + n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.6 * light)
    found = doubts(model, tuple(part.flip(0) if flip else part for part in data.tensors))
    assert ("zero_gradient" if all_of_it else "foreign_gradient") in found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_resumed_evaluation_has_the_doubts_of_one_in_one_go(tmp_path, monkeypatch):
    model = Branches(ALWAYS)
    data = right(model, X[:20]).tensors
    given = {"batch_size": 1, "progress": False}
    add = Ledger.add

    def killed(ledger, events):
        add(ledger, events)
        if any(event.stage == "attack" and event.sample == 9 for event in events):
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data, ATTACK, out=tmp_path, **given)
    monkeypatch.undo()
    resumed = evaluate(model, data, ATTACK, out=tmp_path, **given)
    whole = evaluate(model, data, ATTACK, **given)
    assert "resumed" in resumed.about
    assert resumed.indicators == whole.indicators
    assert {one.name for one in whole.flagged} == {"foreign_gradient"}


@pytest.mark.parametrize("n", [1, 7, 210, 5000])
def test_each_beginning_of_the_order_is_spread_over_the_data(n):
    order = _spread(n)
    assert order[0] == 0
    assert order.sort().values.equal(torch.arange(n))
    for k in {1, (n + 1) // 2, min(n, 64)}:
        ends = torch.cat([torch.tensor([-1]), order[:k].sort().values, torch.tensor([n])])
        assert int(ends.diff().max()) <= 3 * n / k + 1
    period = order[:64] % 10  # such as labels in turn
    assert n < 64 or len(period.unique()) == 10


def test_one_class_for_all_batches_is_no_fault_of_the_attack():
    """Answers of two shapes are not one class."""
    model = lambda x: torch.stack([x.flatten(1).sum(1) + 100, x.flatten(1).sum(1)], 1)  # noqa: E731
    pairs = (X[:1], 0), (X[1:2], 1)
    one, other = (
        at_any_size(model, x, torch.tensor([label]), Threat(Linf(0.1)), margin, NO_CONTEXT) for x, label in pairs
    )
    assert one.values()["unbounded"] == 1.0
    assert (one + other).values().keys() & {"one_class", "unbounded"} == {"one_class"}
    wide = {name: v if v.ndim == 1 else torch.cat([v, v], -1) for name, v in other.each.items()}
    assert "unbounded" in (one + Measured(each=wide)).values()
