import functools
import math
import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from callbacks_fakes import (
    BATCH,
    CLASSES,
    EPS,
    TEXTBOOK,
    ImageLogger,
    Module,
    data,
    fields,
    fingerprint,
    fit,
    loader,
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
    evaluate,
    worst_of,
)
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack, Context, RandomSearch, on_fraction, targeted
from lightning_robust.attacks.attack import Outcome
from lightning_robust.attacks.gains import cross_entropy, log_odds, margin
from lightning_robust.callbacks._counts import Counts, Verdict
from lightning_robust.evaluation._indicator import KINDS
from lightning_robust.evaluation._plan import Plan, stages_of
from lightning_robust.evaluation._reader import Reader
from lightning_robust.evaluation.plan import standard
from lightning_robust.metrics import (
    AttackSuccessRate,
    ManifoldDistance,
    PerClassRobustAccuracy,
    PerturbationNorm,
    RobustAccuracy,
)
from tests.evaluation.zoo import Changed

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


def validate(*callbacks, module=None, given=None, **kwargs):
    """What a validation logs."""
    module, given = trained() if module is None else module, validation_loader() if given is None else given
    return trainer(*callbacks, **kwargs).validate(module, given, verbose=False)[0]


def check(metrics, values, prefix="val/", suffix=""):
    known = (f"{prefix}own", f"{prefix}suspicious")
    logged = {name: float(value) for name, value in metrics.items() if not name.startswith(known)}
    assert logged == pytest.approx({f"{prefix}{name}{suffix}": value for name, value in values.items()}, abs=1e-6)


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
    metrics = validate(callback)
    logged = {name: value for name, value in metrics.items() if name != "val/own"}
    assert {name: callback.results[name] for name in logged} == pytest.approx(logged)
    more = [f"success_{name}" for name in BOTH] + [f"success_worst_{name}" for name in BOTH]
    assert callback.results.keys() == logged.keys() | {f"val/{name}" for name in (*more, "n")}
    assert callback.results["val/n"] == 48
    assert callback.intervals.keys() == callback.results.keys() - {"val/n", "val/suspicious"}
    for name in logged.keys() - {"val/suspicious"}:
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
    metrics = validate(callback)
    check(metrics, {name: by_hand(trained().net, {"a": WEAK}, *validation_data())[name] for name in SHARED})
    assert callback.results.keys() >= {"val/success", "val/success_worst", "val/n"}


@pytest.mark.parametrize("names", [("low", "high"), ("pgd", "pgd_low"), ("acc", "n"), ("worst", "success")])
def test_no_name_of_an_attack_collides_with_anything(names):
    """Every value in `results` is the one that was logged, and each attack has the value it has alone."""
    callback = RobustEvaluation(dict(zip(names, BOTH.values(), strict=True)))
    metrics = validate(callback)
    logged = {name: value for name, value in metrics.items() if name != "val/own"}
    assert {name: callback.results[name] for name in logged} == pytest.approx(logged)
    for name, own in zip(names, BOTH, strict=True):
        assert metrics[f"val/robust_acc_{name}"] == pytest.approx(expected(48)[f"robust_acc_{own}"])


@pytest.mark.parametrize("inference_mode", [True, False])
def test_of_a_plan_the_worst_case_alone_is_logged(inference_mode):
    """A plan is any object with a mapping of attacks. What one of them has broken is spared the others."""
    seen = []

    def watch(model, x, y):
        seen.append(len(x))
        return TO_ZERO(model, x, y)

    callback = RobustEvaluation(SimpleNamespace(attacks={"pgd": WEAK, "zero": watch}))
    check(validate(callback, inference_mode=inference_mode), {name: expected(48)[name] for name in SHARED})
    names = (*SHARED, "suspicious", "success", "success_worst", "n")
    assert callback.results.keys() == {f"val/{name}" for name in names}
    broken = 1 - expected(48)["robust_acc"] / expected(48)["clean_acc"]
    assert callback.results["val/success"] == callback.results["val/success_worst"] == pytest.approx(broken)
    assert sum(seen) == round(48 * expected(48)["robust_acc_pgd"])


