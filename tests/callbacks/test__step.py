import copy
import functools
import inspect
import itertools
import pickle

import pytest
import torch
from callbacks_fakes import Module, batches, fields, fit, loader, network, trainer
from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.callbacks._step import View, check_module, put_around


class Plain(nn.Module):
    def step(self, batch, batch_idx, *rest, **named):
        return [("step", batch, batch_idx, rest, named)]


def naming(name):
    """Something put around a step: notes its name before what is inside."""

    def around(step, batch, *args, **kwargs):
        return [name, *step(f"{batch}{name}", *args, **kwargs)]

    return around


def test_nothing_around_is_the_step_itself():
    module = Plain()
    undo = put_around(module, "step", lambda step, *args, **kwargs: step(*args, **kwargs))
    assert module.step("b", 3, 4, name=5) == [("step", "b", 3, (4,), {"name": 5})]
    undo()
    assert "step" not in vars(module)


def test_first_come_innermost():
    module = Plain()
    put_around(module, "step", naming("A"))
    put_around(module, "step", naming("B"))
    assert module.step("b", 0) == ["B", "A", ("step", "bBA", 0, (), {})]


@pytest.mark.parametrize("order", list(itertools.permutations("ABC")))
def test_undone_in_any_order_any_number_of_times(order):
    module = Plain()
    undo = {name: put_around(module, "step", naming(name)) for name in "ABC"}
    left = ["C", "B", "A"]
    for name in order:
        undo[name]()
        undo[name]()
        left.remove(name)
        assert module.step("b", 0)[:-1] == left
    assert "step" not in vars(module)
    assert module.step("b", 0) == Plain().step("b", 0)


def test_put_around_again_after_the_end():
    module = Plain()
    put_around(module, "step", naming("A"))()
    undo = put_around(module, "step", naming("B"))
    assert module.step("b", 0)[:-1] == ["B"]
    undo()
    assert "step" not in vars(module)


def test_one_function_put_around_twice_is_there_twice():
    module, around = Plain(), naming("A")
    first, second = put_around(module, "step", around), put_around(module, "step", around)
    assert module.step("b", 0)[:-1] == ["A", "A"]
    first()
    first()
    assert module.step("b", 0)[:-1] == ["A"]
    second()
    assert "step" not in vars(module)


def test_the_attribute_of_the_instance_comes_back():
    module = Plain()

    def compiled(batch, batch_idx):
        return ["compiled"]

    module.step = compiled
    undo = put_around(module, "step", naming("A"))
    assert module.step("b", 0) == ["A", "compiled"]
    undo()
    assert vars(module)["step"] is compiled


@pytest.mark.parametrize("wraps", [True, False])
def test_a_patch_of_somebody_else_on_top_stays(wraps):
    """We remove only what is ours; what is below them does nothing any more."""
    module = Plain()
    undo = put_around(module, "step", naming("A"))
    ours = module.step

    def theirs(batch, batch_idx):
        return ["theirs", *ours(batch, batch_idx)]

    module.step = functools.wraps(ours)(theirs) if wraps else theirs
    patched = module.step
    undo()
    assert module.step is patched
    assert module.step("b", 0) == ["theirs", ("step", "b", 0, (), {})]
    again = put_around(module, "step", naming("B"))
    assert sorted(part for part in module.step("b", 0) if isinstance(part, str)) == ["B", "theirs"]
    again()
    assert module.step is patched
    assert module.step("b", 0) == ["theirs", ("step", "b", 0, (), {})]


def test_only_this_module_and_this_method():
    module, other = Plain(), Plain()
    undo = put_around(module, "step", naming("A"))
    assert other.step("b", 0) == [("step", "b", 0, (), {})]
    undo()


def test_after_the_end_the_module_pickles_and_copies():
    module = Plain()
    put_around(module, "step", naming("A"))()
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.step("b", 0) == [("step", "b", 0, (), {})]


def test_an_exception_passes():
    def around(step, batch, *args):
        raise ZeroDivisionError

    module = Plain()
    undo = put_around(module, "step", around)
    with pytest.raises(ZeroDivisionError):
        module.step("b", 0)
    undo()
    assert "step" not in vars(module)


