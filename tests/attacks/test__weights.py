"""Parameters that a forward writes to are put back, or a warning tells; those that none writes to are not copied."""

import copy
import time
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import evaluate
from lightning_robust.attacks import PGD, Linf, as_attack, scope
from lightning_robust.attacks._weights import Weights
from lightning_robust.objectives import adversarial_loss
from lightning_robust.objectives.awp import weight_perturbation

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
ATTACK = PGD(Linf(0.1), steps=2)
WIDTH = {"small": 8, "large": 1 << 13}


class Teacher(nn.Module):
    """A network and one that follows it as a running average, in the forward (MoCo, BYOL)."""

    def __init__(self, how, width=8):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.student = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        for p in self.teacher.parameters():
            p.zero_()

    def forward(self, x):
        self.follow()
        return self.student(x) + 0 * self.teacher(x)

    @torch.no_grad()
    def follow(self):
        pairs = list(zip(self.teacher.parameters(), self.student.parameters(), strict=True))
        if self.how == "foreach":
            torch._foreach_lerp_([p for p, _ in pairs], [q for _, q in pairs], 0.1)
        for p, q in pairs if self.how != "foreach" else ():
            if self.how == "in place":
                p.mul_(0.9).add_(q, alpha=0.1)
            elif self.how == "copy":
                p.copy_(0.9 * p + 0.1 * q)
            elif self.how == "uncounted":
                p.data.mul_(0.9).add_(q.data, alpha=0.1)
            else:
                p.data = p.data * 0.9 + q.data * 0.1