def test_the_standard_plan_in_a_fit_and_after_it():
    """In the sanity check, too, where its targets are more than there are classes; and with few samples."""
    plan = Plan({**standard(Linf(EPS)).attacks, "search": RandomSearch(Linf(EPS), 20)})
    callback, module = RobustEvaluation(plan, max_samples=9, every_n_epochs=2), trained()
    t = trainer(callback, max_epochs=1, num_sanity_val_steps=1)
    t.fit(module, loader(), validation_loader())
    assert {"val/clean_acc", "val/robust_acc", "val/suspicious"} <= t.callback_metrics.keys()
    assert callback.results["val/n"] == 9
    (metrics,) = t.validate(module, validation_loader(), verbose=False)
    x, y = validation_data()
    report = evaluate(module, (x[:9], y[:9]), plan, progress=False)
    assert metrics["val/robust_acc"] == pytest.approx(report.robust_acc.value)


# Metrics of the user


class Largest(torchmetrics.Metric):
    """The largest change of a pixel, without a mask of its own."""

    def __init__(self):
        super().__init__()
        self.add_state("far", torch.tensor(0.0), dist_reduce_fx="max")

    def update(self, x, x_adv):
        self.far = torch.maximum(self.far, (x_adv - x).abs().max())

    def compute(self):
        return {"far": self.far, "pair": torch.stack([self.far, 2 * self.far])}


@pytest.mark.parametrize("max_samples", [None, 10])
def test_metrics_are_fed_with_what_the_attacks_found(max_samples):
    metrics = {
        "classes": PerClassRobustAccuracy(CLASSES),
        "all": RobustAccuracy(["pgd", "zero"]),
        "hits": AttackSuccessRate(2),
        "adv": MulticlassAccuracy(CLASSES, average="micro"),
        "own": Largest(),
    }
    callback = RobustEvaluation(BOTH, metrics=metrics, max_samples=max_samples)
    logged = validate(callback)
    assert not [m for m in metrics.values() if m.update_called]  # copies are fed
    same = {"all_acc": "clean_acc", "all_robust_acc": "robust_acc", "all_acc_pgd": "robust_acc_pgd"}
    for ours, theirs in list(same.items())[:2]:
        assert logged[f"val/{ours}"] == pytest.approx(logged[f"val/{theirs}"])
    hits = (callback.results["val/success_pgd"] + callback.results["val/success_zero"]) / 2
    assert logged["val/hits_success_mean"] == pytest.approx(hits)
    x, y = (t[:max_samples] for t in validation_data())
    net = trained().net.eval()
    first = replace(WEAK, keep="best")(net, x, y)
    second = replace(TO_ZERO, keep="best")(net, x, y)
    worst = torch.where((net(first).argmax(1) == y).reshape(-1, 1, 1, 1), second, first)
    assert logged["val/adv"] == pytest.approx(float((net(worst).argmax(1) == y).float().mean()))
    assert logged["val/own_far"] == pytest.approx(float((worst - x).abs().max()))
    assert logged["val/own_pair_1"] == pytest.approx(2 * logged["val/own_far"])
    assert callback.results.items() >= {k: v for k, v in logged.items() if k.startswith("val/hits")}.items()


def test_metrics_of_a_plan():
    metrics = {"norm": PerturbationNorm(math.inf), "all": RobustAccuracy(["worst"])}
    logged = validate(RobustEvaluation(SimpleNamespace(attacks=BOTH), metrics=metrics))
    assert logged["val/all_robust_acc"] == pytest.approx(logged["val/robust_acc"])
    assert logged["val/norm_linf_max"] == pytest.approx(1.5 * EPS, abs=1e-6)  # the second breaks some


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"robust_acc": PerturbationNorm(2)}, "no name of a value that is logged anyway"),
        ({"success_x": PerturbationNorm(2)}, "no name"),
        ({"": PerturbationNorm(2)}, "not empty"),
        ({"a": ManifoldDistance()}, "`projection`"),
        ({"a": 3}, "a metric of"),
        (PerturbationNorm(2), "a mapping"),
    ],
)
def test_metrics_that_cannot_be_fed_are_refused(metrics, text):
    with pytest.raises((TypeError, ValueError), match=text):
        RobustEvaluation(WEAK, metrics=metrics)


