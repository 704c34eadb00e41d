import copy
import functools
import gc
import inspect
import io
import itertools
import pickle
import weakref

import pytest
import torch
import torchmetrics
from callbacks_fakes import Module, data, fit, loader, network, same, state, trainer
from torch import nn

from lightning_robust._lightning import pl
from lightning_robust._step import _Instead, muted, put_around, recorded


class Plain(nn.Module):
    def step(self, batch, batch_idx, *rest, **named):
        return [("step", batch, batch_idx, rest, named)]


def naming(name):
    """Something put around a step: notes its name before what is inside."""

    def around(step, batch, *args, **kwargs):
        return [name, *step(f"{batch}{name}", *args, **kwargs)]

    return around


def test_nothing_around_is_the_step_itself():
    module, other = Plain(), Plain()
    handle = put_around(module, "step", lambda step, *args, **kwargs: step(*args, **kwargs))
    assert module.step("b", 3, 4, name=5) == [("step", "b", 3, (4,), {"name": 5})]
    assert "step" not in vars(other)
    handle.undo()
    assert "step" not in vars(module)


def test_what_was_put_around_is_let_go_of():
    """Callbacks keep the handle, and what they put around a step may hold a batch."""

    class Around:
        def __call__(self, step, *args):
            return step(*args)

    module, around = Plain(), Around()
    handle, gone = put_around(module, "step", around), weakref.ref(around)
    del around
    step = module.step
    handle.undo()
    assert gone() is None
    assert step("b", 0) == [("step", "b", 0, (), {})]
    handle.undo()


@pytest.mark.parametrize("order", list(itertools.permutations("ABC")))
def test_undone_in_any_order_any_number_of_times(order):
    module = Plain()
    handles = {name: put_around(module, "step", naming(name)) for name in "ABC"}
    assert module.step("b", 0) == ["C", "B", "A", ("step", "bCBA", 0, (), {})]  # first come, innermost
    left = ["C", "B", "A"]
    for name in order:
        handles[name].undo()
        handles[name].undo()
        left.remove(name)
        assert module.step("b", 0)[:-1] == left
    assert "step" not in vars(module)
    assert module.step("b", 0) == Plain().step("b", 0)


def test_one_function_put_around_twice_is_there_twice():
    module, around = Plain(), naming("A")
    first, second = put_around(module, "step", around), put_around(module, "step", around)
    assert module.step("b", 0)[:-1] == ["A", "A"]
    first.undo()
    first.undo()
    assert module.step("b", 0)[:-1] == ["A"]
    second.undo()
    assert "step" not in vars(module)
    handle = put_around(module, "step", naming("B"))  # again after the end
    assert module.step("b", 0)[:-1] == ["B"]
    handle.undo()
    assert "step" not in vars(module)


def test_the_attribute_of_the_instance_comes_back():
    module = Plain()

    def compiled(batch, batch_idx):
        return ["compiled"]

    module.step = compiled
    handle = put_around(module, "step", naming("A"))
    assert module.step("b", 0) == ["A", "compiled"]
    handle.undo()
    assert vars(module)["step"] is compiled


# Somebody else replaces the same step.


class Keeps:
    """Another callback's patch, as everybody writes it: remembers what was there and sets it back.

    Args:
        wraps: With `functools.wraps`, as most do.
        deletes: Takes the attribute away instead of setting back what was there.
        careful: Only if it is still its own.
    """

    def __init__(self, module, *, wraps=True, deletes=False, careful=False):
        self.module, self.deletes, self.careful = module, deletes, careful
        self.before = before = module.step

        def other(*args, **kwargs):
            return ["other", *before(*args, **kwargs)]

        module.step = self.patch = functools.wraps(before)(other) if wraps else other

    def undo(self):
        if self.careful and vars(self.module).get("step") is not self.patch:
            return
        if self.deletes:
            del self.module.step
        else:
            self.module.step = self.before


def called(module):
    """The names of those who were called, and nothing if the step itself was not."""
    *names, (step, *_) = module.step("b", 0)
    assert step == "step"
    return names


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("deletes", [True, False])
def test_somebody_came_before(wraps, deletes):
    """And goes after us, and before us."""
    module = Plain()
    other = Keeps(module, wraps=wraps, deletes=deletes)
    for _ in range(2):
        ours = put_around(module, "step", naming("A"))
        assert called(module) == ["A", "other"]
        ours.undo()
        assert called(module) == ["other"]
    assert vars(module)["step"] is other.patch
    ours = put_around(module, "step", naming("A"))
    other.undo()
    assert called(module) == []
    ours.undo()
    assert called(module) == []
    assert not isinstance(vars(module).get("step"), _Instead)


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("careful", [True, False])
def test_somebody_came_after_and_goes_before(wraps, careful):
    module = Plain()
    ours = put_around(module, "step", naming("A"))
    other = Keeps(module, wraps=wraps, careful=careful)
    assert called(module) == ["other", "A"]
    other.undo()
    assert called(module) == ["A"]
    ours.undo()
    assert "step" not in vars(module)


