"""Laws of all callbacks: inert, gone on every way out, read once, on time, alike in their arguments."""

import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from callbacks_fakes import (
    BATCH,
    EPS,
    MAKERS,
    SIDE,
    TEXTBOOK,
    Module,
    batches,
    data,
    fields,
    fingerprint,
    loader,
    network,
    preloaded,
    same,
    state,
    trainer,
    unpack,
)
from torch.utils.data import DataLoader, IterableDataset

from lightning_robust import PGD, AdversarialExamples, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.attacks.gains import cross_entropy
from lightning_robust.callbacks import ManifoldSheets, RobustGeneralizationGap
from lightning_robust.objectives import trades


class Through:
    """A manifold of all images, that asks an attack where the others do."""

    def __init__(self, attack):
        self.attack = attack

    def encode(self, x, y):
        return self.attack(torch.nn.Flatten(), x, y).flatten(1)

    def decode(self, z, y):
        return z.reshape(-1, 1, SIDE, SIDE)


def sheets(attack, **kwargs):
    return ManifoldSheets(manifold=lambda module: Through(attack), **kwargs)


CALLBACKS = {
    "training": AdversarialTraining,
    "evaluation": RobustEvaluation,
    "gap": RobustGeneralizationGap,
    "examples": AdversarialExamples,
    "sheets": sheets,
}
EVERY = [name for name in CALLBACKS if name != "training"]  # those with `every_n_epochs`
FORWARD = [name for name in CALLBACKS if name != "sheets"]


class Stream(IterableDataset):
    """Two batches of data of unknown length."""

    def __iter__(self):
        return iter(zip(*data(8), strict=True))


def nothing(model, x, y):
    return x


def run(name, callback, module, given, tmp_path, *others, stage=None, **kwargs):
    """One fit, or the validation where that is enough."""
    t = trainer(callback, *others, default_root_dir=tmp_path, **{"max_epochs": 1} | kwargs)
    stage = stage or ("validate" if name in ("evaluation", "examples", "sheets") else "fit")
    if stage == "fit":
        t.fit(module, given, given)
    else:
        getattr(t, stage)(module, given, verbose=False)
    return t


# Inert


class Logging(Module):
    """Logs and counts in its forward."""

    def __init__(self):
        super().__init__()
        self.calls = torchmetrics.SumMetric()

    def forward(self, x):
        z = super().forward(x)
        self.calls.update(float(len(x)))
        self.log("size", x.detach().mean(), on_step=False, on_epoch=True, batch_size=len(x))
        return z


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_fit_is_as_without(name, tmp_path):
    """The weights, what the module logs and counts in its forward, and the module itself."""
    attack = PGD(Linf(0.0 if name == "training" else EPS), 2)
    ends = []
    for callbacks in ([], [CALLBACKS[name](attack)]):
        module = Logging()
        before = fingerprint(module)
        t = trainer(*callbacks, default_root_dir=tmp_path, num_sanity_val_steps=1)
        torch.manual_seed(7)
        t.fit(module, loader(), loader(8, seed=1))
        assert fingerprint(module) == before
        ends.append((state(module), float(module.calls.compute()), torch.get_rng_state(), t.callback_metrics))
    (plain, calls, stream, metrics), (weights, calls_with, stream_with, metrics_with) = ends
    assert same(weights, plain)
    assert calls_with == calls
    assert torch.equal(stream_with, stream)
    assert {key: metrics_with[key] for key in metrics} == metrics


@pytest.mark.parametrize("name", CALLBACKS)
def test_it_pickles_after_a_run(name, tmp_path):
    callback = CALLBACKS[name](TEXTBOOK) if name != "sheets" else ManifoldSheets(manifold=torch.nn.Identity())
    if name != "sheets":
        run(name, callback, Module(), loader(4), tmp_path)
    assert repr(pickle.loads(pickle.dumps(callback))) == repr(callback)


# Every way out


class Broken(Exception):
    """What goes wrong."""


def raises(*args, **kwargs):
    raise Broken


def interrupts(*args, **kwargs):
    raise KeyboardInterrupt


class BreakingHook(pl.Callback):
    on_train_batch_start = on_validation_batch_start = on_test_batch_start = raises


