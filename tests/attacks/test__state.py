"""What an attack puts back besides parameters: buffers that kernels write, attributes, containers, hidden networks."""

import functools
import random
import time
import warnings
from collections import Counter, deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat, as_attack, divergence, log_odds, scope
from lightning_robust.attacks._state import State
from lightning_robust.attacks.scope import modules_in

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
ATTACK = PGD(Linf(0.1), steps=3)


def kept(model, *also):
    """Assert that an attack leaves every buffer what it was, bit for bit and in place."""
    before = {name: (id(b), b.clone()) for m in (model, *also) for name, b in m.named_buffers()}
    for mode in ("eval", "train"):
        PGD(Linf(0.1), steps=3, mode=mode)(model, X, Y)
        after = {name: b for m in (model, *also) for name, b in m.named_buffers()}
        assert after.keys() == before.keys()
        for name, (place, value) in before.items():
            assert id(after[name]) == place
            assert torch.equal(after[name], value), f"{name} moved in mode {mode}"


class Forced(nn.BatchNorm1d):
    """Calls the kernel in training mode, whatever its flag: it writes to the buffers without counting versions."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1, self.eps)


class Unnamed(nn.Module):
    """The same in a class that is no normalization layer of torch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, None, None, True, 0.1)


@pytest.mark.parametrize(
    "layer", [Forced(4), Unnamed(), torch.ao.quantization.FakeQuantize()], ids=lambda m: type(m).__name__
)
def test_kernels_that_write_without_counting(layer):
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2))
    model(X)
    kept(model)


class Grows(nn.Linear):
    """Gives a buffer and an attribute their size in the first forward, as observers do."""

    def __init__(self, size, more):
        super().__init__(4, 2)
        self.register_buffer("seen", torch.zeros(size))
        self.last, self.more = torch.zeros(size), more

    def forward(self, x):
        for tensor in (self.seen, self.last):
            tensor.resize_(len(x) + self.more).fill_(1.0)
        return super().forward(x)


@pytest.mark.parametrize(("size", "more"), [(0, 0), (1, 0), (9, 0), (0, 1 << 15)], ids=["none", "one", "more", "large"])
def test_buffers_that_get_their_size_in_the_first_forward(size, more):
    model = Grows(size, more)
    for _ in range(2):
        kept(model)
        assert torch.equal(model.last, torch.zeros(size))


def test_observers_of_quantization_that_have_seen_nothing_yet():
    part = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    part.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    kept(nn.Sequential(torch.ao.quantization.prepare_qat(part.train()), nn.Linear(4, 2)))


