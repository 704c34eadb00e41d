import functools
import math
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from callbacks_fakes import (
    BATCH,
    CLASSES,
    EPS,
    MAKERS,
    TEXTBOOK,
    Module,
    batches,
    data,
    fields,
    fingerprint,
    fit,
    loader,
    network,
    preloaded,
    same,
    state,
    trainer,
    unpack,
)
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_robust import (
    PGD,
    AdversarialExamples,
    AdversarialTraining,
    LatentSpace,
    Linf,
    RobustEvaluation,
    Threat,
    worst_of,
)
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack, Context
from lightning_robust.attacks.attack import Outcome
from lightning_robust.attacks.combinators import on_fraction
from lightning_robust.attacks.gains import cross_entropy, log_odds, margin, targeted

WEAK = replace(TEXTBOOK, threat=Linf(EPS))
TO_ZERO = PGD(Linf(1.5 * EPS), 2, random_start=False, gain=targeted(log_odds, to=0))


@functools.cache
def _weights():
    return fit(Module(), max_epochs=4, loader=loader(batch_size=8))


def trained(make=Module, **kwargs):
    """A module that is right on most samples and robust on some."""
    module = make(**kwargs)
    module.load_state_dict(_weights())
    return module


def by_hand(net, attacks, x, y, size=BATCH, keep="best"):
    """The values for samples x, y, from a loop over batches and plain counting."""
    net.eval()
    correct = {name: [] for name in ("clean", *attacks)}
    pairs = zip(x.split(size), y.split(size), strict=True)
    for x, y in pairs:
        clean = net(x).argmax(1) == y
        correct["clean"] += clean.tolist()
        for name, attack in attacks.items():
            x_adv = replace(attack, keep=keep)(net, x, y)
            correct[name] += (clean & (net(x_adv).argmax(1) == y)).tolist()
    n = len(correct["clean"])
    robust = [all(views) for views in zip(*correct.values(), strict=True)]
    values = {"clean_acc": sum(correct["clean"]) / n, "robust_acc": sum(robust) / n}
    return values | {f"robust_acc_{name}": sum(correct[name]) / n for name in attacks}


BOTH = {"pgd": WEAK, "zero": TO_ZERO}
SHARED = ("clean_acc", "robust_acc")


def validation_data():
    """Every eighth label is wrong, so that some samples are misclassified without an attack."""
    x, y = data(48, seed=1)
    return x, torch.where(torch.arange(48) % 8 == 3, (y + 1) % CLASSES, y)


@functools.cache
def expected(first=24):
    values = by_hand(trained().net, BOTH, *(t[:first] for t in validation_data()))
    # Each attack succeeds where the other fails.
    assert 0 < values["robust_acc"] < min(values["robust_acc_pgd"], values["robust_acc_zero"])
    assert max(values["robust_acc_pgd"], values["robust_acc_zero"]) < values["clean_acc"] < 1
    return values


def check(metrics, values, prefix="val/", suffix=""):
    found = {name: float(value) for name, value in metrics.items() if not name.startswith(f"{prefix}own")}
    assert found == pytest.approx({f"{prefix}{name}{suffix}": value for name, value in values.items()}, abs=1e-6)


def validation_loader():
    return DataLoader(TensorDataset(*validation_data()), batch_size=BATCH)


# What is logged


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_values_equal_a_loop_by_hand(stage, inference_mode):
    callback = RobustEvaluation(BOTH)
    module = trained()
    before, weights = fingerprint(module), state(module)
    run = getattr(trainer(callback, inference_mode=inference_mode), stage)
    (metrics,) = run(module, validation_loader(), verbose=False)
    check(metrics, expected(48), {"validate": "val/", "test": "test/"}[stage])
    assert fingerprint(module)[0] == before[0]
    assert same(state(module), weights)
    assert all(p.requires_grad for p in module.parameters())