def test_a_prefix_of_ones_own():
    first, second = RobustEvaluation(WEAK), RobustEvaluation(TO_ZERO, prefix="zero/")
    metrics = validate(first, second)
    assert metrics["val/robust_acc"] == pytest.approx(expected(48)["robust_acc_pgd"])
    assert metrics["zero/val/robust_acc"] == pytest.approx(expected(48)["robust_acc_zero"])
    assert metrics["zero/val/clean_acc"] == metrics["val/clean_acc"]


@pytest.mark.parametrize("hook", ["validation_step", "on_validation_epoch_end"])
def test_a_key_that_the_module_logs_itself_is_refused(hook):
    """Monitors would see one of two values."""

    class Logs(Module):
        def validation_step(self, batch, batch_idx):
            self.log("val/acc", 0.25)
            if hook == "validation_step":
                self.log_dict({"val/more": 0.5, "val/robust_acc": 0.123})

        def on_validation_epoch_end(self):
            if hook == "on_validation_epoch_end":
                self.log("val/robust_acc", 0.123)

    error = (ValueError, pl.utilities.exceptions.MisconfigurationException)  # Lightning's: one key, two ways to log it
    with pytest.raises(error, match=r"not to log `val/robust_acc`, .* prefix=|log\(val/robust_acc, ...\)` twice"):
        validate(RobustEvaluation(WEAK), module=Logs())
    metrics = validate(RobustEvaluation(WEAK, prefix="adv/"), module=Logs())
    assert metrics["val/robust_acc"] == pytest.approx(0.123)
    assert metrics["val/acc"] == 0.25  # what the module logs stays


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_any_precision(precision):
    metrics = validate(RobustEvaluation(BOTH), precision=precision)
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
    metrics = validate(callback)
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
    metrics = validate(callback)
    torch.manual_seed(1)
    assert validate(callback) == metrics  # random starts depend on the samples and the stage, not on global generators
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


def test_attacks_keep_their_best_iterate():
    """An overlong last step: the last iterate is worse than the ones before."""
    overshoots = PGD(Linf(EPS), 2, rel_step_size=2.0, random_start=False, gain=cross_entropy)
    metrics = validate(RobustEvaluation({"pgd": overshoots}))
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
    metrics = validate(callback, given=preloaded(given))
    net, x, y = trained().net.eval(), x[:22], y[:22]
    delta = torch.zeros(22, 1, 1, 1, requires_grad=True)
    (grad,) = torch.autograd.grad(F.cross_entropy(net(x + delta), y, reduction="sum"), delta)
    right = (net(x).argmax(1) == y) & (net(x + 0.2 * grad.sign()).argmax(1) == y)
    assert metrics["val/robust_acc_shift"] == pytest.approx(float(right.float().mean()))


class Masked(Module):
    """Needs another entry of the batch, in a product with what depends on the input."""

    def forward(self, x, mask):
        return {"logits": self.net(x) * mask}

    def validation_step(self, batch, batch_idx):
        self.log("val/own", _masked(self, batch).mean())


def _masked(module, batch):
    return module(batch["image"], batch["mask"])["logits"]


@pytest.mark.parametrize("max_samples", [None, 10])
def test_forward_of_another_signature(max_samples):
    """Under inference mode the other entries are inference tensors, which autograd refuses to save."""
    weight = torch.tensor([1.0, 0.5, 2.0])
    samples = [{"image": x, "label": y, "mask": weight} for x, y in zip(*data(), strict=True)]
    # Collated within the loop, and so under its inference mode: preloaded batches would be ordinary tensors.
    given = DataLoader(samples, batch_size=BATCH)
    callback = RobustEvaluation(BOTH, **fields("dict"), forward=_masked, max_samples=max_samples)
    metrics = validate(callback, module=trained(Masked), given=given)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained().net

        def forward(self, x):
            return self.net(x) * weight

    check(metrics, by_hand(Net(), BOTH, *(t[:max_samples] for t in data())))