class Queue(nn.Module):
    """Writes to a large buffer once in a while."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("queue", torch.zeros(1 << 17))
        self.writes = False

    def forward(self, x):
        if self.writes:
            self.queue[: len(x)] = x[:, 0].detach()
        return self.linear(x)


def test_a_large_buffer_is_put_back_where_it_is_written_to_from_the_start():
    model = Queue()
    model.writes = True
    for _ in range(3):
        kept(model)


class Codebook(nn.Module):
    """Writes to a large buffer as codebooks and teachers do, without counting: in `.data`, or by another tensor."""

    def __init__(self, how, always):
        super().__init__()
        self.linear, self.how, self.always = nn.Linear(4, 2), how, always
        self.register_buffer("embed", torch.ones(1 << 15))
        self.embed[0] = torch.nan

    def forward(self, x):
        if self.training or self.always:
            if self.how == "in place":
                self.embed.data.mul_(0.5)
            elif self.how == "resized":
                self.embed.data = self.embed.data[:-1] * 0.5
            else:
                self.embed.data = self.embed.data * 0.5
        return self.linear(x)


@pytest.mark.parametrize("always", [True, False], ids=["always", "in training mode"])
@pytest.mark.parametrize("how", ["in place", "another", "resized"])
def test_a_large_buffer_that_is_written_to_without_counting(how, always):
    model = Codebook(how, always)
    place, value = model.embed.data_ptr(), model.embed.clone()
    for mode in ("eval", "train", "eval", "train"):
        PGD(Linf(0.1), steps=2, mode=mode)(model.train(), X, Y)
        assert model.embed.data_ptr() == place
        assert torch.equal(model.embed.nan_to_num(7), value.nan_to_num(7))


def test_a_large_buffer_is_given_its_memory_back_though_it_was_quiet_before():
    model = Codebook("another", False)
    value = model.embed.clone()
    ATTACK(model, X, Y)
    model.always = True
    ATTACK(model, X, Y)
    assert torch.equal(model.embed.nan_to_num(7), value.nan_to_num(7))


def test_a_large_buffer_that_was_quiet_is_only_watched_and_a_late_write_is_told():
    model = Queue()
    kept(model)
    model.writes = True
    with pytest.warns(UserWarning, match=r"wrote to `queue` \(131072,\) while an attack ran"):
        ATTACK(model, X, Y)
    model.queue.zero_()
    kept(model)  # copied from now on


def test_a_late_write_that_is_an_error_leaves_everything_else_as_it_was():
    model = Queue()
    model.register_buffer("counter", torch.zeros(2))
    kept(model)
    model.writes = True

    def forward_in_scope():
        with scope(model) as ready:
            model.counter += 1
            ready(X)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="wrote to `queue`"):
            forward_in_scope()
    assert torch.equal(model.counter, torch.zeros(2))


def test_a_large_quiet_buffer_costs_next_to_nothing():
    """Against the copy of it that a first attack makes."""
    model = nn.Sequential(nn.Linear(4, 2))
    model.register_buffer("table", torch.zeros(1 << 24))

    def seconds():
        start = time.perf_counter()
        with State([model], swap=False):
            pass
        return time.perf_counter() - start

    first = seconds()
    assert sorted(seconds() for _ in range(9))[4] < 0.1 * first


def test_expanded_buffers_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 2))
    model.register_buffer("expanded", torch.zeros(1).expand(5))
    kept(model)


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m.eval(), X)], ids=["script", "trace"])
def test_torchscript_parts(make):
    model = nn.Sequential(make(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))), nn.Linear(4, 2))
    kept(model)
    assert (ATTACK(model, X, Y) != X).any()


def test_frozen_torchscript_has_no_flags():
    part = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()))
    assert (ATTACK(nn.Sequential(part, nn.Linear(4, 2)), X, Y) != X).any()


# Python state


class Spiking(nn.Module):
    """A state between forwards, with its graph or without, in an attribute, in place or in a list."""

    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(4, 2), how
        self.v = torch.zeros(6, 2)
        self.all, self.calls, self.recent, self.by_name = [], 0, deque(maxlen=2), {}

    def forward(self, x):
        out = 0.5 * self.v + self.linear(x)
        if self.how == "in place":
            self.v.copy_(out.detach())
        else:
            self.v = out.detach() if self.how == "detached" else out
        self.all.append(out.detach())
        self.recent.append(self.calls)
        self.by_name["last"] = out
        self.seen = True
        self.calls += 1
        return out


@pytest.mark.parametrize("how", ["detached", "graph", "in place"])
@pytest.mark.parametrize("foreign", [False, True])
def test_hidden_states(how, foreign):
    """Each forward of the attack starts from the state that the attack found."""
    torch.manual_seed(0)
    model = Spiking(how)
    start = model.v
    value = torch.rand(6, 2)
    with torch.no_grad():
        model.v.copy_(value)
    names = set(vars(model))
    attack = as_attack(lambda m, x, y: (m(x), x)[1]) if foreign else PGD(Linf(0.1), steps=4, random_start=False)
    x_adv = attack(model, X, Y)
    assert model.v is start
    assert torch.equal(model.v, value)
    assert set(vars(model)) == names, "an attribute that only the attack has made is gone"
    assert (model.all, model.calls, list(model.recent), model.by_name) == ([], 0, [], {})
    if not foreign:
        expected = attack(lambda x: 0.5 * value + model.linear(x), X, Y)
        torch.testing.assert_close(x_adv, expected)


@pytest.mark.parametrize("gain", [log_odds, divergence])
def test_a_forward_that_keeps_only_what_has_a_gradient_starts_anew_each_time(gain):
    """The anchor of a gain is read off a forward without one, which comes first."""
    lengths = []

    class Keeps(nn.Linear):
        def forward(self, x):
            lengths.append(len(self.kept))
            if x.requires_grad:
                self.kept.append(x)
            return super().forward(x)

    model = Keeps(4, 2)
    model.kept = []
    PGD(Linf(0.1), steps=3, gain=gain)(model, X, Y)
    assert set(lengths) == {0}
    assert model.kept == []


FEATURES = []


def test_forward_hooks_that_collect_features():
    """In a list of their closure, or a global one: the usual way."""
    model, collected = nn.Sequential(nn.Linear(4, 2)), []
    model[0].register_forward_hook(lambda module, args, output: collected.append(output))
    model[0].register_forward_pre_hook(lambda module, args: FEATURES.append(args))
    model(X)
    ATTACK(model, X, Y)
    assert len(collected) == len(FEATURES) == 1


def test_counters_in_attributes():
    class Counts(nn.Linear):
        seen = None

        def forward(self, x):
            self.seen["forward"] += 1
            return super().forward(x)

    model = Counts(4, 2)
    model.seen = Counter(forward=5)
    ATTACK(model, X, Y)
    assert model.seen == {"forward": 5}


def test_a_forward_that_draws_from_numpy_and_python_draws_the_same_again_and_moves_no_stream():
    def model(x):
        return NET(x) * (1 + random.random()) + float(np.random.rand())  # noqa: NPY002

    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again = ATTACK(model, X, Y), ATTACK(model, X, Y)
    assert torch.equal(first, again)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_metrics_in_the_forward_do_not_count_the_attack():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2)
            self.total, self.cat = torchmetrics.SumMetric(), torchmetrics.CatMetric()

        def forward(self, x):
            self.total.update(float(len(x)))
            self.cat.update(x[:, 0].detach())
            return self.linear(x)

    model = Counts()
    model(X)
    ATTACK(model, X, Y)
    assert model.total.compute() == 6
    assert len(model.cat.compute()) == 6


def test_caches_of_inference_mode_in_attributes_are_fit_for_autograd():
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.cache, self.nested = nn.Linear(4, 2), None, {}

        def forward(self, x):
            if self.cache is None:
                self.cache = torch.linspace(0.5, 1.5, 4)
                self.nested["deep"] = [torch.ones(4)]
            return self.linear(x * self.cache * self.nested["deep"][0])

    model = Caches()
    with torch.inference_mode():
        model(X)
        cache = model.cache
        assert (ATTACK(model, X, Y) != X).any()
    assert model.cache is cache


def test_a_container_that_two_modules_share_has_its_own_entries_back():
    with torch.inference_mode():
        entry = torch.rand(3)
    shared = [entry]
    model = nn.Sequential(nn.Identity(), nn.Identity())
    for module in model:
        module.cache = shared
    with scope(model):
        assert not shared[0].is_inference()
    assert shared[0] is entry


def test_a_forward_that_writes_to_its_input_changes_no_input_of_the_user():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x):
            return self.linear(x.mul_(2).sub_(1))

    torch.manual_seed(0)
    model, x = InPlace(), X.clone()
    x_adv = PGD(Linf(0.1), steps=3, restarts=2, keep="best")(model, x, Y)
    assert torch.equal(x, X)
    expected = PGD(Linf(0.1), steps=3, restarts=2, keep="best")(lambda x: model.linear(2 * x - 1), X, Y)
    torch.testing.assert_close(x_adv, expected)


# Lazy layers


@pytest.mark.parametrize("norm", [False, True])
def test_lazy_layers_are_drawn_from_the_users_stream(norm):
    """The weights are those that the first forward without an attack would have drawn."""

    def make():
        layers = [nn.LazyLinear(5), *([nn.LazyBatchNorm1d()] if norm else []), nn.LazyLinear(2)]
        return nn.Sequential(*layers)

    model, alone = make(), make()
    torch.manual_seed(3)
    alone.eval()(X)
    after = torch.rand(1)
    torch.manual_seed(3)
    ATTACK(model, X, Y)
    assert torch.equal(torch.rand(1), after)
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.requires_grad


# Networks that are not the model, and models that are no modules


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4), nn.Sigmoid())

    def forward(self, z):
        return self.net(z)


class Plain:
    """A manifold that is a plain object around networks, left in training mode."""

    def __init__(self, decoder):
        self.parts = {"decoder": decoder}

    def encode(self, x, y):
        return x[:, :2].detach()

    def decode(self, z, y):
        return self.parts["decoder"](z)


def test_networks_in_a_manifold_are_in_scope():
    """Their statistics stay, and an example does not depend on its company."""
    torch.manual_seed(0)
    decoder, model = Decoder(), nn.Linear(4, 2)
    attack = PGD(Threat(Linf(0.3), LatentSpace(Plain(decoder))), steps=3)
    before = {name: b.clone() for name, b in decoder.named_buffers()}
    whole = attack(model, X, Y)
    assert all(torch.equal(b, before[name]) for name, b in decoder.named_buffers())
    assert all(m.training for m in decoder.modules())
    assert all(p.requires_grad for p in decoder.parameters())
    torch.testing.assert_close(attack(model, X[:2], Y[:2]), whole[:2])


def test_a_network_in_a_gain_is_in_scope():
    torch.manual_seed(0)
    judge = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))

    def gain(z, y):
        return judge(z)[:, 0]

    before = judge[0].running_mean.clone()
    PGD(Linf(0.1), gain=gain)(nn.Linear(4, 2), X, Y)
    assert torch.equal(judge[0].running_mean, before)


NET = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def by_global(x):
    return NET(x)


class Callable:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)


class Slotted:
    __slots__ = ("__net", "unset")

    def __init__(self, net):
        self.__net = net

    def __call__(self, x):
        return self.__net(x)


class Proxy(Slotted):
    """Answers for every name in its own way."""

    __slots__ = ()

    def __getattr__(self, name):
        raise KeyError(name)


class Around(nn.Module):
    """Torch does not see what it calls."""

    def __init__(self, function):
        super().__init__()
        self.__dict__["function"] = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "model",
    [
        by_global,
        lambda x: by_global(x),
        functools.partial(lambda net, x: net(x), NET),
        Callable(NET),
        Callable(NET).__call__,
        Slotted(NET),
        Around(Callable(NET)),
        Around(Slotted(NET)),
        Around(Proxy(NET)),
        Around(NET),
    ],
    ids=[
        "global",
        "global of a global",
        "partial",
        "object",
        "method",
        "slots",
        "held object",
        "held slots",
        "held proxy",
        "hidden",
    ],
)
def test_a_function_around_a_network_is_inert_too(model):
    kept(NET.train())
    before = NET[1].running_mean.clone()
    x_adv = ATTACK(model, X, Y)
    assert torch.equal(NET[1].running_mean, before)
    assert NET[1].training
    torch.testing.assert_close(x_adv, ATTACK(NET, X, Y))


def test_modules_hidden_in_a_list_are_found_and_large_lists_passed_over():
    hidden = nn.Linear(1, 1)
    owner = nn.Linear(1, 1)
    owner.teacher, owner.vocabulary = [hidden], list(range(5000))
    assert hidden in modules_in(owner)
    assert len(modules_in(owner)) == 2


def test_everything_is_put_back_after_an_exception():
    model = Spiking("detached")
    with pytest.raises(TypeError), scope(model, X) as ready:
        ready((ready(X), None))
    assert (model.all, model.calls) == ([], 0)