def test_results_hold_what_was_logged_and_more_and_intervals_under_the_same_keys():
    callback = RobustEvaluation(BOTH)
    assert callback.results == callback.intervals == {}
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    logged = {name: value for name, value in metrics.items() if name != "val/own"}
    assert {name: callback.results[name] for name in logged} == pytest.approx(logged)
    more = [f"success_{name}" for name in BOTH] + [f"success_worst_{name}" for name in BOTH]
    assert callback.results.keys() == logged.keys() | {f"val/{name}" for name in (*more, "n")}
    assert callback.results["val/n"] == 48
    assert callback.intervals.keys() == callback.results.keys() - {"val/n"}
    for name in logged:
        expected = binomtest(round(48 * logged[name]), 48).proportion_ci(method="wilson")
        assert callback.intervals[name] == pytest.approx(tuple(expected), abs=1e-6)
    right = round(48 * logged["val/clean_acc"])
    for name in BOTH:  # one attempt: mean and worst are the same, and Wilson's interval is that of the right samples
        rate = 1 - logged[f"val/robust_acc_{name}"] / logged["val/clean_acc"]
        expected = binomtest(round(right * rate), right).proportion_ci(method="wilson")
        for key in (f"val/success_{name}", f"val/success_worst_{name}"):
            assert callback.results[key] == pytest.approx(rate)
            assert callback.intervals[key] == pytest.approx(tuple(expected), abs=1e-6)


def test_a_single_attack_needs_no_name():
    callback = RobustEvaluation(WEAK)
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    check(metrics, {name: by_hand(trained().net, {"a": WEAK}, *validation_data())[name] for name in SHARED})
    assert callback.results.keys() >= {"val/success", "val/success_worst", "val/n"}


@pytest.mark.parametrize("names", [("low", "high"), ("pgd", "pgd_low"), ("acc", "n"), ("worst", "success")])
def test_no_name_of_an_attack_collides_with_anything(names):
    """Every value in `results` is the one that was logged, and each attack has the value it has alone."""
    attacks = dict(zip(names, BOTH.values(), strict=True))
    callback = RobustEvaluation(attacks)
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    assert {name: callback.results[name] for name in metrics if name != "val/own"} == pytest.approx(
        {name: value for name, value in metrics.items() if name != "val/own"}
    )
    for name, own in zip(names, BOTH, strict=True):
        assert metrics[f"val/robust_acc_{name}"] == pytest.approx(expected(48)[f"robust_acc_{own}"])


def test_a_prefix_of_ones_own():
    first, second = RobustEvaluation(WEAK), RobustEvaluation(TO_ZERO, prefix="zero/")
    (metrics,) = trainer(first, second).validate(trained(), validation_loader(), verbose=False)
    assert metrics["val/robust_acc"] == pytest.approx(expected(48)["robust_acc_pgd"])
    assert metrics["zero/val/robust_acc"] == pytest.approx(expected(48)["robust_acc_zero"])
    assert metrics["zero/val/clean_acc"] == metrics["val/clean_acc"]


def test_a_prefix_is_no_pattern(monkeypatch):
    """Over processes, Lightning's advice on its keys is silenced by a pattern."""
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    callback = RobustEvaluation(WEAK, prefix="(8/255)+")
    with warnings.catch_warnings(record=True) as told:
        callback.setup(trainer(callback), Module(), "fit")
        warnings.warn(
            "It is recommended to use `self.log('(8/255)+val/robust_acc', ..., sync_dist=True)`", stacklevel=1
        )
    assert not told


@pytest.mark.parametrize("hook", ["validation_step", "on_validation_epoch_end"])
def test_a_key_that_the_module_logs_itself_is_refused(hook):
    """Monitors would see one of two values."""

    class Logs(Module):
        def validation_step(self, batch, batch_idx):
            if hook == "validation_step":
                self.log_dict({"val/acc": 0.5, "val/robust_acc": 0.123})

        def on_validation_epoch_end(self):
            if hook == "on_validation_epoch_end":
                self.log("val/robust_acc", 0.123)

    module = Logs()
    error = (ValueError, pl.utilities.exceptions.MisconfigurationException)  # Lightning's: one key, two ways to log it
    with pytest.raises(error, match=r"not to log `val/robust_acc`, .* prefix=|log\(val/robust_acc, ...\)` twice"):
        trainer(RobustEvaluation(WEAK)).validate(module, validation_loader(), verbose=False)
    (metrics,) = trainer(RobustEvaluation(WEAK, prefix="adv/")).validate(module, validation_loader(), verbose=False)
    assert metrics["val/robust_acc"] == pytest.approx(0.123)