def test_a_fractional_attack_does_not_count_clean_samples_as_robust():
    """In evaluation it attacks every sample."""
    metrics = validate(RobustEvaluation({"pgd": on_fraction(WEAK, 0.5)}))
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


def _run(every_n_epochs, max_epochs, **kwargs):
    attack, history, curve = Counting(), History(), ImageLogger()
    callback = RobustEvaluation({"a": attack}, every_n_epochs=every_n_epochs)
    attack.trainer = t = trainer(callback, history, max_epochs=max_epochs, logger=curve, **kwargs)
    t.fit(Module(), loader(), loader(BATCH))
    points = [metrics["val/robust_acc"] for metrics, _ in curve.metrics if "val/robust_acc" in metrics]
    assert points == [values["val/robust_acc"] for values in history.values]  # a point for every validation
    return attack.epochs, history.values


def test_in_between_the_last_values_are_logged_again():
    epochs, history = _run(2, 4)
    assert epochs == [0, 1, 3]
    assert len(history) == 4
    assert history[2] == history[1]  # logged again
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


@pytest.mark.parametrize("plan", [True, False])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_model_that_answers_the_same_to_all_is_doubted(stage, plan):
    """A head that starts at zero, a training that has collapsed: no run of a Trainer ends because of them."""
    module = Module()
    torch.nn.init.zeros_(module.net[-1].weight)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    callback = RobustEvaluation(Plan({"a": TEXTBOOK}) if plan else TEXTBOOK)
    t = trainer(callback, max_epochs=1)
    given = [loader()] * (2 if stage == "fit" else 1)
    with pytest.warns(UserWarning, match="depends on its input, but it is the same for all 24 samples"):
        getattr(t, stage)(module, *given)
    found = {name.split("/")[1]: value for name, value in callback.results.items()}
    assert found["clean_acc"] == pytest.approx(1 / 3)
    assert found["suspicious"] >= 1


def test_a_metric_of_the_user_may_be_nan():
    """A class without samples has no accuracy, and nobody but the callback has logged it."""
    callback = RobustEvaluation({"a": TEXTBOOK}, metrics={"classes": PerClassRobustAccuracy(CLASSES + 1)})
    t = trainer(callback, max_epochs=1)
    t.fit(Module(), loader(), loader())
    t.validate(Module(), loader(), verbose=False)
    assert any(math.isnan(value) for name, value in callback.results.items() if "classes" in name)


def test_several_validations_an_epoch_and_the_sanity_check():
    epochs, history = _run(1, 2, val_check_interval=0.5, num_sanity_val_steps=2)
    assert epochs == [0, 0, 1, 1]
    assert len(history) == 4


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


@pytest.mark.parametrize(("stage", "order"), [("fit", 1), ("fit", -1), ("validate", -1)])
def test_together_with_adversarial_examples(tmp_path, stage, order):
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


# A sceptic's list


class Scaled(Module):
    """The same predictions with huge logits: masks the gradient of cross entropy."""

    def forward(self, x):
        return 1e4 * super().forward(x)