class BreakingForward(Module):
    def forward(self, x):
        if not self.training and torch.is_grad_enabled():
            raise Broken
        return super().forward(x)


STAGES = [("training", "fit"), ("gap", "fit"), ("examples", "validate"), ("sheets", "validate")]
STAGES += [("evaluation", stage) for stage in ("fit", "validate", "test")]


WAYS_OUT = [
    (name, stage, where)
    for where in ("step", "attack", "hook", "forward", "interrupt")
    for name, stage in STAGES
    if (name, where) != ("sheets", "forward")  # these pictures need no forward of the module
]


@pytest.mark.parametrize(("name", "stage", "where"), WAYS_OUT)
def test_every_way_out(name, stage, where, tmp_path, monkeypatch):
    """Nothing stays: no step on the module, no mode, no filter of warnings."""
    step = interrupts if where == "interrupt" else raises if where == "step" else None
    kind = BreakingForward if where == "forward" else Module
    if step is not None:
        kind = type("Breaks", (Module,), dict.fromkeys(("training_step", "validation_step", "test_step"), step))
    module, attack = kind(), raises if where == "attack" else PGD(Linf(EPS), 1)
    module.net[1].eval()
    module.net[0].bias.requires_grad_(False)
    before, filters = fingerprint(module), list(warnings.filters)
    if name == "evaluation":  # as over processes
        monkeypatch.setattr(pl.Trainer, "world_size", 2)
    others = [BreakingHook()] if where == "hook" else []
    with pytest.raises((Broken, SystemExit)):
        run(name, CALLBACKS[name](attack), module, loader(), tmp_path, *others, stage=stage)
    after = fingerprint(module)
    assert after[:1] + after[2:] == before[:1] + before[2:]
    assert stage != "fit" or name != "training" or after[1] == before[1]  # Lightning leaves modes after a validation
    assert not [attribute for attribute in vars(module) if attribute.endswith("_step")]
    assert warnings.filters == filters
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_no_filter_outlives_a_run(monkeypatch):
    filters = list(warnings.filters)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    t, callback = trainer(), RobustEvaluation(nothing, prefix="(8/255)+")
    callback.setup(t, Module(), "fit")
    assert len(warnings.filters) == len(filters) + 1
    callback.teardown(t, Module(), "fit")
    assert warnings.filters == filters


# Batches


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", CALLBACKS)
def test_batches_of_all_kinds(name, kind, tmp_path):
    """The attack is given what is there, and nobody writes to the user's batches."""
    seen = []

    def attack(model, x, y):
        seen.append((x.clone(), y.clone()))
        return x

    given, (x, y) = batches(kind), data()
    run(name, CALLBACKS[name](attack, **fields(kind)), Module(), preloaded(given), tmp_path)
    sizes = {"examples": 4, "sheets": 20}
    x_seen, y_seen = seen[0] if name == "sheets" else map(torch.cat, zip(*seen, strict=True))
    size = sizes.get(name, 24)
    assert torch.equal(x_seen[:size], x[:size])
    assert torch.equal(y_seen[:size], y[:size])
    for batch, *clean in zip(given, x.split(BATCH), y.split(BATCH), strict=True):
        assert all(map(torch.equal, unpack(batch), clean))


@pytest.mark.parametrize("name", EVERY)
def test_the_batch_is_read_before_the_step(name, tmp_path):
    """A step may take fields out of its batch, rename them, and write to the input in place."""

    class Spends(Module):
        def validation_step(self, batch, batch_idx):
            batch.pop("label")
            batch["renamed"] = batch.pop("image").zero_()

    seen = []

    def attack(model, x, y):
        seen.append(x.clone())
        return x

    given = DataLoader([{"image": x, "label": y} for x, y in zip(*data(), strict=True)], BATCH)
    run(name, CALLBACKS[name](attack, **fields("dict")), Spends(), given, tmp_path)
    assert torch.equal(seen[0][:BATCH], data()[0][:BATCH])


class Masked(Module):
    """Needs another entry of the batch, in a product with what depends on the input; its output holds the logits."""

    def forward(self, x, mask):
        return {"logits": self.net(x) * mask}

    def _loss(self, batch):
        return F.cross_entropy(masked(self, batch), batch["label"])

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/own", self._loss(batch), batch_size=BATCH)