def test_what_the_module_logs_under_other_keys_stays():
    class Logs(Module):
        def validation_step(self, batch, batch_idx):
            self.log("val/acc", 0.25)

    (metrics,) = trainer(RobustEvaluation(BOTH)).validate(Logs(), validation_loader(), verbose=False)
    assert metrics["val/acc"] == 0.25


def test_within_fit_and_without_a_trace():
    """The same weights as without the callback, bit for bit, and the values of the last weights."""
    module, t = Module(), trainer(RobustEvaluation(BOTH))
    torch.manual_seed(7)
    t.fit(module, loader(), validation_loader())
    plain = Module()
    torch.manual_seed(7)
    trainer().fit(plain, loader(), validation_loader())
    assert same(state(module), state(plain))
    metrics = {name: value for name, value in t.callback_metrics.items() if not name.startswith("train/")}
    check(metrics, by_hand(plain.net, BOTH, *validation_data()))


@pytest.mark.parametrize("kind", MAKERS)
def test_batches_of_all_kinds(kind):
    """And the user's batch is not written to."""
    given = batches(kind)
    (metrics,) = trainer(RobustEvaluation(BOTH, **fields(kind))).validate(trained(), preloaded(given), verbose=False)
    x, y = data()
    check(metrics, by_hand(trained().net, BOTH, x, y))
    for batch, *clean in zip(given, x.split(BATCH), y.split(BATCH), strict=True):
        assert all(map(torch.equal, unpack(batch), clean))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_any_precision(precision):
    (metrics,) = trainer(RobustEvaluation(BOTH), precision=precision).validate(
        trained(), validation_loader(), verbose=False
    )
    assert metrics["val/robust_acc"] == pytest.approx(expected(48)["robust_acc"], abs=0.05)
    assert metrics["val/clean_acc"] == pytest.approx(expected(48)["clean_acc"], abs=0.05)


@pytest.mark.parametrize("max_samples", [4, 10, 16, 1000])
def test_the_first_so_many_samples(max_samples):
    """And nothing is attacked beyond them."""
    seen = []

    def watch(model, x, y):
        seen.append(len(x))
        return TO_ZERO(model, x, y)

    callback = RobustEvaluation({"pgd": WEAK, "zero": watch}, max_samples=max_samples)
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    n = min(max_samples, 48)
    x, y = validation_data()
    values = by_hand(trained().net, {"pgd": WEAK}, x[:n], y[:n])
    for name in ("clean_acc", "robust_acc_pgd"):
        assert metrics[f"val/{name}"] == pytest.approx(values[name])
    assert callback.results["val/n"] == n
    assert sum(seen) == n


def test_several_dataloaders_have_values_of_their_own():
    """`max_samples` counts in each."""
    loaders = [validation_loader(), loader(16, seed=2)]
    metrics = trainer(RobustEvaluation(BOTH, max_samples=24)).validate(trained(), loaders, verbose=False)
    for index, (logged, values) in enumerate(
        zip(metrics, (expected(24), by_hand(trained().net, BOTH, *data(16, seed=2))), strict=True)
    ):
        suffix = f"/dataloader_idx_{index}"
        check({name: value for name, value in logged.items() if name.endswith(suffix)}, values, suffix=suffix)