@pytest.mark.parametrize("wraps", [True, False])
def test_somebody_came_after_and_goes_after(wraps):
    """We remove only what is ours; what is below them does nothing any more, and is gone at the latest with the fit."""
    module = Plain()
    for _ in range(2):
        ours = put_around(module, "step", naming("A"))
        other = Keeps(module, wraps=wraps)
        ours.undo()
        assert module.step is other.patch
        assert called(module) == ["other"]
        other.undo()
        assert called(module) == []
    ours.undo()
    assert "step" not in vars(module)


def test_somebody_stays_on_top():
    module = Plain()
    ours = put_around(module, "step", naming("A"))
    other = Keeps(module)
    ours.undo()
    for name in "BC":
        again = put_around(module, "step", naming(name))
        assert called(module) == [name, "other"]
        again.undo()
        assert called(module) == ["other"]
    assert module.step is other.patch


def test_after_the_end_of_the_module_too():
    module = Plain()
    handle = put_around(module, "step", naming("A"))
    del module
    handle.undo()


def test_reached_says_whether_it_was_called():
    module = Plain()
    one, other = put_around(module, "step", naming("A")), put_around(module, "step", lambda *args: ["not the others"])
    assert not one.reached
    module.step("b", 0)
    assert other.reached
    assert not one.reached
    other.undo()
    module.step("b", 0)
    assert one.reached


# Copies and pickles, made while something is around the step.


class Owner(nn.Module):
    """Its step says whose it is."""

    def __init__(self, name="original"):
        super().__init__()
        self.name = name
        self.net = nn.Linear(1, 1)

    def step(self, batch):
        return self.name

    @staticmethod
    def fixed(batch):
        return "fixed"

    @classmethod
    def of_class(cls, batch):
        return cls.__name__


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "of the step": lambda module: copy.deepcopy(module.step).__self__,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "pickle of the step": lambda module: pickle.loads(pickle.dumps(module.step)).__self__,
    "save": saved,
    "inside a list": lambda module: copy.deepcopy([module.step, module])[1],
    "twice": lambda module: copy.deepcopy(copy.deepcopy(module)),
    "pickle of a copy": lambda module: pickle.loads(pickle.dumps(copy.deepcopy(module))),
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_has_its_own_step(make):
    module, calls = Owner(), []

    def around(step, batch):
        calls.append(batch)
        return step(batch)

    handle = put_around(module, "step", around)
    copied = make(module)
    copied.name = "copy"
    assert copied.step("b") == "copy"
    assert not calls
    assert b"lightning_robust" not in pickle.dumps(module)  # it is read without this package
    assert module.step("b") == "original"
    assert calls == ["b"]
    handle.undo()
    assert copied.step("b") == "copy"
    assert vars(module).keys() == vars(Owner()).keys()
    again = put_around(copied, "step", lambda step, batch: f"around {step(batch)}")
    assert copied.step("b") == "around copy"
    again.undo()
    assert copied.step("b") == "copy"


@pytest.mark.parametrize("make", [copy.deepcopy, saved], ids=["deepcopy", "save"])
def test_a_copy_has_what_the_instance_had(make):
    """As without us: a bound method goes with the copy, a function is the same function."""
    module = Owner()
    module.step = module.step
    handle = put_around(module, "step", lambda step, batch: "around")
    copied = make(module)
    copied.name = "copy"
    assert copied.step("b") == "copy"
    assert b"lightning_robust" not in pickle.dumps(module)  # it is read without this package
    handle.undo()
    module.step = len
    handle = put_around(module, "step", lambda step, batch: "around")
    assert make(module).step is len
    handle.undo()


def test_a_copy_is_freed_as_soon_as_nobody_uses_it():
    """Without waiting for the garbage collector: a step may copy its module for every batch."""
    module = Owner()
    handle = put_around(module, "step", lambda step, batch: "around")
    gc.disable()
    try:
        gone = weakref.ref(copy.deepcopy(module).net)
        assert gone() is None
    finally:
        gc.enable()
    handle.undo()


