"""Whole steps as graphs: the textbook examples, nothing made for what comes once, and no word where there is none."""

import gc
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from callbacks_fakes import TEXTBOOK, Module, loader, state, trainer
from torch import nn

from lightning_robust import AdversarialTraining
from lightning_robust.attacks import (
    L2,
    PGD,
    Adam,
    Context,
    LatentSpace,
    Linf,
    MinimumNorm,
    Rule,
    Steepest,
    Threat,
    _step_graphs as module,
    cross_entropy,
    fast,
)
from lightning_robust.attacks._step_graphs import _MOST_KINDS, _MOST_STEPS, StepGraph, Steps, steps_of
from tests.helpers import C, H, K, Plane, W, batch, net, threat_of, unchanged
from tests.outsider import Halving

BACKEND = "aot_eager"  # traced as the others are, and quick
PLAIN = PGD(Linf(0.1), steps=3)
OLD = not hasattr(torch._dynamo.config, "trace_autograd_ops")
needs_them = pytest.mark.skipif(OLD, reason="this torch cannot trace a gradient: no step is a graph")


def scores(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, 8), nn.Tanh(), nn.Linear(8, K)).to(dtype)


@pytest.fixture
def counted(monkeypatch):
    """[steps by a graph, steps that were asked for]."""
    count, run = [0, 0], Steps.run

    def counting(self, *args):
        moved = run(self, *args)
        count[0] += moved is not None
        count[1] += 1
        return moved

    monkeypatch.setattr(Steps, "run", counting)
    return count


def sizes(model, backend=BACKEND):
    """The sizes of batches for which there are graphs of a step."""
    return sorted(n for kind in steps_of(model, backend)._kinds.values() for n in kind.graphs)


def failures(model, backend=BACKEND):
    return sum(steps_of(model, backend)._failures.values())


