"""Attacks that call the model in another way: the same examples, nothing left behind, a warning where it fails."""

import copy
import gc
import pickle
import warnings
import weakref
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Context, Linf, expectation, fast, finite_differences, in_turn, worst_of
from lightning_robust.attacks._graphs import _known, graphs_of
from lightning_robust.attacks.fast import Fast
from tests.helpers import C, H, K, W, batch, net, unchanged

BACKEND = "aot_eager"  # traced as the others are, and quick
PLAIN = PGD(Linf(0.1), steps=4)


def sizes(model, backend=BACKEND):
    """The sizes of batches for which there are graphs."""
    return sorted(n for kind in graphs_of(model, backend)._kinds.values() for n in kind.graphs)


# ------------------------------------------------------------------------------------------------ the same examples


@pytest.mark.parametrize(
    "attack", [PLAIN, PGD(Linf(0.1), steps=4, keep="best", restarts=2), PGD(Linf(0.1), mode="train")]
)
def test_the_compiled_attack_is_the_textbook_one(attack):
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    model[3].p = 0.0  # a graph draws other random numbers
    quick = fast(attack, compile=BACKEND)
    for _ in range(2):
        with unchanged(model):
            torch.testing.assert_close(quick(model, x, y), attack(model, x, y), rtol=1e-9, atol=1e-9)
    assert sizes(model) == [len(x)]