def test_restarts_and_unions_count_attempts():
    """`success` is the mean over attempts on samples that are right when clean."""
    restarts = PGD(Linf(EPS / 2), 1, restarts=3, seed=5)
    callback = RobustEvaluation({"restarts": restarts, "union": worst_of(WEAK, TO_ZERO)})
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    net = trained().net.eval()
    x, y = validation_data()
    outcome = restarts.thorough().run(net, x, y, Context(key=-1))
    right = net(x).argmax(1) == y
    assert outcome.fooled.shape == (3, 48)
    assert callback.results["val/success_restarts"] == pytest.approx(float(outcome.fooled[:, right].float().mean()))
    fooled = [net(a.thorough()(net, x, y)).argmax(1) != y for a in (WEAK, TO_ZERO)]
    union = torch.stack(fooled)
    assert metrics["val/robust_acc_union"] == pytest.approx(float((right & ~union.any(0)).float().mean()))
    assert callback.results["val/success_union"] == pytest.approx(float(union[:, right].float().mean()))
    assert metrics["val/robust_acc"] <= min(metrics["val/robust_acc_union"], metrics["val/robust_acc_restarts"])


def test_evaluations_repeat():
    """The random starts of an evaluation depend on the samples and the stage, not on the global generators."""
    t, module = trainer(RobustEvaluation({"pgd": PGD(Linf(EPS / 2), 1)})), trained()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found += t.validate(module, validation_loader(), verbose=False)
    assert found[0] == found[1]


def test_attacks_keep_their_best_iterate():
    last = PGD(Linf(0.1), 3, keep="last")
    callback = RobustEvaluation({"a": last, "b": worst_of(last, last), "c": lambda model, x, y: x})
    assert callback.attacks["a"].keep == "best"
    assert [attack.keep for attack in callback.attacks["b"].attacks] == ["best", "best"]
    assert last.keep == "last"
    # An overlong last step: the last iterate is worse than the ones before.
    overshoots = PGD(Linf(EPS), 2, rel_step_size=2.0, random_start=False)
    (metrics,) = trainer(RobustEvaluation({"pgd": overshoots})).validate(trained(), validation_loader(), verbose=False)
    x, y = validation_data()
    best, worst = (by_hand(trained().net, {"pgd": overshoots}, x, y, keep=keep) for keep in ("best", "last"))
    check(metrics, best)
    assert best["robust_acc_pgd"] <= worst["robust_acc_pgd"]


def test_codes_of_the_batch():
    class Shift(nn.Module):
        """x + z, where only the batch knows x."""

        def encode(self, x, y):
            raise AssertionError("the batch brings its codes")

        def decode(self, z, y, base):
            return base + z.reshape(-1, 1, 1, 1)

    x, y = data()
    given = [(x[i : i + 4], y[i : i + 4], (torch.zeros(4, 1), x[i : i + 4])) for i in range(0, 24, 4)]
    attack = PGD(Threat(Linf(0.2), LatentSpace(Shift())), 1, rel_step_size=1.0, random_start=False)
    callback = RobustEvaluation({"shift": attack}, code=2, max_samples=22)
    (metrics,) = trainer(callback).validate(trained(), preloaded(given), verbose=False)
    net, x, y = trained().net.eval(), x[:22], y[:22]
    delta = torch.zeros(22, 1, 1, 1, requires_grad=True)
    (grad,) = torch.autograd.grad(F.cross_entropy(net(x + delta), y, reduction="sum"), delta)
    right = (net(x).argmax(1) == y) & (net(x + 0.2 * grad.sign()).argmax(1) == y)
    assert metrics["val/robust_acc_shift"] == pytest.approx(float(right.float().mean()))


class Masked(Module):
    """Needs another entry of the batch, in a product with what depends on the input."""

    def forward(self, x, mask):
        return {"logits": self.net(x) * mask}


def _masked(module, batch):
    return module(batch["image"], batch["mask"])["logits"]


class MaskedValidation(Masked):
    def validation_step(self, batch, batch_idx):
        self.log("val/own", _masked(self, batch).mean())


def masks():
    """Collated within the loop, and so under its inference mode: preloaded batches would be ordinary tensors."""
    x, y = data()
    samples = [{"image": x[i], "label": y[i], "mask": torch.tensor([1.0, 0.5, 2.0])} for i in range(len(x))]
    return DataLoader(samples, batch_size=BATCH)


