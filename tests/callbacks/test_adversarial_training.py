import contextlib
import copy
import gc
import pickle
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from callbacks_fakes import (
    BATCH,
    CLASSES,
    EPS,
    TEXTBOOK,
    Module,
    Sample,
    batches,
    data,
    fields,
    fingerprint,
    fit,
    loader,
    preloaded,
    same,
    state,
    textbook_pgd,
    trainer,
    unpack,
)
from torch import nn

from lightning_robust import L1, PGD, AdversarialTraining, LatentSpace, Linf, Threat, WarmUp
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack
from lightning_robust.attacks.attack import Outcome
from lightning_robust.attacks.gains import cross_entropy, log_odds
from lightning_robust.objectives import adversarial_loss, alp, awp, mart, mixed, trades

RANDOM = PGD(Linf(0.1), 2)


def by_random(module, x, y):
    return RANDOM(module, x, y, key=module.current_epoch)


# What the step and other callbacks see


class Watcher(pl.Callback):
    """Keeps what callbacks are shown, and the fingerprint of the module outside of the step."""

    def __init__(self):
        self.started, self.ended, self.prints = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.started.append(batch)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.ended.append(batch)
        self.prints.append(fingerprint(pl_module))


class Recorder(Module):
    """Keeps the batches that its step was given."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.given = []

    def training_step(self, batch, batch_idx):
        self.given.append(batch)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("kind", ["list", "dict", "nested"])
def test_the_step_sees_a_copy_and_the_others_the_clean_batch(kind):
    """And outside of the step the module is as it was."""
    module, watcher = Recorder(), Watcher()
    before = fingerprint(module)
    fit(module, AdversarialTraining(TEXTBOOK, **fields(kind)), watcher, loader=preloaded(batches(kind)), max_epochs=1)
    assert [*watcher.prints, fingerprint(module)] == [before] * 7
    x, y = data()
    pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
    for given, started, ended, (x, y) in zip(module.given, watcher.started, watcher.ended, pairs, strict=True):
        assert started is ended
        assert given is not started
        assert type(given) is type(started)
        assert all(map(torch.equal, unpack(ended), (x, y)))
        x_adv, y_adv = unpack(given)
        assert torch.equal(y_adv, y)
        assert 0.5 * EPS < (x_adv - x).abs().max() <= EPS
        assert not x_adv.requires_grad


def test_everything_pickles_and_copies_within_a_fit(tmp_path):
    """Callbacks such as checkpointing and averaging do so between batches."""

    class Copies(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert copy.deepcopy(pl_module.net) is not pl_module.net
            copied = copy.deepcopy(pl_module)
            assert "training_step" not in vars(copied)
            pickle.dumps(callback.attack)

    callback = AdversarialTraining(RANDOM, trades(6), schedule=WarmUp(3))
    saver = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    fit(Module(), callback, saver, Copies(), enable_checkpointing=True)
    assert len(list(tmp_path.glob("*.ckpt"))) == 12
    restored = pickle.loads(pickle.dumps(callback))
    assert restored.attack == callback.attack
    assert restored.objective == callback.objective


@pytest.mark.parametrize("objective", [None, mixed(0.5)], ids=["step", "objective"])
def test_no_tensor_of_a_batch_lives_on_after_it(objective):
    class Fresh(torch.utils.data.IterableDataset):
        def __iter__(self):
            return ((x.clone(), y.clone()) for x, y in batches("tuple"))

    class Watch(pl.Callback):
        def __init__(self):
            self.last, self.alive = [], 0

        def look(self, *args):
            gc.collect()
            self.alive += sum(tensor() is not None for tensor in self.last)

        on_validation_start = on_fit_end = look

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 1:
                self.look()
            self.last = [weakref.ref(tensor) for tensor in batch]

    watch, callback = Watch(), AdversarialTraining(RANDOM, objective)
    gc.freeze()  # what was there before need not be looked at
    trainer(watch, callback, max_epochs=1).fit(Module(), torch.utils.data.DataLoader(Fresh(), None), loader(4))
    watch.look()
    gc.unfreeze()
    assert watch.last
    assert watch.alive == 0


def test_only_training_is_attacked():
    class Never(Attack):
        def run(self, model, x, y, context):
            raise AssertionError("attacked")

    t, module = trainer(AdversarialTraining(Never())), Module()
    t.validate(module, loader(), verbose=False)
    t.test(module, loader(), verbose=False)


def test_the_step_of_the_instance_is_called_and_kept():
    """`torch.compile(module)` and some users put a step on the instance."""
    module, seen = Module(), []
    original = module.training_step

    def step(batch, batch_idx):
        seen.append(batch)
        return original(batch, batch_idx)

    module.training_step = step
    callback = AdversarialTraining(RANDOM)
    fitted = fit(module, callback)
    assert len(seen) == 12
    assert vars(module)["training_step"] is step
    assert same(fitted, fit(Module(by_random)))
    assert same(fitted, fit(Module(), callback))  # two fits with one callback


def test_a_skipped_batch():
    """-1 from `on_train_batch_start` ends the epoch, without an end of the batch."""

    class Skips(Module):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    class Ends(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(fingerprint(pl_module))

    module, seen = Skips(), []
    before = fingerprint(module)
    fitted = fit(module, AdversarialTraining(RANDOM), Ends())
    assert [*seen, fingerprint(module)] == [before] * 3
    assert same(fitted, fit(Skips(by_random)))


# Batches, forward, codes


def test_forward_of_another_signature():
    class Masked(Module):
        """Needs a second input, and returns more than logits."""

        def forward(self, x, mask, scale=1.0):
            return {"logits": self.net(x * mask) * scale}

        def training_step(self, batch, batch_idx):
            x, y = batch["image"], batch["label"]
            if self.prepare is not None:
                x = self.prepare(self, batch)
            return F.cross_entropy(self(x, batch["mask"])["logits"], y)

    def masks():
        given = batches("dict")
        for index, batch in enumerate(given):
            batch["mask"] = (data(seed=index)[0][:BATCH] > 0.25).float()
        return preloaded(given)

    def prepare(module, batch):
        return textbook_pgd(View(module, batch["mask"]), batch["image"], batch["label"])

    class View(nn.Module):
        def __init__(self, module, mask):
            super().__init__()
            self.module, self.mask = module, mask

        def forward(self, x):
            return self.module(x, self.mask)["logits"]

    def forward(module, batch):
        return module(batch["image"], batch["mask"])["logits"]

    for fraction, expected in ((1.0, prepare), (0.5, _on_last_half(prepare))):
        callback = AdversarialTraining(TEXTBOOK, **fields("dict"), forward=forward, fraction=fraction)
        assert same(fit(Masked(), callback, loader=masks()), fit(Masked(expected), loader=masks()))


def _on_last_half(prepare):
    def half(module, batch):
        half = BATCH // 2
        x_adv = prepare(module, {name: entry[half:] for name, entry in batch.items()})
        return torch.cat([batch["image"][:half], x_adv])

    return half


def test_several_loaders():
    """Lightning combines them to a dict of batches; one is attacked."""

    class Two(Module):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch["labelled"], batch_idx)

    loaders = {"labelled": loader(), "other": loader(seed=1)}
    callback = AdversarialTraining(RANDOM, input=("labelled", 0), target=("labelled", 1))
    assert same(fit(Two(), callback, loader=loaders), fit(Two(by_random), loader=loaders))


class Doubling(nn.Module):
    """A linear manifold: x = 0.5 + A z + b, with a constant that belongs to the code."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.basis = nn.Parameter(0.2 * torch.randn(5, 36, generator=generator))

    def encode(self, x, y):
        raise AssertionError("the batch brings its codes")

    def decode(self, z, y, offset):
        return (0.5 + z @ self.basis + offset).reshape(-1, 1, 6, 6)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_codes_of_the_batch(fraction):
    manifold = Doubling()
    attack = PGD(Threat(Linf(0.3), LatentSpace(manifold)), 2)
    z = torch.rand(24, 5, generator=torch.Generator().manual_seed(4))
    offset, y = torch.linspace(-0.1, 0.1, 24)[:, None], data()[1]
    x = manifold.decode(z, y, offset).detach()
    given = [(x[i : i + 4], y[i : i + 4], (z[i : i + 4], offset[i : i + 4])) for i in range(0, 24, 4)]

    class Coded(Module):
        def training_step(self, batch, batch_idx):
            x, y, (z, offset) = batch
            if self.prepare is not None:
                x = self.prepare(self, x, y, z, offset)
            return F.cross_entropy(self(x), y)

    def prepare(module, x, y, z, offset):
        k = round(len(x) * (1 - fraction))
        x_adv = attack(module, x[k:], y[k:], code=(z[k:], offset[k:]), key=module.current_epoch)
        return torch.cat([x[:k], x_adv])

    callback = AdversarialTraining(attack, code=2, fraction=fraction)
    fitted = fit(Coded(), callback, loader=preloaded(given))
    assert same(fitted, fit(Coded(prepare), loader=preloaded(given)))
    assert manifold.basis.requires_grad