def masked(module, batch):
    return module(batch["image"], batch["mask"])["logits"]


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("name", FORWARD)
def test_forward_of_another_signature(name, inference_mode, tmp_path):
    """Collated within the loop, the other entries are inference tensors, which autograd refuses to save."""
    x, y = data()
    samples = [{"image": x[i], "label": y[i], "mask": torch.tensor([1.0, 0.5, 2.0])} for i in range(len(x))]
    callback = CALLBACKS[name](PGD(Linf(EPS), 2), **fields("dict"), forward=masked)
    run(name, callback, Masked(), DataLoader(samples, batch_size=BATCH), tmp_path, inference_mode=inference_mode)


# When


class Notes:
    """An attack that notes the epochs in which it was asked."""

    def __init__(self):
        self.trainer, self.epochs = None, []

    def __call__(self, model, x, y):
        if not self.epochs or self.epochs[-1] != self.trainer.current_epoch:
            self.epochs.append(self.trainer.current_epoch)
        return x


def epochs(name, tmp_path, n, ckpt_path=None, save=None, **kwargs):
    """The epochs in which a callback does something."""
    notes = Notes()
    t = notes.trainer = trainer(CALLBACKS[name](notes, every_n_epochs=n), default_root_dir=tmp_path, **kwargs)
    t.fit(Module(), loader(4), loader(4), ckpt_path=ckpt_path)
    if save is not None:
        t.save_checkpoint(save)
    return notes.epochs


@pytest.mark.parametrize("name", EVERY)
def test_every_n_epochs_means_one_thing(name, tmp_path):
    """The first, every n-th from the start on, and the last; where not every epoch validates; and after a resume."""
    assert epochs(name, tmp_path, 2, max_epochs=6) == [0, 1, 3, 5]
    assert epochs(name, tmp_path, 2, max_epochs=4, check_val_every_n_epoch=2) == [1, 3]
    file = tmp_path / "two epochs.ckpt"
    assert epochs(name, tmp_path, 3, max_epochs=2, save=file) == [0, 1]
    assert epochs(name, tmp_path, 3, max_epochs=6, ckpt_path=file) == [2, 5]


class Swaps(pl.Callback):
    """Puts other weights into the module for the validation, as the average of the weights is put there."""

    def on_validation_epoch_start(self, trainer, pl_module):
        self.kept = pl_module.net[-1].bias.detach().clone()
        pl_module.net[-1].bias.data.fill_(5.0)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.net[-1].bias.data.copy_(self.kept)