@pytest.mark.parametrize("max_samples", [None, 10])
def test_forward_of_another_signature(max_samples):
    """Under inference mode the other entries are inference tensors, which autograd refuses to save."""
    callback = RobustEvaluation(BOTH, **fields("dict"), forward=_masked, max_samples=max_samples)
    (metrics,) = trainer(callback).validate(trained(MaskedValidation), masks(), verbose=False)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained().net

        def forward(self, x):
            return self.net(x) * torch.tensor([1.0, 0.5, 2.0])

    check(metrics, by_hand(Net(), BOTH, *(t[:max_samples] for t in data())))


def test_a_fractional_attack_does_not_count_clean_samples_as_robust():
    """It may be refused, or attack every sample."""
    try:
        callback = RobustEvaluation({"pgd": on_fraction(WEAK, 0.5)})
    except (TypeError, ValueError) as error:
        assert "fraction" in str(error)  # noqa: PT017
        return
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    assert metrics["val/robust_acc_pgd"] == pytest.approx(expected(48)["robust_acc_pgd"])


# When


class History(pl.Callback):
    """The logged values of every validation, and how often there was one."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.values.append({n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/rob")})


class Counting(Attack):
    """Succeeds on nothing and counts its calls."""

    def __init__(self):
        self.epochs = []
        self.trainer = None

    def run(self, model, x, y, context):
        self.epochs.append(self.trainer.current_epoch)
        return Outcome(x)


class Curve(pl.loggers.logger.Logger):
    """Keeps how often a metric was logged."""

    name, version = "curve", 0

    def __init__(self):
        super().__init__()
        self.points = []

    def log_metrics(self, metrics, step=None):
        self.points += [metrics["val/robust_acc"]] if "val/robust_acc" in metrics else []

    def log_hyperparams(self, params, *args, **kwargs):
        return None


def _run(every_n_epochs, max_epochs, **kwargs):
    attack, history, curve = Counting(), History(), Curve()
    callback = RobustEvaluation({"a": attack}, every_n_epochs=every_n_epochs)
    attack.trainer = t = trainer(callback, history, max_epochs=max_epochs, logger=curve, **kwargs)
    t.fit(Module(), loader(), loader(BATCH))
    assert curve.points == [values["val/robust_acc"] for values in history.values]  # a point for every validation
    return attack.epochs, history.values


def test_every_n_epochs_from_the_first_on_and_in_the_last():
    epochs, history = _run(2, 6)
    assert epochs == [0, 2, 4, 5]
    assert len(history) == 6
    assert history[1] == history[0]  # logged again
    assert all(values.keys() == history[0].keys() for values in history)


def test_a_fit_that_goes_on_after_a_test_measures_at_once():
    """The values of the test are no values to log in validation."""

    class Monitor(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            assert "val/robust_acc" in trainer.callback_metrics

    callback, module = RobustEvaluation(BOTH, every_n_epochs=5), Module()
    lightning = trainer(callback, Monitor(), max_epochs=1)
    lightning.fit(module, loader(), loader(8))
    lightning.test(module, loader(8), verbose=False)
    lightning.fit_loop.max_epochs = 3
    lightning.fit(module, loader(), loader(8))
    assert "val/robust_acc" in callback.results


def test_every_n_epochs_where_not_every_epoch_validates():
    """Validation in the epochs 1, 3, 5, 7: none of them is a multiple of two, and each is two after the other."""
    assert _run(2, 8, check_val_every_n_epoch=2)[0] == [1, 3, 5, 7]


def test_several_validations_an_epoch():
    assert _run(1, 2, val_check_interval=0.5)[0] == [0, 0, 1, 1]


def test_the_sanity_check_is_skipped():
    epochs, history = _run(1, 1, num_sanity_val_steps=2)
    assert epochs == [0]
    assert len(history) == 1


def test_validation_after_fit_is_attacked_afresh():
    callback = RobustEvaluation(BOTH, every_n_epochs=5)
    t = trainer(callback, max_epochs=1)
    t.fit(trained(), loader(), loader(16, seed=2))
    check(t.validate(trained(), validation_loader(), verbose=False)[0], expected(48))


def test_model_checkpoint_and_early_stopping(tmp_path):
    """The attack gets stronger by schedule of the test: epoch 1 is best, then it gets worse and the Trainer stops."""
    best = {0: 0.5, 1: 0.75, 2: 0.25, 3: 0.25, 4: 0.0}

    class Falls(Module):
        """Right on the first samples of a batch, by epoch, whatever the input; the attack changes nothing."""

        def forward(self, x):
            good = round(BATCH * best[self.trainer.current_epoch])
            right = F.one_hot(torch.arange(len(x)) % CLASSES, CLASSES).float()
            wrong = F.one_hot((torch.arange(len(x)) + 1) % CLASSES, CLASSES).float()
            logits = torch.where(torch.arange(len(x))[:, None] < good, right, wrong)
            return logits + 0 * x.sum() + 0 * sum(p.sum() for p in self.parameters())

    given = preloaded([(torch.rand(BATCH, 1, 6, 6), torch.arange(BATCH) % CLASSES)])
    saver = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", monitor="val/robust_acc", mode="max")
    stopper = pl.callbacks.EarlyStopping("val/robust_acc", mode="max", patience=2)
    # RobustEvaluation last: the order in which callbacks are given must not matter.
    t = trainer(saver, stopper, RobustEvaluation({"a": lambda m, x, y: x}), max_epochs=5, enable_checkpointing=True)
    t.fit(Falls(), given, given)
    assert saver.best_model_score == 0.75
    assert saver.best_model_path.endswith("epoch=1.ckpt")
    assert t.current_epoch == 4
    assert stopper.stopped_epoch == 3


# A guest: the module's own work is as without


class Own(Module):
    """With metrics of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.steps = []

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = unpack(batch)
        self.steps.append((batch_idx, dataloader_idx))
        logits = self(x)
        self.accuracy.update(logits, y)
        self.log("val/loss", F.cross_entropy(logits, y), on_step=True)
        self.log("val/accuracy", self.accuracy)