@pytest.mark.parametrize(("name", "result"), [("fixed", "fixed"), ("of_class", "Owner")])
def test_methods_of_other_kinds(name, result):
    module = Owner()
    handle = put_around(module, name, lambda step, batch: f"around {step(batch)}")
    assert getattr(module, name)("b") == f"around {result}"
    assert getattr(copy.deepcopy(module), name)("b") == result
    handle.undo()
    assert getattr(module, name)("b") == result


def test_an_exception_passes():
    def around(step, batch, *args):
        raise ZeroDivisionError

    module = Plain()
    handle = put_around(module, "step", around)
    with pytest.raises(ZeroDivisionError):
        module.step("b", 0)
    handle.undo()
    assert "step" not in vars(module)


# The signature: Lightning reads it to know what a step takes.


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def _step(module, batch, batch_idx=0):
    assert isinstance(batch_idx, int)
    return Module.training_step(module, batch, batch_idx)


def defined(step):
    return type("Defined", (Module,), {"training_step": step})


def assigned(make):
    """A module with a step of the instance."""
    module = Module()
    module.training_step = make(module)
    return module


SIGNATURES = {
    "batch and number": defined(lambda self, batch, batch_idx: _step(self, batch, batch_idx)),
    "batch": defined(lambda self, batch: _step(self, batch)),
    "other names": defined(lambda self, some, number: _step(self, some, number)),
    "starred": defined(lambda self, *args: _step(self, *args)),
    "decorated": defined(decorated(lambda self, batch, batch_idx: _step(self, batch, batch_idx))),
    "twice decorated": defined(decorated(decorated(lambda self, batch, batch_idx: _step(self, batch, batch_idx)))),
    "decorated, batch": defined(decorated(lambda self, batch: _step(self, batch))),
    "of the instance": lambda: assigned(lambda module: lambda batch, batch_idx: _step(module, batch, batch_idx)),
    "partial": lambda: assigned(lambda module: functools.partial(_step, module)),
}


class Counts(pl.Callback):
    """Puts something around each training step, and notes whether it was reached.

    Args:
        around: `(step, *args) -> output`, in place of the step itself.
    """

    def __init__(self, around=lambda step, *args: step(*args)):
        self.around, self.calls, self.reached = around, 0, []

    def _around(self, step, *args):
        self.calls += 1
        return self.around(step, *args)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.handle = put_around(pl_module, "training_step", self._around)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.reached.append(self.handle.reached)
        self.handle.undo()


@pytest.mark.parametrize("make", SIGNATURES.values(), ids=SIGNATURES)
def test_lightning_sees_the_signature_of_the_step(make):
    one, other, module = Counts(), Counts(), make()
    before = vars(module).get("training_step")
    fit(module, one, other, max_epochs=1)
    assert one.calls == other.calls == 6
    assert vars(module).get("training_step") is before


def test_the_signature():
    module = Module()
    before = inspect.signature(module.training_step)
    handle = put_around(module, "training_step", lambda step, *args: step(*args))
    assert inspect.signature(module.training_step) == before
    assert module.training_step.__name__ == "training_step"
    handle.undo()


@pytest.mark.parametrize("kwargs", [{}, {"dataloader_idx": True}])
def test_validation_steps_with_and_without_the_loader(kwargs):
    class One(Module):
        def validation_step(self, batch, batch_idx):
            seen.append((batch_idx, 0))

    class Several(Module):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            seen.append((batch_idx, dataloader_idx))

    class Validates(pl.Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            self.handle = put_around(pl_module, "validation_step", lambda step, *args: step(*args))

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            self.handle.undo()

    seen, loaders = [], [loader(8), loader(4)] if kwargs else loader(8)
    trainer(Validates()).validate(Several() if kwargs else One(), loaders, verbose=False)
    assert seen == ([(0, 0), (1, 0), (0, 1)] if kwargs else [(0, 0), (1, 0)])


# In fits of all kinds.


class Closure(Module):
    """Its optimizer calls the step several times for a batch."""

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=2.0**-10, max_iter=3, tolerance_grad=-1, tolerance_change=-1)


class Copies(Module):
    """A step that copies its own module, as meta-learning does, and calls the step of the copy."""

    def training_step(self, batch, batch_idx):
        if self._trainer is not None:
            copied, again = copy.deepcopy(self), saved(self)
            torch.manual_seed(batch_idx)
            first = copied.training_step(batch, batch_idx)
            torch.manual_seed(batch_idx)
            assert torch.equal(again.training_step(batch, batch_idx), first)
        return self.loss(*batch)