def test_a_fraction_with_names_in_the_batch():
    """Collated strings come as a tuple or a list, one per sample: `forward` must get those of its samples."""
    seen = []

    def forward(module, batch):
        seen.append((len(batch[0]), len(batch[2])))
        return module(batch[0])

    x, y = data()
    for kind in (list, tuple):
        seen.clear()
        given = [(x[i : i + 4], y[i : i + 4], kind("abcd")) for i in range(0, 24, 4)]
        callback = AdversarialTraining(TEXTBOOK, fraction=0.5, forward=forward)
        fit(Module(), callback, loader=preloaded(given), max_epochs=1)
        assert set(seen) == {(2, 2)}  # the attacks, and nothing else


# Schedules


class Probe(Attack):
    """An attack that only tells of its calls."""

    def __init__(self, factor=1.0, calls=None):
        self.factor, self.calls = factor, [] if calls is None else calls

    def scaled(self, factor):
        return Probe(factor, self.calls)

    def run(self, model, x, y, context):
        self.calls.append((context.key, self.factor))
        return Outcome(x)


def test_the_schedule_sees_the_fraction_of_the_epoch():
    attack = Probe()
    fit(Module(), AdversarialTraining(attack, schedule=WarmUp(epochs=1.5)))
    sixths = [i / 6 for i in range(12)]
    assert [factor for _, factor in attack.calls] == pytest.approx([min(1.0, s / 1.5) for s in sixths])
    assert [key for key, _ in attack.calls] == [0] * 6 + [1] * 6