def _evaluate(module, attack, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics = validate(RobustEvaluation({"pgd": attack}), module=module, **kwargs)
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

    check(validate(RobustEvaluation(BOTH), module=trained(Thawed)), expected(48))


def test_an_input_that_is_wrong_before_the_attack_is_not_robust():
    """An attack that makes a wrong prediction right does not help."""
    images = data(CLASSES)[0]  # one of each class, classified as such

    def helps(model, x, y):
        return images[y]

    net = trained().net.eval()
    assert net(images).argmax(1).tolist() == list(range(CLASSES))
    callback = RobustEvaluation({"a": helps})
    metrics = validate(callback)
    assert metrics["val/robust_acc"] == metrics["val/robust_acc_a"] == metrics["val/clean_acc"] < 1
    assert callback.results["val/success_a"] == 0


# Errors


def test_dense_labels_are_refused():
    """Nothing is counted as misclassified there, so everything would look robust."""

    class Dense(Module):
        def forward(self, x):
            return x.expand(-1, CLASSES, -1, -1) * torch.arange(CLASSES).reshape(-1, 1, 1)

        def validation_step(self, batch, batch_idx):
            return None

    given = preloaded([(data(4)[0], torch.zeros(4, 6, 6, dtype=torch.long))])
    with pytest.raises(ValueError, match="labels"):
        validate(RobustEvaluation(PGD(Linf(0.1), 1, gain=cross_entropy)), module=Dense(), given=given)


def test_empty_validation_loaders_log_nothing():
    t = trainer(RobustEvaluation(BOTH), limit_val_batches=0)
    t.fit(Module(), loader(), loader())
    assert not [name for name in t.callback_metrics if name.startswith("val/")]
    assert not any(map(math.isnan, map(float, t.callback_metrics.values())))


class Misleading(Module):
    def forward(self, x):
        return super().forward(Changed.apply(x, torch.neg))


@pytest.mark.parametrize("plan", [False, True])
def test_gradients_that_mislead_are_told_of_after_a_probe(plan):
    attacks = {"linf": PGD(Linf(0.1), steps=2)}
    callback = RobustEvaluation(Plan(attacks) if plan else attacks, max_samples=24)
    with pytest.warns(UserWarning, match="(?s)gradient.*random") as caught:
        validate(callback, module=Misleading())
    (text,) = [str(one.message) for one in caught if "gradient_rise" in str(one.message)]
    flagged = KINDS.keys() & re.findall("[a-z_]+(?=: )", text)
    others = text.count("is the clean accuracy")
    assert callback.results["val/suspicious"] == len(flagged) + others > 1


@pytest.mark.parametrize("plan", [False, True])
def test_outputs_that_are_not_finite_are_counted_where_the_samples_count(plan):
    """The broken samples are those that `max_samples` leaves out, and one of the others."""

    class Broken(Module):
        def forward(self, x):
            lost = torch.stack([(x == x_of[i]).flatten(1).all(1) for i in (3, 10, 11)]).any(0)
            return torch.where(lost[:, None], math.nan, super().forward(x))

    x_of = validation_data()[0]
    attacks = Plan({"pgd": WEAK}) if plan else {"pgd": WEAK}
    counts = Counts(stages_of(attacks), {}, torch.device("cpu"), plan=plan, settled=True)
    for start in (0, 6):
        rows = slice(start, start + 6)
        sample = Reader().read((x_of[rows], validation_data()[1][rows]))
        counts.add(Broken(), sample, -1, torch.arange(start, start + 6) < 10)
    summary = Verdict(counts.row.tolist(), stages_of(attacks), plan=plan, settled=True).summary
    assert summary.n == 10
    assert [text[:7] for text in summary.warnings if "NaN" in text] == ["1 of 10"]
    assert not plan or len(counts._engine.record.rows) == 6  # no more than a batch is kept


# A cut of data in order


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_cut_of_sorted_data_is_doubted(stage, plan):
    """The first samples are all of one class, where the labels of the others tell; and a few of several classes."""
    x, y = data(90, seed=1)
    rows = {"sorted": y.argsort(stable=True), "shuffled": torch.randperm(90), "taking turns": torch.arange(90)}

    def doubts(order, max_samples):
        attack = replace(WEAK, rel_step_size=0.5)  # far enough for the surface
        callback = RobustEvaluation(Plan({"pgd": attack}) if plan else attack, max_samples=max_samples)
        given = DataLoader(TensorDataset(x[rows[order]], y[rows[order]]), batch_size=7)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t = trainer(callback)
            if stage == "fit":
                t.fit(Module(), loader(), given)
            else:
                getattr(t, stage)(trained(), given, verbose=False)
        said = "sorted_cut" in " ".join(str(one.message) for one in caught)
        key = f"{'test' if stage == 'test' else 'val'}/suspicious"
        return said, t.callback_metrics[key]

    assert doubts("sorted", 25) == (True, 1)
    assert doubts("shuffled", 25) == doubts("sorted", 90) == (False, 0)
    if stage == "validate":
        assert doubts("sorted", 35) == doubts("sorted", 60) == (True, 1)
        assert doubts("sorted", 88) == (True, 1)  # within the last batch
        assert doubts("taking turns", 25) == doubts("sorted", None) == (False, 0)


def test_what_the_loader_and_the_trainer_leave_out_is_a_cut_too():
    x, y = data(90, seed=1)
    by_class = y.argsort(stable=True)

    def doubts(rows, size=40, stage="test", limit=1.0, **kwargs):
        kind = "test" if stage == "test" else "val"
        t = trainer(
            RobustEvaluation(replace(WEAK, rel_step_size=0.5)), max_epochs=1, **{f"limit_{kind}_batches": limit}
        )
        given = DataLoader(TensorDataset(x[rows], y[rows]), size, **kwargs)
        if stage == "fit":
            t.fit(trained(), loader(), given)
        else:
            getattr(t, stage)(trained(), given, verbose=False)
        return t.callback_metrics[f"{kind}/suspicious"]

    assert doubts(by_class, drop_last=True) == doubts(by_class, 10, limit=5) == 1
    assert doubts(by_class, 10, "validate", limit=0.5) == doubts(by_class, 10, "fit", limit=5) == 1
    assert doubts(by_class) == doubts(by_class, 30, drop_last=True) == doubts(by_class, 10, limit=9) == 0
    assert doubts(by_class, 43, drop_last=True) == 0  # 4 of 90 hardly move an accuracy
    assert doubts(torch.arange(90), drop_last=True) == 0
    some = torch.utils.data.BatchSampler(range(0, 90, 2), 9, False)  # of a kind of its own: nobody knows what is left
    own = [list(rows) for rows in some]
    t = trainer(RobustEvaluation(replace(WEAK, rel_step_size=0.5)))
    t.test(trained(), DataLoader(TensorDataset(x[by_class], y[by_class]), batch_sampler=own), verbose=False)
    assert t.callback_metrics["test/suspicious"] == 0


def test_a_cut_is_told_of_by_the_sums_of_all_processes():
    stages, rows = stages_of(WEAK), 0.0
    for labels in (torch.arange(60) // 20, torch.arange(60) // 20):
        counts = Counts(stages, {}, torch.device("cpu"), plan=False, settled=False)
        counts.order.see(Reader().read((torch.zeros(60, 1), labels)))
        counts.order.cut = True
        rows = rows + counts.row
    verdict = Verdict(rows.tolist(), stages, plan=False, settled=False)
    assert verdict.suspicious == 1
    assert "sorted_cut" in verdict.warnings[0]


@pytest.mark.parametrize("plan", [False, True])
def test_samples_that_come_again_are_told_of(plan):
    """Their interval is that of independent draws; the same words as in `evaluate`."""
    x, y = data(60, seed=1)
    attack = replace(WEAK, rel_step_size=0.5)

    def said(rows, **kwargs):
        callback = RobustEvaluation(Plan({"pgd": attack}) if plan else attack, **kwargs)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(callback).test(trained(), DataLoader(TensorDataset(x[rows], y[rows]), 8), verbose=False)
        texts = [str(one.message) for one in caught if "distinct" in str(one.message)]
        assert callback.results["test/suspicious"] == len(texts)
        return texts

    once, again = torch.arange(60), torch.arange(60) % 12
    (text,) = said(again)
    assert text.startswith("Only 12 of 60 samples are distinct, in input and label.")
    assert said(once) == said(torch.cat([once, again]), max_samples=60) == []


def test_a_resumed_fit_with_nothing_left_to_measure_is_no_reason_to_warn(tmp_path):
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path)
    first = trainer(RobustEvaluation(WEAK), checkpoint, max_epochs=1, enable_checkpointing=True)
    first.fit(Module(), loader(), loader(12, seed=1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has measured nothing")
        trainer(RobustEvaluation(WEAK), max_epochs=1).fit(
            Module(), loader(), loader(12, seed=1), ckpt_path=checkpoint.best_model_path
        )