def weights(model):
    return {name: (p, p.data_ptr(), p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}


def assert_same(model, before):
    after = weights(model)
    assert after.keys() == before.keys()
    for name, (p, *flags, value) in after.items():
        assert p is before[name][0]
        assert flags == list(before[name][1:3])
        assert torch.equal(value, before[name][3]), name


def unchanged(model, run):
    """Assert that parameters stay what they were, bit for bit and in place, and that nothing is warned of."""
    before = weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run()
    assert_same(model, before)


@pytest.mark.parametrize("width", WIDTH.values(), ids=WIDTH)
@pytest.mark.parametrize("how", ["in place", "copy", "foreach", "uncounted", "another"])
def test_a_teacher_that_follows_in_the_forward_moves_by_no_forward_of_an_attack(how, width):
    model = Teacher(how, width)
    for mode in ("eval", "train", "eval"):
        unchanged(model, lambda m=mode: PGD(Linf(0.1), steps=2, mode=m)(model, X, Y))
    unchanged(model, lambda: as_attack(lambda m, x, y: (m(x), x)[1])(model, X, Y))
    unchanged(model, lambda: weight_perturbation(adversarial_loss, model, X, X, Y, 0.01))


def test_an_evaluation_does_not_move_a_teacher():
    model = Teacher("in place")
    before = weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of six samples
        evaluate(model, DataLoader(TensorDataset(X, Y), 3), ATTACK, progress=False)
    assert_same(model, before)


def test_a_teacher_is_put_back_after_an_exception():
    model = Teacher("another")
    before = weights(model)
    with pytest.raises(TypeError), scope(model, X) as ready:
        ready((ready(X), None))
    assert_same(model, before)


class Writes(nn.Module):
    """Writes to its own weight, which is trained."""

    def __init__(self, how, outputs=2):
        super().__init__()
        self.how, self.outputs = how, outputs
        self.linear = nn.Linear(4, outputs)

    def forward(self, x):
        weight = self.linear.weight
        if self.how == "uncounted":
            weight.data.clamp_(-0.1, 0.1)
        elif self.how == "another":
            weight.data = F.normalize(weight.data)
        elif self.how == "parameter":
            self.linear.weight = nn.Parameter(weight.detach() / 2)
        elif self.how:
            with torch.no_grad():
                weight.div_(2)
        return self.linear(x)[:, :2]


@pytest.mark.parametrize("how", ["in place", "uncounted", "another", "parameter"])
def test_small_trained_weights_are_put_back(how):
    model = Writes(how)
    for _ in range(3):
        unchanged(model, lambda: ATTACK(model, X, Y))


@pytest.mark.parametrize("how", ["another", "parameter"])
@pytest.mark.parametrize("late", [False, True])
def test_large_trained_weights_get_their_memory_back(how, late):
    """Also where forwards give other memory in turns, so that the former place could be taken again."""
    model = Writes("" if late else how, 1 << 13)
    for steps in (2, 1, 2, 3):
        unchanged(model, lambda n=steps: PGD(Linf(0.1), steps=n)(model, X, Y))
        model.how = how


@pytest.mark.parametrize("late", [False, True])
def test_large_trained_weights_are_told_of_once_and_put_back_from_then_on(late):
    model = Writes("" if late else "in place", 1 << 13)
    if late:
        unchanged(model, lambda: ATTACK(model, X, Y))
        model.how = "in place"
    with pytest.warns(UserWarning, match=r"wrote to `linear.weight` \(8192, 4\) while an attack ran"):
        ATTACK(model, X, Y)
    for mode in ("eval", "train"):
        unchanged(model, lambda m=mode: PGD(Linf(0.1), steps=2, mode=m)(model, X, Y))


def test_weights_to_which_no_forward_writes_are_not_copied():
    """Trained ones never, if they are large; frozen ones at first, but only where gradients would take as much."""
    trained, frozen = nn.Linear(1 << 8, 1 << 8, bias=False), nn.Linear(1 << 8, 1 << 8, bias=False).requires_grad_(False)
    more = nn.Linear(1 << 8, 1 << 8, bias=False).requires_grad_(False)
    for parts, copies in (([trained], 0), ([frozen], 0), ([trained, frozen, more], 0), ([trained, frozen], 1)):
        held = Weights(parts, training=False)
        assert len(held._copies) == copies
        assert held.put_back() == []
    assert not Weights([trained, frozen], training=False)._copies
    assert len(Weights([trained, frozen], training=True)._copies) == 1


def test_large_quiet_weights_cost_next_to_nothing():
    model = nn.Sequential(*[nn.Linear(2000, 2000).requires_grad_(i == 0) for i in range(2)])

    def seconds():
        start = time.perf_counter()
        Weights(list(model), training=False).put_back()
        return time.perf_counter() - start

    first = seconds()
    assert sorted(seconds() for _ in range(9))[4] < 0.1 * first


def test_parameters_of_all_kinds():
    """Shared ones, those of TorchScript, of inference mode, sparse and expanded ones, and a call with others."""

    class All(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight
            self.script = torch.jit.script(nn.Linear(4, 2))
            self.sparse = nn.Parameter(torch.eye(3).to_sparse(), requires_grad=False)
            self.expanded = nn.Parameter(torch.ones(1).expand(3), requires_grad=False)
            with torch.inference_mode():
                self.odd = nn.Parameter(torch.ones(4), requires_grad=False)
            self.moved = nn.Parameter(torch.zeros(4), requires_grad=False)

        def forward(self, x):
            with torch.no_grad():
                self.moved += 1
            other = {name: p + 1 for name, p in self.one.named_parameters()}
            return self.script(self.two(functional_call(self.one, other, x)))

    model = All()
    before = {name: (p, p.to_dense().clone()) for name, p in model.named_parameters()}
    assert (ATTACK(model, X, Y) != X).any()
    for name, p in model.named_parameters():
        assert p is before[name][0]
        assert torch.equal(p.to_dense(), before[name][1])


def test_tied_weights_are_put_back_in_every_attack():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            self.a.weight.data.mul_(0.9)
            return self.b(self.a(x))

    model = Tied()
    before = model.a.weight.clone()
    for _ in range(3):
        ATTACK(model, X, Y)
        assert torch.equal(model.a.weight, before)