@pytest.mark.slow
def test_the_default_backend():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    compiled = fast(PLAIN, compile=True)(model, x, y)
    assert sizes(model, True) == [len(x)]
    torch.testing.assert_close(compiled, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    model, (x, y, _) = net(), batch(n=32)
    outcome, plain = (attack.run(model, x, y) for attack in (fast(_best(), compile=True), _best()))
    torch.testing.assert_close(outcome.gain, plain.gain, rtol=0, atol=1e-3)


def _best():
    return PGD(Linf(0.1), steps=4, keep="best")


def test_channels_last_changes_no_example_and_no_layout():
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            seen.append(self.weight.is_contiguous())
            return super().forward(x)

    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    model[0].__class__ = Watched
    last = x.contiguous(memory_format=torch.channels_last)
    weight, data = model[0].weight, model[0].weight.data_ptr()
    with unchanged(model):
        x_adv = fast(PLAIN, channels_last=True)(model, x, y)
    assert seen
    assert not any(seen)
    assert weight is model[0].weight
    assert weight.data_ptr() == data
    assert weight.is_contiguous()
    assert x_adv.stride() == x.stride()
    torch.testing.assert_close(x_adv, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fast(PLAIN, channels_last=True)(model, last, y), x_adv, rtol=1e-9, atol=1e-9)


def test_the_first_convolution_of_gray_images_has_channels_last_too():
    """Else its output has the other layout than the gradient that comes back, and that is slow."""
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            seen.append(super().forward(x))
            return seen[-1]

    model = nn.Sequential(Watched(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    fast(PLAIN, channels_last=True)(model, torch.rand(2, 1, 6, 6), torch.tensor([0, 1]))
    assert seen
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in seen)


def test_weights_go_back_after_an_exception_and_under_inference_mode():
    model, (x, y, _) = net(), batch()
    before = model[0].weight.data_ptr()
    with pytest.raises(ValueError, match="labels"), unchanged(model):
        fast(PLAIN, channels_last=True)(model, x, y + K)
    with torch.inference_mode():
        fast(PLAIN, channels_last=True)(model, x, y)
    assert model[0].weight.data_ptr() == before
    model(x).sum().backward()


@pytest.mark.parametrize(("precision", "around", "within"), [("bf16", False, True), ("32", True, False)])
def test_the_precision_of_the_attack_is_not_that_around_it(precision, around, within):
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            seen.append((torch.is_autocast_enabled("cpu"), self.net(x).dtype))
            return self.net(x)

    model, (x, y, _) = Watched(), batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=around), unchanged(model):
        x_adv = fast(PLAIN, precision=precision)(model, x, y)
    assert set(seen) == {(within, torch.bfloat16 if within else torch.float32)}
    assert x_adv.dtype == x.dtype
    with torch.autocast("cpu", torch.bfloat16, enabled=within):
        assert torch.equal(x_adv, PLAIN(model, x, y))


# ------------------------------------------------------------------------------------------- what graphs must not miss


def test_what_training_changes_is_seen():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    quick = fast(PLAIN, compile=BACKEND)
    first = quick(model, x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()
    nn.functional.cross_entropy(model(x), y).backward()  # weights and statistics move
    optimizer.step()
    second = quick(model, x, y)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    assert sizes(model) == [len(x)]


def test_modes_and_precisions_have_graphs_of_their_own():
    model, (x, y, _) = net(), batch()
    model[3].p = 0.0
    for attack, enabled in ((PLAIN, False), (PLAIN, True), (PGD(Linf(0.1), steps=4, mode="train"), False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            ours, plain = fast(attack, compile=BACKEND)(model, x, y), attack(model, x, y)
        assert ((ours - plain).abs() > 1e-5).float().mean() < (0.2 if enabled else 0.01)
    assert sizes(model) == 3 * [len(x)]


def _small():
    """Compiled in no time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, K))


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.net, self.scale = _small().double(), scale

    def forward(self, x):
        return self.scale * self.net(x.tanh() if self.scale > 1 else x)


def test_layouts_of_weights_have_graphs_of_their_own():
    """Else attacks with and without channels last, in turns as a measurement has them, soon run without compilation."""
    model, (x, y, _) = net(dtype=torch.float64).eval(), batch(dtype=torch.float64)
    expected = PLAIN(model, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            for last in (False, True):
                examples = fast(PLAIN, compile=BACKEND, channels_last=last)(model, x, y)
                torch.testing.assert_close(examples, expected, rtol=1e-9, atol=1e-9)
    assert sizes(model) == [len(x), len(x)]


def test_an_attribute_that_changes_is_seen_and_after_some_changes_nothing_is_compiled():
    model, (x, y, _) = Scaled(), batch(dtype=torch.float64)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for scale in (1.0, 2.0, 0.5, 3.0, 0.7, 4.0):
            model.scale = scale
            x_adv = fast(PLAIN, compile=BACKEND)(model, x, y)
            torch.testing.assert_close(x_adv, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)
    assert [str(one.message) for one in told if "without compilation" in str(one.message)][1:] == []
    assert graphs_of(model, BACKEND).reason is not None


def test_one_shape_is_compiled_and_another_when_it_comes_twice_in_a_row():
    model, (x, y, _) = _small(), batch(n=6)
    quick, found = fast(PLAIN, compile=BACKEND), []
    for n in (4, 6, 4, 6, 6, 3, 6):
        x_adv = quick(model, x[:n], y[:n])
        found.append(sizes(model))
        torch.testing.assert_close(x_adv, PLAIN(model, x[:n], y[:n]))
    assert found == [[4], [4], [4], [4], [4, 6], [4, 6], [4, 6]]


def test_samples_stay_in_a_compiled_batch():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    attack = PGD(Linf(0.3), steps=6, early_stop=True, keep="best")
    torch.testing.assert_close(fast(attack, compile=BACKEND)(model, x, y), attack(model, x, y), rtol=1e-9, atol=1e-9)
    assert sizes(model) == [len(x)]
    fast(attack, compile=BACKEND).quick()(model, x, y)
    assert not isinstance(fast(attack, compile=BACKEND).quick(), Fast)


# --------------------------------------------------------------------------------------------- where it is not compiled


def test_a_network_that_the_user_has_compiled_is_not_compiled_again():
    x, y, _ = batch()
    for model in (torch.compile(net(), backend="eager"), nn.Sequential(torch.compile(net(), backend="eager"))):
        with warnings.catch_warnings(record=True) as told:
            fast(PLAIN, compile=BACKEND)(model, x, y)
        assert not [one for one in told if "without compilation" in str(one.message)]
        assert sizes(model) == []


class Breaking(nn.Module):
    """What no graph can hold."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        torch._dynamo.graph_break()
        return self.net(x)


def _hooked():
    model = net()
    model[0].register_forward_hook(lambda part, args, out: out * 1.0)
    return model


@pytest.mark.parametrize(("make", "why"), [(Breaking, "Unsupported"), (_hooked, "hooks")])
def test_one_warning_and_the_usual_examples_where_compilation_fails(make, why):
    model, (x, y, _) = make(), batch()
    quick = fast(PLAIN, compile=BACKEND)
    with pytest.warns(UserWarning, match=f"without compilation.*{why}"), unchanged(model):
        x_adv = quick(model, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(quick(model, x, y), x_adv)
    assert torch.equal(PLAIN(model, x, y), x_adv)


def _no_compiler(graph, inputs):
    raise RuntimeError("no compiler here")


class _Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, output):
        return output.clone()

    @staticmethod
    def backward(ctx, grad):
        raise SystemError("a kernel has failed")


def _no_backward(graph, inputs):
    return lambda *args: tuple(_Failing.apply(output) for output in graph(*args))


@pytest.mark.parametrize(
    ("backend", "why"), [(_no_compiler, "no compiler here"), (_no_backward, "SystemError in the backward pass")]
)
def test_where_the_compiler_is_missing_or_a_kernel_fails(backend, why):
    model, (x, y, _) = _small().double(), batch(dtype=torch.float64)
    if backend.__name__ not in torch.compiler.list_backends(()):
        torch._dynamo.register_backend(backend, name=backend.__name__)
    with pytest.warns(UserWarning, match=why), unchanged(model):
        x_adv = fast(PLAIN, compile=backend.__name__)(model, x, y)
    torch.testing.assert_close(x_adv, PLAIN(model, x, y), rtol=1e-9, atol=1e-9)


def test_functions_are_not_compiled_and_wrappers_of_a_network_are_looked_through():
    model, (x, y, _) = net(dtype=torch.float64), batch(dtype=torch.float64)
    with pytest.warns(UserWarning, match="Only a module is compiled"):
        x_adv = fast(PLAIN, compile=BACKEND)(lambda x: model(x), x, y)
    assert torch.equal(x_adv, PLAIN(model, x, y))
    mean = expectation(model, 2)
    compiled = fast(PLAIN, compile=BACKEND)(mean, x, y)
    torch.testing.assert_close(compiled, PLAIN(mean, x, y), rtol=1e-9, atol=1e-9)
    assert sizes(model) == [len(x)]
    differences = finite_differences(fast(PLAIN, compile=BACKEND), 0.1, samples=2)
    assert torch.equal(differences(model, x, y), finite_differences(PLAIN, 0.1, samples=2)(model, x, y))


# -------------------------------------------------------------------------------------------------- nothing left behind


def test_nothing_is_left_on_the_module_and_graphs_go_with_it():
    model, (x, y, _) = net(), batch()
    before = {name: set(vars(part)) for name, part in model.named_modules()}
    keys = list(model.state_dict())
    fast(PLAIN, compile=BACKEND, channels_last=True)(model, x, y)
    assert {name: set(vars(part)) for name, part in model.named_modules()} == before
    assert list(model.state_dict()) == keys
    copied = pickle.loads(pickle.dumps(model))
    assert torch.equal(PLAIN(copied, x, y), PLAIN(copy.deepcopy(model), x, y))
    assert copied not in _known
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_attack_is_a_value():
    quick = fast(PLAIN, compile=BACKEND, precision="auto")
    assert pickle.loads(pickle.dumps(quick)) == quick == copy.deepcopy(quick)
    assert hash(quick) == hash(fast(PLAIN, compile=BACKEND, precision="auto"))
    assert "choice" not in repr(quick)
    assert quick.scaled(0.5).attack == PLAIN.scaled(0.5)
    assert quick.scaled(0.5).choice is quick.choice


# ------------------------------------------------------------------------------------------------------ in evaluation


def test_evaluation_has_its_own_precision_and_measures_nothing():
    assert fast(PLAIN, precision="bf16").thorough() == PLAIN.thorough()
    assert fast(PLAIN, compile="auto", channels_last="auto").thorough() == PLAIN.thorough()
    kept = fast(PLAIN, compile=BACKEND, precision="bf16", channels_last=True).thorough()
    assert kept == fast(PLAIN.thorough(), compile=BACKEND, channels_last=True)
    assert [wave.attack for wave in fast(_restarts(), compile=BACKEND).waves()] == list(_restarts().waves())
    assert fast(PLAIN, compile=BACKEND).brief() == PLAIN.brief()


def _restarts():
    return PGD(Linf(0.1), restarts=3)


def test_what_compilation_gives_is_measured_on_some_steps():
    """From the second step on a whole step is one graph, which an attack of one step would not show."""
    assert fast(PGD(Linf(0.1)), compile="auto", precision="auto")._short() == PGD(Linf(0.1), steps=4)
    assert fast(PGD(Linf(0.1), 2), compile="auto")._short() == PGD(Linf(0.1), steps=2)
    assert fast(PGD(Linf(0.1)), precision="auto")._short() == PGD(Linf(0.1), steps=1)


def test_it_combines():
    model, (x, y, _) = _small().double(), batch(dtype=torch.float64)
    for make in (worst_of, in_turn):
        plain, quick = make(PLAIN, _restarts()), make(fast(PLAIN, compile=BACKEND), _restarts())
        expected = plain(model, x, y)
        torch.testing.assert_close(quick(model, x, y), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(fast(plain, channels_last=True)(model, x, y), expected, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------- measured


def test_the_quickest_setting_is_chosen_once(monkeypatch):
    seen = []

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            half = torch.is_autocast_enabled("cpu")
            seen.append(half)
            for _ in range(1 if half else 20):
                torch.rand(20_000).sort()
            return self.net(x)

    model, (x, y, _) = Slow(), batch()
    quick = fast(PLAIN, precision="auto")
    with unchanged(model):
        x_adv = quick(model, x, y)
    assert quick.choice.value == {"precision": "bf16"}
    assert torch.equal(x_adv, fast(PLAIN, precision="bf16")(model, x, y))
    seen.clear()
    quick.scaled(0.5).run(model, x, y, Context(key=1))
    assert len(seen) == PLAIN.steps
    assert all(seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compile": "nonsense"}, 'Expected argument `compile` to be True, False, "auto" or a backend'),
        ({"compile": 1}, "Expected argument `compile` to be True or False"),
        ({"precision": "16"}, "Expected argument `precision` to be one of"),
        ({"channels_last": "yes"}, "Expected argument `channels_last` to be one of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fast(PLAIN, **arguments)


# ------------------------------------------------------------------------------------------------------------- on GPUs


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("last", [False, True])
def test_on_a_gpu_graphs_are_replayed_and_reach_the_same_gain(last, precision):
    model, (x, y, _) = net().cuda(), batch(n=64)
    x, y, attack = x.cuda(), y.cuda(), PGD(Linf(0.05), steps=10, keep="best")
    quick = fast(attack, compile=True, channels_last=last, precision=precision)
    for step in range(4):
        with unchanged_on_the_device(model):
            ours, plain = quick.run(model, x, y, Context(key=step)), attack.run(model, x, y, Context(key=step))
        atol = 1e-3 if precision is None else 0.1
        torch.testing.assert_close(ours.gain.mean(), plain.gain.mean(), rtol=0, atol=atol)
        with torch.no_grad():
            model[0].weight += 0.01 * torch.randn_like(model[0].weight)
    assert sizes(model, True) == [64]


@pytest.mark.gpu
def test_a_gradient_of_a_replayed_graph_outlives_the_next_pass():
    from lightning_robust.attacks._compiled import compiled

    model, (x, _, _) = net().cuda().double().eval(), batch(n=8, dtype=torch.float64)
    model.requires_grad_(False)
    quick, gradients, expected = compiled(model, True), [], []
    for k in range(5):
        for function, found in ((quick, gradients), (model, expected)):
            z = (x.cuda() * (1 + k) / 5).requires_grad_()
            found.append(torch.autograd.grad(function(z).square().sum(), z)[0])
    for ours, plain in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, plain)


@contextmanager
def unchanged_on_the_device(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [part.training for part in model.modules()]
    yield
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == flags