def test_own_metrics_and_steps_are_as_without():
    logged = []
    for callbacks in ((), (RobustEvaluation(BOTH),)):
        module = Own(net=trained().net)
        (metrics,) = trainer(*callbacks).validate(module, validation_loader(), verbose=False)
        assert module.steps == [(i, 0) for i in range(12)]
        logged.append(metrics)
    plain, attacked = logged
    assert {name: attacked[name] for name in plain} == plain
    assert attacked["val/accuracy"] == pytest.approx(attacked["val/clean_acc"])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_together_with_adversarial_examples(tmp_path, order, stage):
    shown = AdversarialExamples(WEAK, num_samples=2)
    callbacks = [RobustEvaluation(BOTH), shown, AdversarialTraining(WEAK)][::order]
    module, t = trained(), trainer(*callbacks, default_root_dir=tmp_path)
    before = fingerprint(module)
    if stage == "fit":
        t.fit(module, loader(), validation_loader())
    else:
        check(t.validate(module, validation_loader(), verbose=False)[0], expected(48))
    assert fingerprint(module)[0] == before[0]
    assert fingerprint(module)[2:] == before[2:]
    assert len(list(tmp_path.rglob("*.png"))) == (2 if stage == "fit" else 1)


@pytest.mark.skipif(not hasattr(pl.callbacks, "EMAWeightAveraging"), reason="needs Lightning 2.6")
def test_averaged_weights_are_those_that_are_attacked():
    module, t = Module(), None
    ema = pl.callbacks.EMAWeightAveraging(decay=0.9)
    t = trainer(ema, RobustEvaluation(BOTH))
    t.fit(module, loader(), validation_loader())  # at the end the averaged weights become the module's
    metrics = {name: value for name, value in t.callback_metrics.items() if not name.startswith("train/")}
    check(metrics, by_hand(module.net, BOTH, *validation_data()))


class Broken(Exception):
    """What goes wrong in the tests below."""