@pytest.mark.parametrize("ball", [Linf(0.1), L1(3.0)])
def test_warm_up_from_radius_zero(ball):
    """The first batch is clean, whatever the ball."""
    attack = PGD(ball, 2)
    fitted = fit(Module(), AdversarialTraining(attack, schedule=WarmUp(epochs=1)), max_epochs=1, limit_train_batches=1)
    assert same(fitted, fit(Module(), max_epochs=1, limit_train_batches=1))


def test_a_schedule_may_return_any_attack():
    def schedule(attack, progress):
        return TEXTBOOK if progress.epoch < 1 else textbook_pgd

    fitted = fit(Module(), AdversarialTraining(RANDOM, schedule=schedule))
    assert same(fitted, fit(Module(lambda module, x, y: textbook_pgd(module, x, y))))


# Objectives


def _trades(logits, logits_adv, y):
    kl = F.kl_div(F.log_softmax(logits_adv, 1), F.softmax(logits, 1), reduction="batchmean")
    return F.cross_entropy(logits, y) + 6.0 * kl


def _mart(logits, logits_adv, y):
    p, q = logits.softmax(1), logits_adv.softmax(1)
    rows = torch.arange(len(y))
    others = q.scatter(1, y[:, None], -1.0)
    boosted = -q[rows, y].log() - (1 - others.amax(1)).log()
    return (boosted + 5.0 * (p * (p / q).log()).sum(1) * (1 - p[rows, y])).mean()


