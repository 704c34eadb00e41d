"""What hooks collect is what it was after an attack, however they hold it."""

import functools

import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Linf

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


class Recorder(nn.Module):
    """A module that is no part of the network, in training mode, with a weight that follows."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, []
        self.register_buffer("total", torch.zeros(()))
        self.mean = nn.Parameter(torch.zeros(()), requires_grad=False)

    def record(self, module, args, output):
        self.calls += 1
        self.seen.append(output.detach())
        self.total += 1
        with torch.no_grad():
            self.mean.mul_(0.9).add_(output.mean(), alpha=0.1)

    def read(self):
        return self.calls, len(self.seen), float(self.total), float(self.mean)


def by_partial(layer):
    def hook(kept, name, module, args, output, *, more):
        kept.append(output)
        more.setdefault(name, []).append(output)

    kept, more = [], {}
    layer.register_forward_hook(functools.partial(hook, kept, "layer", more=more))
    return lambda: (len(kept), len(more.get("layer", ())))


def by_default(layer):
    kept, more = [], set()

    def hook(module, args, output, kept=kept, *, more=more):
        kept.append(output)
        more.add(len(kept))

    layer.register_forward_hook(hook)
    return lambda: (len(kept), len(more))


def by_nonlocal(layer):
    calls, last, kept = 0, None, ()

    def hook(module, args):
        nonlocal calls, last, kept
        calls += 1
        last = args[0]
        kept += (args[0],)

    layer.register_forward_pre_hook(hook)
    return lambda: (calls, id(last), len(kept))


def by_tensor(layer):
    total = torch.zeros(())

    def hook(module, args, output):
        total.add_(1)

    layer.register_forward_hook(hook)
    return lambda: float(total)


def by_decorator(layer):
    kept = []

    def hook(module, args, output):
        kept.append(output)

    @functools.wraps(hook)
    def outer(*args):
        return hook(*args)

    layer.register_forward_hook(outer)
    return lambda: len(kept)


def by_method_of_a_module(layer):
    recorder = Recorder()
    layer.register_forward_hook(recorder.record)
    return recorder.read


def by_a_module_in_a_closure(layer):
    recorders = {"one": Recorder()}
    layer.register_forward_hook(lambda *args: recorders["one"].record(*args))
    return recorders["one"].read


def by_a_metric(layer):
    metric = pytest.importorskip("torchmetrics").MeanMetric()
    layer.register_forward_hook(lambda module, args, output: metric.update(output.detach()))
    return lambda: (metric._update_count, float(metric.mean_value), float(metric.weight))


def in_the_backward(layer):
    kept = []
    layer.register_full_backward_hook(lambda *args: kept.append(args))
    layer.register_full_backward_pre_hook(lambda *args: kept.append(args))
    return lambda: len(kept)


WAYS = [
    by_partial,
    by_default,
    by_nonlocal,
    by_tensor,
    by_decorator,
    by_method_of_a_module,
    by_a_module_in_a_closure,
    by_a_metric,
    in_the_backward,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_what_hooks_hold_is_what_it_was(way, mode):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    read = way(model[0])
    model(X.clone().requires_grad_()).sum().backward()
    before = read()
    for _ in range(2):
        PGD(Linf(0.1), steps=3, mode=mode)(model, X, Y)
        assert read() == before
    model(X.clone().requires_grad_()).sum().backward()
    assert read() != before, "the hook still works"


def test_hooks_of_all_modules():
    kept = []
    handle = nn.modules.module.register_module_forward_hook(lambda *args: kept.append(args))
    try:
        PGD(Linf(0.1), steps=3)(nn.Linear(4, 2), X, Y)
    finally:
        handle.remove()
    assert kept == []


BEGUN: list[bool] = []
RECORD = BEGUN.append  # by a name that is no container: what hooks write to a list is undone


def test_each_forward_begins_with_the_cells_that_the_attack_found():
    state = None

    def hook(module, args):
        nonlocal state
        RECORD(state is None)
        state = args[0]

    model = nn.Linear(4, 2)
    model.register_forward_pre_hook(hook)
    BEGUN.clear()
    PGD(Linf(0.1), steps=3)(model, X, Y)
    assert len(BEGUN) > 2
    assert all(BEGUN)
    assert state is None


def test_a_hook_without_a_value_in_its_closure_is_left_without():
    def make():
        def hook(module, args):
            nonlocal late
            late = args

        if False:
            late = None
        return hook, lambda: late

    hook, read = make()
    model = nn.Sequential(nn.Linear(4, 2))
    model.register_forward_pre_hook(hook)
    PGD(Linf(0.1), steps=3)(model, X, Y)
    with pytest.raises(NameError):
        read()