@pytest.mark.parametrize("where", ["step", "attack"])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_every_way_out(where, stage):
    def breaks(*args):
        raise Broken

    class Breaks(Module):
        def validation_step(self, batch, batch_idx):
            raise Broken

        test_step = validation_step

    module = Breaks() if where == "step" else Module()
    module.net[1].eval()
    before = fingerprint(module)
    t = trainer(RobustEvaluation({"a": breaks if where == "attack" else WEAK}))
    run = {"fit": lambda: t.fit(module, loader(), loader())}.get(stage, lambda: getattr(t, stage)(module, loader()))
    with pytest.raises(Broken):
        run()
    assert fingerprint(module)[0] == before[0]
    assert fingerprint(module)[2:] == before[2:]


# A sceptic's list


class Scaled(Module):
    """The same predictions with huge logits: masks the gradient of cross entropy."""

    def forward(self, x):
        return 1e4 * super().forward(x)


def _evaluate(module, attack, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (metrics,) = trainer(RobustEvaluation({"pgd": attack}), **kwargs).validate(
            module, validation_loader(), verbose=False
        )
    return metrics, [str(w.message) for w in caught if "may be too high" in str(w.message)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_huge_logits_do_not_look_robust(precision):
    attack = PGD(Linf(EPS), 5, random_start=False)
    honest, _ = _evaluate(trained(), attack, precision=precision)
    scaled, warned = _evaluate(trained(Scaled), attack, precision=precision)
    assert scaled["val/robust_acc_pgd"] == pytest.approx(honest["val/robust_acc_pgd"], abs=0.05)
    assert not warned


def test_huge_logits_look_robust_to_cross_entropy_and_a_warning_says_so():
    attack = PGD(Linf(EPS), 5, random_start=False)
    honest, warned = _evaluate(trained(), attack)
    assert not warned
    masked, (text,) = _evaluate(trained(Scaled), replace(attack, gain=cross_entropy))
    assert masked["val/robust_acc_pgd"] > honest["val/robust_acc_pgd"] + 0.1
    assert "`pgd`" in text
    assert "gradient is zero" in text
    assert "margin" in text


class Quantised(Module):
    """Rounds its input: no gradient anywhere."""

    def forward(self, x):
        return super().forward((x * 4).round() / 4 + 0 * x)


def test_a_model_without_gradients_is_reported():
    for gain in (cross_entropy, margin):
        metrics, (text,) = _evaluate(trained(Quantised), PGD(Linf(EPS), 3, gain=gain, random_start=False))
        assert metrics["val/robust_acc_pgd"] == metrics["val/clean_acc"]
        withstood = round(metrics["val/clean_acc"] * 48)
        assert f"{withstood} of 48 samples" in text


def test_dropout_and_batch_statistics_are_off_in_attack_and_count():
    """Also for a module that somebody left in training mode."""

    class Thawed(Module):
        def on_validation_start(self):
            self.train()

        def validation_step(self, batch, batch_idx):
            return None

    (metrics,) = trainer(RobustEvaluation(BOTH)).validate(trained(Thawed), validation_loader(), verbose=False)
    check(metrics, expected(48))


def test_an_input_that_is_wrong_before_the_attack_is_not_robust():
    """An attack that makes a wrong prediction right does not help."""

    images = data(CLASSES)[0]  # one of each class, classified as such

    def helps(model, x, y):
        return images[y]

    net = trained().net.eval()
    assert net(images).argmax(1).tolist() == list(range(CLASSES))
    callback = RobustEvaluation({"a": helps})
    (metrics,) = trainer(callback).validate(trained(), validation_loader(), verbose=False)
    assert metrics["val/robust_acc"] == metrics["val/robust_acc_a"] == metrics["val/clean_acc"] < 1
    assert callback.results["val/success_a"] == 0


# Errors


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "parts"),
    [
        (({},), {}, ValueError, ("at least one attack",)),
        ((3,), {}, TypeError, ("callable (model, x, y) -> x_adv", "3")),
        (({3: WEAK},), {}, (TypeError, ValueError), ("`attacks`", "3")),
        (({"": WEAK},), {}, (TypeError, ValueError), ("`attacks`", "''")),
        ((WEAK,), {"every_n_epochs": 0}, ValueError, ("`every_n_epochs`", "at least 1", "0")),
        ((WEAK,), {"max_samples": 2.5}, TypeError, ("`max_samples`", "integer", "2.5")),
        ((WEAK,), {"max_samples": True}, TypeError, ("`max_samples`", "True")),
        ((WEAK,), {"input": 0.5}, TypeError, ("`input`", "0.5")),
        ((WEAK,), {"input": None}, TypeError, ("`input`", "None")),
        ((WEAK,), {"code": 0.5}, TypeError, ("`code`", "0.5")),
        ((WEAK,), {"forward": 3}, TypeError, ("`forward`", "3")),
        ((WEAK,), {"correct": 3}, TypeError, ("`correct`", "3")),
        ((WEAK,), {"prefix": None}, TypeError, ("`prefix`", "None")),
        ((WEAK,), {"per_sample": 3}, TypeError, ("`per_sample`", "3")),
    ],
    ids=lambda value: None,
)
def test_wrong_arguments_fail_at_construction(args, kwargs, error, parts):
    with pytest.raises(error) as caught:
        RobustEvaluation(*args, **kwargs)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