def compare(attack, model, x, y, code=None, **settings):
    """That the compiled attack gives the textbook examples, and leaves everything as it was."""
    with unchanged(model), warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = fast(attack, compile=BACKEND, **settings).run(model, x, y, Context(code))
    plain = attack.run(model, x, y, Context(code))
    torch.testing.assert_close(ours.delta, plain.delta, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.x_adv, plain.x_adv, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------ the same examples

ATTACKS = {
    "L1": (PGD(threat_of("L1", "pixels"), steps=3), "pixels"),
    "Box": (PGD(threat_of("Box", "latent_tuple"), steps=3), "latent_tuple"),
    "affine": (PGD(threat_of("Linf", "affine"), steps=3), "affine"),
    "momentum": (PGD(L2(0.5), steps=3, rule=Steepest(0.5), gain=cross_entropy), "pixels"),
    "adam": (PGD(Linf(0.1), steps=3, rule=Adam(0.05), restarts=2), "pixels"),
}


@needs_them
@pytest.mark.parametrize("name", ATTACKS)
def test_one_graph_for_all_steps_batches_and_epochs(name, counted):
    (attack, space), model = ATTACKS[name], scores()
    for seed in range(3):
        x, y, code = batch(space, seed=seed, dtype=torch.float64)
        compare(attack, model, x, y.roll(seed), code)
        with torch.no_grad():  # training goes on
            model[1].weight.mul_(-1)
            model[3].bias.add_(1)
    assert sizes(model) == [len(x)]
    assert counted[0] == 2 * 2 * attack.restarts
    assert failures(model) == 0


@needs_them
def test_radius_size_of_steps_and_their_number_are_no_part_of_a_graph(counted):
    model = scores()
    others = PLAIN.scaled(0.5), PGD(Linf(0.1), 5), PGD(Linf(0.2), 4, rel_step_size=0.2)
    for k, attack in enumerate((PLAIN, PLAIN, *others)):
        compare(attack, model, *batch(seed=k, dtype=torch.float64))
    compare(PGD(Linf(torch.rand(6) / 5), 4), model, *batch(dtype=torch.float64))  # one radius for each sample
    assert sizes(model) == [6]
    assert counted[0] == 2 + 2 + 4 + 3


@needs_them
def test_modes_precisions_and_layouts_have_graphs_of_their_own():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    model[3].p = 0.0  # a graph draws other random numbers
    for _ in range(2):
        for attack, settings in (
            (PLAIN, {}),
            (PGD(Linf(0.1), steps=3, mode="train"), {"channels_last": True}),
        ):
            compare(attack, model, x, y, **settings)
        compare(PLAIN, model, x.contiguous(memory_format=torch.channels_last), y)
    assert sizes(model) == 3 * [len(x)]
    assert failures(model) == 0


@needs_them
@pytest.mark.parametrize("gain", [PLAIN.gain, cross_entropy])
def test_in_bfloat16_too(gain, counted):
    model, (x, y, _) = net(), batch()
    attack = PGD(Linf(0.1), steps=3, gain=gain)
    expected = fast(attack, precision="bf16")(model, x, y)
    for _ in range(2):
        ours = fast(attack, compile=BACKEND, precision="bf16")(model, x, y)
        assert ((ours - expected).abs() > 1e-5).float().mean() < 0.2
    assert counted[0] == 2


@needs_them
def test_a_graph_holds_one_forward_and_leaves_the_layout_of_images_alone():
    seen = []

    def watching(graph, inputs):
        nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
        layouts = torch._inductor.config.layout_optimization
        seen.append((sum("linear" in str(node.target) for node in nodes), layouts))
        return graph

    torch._dynamo.register_backend(watching, name="watching_forwards")
    before = torch._inductor.config.layout_optimization
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    for _ in range(2):
        ours = fast(PLAIN, compile="watching_forwards")(model, x, y)
        torch.testing.assert_close(ours, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    assert seen == [(2, before), (2, False)]  # the pass, and the step: a network of two linear layers
    assert torch._inductor.config.layout_optimization == before


@pytest.mark.slow
@needs_them
def test_the_default_backend():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    for _ in range(3):
        torch.testing.assert_close(fast(PLAIN, compile=True)(model, x, y), PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    assert sizes(model, True) == [len(x)]
    model, (x, y, _) = net().eval(), batch(n=32)
    for _ in range(2):
        gains = [attack.gain(model(attack(model, x, y)), y) for attack in (PLAIN,)]
        gains.append(PLAIN.gain(model(fast(PLAIN, compile=True)(model, x, y)), y))
    torch.testing.assert_close(*gains, rtol=0, atol=1e-3)
    assert sizes(model, True) == [len(x)]


# --------------------------------------------------------------------------------------------- what graphs are made of


@needs_them
def test_what_comes_once_has_none_and_a_size_that_comes_twice_in_a_row_has_one():
    model, (x, y, _), found = scores(), batch(dtype=torch.float64), []
    for n in (6, 4, 6, 4, 6, 6, 4, 6, 4, 4):
        ours = fast(PLAIN, compile="eager")(model, x[:n], y[:n])
        torch.testing.assert_close(ours, PLAIN(model, x[:n], y[:n]), rtol=1e-9, atol=1e-9)
        found.append(sizes(model, "eager"))
    assert found == 5 * [[]] + 4 * [[6]] + [[4, 6]]


@needs_them
def test_several_attacks_in_turn_have_one_each_up_to_a_number(counted):
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    attacks = [PGD(Linf(0.1), steps=2, rule=Steepest(k / 10)) for k in range(_MOST_STEPS + 2)]
    for _ in range(3):
        for attack in attacks:
            torch.testing.assert_close(fast(attack, compile="eager")(model, x, y), attack(model, x, y))
    assert sizes(model, "eager") == _MOST_STEPS * [6]
    assert counted[0] == 2 * _MOST_STEPS


@needs_them
def test_kinds_that_are_new_each_time_are_forgotten():
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    for k in range(_MOST_KINDS + 3):
        fast(PGD(Linf(0.1), steps=2, rule=Steepest(k / 100)), compile="eager")(model, x, y)
    assert sizes(model, "eager") == []
    assert len(steps_of(model, "eager")._kinds) == _MOST_KINDS


@needs_them
def test_graphs_hold_neither_network_nor_manifold_nor_batch():
    model, manifold, (x, y, _) = scores(), Plane().double(), batch(dtype=torch.float64)
    attack, before = PGD(Threat(Linf(0.2), LatentSpace(manifold)), steps=3), set(vars(model))
    for _ in range(2):
        fast(attack, compile=BACKEND)(model, x, y)
    assert sizes(model) == [len(x)]
    assert set(vars(model)) == before
    gone = [weakref.ref(one) for one in (manifold, x, model)]
    del attack, manifold, x, y
    gc.collect()
    assert [ref() is None for ref in gone] == [True, True, False]
    del model
    gc.collect()
    assert gone[-1]() is None


def test_in_training_the_steps_of_the_callback_are_graphs(counted):
    """A LightningModule, and weights that change between batches; the last batch is smaller."""
    trained = []
    for attack in (TEXTBOOK, fast(TEXTBOOK, compile=BACKEND)):
        torch.manual_seed(7)
        module = Module()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*without compilation.*")
            trainer(AdversarialTraining(attack), max_epochs=2, precision="64-true").fit(module, loader(batch_size=7))
        trained.append(state(module))
    assert sizes(module) == ([] if OLD else [7])
    assert counted[0] == (0 if OLD else 10)
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------- where there is none


def breaking(logits, y):
    """A gain of somebody that no graph can hold."""
    torch._dynamo.graph_break()
    return cross_entropy(logits, y)


@dataclass(frozen=True)
class Draws(Rule):
    """A rule that draws."""

    def __call__(self, at, state):
        return at.delta + at.steepest(at.grad + at.noise.uniform(tuple(at.delta.shape[1:])).to(at.grad)), state


@dataclass(frozen=True)
class Asks(Rule):
    """A rule that asks for success."""

    def __call__(self, at, state):
        still = at.fooled.reshape(-1, *[1] * (at.delta.ndim - 1))
        return torch.where(still, at.delta, at.delta + at.steepest(at.grad)), state


@dataclass(frozen=True)
class Numbers(Rule):
    """A rule that takes the number of the step as one of Python."""

    def __call__(self, at, state):
        return at.delta + at.steepest(at.grad) / (1 if at.step % 2 else 2), state


@pytest.mark.parametrize(
    "attack",
    [PGD(Linf(0.1), 4, gain=breaking), *(PGD(Linf(0.1), 4, rule=rule) for rule in (Draws(), Asks(), Numbers()))],
    ids=["gain", "noise", "success", "number"],
)
def test_what_no_graph_can_hold_runs_as_before_and_is_tried_once(attack, counted):
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    for _ in range(4):
        compare(attack, model, x, y)
    assert sizes(model) == []
    assert counted[0] == 0
    assert failures(model) == (0 if OLD else 1)


@dataclass(frozen=True)
class Counts(Rule):
    """A rule whose state holds a number of Python that is another one in each step."""

    def init(self, at):
        return 0

    def __call__(self, at, state):
        return at.delta + at.steepest(at.grad) / (1 + state), state + 1


@needs_them
def test_one_that_fails_in_the_attack_that_made_it_is_not_made_again_and_leaves_others_alone(counted):
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    for _ in range(4):
        compare(PGD(Linf(0.1), 4, rule=Counts()), model, x, y)
    assert sizes(model) == []
    assert failures(model) == 1
    assert counted[0] == 1  # its first step fits
    for _ in range(3):
        compare(PLAIN, model, x, y)
    assert sizes(model) == [len(x)]
    assert failures(model) == 1


class Remembers(nn.Module):
    """A network with a state: its answer depends on the number of forwards."""

    def __init__(self):
        super().__init__()
        self.net, self.count = scores(), 0

    def forward(self, x):
        self.count += 1
        return self.net(x) * self.count


def test_a_network_with_a_state_has_none(counted):
    model, (x, y, _) = Remembers(), batch(dtype=torch.float64)
    for _ in range(3):
        ours = fast(PLAIN, compile=BACKEND)(model, x, y)
        torch.testing.assert_close(ours, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    assert model.count == 0
    assert counted == [0, 0]


@pytest.mark.parametrize(
    "attack",
    [
        PGD(Linf(0.1), 4, keep="best"),
        PGD(Linf(0.1), 4, early_stop=True),
        PGD(Linf(0.1), 4, rule=Halving()),
        PGD(Linf(0.1), 1),
        MinimumNorm(L2(1.0), steps=3),
    ],
)
def test_where_somebody_looks_at_what_is_in_between_there_is_none(attack, counted):
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    for _ in range(2):
        compare(attack, model, x, y)
    assert counted[0] == 0
    assert sizes(model) == []


def static_memory(graph, inputs, **kwargs):
    """A backend that answers in the same memory each time, as a replayed CUDA graph does."""
    memory = []

    def replay(*args):
        outputs = graph(*args)
        if any(output.requires_grad for output in outputs):
            return outputs  # of a pass
        memory.extend(output.clone() for output in outputs[len(memory) :])
        for place, output in zip(memory, outputs, strict=True):
            place.copy_(output)
        return tuple(memory)

    return replay


@needs_them
def test_the_memory_of_a_replayed_graph_is_not_handed_out(counted, monkeypatch):
    torch._dynamo.register_backend(static_memory, name="static_memory")
    monkeypatch.setattr(module, "StepGraph", lambda backend, replayed: StepGraph(backend, replayed=True))
    model, attack, kept = scores(), PGD(L2(0.5), steps=4, rule=Steepest(0.5)), []
    for seed in range(4):
        x, y, _ = batch(seed=seed, dtype=torch.float64)
        kept.append((fast(attack, compile="static_memory").run(model, x, y).delta, attack.run(model, x, y).delta))
    for ours, plain in kept:
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    assert counted[0] == 3 * 3


def test_a_state_that_no_one_knows_may_not_lie_in_the_memory_of_a_graph():
    graph, x = StepGraph("eager", replayed=False), torch.ones(2)
    delta, held = graph.own((x, {"a": (x, 1, None)}))
    assert [torch.equal(one, x) and one.data_ptr() != x.data_ptr() for one in (delta, held["a"][0])] == [True, True]
    with pytest.raises(TypeError, match="memory of a graph"):
        graph.own((x, object()))


# ------------------------------------------------------------------------------------------------------------- on GPUs


@pytest.mark.gpu
@needs_them
@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("rule", [Steepest(), Adam(0.01)])
def test_on_a_gpu_a_step_is_one_replay_and_no_memory_is_lost(rule, precision, counted):
    model, (x, y, _) = net().cuda(), batch(n=64)
    x, y, attack = x.cuda(), y.cuda(), PGD(Linf(0.05), steps=10, rule=rule)
    quick, used, kept = fast(attack, compile=True, precision=precision), [], []

    def gain(x_adv):
        with torch.no_grad():
            return float(attack.gain(model.eval()(x_adv), y).mean())

    for key in range(25):
        ours = quick.run(model, x, y, Context(key=key))
        kept = [*kept[-1:], (ours.delta, ours.delta.clone())]  # what was handed out is not written to by later replays
        assert all(torch.equal(delta, copy) for delta, copy in kept)
        if key % 6 == 0:
            plain = attack.run(model, x, y, Context(key=key))
            atol = 1e-3 if precision is None else 0.1
            assert gain(ours.x_adv) == pytest.approx(gain(plain.x_adv), abs=atol)
        with torch.no_grad():
            model[0].weight += 0.01 * torch.randn_like(model[0].weight)
        del ours
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert sizes(model, True) == [64]
    assert failures(model, True) == 0
    assert counted[0] == 24 * 9
    assert max(used[5:]) - min(used[5:]) <= 2**20