class Average(pl.Callback):
    """An average of the weights on a copy that is made within the first batch."""

    def __init__(self):
        self.copy = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.copy = copy.deepcopy(pl_module) if self.copy is None else self.copy

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 0:
            self.copy = copy.deepcopy(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        assert self.copy.training_step.__self__ is self.copy
        self.copy.load_state_dict(pl_module.state_dict())
        self.copy.training_step((torch.rand(4, 1, 6, 6), torch.arange(4) % 3), 0)


FITS = {
    "automatic": (Module, 12, []),
    "manual": (lambda: Module(manual=True), 12, []),
    "manual accumulation": (lambda: Module(manual=True, accumulate=2), 12, []),
    "closure": (Closure, 36, []),
    "copies": (Copies, 12, []),
    # It makes an epoch more, for the statistics of batches.
    "stochastic average": (Module, 18, [lambda: pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=1)]),
    "average on a copy": (Module, 12, [Average]),
}
if hasattr(pl.callbacks, "WeightAveraging"):  # it came with Lightning 2.6
    FITS["average of weights"] = (Module, 12, [pl.callbacks.WeightAveraging])


ORDERS = [(name, order) for name, (*_, others) in FITS.items() for order in ([1, -1] if others else [1])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_a_fit_is_as_without(name, order):
    """Before and after others that copy the module."""
    make, calls, others = FITS[name]
    states = []
    for ours in ([], [Counts()]):
        module = make()
        states.append(fit(module, *[*ours, *(other() for other in others)][::order]))
        assert not [value for value in vars(module).values() if isinstance(value, _Instead)]
    assert same(*states)
    assert ours[0].calls == calls
    assert ours[0].reached == [True] * (calls if calls < 36 else 12)


def keeping(graphs):
    """A compiler that compiles nothing, and remembers what it was given."""

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    return backend


def test_a_compiled_module():
    """Lightning has its compiled step as an attribute of the instance, which comes back; nothing is compiled anew."""

    class Silent(Module):
        def training_step(self, batch, batch_idx):
            return self.loss(*batch)

    graphs, states = [[], []], []
    for callbacks, compiled in zip(([], [Counts()]), graphs, strict=True):
        torch._dynamo.reset()
        module = Silent(net=network(dropout=0))
        states.append(fit(torch.compile(module, backend=keeping(compiled)), *callbacks))
        assert "training_step" in vars(module)
        assert not isinstance(module.training_step, _Instead)
    assert same(*states)
    assert callbacks[0].calls == 12
    assert callbacks[0].reached == [True] * 12
    assert len(graphs[1]) == len(graphs[0]) > 0


def test_a_step_that_somebody_keeps_is_not_reached():
    class Cached(pl.strategies.SingleDeviceStrategy):
        def training_step(self, *args):
            return self.kept(*args)

    class Keeps(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            trainer.strategy.kept = pl_module.training_step

    counts = Counts()
    fit(Module(), Keeps(), counts, strategy=Cached("cpu"), max_epochs=1)
    assert counts.calls == 0
    assert counts.reached == [False] * 6


def test_a_checkpoint_of_the_whole_module_within_the_batch(tmp_path):
    class Saves(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            torch.save(pl_module, tmp_path / "module.pt")

    module = Module()
    fit(module, Counts(), Saves(), max_epochs=1)
    again = torch.load(tmp_path / "module.pt", weights_only=False)
    assert again.training_step.__self__ is again
    assert fit(again, max_epochs=1).keys() == state(module).keys()


# What a module logs.


class Logs(Module):
    """Logs in its forward, with all that can log; and a module inside logs, too."""

    class Inner(pl.LightningModule):
        def forward(self, x):
            self.log("inner", 1.0)
            return x

    def __init__(self):
        super().__init__()
        self.inner = self.Inner()
        self.inner.log = self.log  # Lightning does not know that it is called
        self.mean = torchmetrics.MeanMetric()
        self.size = 1.0

    def forward(self, x):
        self.log("one", self.size)
        self.log(name="two", value=self.size, on_step=False, on_epoch=True)
        self.log_dict({"three": self.size, "four": self.size}, prog_bar=True)
        self.log_dict(torchmetrics.MetricCollection({"five": self.mean}))
        return self.net(self.inner(x))


NAMES = {"one", "two", "three", "four", "five", "inner"}


def forwards(context, names):
    """Around a step: the module's forward with other values to log, in a context, before the step logs its own."""

    def around(step, batch, *args):
        module = step.func.__self__ if isinstance(step, functools.partial) else step.__self__
        module.size = 5.0
        module.eval()
        with torch.no_grad(), context(module):
            module(batch[0])
        module.train()
        module.size = 1.0
        with recorded(module) as logged:
            output = step(batch, *args)
        names.append(logged)
        return output

    return Counts(around)


def logged(*callbacks):
    """Whatever the Trainer has at the end of a fit."""
    module = Logs()
    module.mean.update(1.0)
    t = trainer(*callbacks, max_epochs=1)
    t.fit(module, loader())
    assert not [value for part in module.modules() for value in vars(part).values() if isinstance(value, _Instead)]
    return {name: float(value) for name, value in t.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore")
def test_what_is_muted_is_not_counted():
    names, without = [], logged()
    assert logged(forwards(muted, names)) == pytest.approx(without)
    assert without["two"] == without["one"] == 1.0
    assert names == [NAMES | {"train/own"}] * 6
    assert logged(forwards(recorded, names))["two"] == 3.0  # half the forwards: the test would see it


def test_muted_and_recorded_nest_and_are_gone_after_an_exception():
    def breaks():
        module.log("a", 1.0)
        with muted(module):
            module.log("b", 1.0)
            module.log_dict({"c": 1.0})
        module.log("d", 1.0)
        raise ZeroDivisionError

    module = Logs()
    before = [dict(vars(part)) for part in module.modules()]
    with pytest.raises(ZeroDivisionError), recorded(module) as outside, muted(module), recorded(module) as inside:
        breaks()
    assert (outside, inside) == (set(), {"a", "d"})
    assert [dict(vars(part)) for part in module.modules()] == before


def test_recorded_lets_through():
    class Own(pl.LightningModule):
        """A `log` of its own; and one of the instance."""

        def log(self, *args, **kwargs):
            seen.append((args, kwargs))
            return "result"

    seen, module = [], Own()
    with recorded(module) as names:
        assert module.log("a", 1, on_step=True) == "result"
        assert module.log({"b": 1, "c": 2}) == "result"
        module.log_dict({"d": 3})
        assert names == {"a", "b", "c", "d"}
    assert seen[:2] == [(("a", 1), {"on_step": True}), (({"b": 1, "c": 2},), {})]
    module.log = of_instance = lambda name: seen.append(name)
    with muted(module):
        module.log("e")
    with recorded(module) as names:
        module.log("f")
    assert names == {"f"}
    assert seen[3:] == ["f"]
    assert vars(module)["log"] is of_instance


@pytest.mark.parametrize("context", [muted, recorded])
@pytest.mark.parametrize("make", [copy.deepcopy, saved], ids=["deepcopy", "save"])
def test_a_copy_logs_by_itself(context, make):
    module = Logs()
    with context(module):
        copied = make(module)
    assert copied.log.__self__ is copied
    assert copied.inner.log.__self__ is copied
    assert "log" not in vars(module)


def test_recorded_in_a_compiled_module():
    """The names are those of the calls; with every batch another set, nothing is compiled anew."""
    torch._dynamo.reset()
    records, graphs = [], []

    class Records(pl.Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            def around(step, *args):
                with recorded(pl_module) as names:
                    step(*args)
                records.append((names, len(graphs)))

            self.handle = put_around(pl_module, "validation_step", around)

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            self.handle.undo()

    class Short(Module):
        def validation_step(self, batch, batch_idx):
            self.log("val/own", self.loss(*batch), batch_size=4)

    t, module = trainer(Records(), inference_mode=False), Short(net=network(dropout=0))
    t.validate(torch.compile(module, backend=keeping(graphs)), loader(12), verbose=False)
    assert records == [({"val/own"}, records[0][1])] * 3
    assert t.callback_metrics["val/own"] > 0


def test_muted_compiles_once():
    """An attack mutes at every forward: the graphs must not be compiled anew each time."""
    torch._dynamo.reset()
    graphs = []

    class Quiet(Module):
        def forward(self, x):
            z = self.net(x)
            self.log("size", z.detach().abs().mean())
            return z

    module = Quiet(net=network(dropout=0)).eval()
    compiled, x = torch.compile(module, backend=keeping(graphs)), data()[0]
    for _ in range(3):
        with muted(module):
            compiled(x)
    assert len(graphs) == 1