def _mixed(logits, logits_adv, y):
    return 0.75 * F.cross_entropy(logits, y) + 0.25 * F.cross_entropy(logits_adv, y)


class Logged(pl.Callback):
    """Keeps the loss of every batch."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        assert torch.equal(outputs["loss"], trainer.callback_metrics["train/loss"])
        assert "train/own" not in trainer.callback_metrics


@pytest.mark.parametrize(
    ("objective", "formula"),
    [(trades(6.0), _trades), (mart(5.0), _mart), (mixed(0.25), _mixed)],
    ids=["trades", "mart", "mixed"],
)
def test_an_objective_is_the_loss(objective, formula):
    class ByHand(Module):
        def __init__(self):
            super().__init__()
            self.losses = []

        def training_step(self, batch, batch_idx):
            x, y = batch
            x_adv = by_random(self, x, y)
            logits, logits_adv = self(torch.cat([x, x_adv])).chunk(2)
            loss = formula(logits, logits_adv, y)
            self.losses.append(float(loss.detach()))
            return loss

    class Uncalled(Module):
        def training_step(self, batch, batch_idx):
            raise AssertionError("the objective is the loss")

    logged, module, by_hand = Logged(), Uncalled(), ByHand()
    fitted = fit(module, AdversarialTraining(RANDOM, objective), logged)
    expected = fit(by_hand)
    assert logged.losses == pytest.approx(by_hand.losses, rel=1e-3)
    for name, value in fitted.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("objective", [adversarial_loss, trades(6), mart(5), alp(0.5), awp(trades(6), 0.01)])
def test_an_objective_equals_the_same_in_the_step(objective):
    """In mixed precision, which an objective must run in, too."""

    class ByHand(Module):
        def training_step(self, batch, batch_idx):
            x, y = batch
            return objective(self, x, by_random(self, x, y), y)

    fitted = fit(Module(), AdversarialTraining(RANDOM, objective), precision="bf16-mixed", max_epochs=1)
    assert same(fitted, fit(ByHand(), precision="bf16-mixed", max_epochs=1))


def test_an_objective_with_accumulation_and_another_forward():
    class Wrapped(Module):
        def forward(self, x):
            return (self.net(x),)

    class ByHand(Module):
        def training_step(self, batch, batch_idx):
            x, y = unpack(batch)
            return trades(6)(self, x, by_random(self, x, y), y)

    callback = AdversarialTraining(
        RANDOM, trades(6), **fields("dict"), forward=lambda module, batch: module(batch["image"])[0]
    )
    fitted = fit(Wrapped(), callback, loader=preloaded(batches("dict")), accumulate_grad_batches=3)
    assert same(fitted, fit(ByHand(), accumulate_grad_batches=3))


# Vanished gradients


class Confident(Module):
    """Cross entropy of these logits has no gradient in float32."""

    def forward(self, x):
        return 1e4 * x.flatten(1)[:, :CLASSES]

    def training_step(self, batch, batch_idx):
        return sum(p.sum() for p in self.parameters())


@pytest.mark.parametrize(("gain", "warns"), [(cross_entropy, True), (log_odds, False)])
def test_vanished_gradients_are_reported_once(gain, warns):
    attack = PGD(Linf(0.01), 2, gain=gain, random_start=False)
    x, y = torch.zeros(24, 1, 6, 6), torch.arange(24) % CLASSES
    x.flatten(1)[torch.arange(24), y] = 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Confident(), AdversarialTraining(attack), loader=preloaded(list(zip(x.split(4), y.split(4), strict=True))))
    said = [str(w.message) for w in caught if "gradient was zero" in str(w.message)]
    assert len(said) == warns
    assert all("24 of 24 samples" in text and "log_odds" in text for text in said)


# Errors


@pytest.mark.parametrize(
    ("kwargs", "error", "parts"),
    [
        ({"attack": "pgd"}, TypeError, ("PGD(Linf(8 / 255))", "'pgd'")),
        ({"attack": PGD}, TypeError, ("attack", "PGD")),  # the class, not an attack
        ({"objective": trades}, TypeError, ("`objective`", "trades")),
        ({"fraction": 0}, ValueError, ("`fraction`", "(0, 1]", "but got 0")),
        ({"objective": trades(6), "fraction": 0.5}, ValueError, ("`fraction`", "objective", "0.5")),
    ],
)
def test_what_is_refused_at_construction(kwargs, error, parts):
    """All other arguments: `tests/test_arguments.py`."""
    with pytest.raises(error) as caught:
        AdversarialTraining(**({"attack": RANDOM} | kwargs))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_an_objective_with_manual_optimization_is_refused_before_anything_runs():
    module = Module(manual=True)
    before = state(module)
    with pytest.raises(ValueError, match="automatic optimization with an objective"):
        fit(module, AdversarialTraining(RANDOM, trades(6)))
    assert same(before, state(module))
    assert "training_step" not in vars(module)


class Blocked(Module):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Predicts(Module):
    def forward(self, x):
        return super().forward(x).argmax(1)


class Tuples(Module):
    def forward(self, x):
        return (super().forward(x),)


X, Y = data(4)


@pytest.mark.parametrize(
    ("batch", "make", "error", "parts"),
    [
        (((255 * X).byte(), Y), Module, TypeError, ("float", "uint8", "/ 255")),
        ((X - 0.5, Y), Module, ValueError, ("[0, 1]", "mean=")),
        ((X, Y.float()), Module, ValueError, ("labels", "integers", "float32")),
        ((X, Y - 1), Module, ValueError, ("labels", "at least 0", "-1")),
        ((X, Y[:3]), Module, ValueError, ("one label per input", "N=4", "(3,)")),
        ((X,), Module, KeyError, ("field 1", "`target`", "tuple of 1 entries", "target=")),
        (Sample(X, Y), Module, KeyError, ("field 0", "`input`", "Sample", "['image', 'label']")),
        (X, Module, KeyError, ("field 0", "`input`", "single tensor")),
        ((X, Y), Blocked, RuntimeError, ("no gradient", "torch.no_grad")),
        ((X, Y), Predicts, TypeError, ("logits", "int64", "predicted classes")),
        ((X, Y), Tuples, TypeError, ("logits", "tuple", "forward=lambda")),
    ],
    ids=lambda value: None,
)
def test_wrong_data_fails_at_the_first_batch(batch, make, error, parts):
    module = make()
    before, weights = fingerprint(module), state(module)
    with pytest.raises(error) as caught:
        fit(module, AdversarialTraining(RANDOM), loader=preloaded([batch, batch]))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert fingerprint(module) == before
    assert same(weights, state(module))


def test_radii_of_the_wrong_length_fail_at_the_first_batch():
    module = Module()
    before = fingerprint(module)
    with pytest.raises(ValueError, match=r"`eps`.*shape \(4,\).*shape \(3,\)"):
        fit(module, AdversarialTraining(PGD(Linf(torch.full((3,), 0.1)), 2)))
    assert fingerprint(module) == before


def test_a_missing_field_reads_as_a_sentence_that_names_the_argument():
    """A KeyError shows its text quoted and escaped, unless told otherwise."""
    with pytest.raises(KeyError, match=r"field 'theta' \(argument `code`\).*code=<index") as caught:
        fit(Module(), AdversarialTraining(RANDOM, code="theta"))
    assert str(caught.value).startswith("Expected the batch to have the field 'theta'")


# Without the callback


ONCE = replace(TEXTBOOK, steps=1, rel_step_size=1.0)  # moves every input as far as it may


class Keeps(Module):
    """Keeps how far the inputs of its step are from the clean ones; has what the finders of Lightning write to."""

    def __init__(self):
        super().__init__()
        self.far, self.lr, self.batch_size = [], 0.01, BATCH

    def training_step(self, batch, batch_idx):
        x, y = unpack(batch)
        clean = data()[0]
        self.far += [float((clean - one).abs().flatten(1).amax(1).min()) for one in x]
        return self.loss(x, y)

    def train_dataloader(self):
        return loader(batch_size=self.batch_size)

    def val_dataloader(self):
        return loader(4)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


FINDERS = {
    "LearningRateFinder": lambda: pl.callbacks.LearningRateFinder(num_training_steps=4),
    "BatchSizeFinder": lambda: pl.callbacks.BatchSizeFinder(max_trials=1, steps_per_trial=2),
}


def find(finder, times, tmp_path):
    """A fit with a finder, `attached` so many times around it. Returns distances, and the warnings of it."""
    module, callback = Keeps(), AdversarialTraining(ONCE)
    t = trainer(callback, FINDERS[finder](), default_root_dir=tmp_path, max_epochs=1)
    with warnings.catch_warnings(record=True) as caught, contextlib.ExitStack() as stack:
        warnings.simplefilter("always")
        for _ in range(times):
            stack.enter_context(callback.attached(module))
        t.fit(module)
    assert "training_step" not in vars(module)
    return module.far, [str(w.message) for w in caught if "takes all callbacks away" in str(w.message)]


@pytest.mark.parametrize("finder", FINDERS)
def test_the_trial_batches_of_a_finder_are_clean_and_that_is_told_or_attacked_where_attached(finder, tmp_path):
    """And never twice, neither in the trial nor in the fit, however often it is attached."""
    far, told = find(finder, 0, tmp_path)
    tried = sum(value == 0 for value in far)
    assert 0 < tried < len(far)
    assert len(told) == 1
    assert told[0].startswith(f"{finder} takes all")
    for times in (1, 2):
        far, told = find(finder, times, tmp_path)
        assert len(far) > tried
        assert set(far) == {EPS}
        assert told == []


def test_attached_around_a_fit_with_the_callback_attacks_once():
    """By the callback: with its schedule, and as without `attached`; afterwards the module is as it was."""
    expected = fit(Module(), AdversarialTraining(RANDOM, schedule=WarmUp(epochs=1)))
    callback, module = AdversarialTraining(RANDOM, schedule=WarmUp(epochs=1)), Module()
    with callback.attached(module), AdversarialTraining(TEXTBOOK).attached(module):
        assert same(fit(module, callback), expected)
    assert "training_step" not in vars(module)


def test_a_step_that_breaks_leaves_no_mark():
    """The next batch is attacked."""

    class Breaks(Keeps):
        def training_step(self, batch, batch_idx):
            if not self.far:
                self.far.append(0.0)
                raise FloatingPointError
            return super().training_step(batch, batch_idx)

    module, callback = Breaks(), AdversarialTraining(ONCE)
    with pytest.raises(FloatingPointError):
        fit(module, callback)
    fit(module, callback, max_epochs=1)
    assert set(module.far[1:]) == {EPS}


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_adversarial_input_wants_a_gradient_where_the_input_does(wanted, fraction):
    """For a penalty on it; without an attack the step may ask for one, too."""
    wants = []

    class Penalty(Module):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [batch[0].requires_grad_(wanted), batch[1]]

        def training_step(self, batch, batch_idx):
            x, y = unpack(batch)
            wants.append(x.requires_grad)
            loss = self.loss(x, y)
            if not wanted:
                return loss
            (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            return loss + grad.square().sum()

    fit(Penalty(), AdversarialTraining(TEXTBOOK, fraction=fraction), max_epochs=1)
    assert set(wants) == {wanted}


def test_a_batch_is_let_go_once_another_wrapper_attacks():
    """Else the memory of the last trial of a finder is not there in the fit."""
    module, callback = Keeps(), AdversarialTraining(ONCE)
    first, second = (callback._around(module, callback.attack, 0) for _ in range(2))
    seen = []

    def step(batch, *args):
        seen.append(weakref.ref(batch[0]))

    first(step, data(4))
    assert seen[0]() is not None
    second(lambda *args: first(step, *args), data(4, seed=1))
    gc.collect()
    assert seen[0]() is None