# The signature: Lightning reads it to know what a step takes.


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Both(Module):
    def training_step(self, batch, batch_idx):
        assert isinstance(batch_idx, int)
        return super().training_step(batch, batch_idx)


class OnlyBatch(Module):
    def training_step(self, batch):
        return super().training_step(batch, 0)


class Other(Module):
    def training_step(self, some, number):
        assert isinstance(number, int)
        return super().training_step(some, number)


class Starred(Module):
    def training_step(self, *args):
        return super().training_step(*args)


class Decorated(Module):
    @decorated
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class TwiceDecorated(Module):
    @decorated
    @decorated
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class DecoratedOnlyBatch(Module):
    @decorated
    def training_step(self, batch):
        return super().training_step(batch, 0)


class OnInstance(Module):
    def __init__(self):
        super().__init__()
        original = self.training_step
        self.training_step = lambda batch, batch_idx: original(batch, batch_idx)


class PartialOnInstance(Module):
    """A function of three arguments with one filled in."""

    def __init__(self):
        super().__init__()
        self.training_step = functools.partial(_step, self)


def _step(module, batch, batch_idx):
    return Module.training_step(module, batch, batch_idx)


class Around(pl.Callback):
    """Puts two things around each step and counts them."""

    def __init__(self):
        self.calls = 0

    def _count(self, step, *args, **kwargs):
        self.calls += 1
        return step(*args, **kwargs)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.undo = [put_around(pl_module, "training_step", self._count) for _ in range(2)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for undo in self.undo:
            undo()


@pytest.mark.parametrize(
    "make",
    [
        Both,
        OnlyBatch,
        Other,
        Starred,
        Decorated,
        TwiceDecorated,
        DecoratedOnlyBatch,
        OnInstance,
        PartialOnInstance,
    ],
)
def test_lightning_sees_the_signature_of_the_step(make):
    around, module = Around(), make()
    before = vars(module).get("training_step")
    fit(module, around, max_epochs=1)
    assert around.calls == 12
    assert vars(module).get("training_step") is before


def test_the_signature():
    module = Module()
    before = inspect.signature(module.training_step)
    undo = put_around(module, "training_step", lambda step, *args: step(*args))
    assert inspect.signature(module.training_step) == before
    assert module.training_step.__name__ == "training_step"
    undo()


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
            self.undo = put_around(pl_module, "validation_step", lambda step, *args: step(*args))

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            self.undo()

    seen, loaders = [], [loader(8), loader(4)] if kwargs else loader(8)
    trainer(Validates()).validate(Several() if kwargs else One(), loaders, verbose=False)
    assert seen == ([(0, 0), (1, 0), (0, 1)] if kwargs else [(0, 0), (1, 0)])


# View and check_module


def test_a_view_is_the_module_on_inputs():
    module, x = Module(), torch.rand(2, 1, 6, 6)
    module.eval()
    view = View(module, None, (x, None), 0)
    assert torch.equal(view(x), module(x))
    assert set(map(id, view.parameters())) == set(map(id, module.parameters()))
    assert set(module.modules()) < set(view.modules())


def test_a_view_with_forward_puts_the_input_into_the_batch():
    module, batch = Module().eval(), batches("dict")[0]
    x, seen = batch["image"], []

    def forward(module, batch):
        seen.append(batch)
        return module(batch["image"])

    view = View(module, forward, batch, fields("dict")["input"])
    assert torch.equal(view(x / 2), module(x / 2))
    assert torch.equal(seen[0]["image"], x / 2)
    assert seen[0]["label"] is batch["label"]
    assert batch["image"] is x


class NoForward(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()


class Iterates(Module):
    def test_step(self, dataloader_iter):
        return None


def test_modules_that_can_be_attacked():
    check_module(Module(), ("training_step", "validation_step"), None)
    check_module(NoForward(), ("validation_step",), lambda module, batch: module.net(batch[0]))
    check_module(Iterates(), ("training_step",), None)


def test_modules_that_cannot():
    with pytest.raises(TypeError, match=r"NoForward defines no `forward`.*forward\(self, x\).*forward=lambda"):
        check_module(NoForward(), (), None)
    with pytest.raises(TypeError, match=r"`test_step\(dataloader_iter\)`.*Take `batch`"):
        check_module(Iterates(), ("training_step", "test_step"), None)