@pytest.mark.parametrize("known", [True, False], ids=["a length", "no length"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("name", EVERY)
def test_all_is_measured_with_the_weights_of_the_validation(name, first, known, tmp_path):
    """Also where the callback that has put them there takes them away before this one hears of the end."""
    module, seen = Module(), []

    def notes(model, x, y):
        seen.append(float(module.net[-1].bias[0]))
        return x

    callbacks = [CALLBACKS[name](notes), Swaps()]
    t = trainer(*callbacks[:: 1 if first else -1], default_root_dir=tmp_path, max_epochs=2)
    t.fit(module, loader(), loader(8) if known else DataLoader(Stream(), batch_size=BATCH))
    assert len(seen) >= 2
    assert set(seen) == {5.0}


@pytest.mark.parametrize("trial", ["fast_dev_run", "barebones"])
def test_a_trial_writes_nothing(trial, tmp_path, monkeypatch):
    """All that it makes goes nowhere, as with Lightning's own callbacks."""
    monkeypatch.chdir(tmp_path)
    callbacks = [CALLBACKS[name](TEXTBOOK) for name in CALLBACKS if name != "sheets"] + [sheets(nothing)]
    quiet = {} if trial == "barebones" else {"enable_progress_bar": False, "enable_model_summary": False}
    t = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=callbacks, **{trial: True}, **quiet)
    t.fit(Module(), loader(4), loader(4))
    assert list(tmp_path.rglob("*")) == []


# Refused before anything runs


class NoForward(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Labelled(Module):
    def forward(self, x, y):
        return super().forward(x)


class Fetches(Module):
    def training_step(self, dataloader_iter):
        raise AssertionError

    validation_step = training_step


@pytest.mark.parametrize("name", FORWARD)
def test_modules_that_cannot_be_attacked(name, tmp_path):
    with pytest.raises(TypeError, match=r"NoForward defines no `forward`.*forward=lambda"):
        run(name, CALLBACKS[name](nothing), NoForward(), loader(), tmp_path)
    with pytest.raises(TypeError, match=r"forward\(x\) of Labelled .*\(x, y\).*forward=lambda"):
        run(name, CALLBACKS[name](nothing), Labelled(), loader(), tmp_path)
    with pytest.raises(TypeError, match=r"dataloader_iter.*Take `batch`"):
        run(name, CALLBACKS[name](nothing), Fetches(), loader(), tmp_path)
    callback = CALLBACKS[name](nothing, forward=lambda module, batch: module.net(batch[0]))
    run(name, callback, NoForward(), loader(), tmp_path)


@pytest.mark.parametrize("name", CALLBACKS)
def test_two_of_one_kind_are_refused(name, tmp_path):
    """By Lightning, where it is given them, and by the callback, where it was not."""
    with pytest.raises(RuntimeError, match="more than one stateful callback of type"):
        trainer(CALLBACKS[name](nothing), CALLBACKS[name](nothing))
    t = trainer(CALLBACKS[name](nothing), default_root_dir=tmp_path)
    t.callbacks.append(CALLBACKS[name](nothing))
    with pytest.raises(ValueError, match=r"in a Trainer.* but got .*several"):
        t.fit(Module(), loader(), loader())


X, Y = data(4)
DATA = {
    "range": ((255 * X, Y), ValueError, r"\[0, 1\].*divide by 255"),
    "label": ((X, Y + 1), ValueError, "less than the number of classes, 3, but got 3"),
    "float label": ((X, Y.double()), ValueError, "labels.*integers"),
    "nan": ((X * float("nan"), Y), ValueError, "finite"),
    "no input": ({"x": X, "y": Y}, KeyError, r"field 0 \(argument `input`\).*\['x', 'y'\]"),
    "no target": ([X], KeyError, r"field 1 \(argument `target`\)"),
}


@pytest.mark.parametrize("wrong", DATA)
@pytest.mark.parametrize("name", [name for name in FORWARD if name != "gap"])
def test_wrong_data_fails_at_the_first_batch(name, wrong, tmp_path):
    batch, error, message = DATA[wrong]
    module = Module()
    module.validation_step = lambda batch, batch_idx: None
    before, weights = fingerprint(module), state(module)
    with pytest.raises(error, match=message):
        run(name, CALLBACKS[name](TEXTBOOK), module, preloaded([batch, batch]), tmp_path)
    assert fingerprint(module)[0] == before[0]
    assert same(state(module), weights)


# In a notebook


@pytest.mark.parametrize(
    ("callback", "shown"),
    [
        (
            AdversarialTraining(nothing, trades(6.0), code=2),
            "AdversarialTraining({nothing}, objective={trades}, code=2)",
        ),
        (AdversarialTraining(TEXTBOOK, fraction=0.5), "AdversarialTraining({textbook}, fraction=0.5)"),
        (RobustEvaluation(nothing, max_samples=9), "RobustEvaluation({nothing}, max_samples=9)"),
        (RobustEvaluation({"a": nothing}, prefix="x/"), "RobustEvaluation({{'a': {nothing}}}, prefix='x/')"),
        (RobustEvaluation(TEXTBOOK, every_n_epochs=2), "RobustEvaluation({best}, every_n_epochs=2)"),
        (RobustGeneralizationGap(TEXTBOOK, forward=masked), "RobustGeneralizationGap({best}, forward=masked)"),
        (AdversarialExamples(TEXTBOOK, to_disk=False), "AdversarialExamples({best}, to_disk=False)"),
        (ManifoldSheets(steps=5, target="y"), "ManifoldSheets(steps=5, target='y')"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_arguments_are_shown_in_a_line(callback, shown):
    textbook = repr(TEXTBOOK).replace(repr(cross_entropy), "cross_entropy")
    objects = {
        "textbook": textbook,
        "best": textbook.replace("keep='last'", "keep='best'"),
        "trades": repr(trades(6.0)),
        "nothing": repr(RobustEvaluation(nothing).attacks[""]).replace(repr(nothing), "nothing"),
    }
    assert repr(callback) == shown.format(**objects)