class NoForward(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()

    def validation_step(self, batch, batch_idx):
        return None


class Fetches(Module):
    def validation_step(self, dataloader_iter):
        raise AssertionError


@pytest.mark.parametrize(
    ("make", "callbacks", "parts"),
    [
        (
            Module,
            lambda: [RobustEvaluation({"a": WEAK}), RobustEvaluation({"b": WEAK})],
            ("different prefixes", "prefix="),
        ),
        (NoForward, lambda: [RobustEvaluation({"a": WEAK})], ("NoForward", "`forward`", "forward=lambda")),
        (Fetches, lambda: [RobustEvaluation({"a": WEAK})], ("dataloader_iter", "`batch`")),
    ],
)
def test_what_is_not_supported_is_refused_before_anything_runs(make, callbacks, parts):
    with pytest.raises((TypeError, ValueError)) as caught:
        trainer(*callbacks()).validate(make(), loader(), verbose=False)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


X, Y = data(4)


@pytest.mark.parametrize(
    ("batch", "error", "parts"),
    [
        (((255 * X).byte().float(), Y), ValueError, ("[0, 1]", "divide by 255")),
        ((X, Y + 1), ValueError, ("labels", "classes, 3", "got 3")),
        ((X, Y.double()), ValueError, ("labels", "integers")),
        ({"x": X, "y": Y}, KeyError, ("field 0", "`input`", "['x', 'y']")),
        ([X], KeyError, ("field 1", "`target`")),
    ],
    ids=lambda value: None,
)
def test_wrong_data_fails_at_the_first_batch(batch, error, parts):
    class Lenient(Module):
        def validation_step(self, batch, batch_idx):
            return None

    module = Lenient()
    before = fingerprint(module)
    with pytest.raises(error) as caught:
        trainer(RobustEvaluation({"a": WEAK})).validate(module, preloaded([batch, batch]), verbose=False)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert fingerprint(module)[0] == before[0]


def test_dense_labels_are_refused():
    """Nothing is counted as misclassified there, so everything would look robust."""

    class Dense(Module):
        def forward(self, x):
            return x.expand(-1, CLASSES, -1, -1) * torch.arange(CLASSES).reshape(-1, 1, 1)

        def validation_step(self, batch, batch_idx):
            return None

    given = preloaded([(X, torch.zeros(4, 6, 6, dtype=torch.long))])
    with pytest.raises(ValueError, match="labels"):
        trainer(RobustEvaluation({"a": PGD(Linf(0.1), 1, gain=cross_entropy)})).validate(Dense(), given, verbose=False)


def test_empty_validation_loaders_log_nothing():
    t = trainer(RobustEvaluation(BOTH), limit_val_batches=0)
    t.fit(Module(), loader(), loader())
    assert not [name for name in t.callback_metrics if name.startswith("val/")]
    assert not any(map(math.isnan, map(float, t.callback_metrics.values())))
