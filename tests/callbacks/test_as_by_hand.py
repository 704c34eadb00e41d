"""A fit with the callback gives the weights of the same attack written inside `training_step`, bit for bit."""

import functools

import pytest
import torch
from callbacks_fakes import (
    MAKERS,
    TEXTBOOK,
    Module,
    batches,
    data,
    fields,
    fit,
    loader,
    network,
    preloaded,
    same,
    state,
    textbook_pgd,
    trainer,
    unpack,
)

from lightning_robust import L1, L2, PGD, AdversarialTraining, Box, Linf, Threat, WarmUp, _nested, worst_of
from lightning_robust._lightning import pl
from lightning_robust.attacks import AffineSpace

PRECISIONS = ("32-true", "bf16-mixed", "64-true")


def _textbook(module, x, y):
    return textbook_pgd(module, x, y)


def _accumulation(manual, accumulate):
    return {} if manual else {"accumulate_grad_batches": accumulate}


@functools.cache
def _by_hand(manual, accumulate, precision):
    module = Module(_textbook, manual=manual, accumulate=accumulate)
    return fit(module, precision=precision, **_accumulation(manual, accumulate))


SETTINGS = [("list", manual, accumulate, p) for manual in (False, True) for accumulate in (1, 3) for p in PRECISIONS]
SETTINGS += [(kind, False, 1, "32-true") for kind in MAKERS if kind != "list"]


@pytest.mark.parametrize(("kind", "manual", "accumulate", "precision"), SETTINGS)
def test_textbook_pgd(kind, manual, accumulate, precision):
    """Each kind of batch, and each way to optimize in each precision."""
    given = batches(kind)
    module = Module(manual=manual, accumulate=accumulate)
    callback = AdversarialTraining(TEXTBOOK, **fields(kind))
    fitted = fit(module, callback, loader=preloaded(given), precision=precision, **_accumulation(manual, accumulate))
    assert same(fitted, _by_hand(manual, accumulate, precision))
    x, y = data()
    for batch, x_before, y_before in zip(given, x.split(4), y.split(4), strict=True):
        assert all(map(torch.equal, unpack(batch), (x_before, y_before)))  # nobody wrote to the user's batches


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_attack_and_the_precision_make_a_difference(precision):
    """Else the test above would compare nothing with nothing."""
    clean = fit(Module(), precision=precision)
    assert not same(clean, _by_hand(False, 1, precision))
    assert precision == "32-true" or not same(clean, fit(Module()))


ATTACKS = {
    "linf": PGD(Linf(0.1), 2),
    "l2": PGD(L2(0.7), 2),
    "l1": PGD(L1(3.0), 2),
    "best": PGD(Linf(0.1), 2, keep="best", restarts=2),
    "early": PGD(Linf(0.1), 2, early_stop=True),
    "train-mode": PGD(Linf(0.1), 2, mode="train"),
    "affine": PGD(Threat(Box([0.1, 0.1, 0.1, 0.1, 0.1, 0.2]), AffineSpace()), 2),
    "union": worst_of(PGD(Linf(0.1), 2), PGD(L2(0.7), 2)),
}


def _compare(attack, module=Module, **kwargs):
    def prepare(module, x, y):
        return attack(module, x, y, key=module.current_epoch)

    def arguments():
        return {name: value() if callable(value) else value for name, value in kwargs.items()}

    assert same(fit(module(), AdversarialTraining(attack), **arguments()), fit(module(prepare), **arguments()))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_any_attack_with_random_starts(attack):
    _compare(attack)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_random_starts_in_any_precision(precision):
    _compare(ATTACKS["linf"], precision=precision, max_epochs=1)


def test_float16_with_a_gradient_scaler_and_clipping():
    """Lightning makes bfloat16 of `precision="16-mixed"` on a CPU, unless it is given as a plugin."""
    _compare(
        ATTACKS["linf"],
        gradient_clip_val=0.1,
        plugins=lambda: pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0)),
    )


def _compiled(prepare=None):
    return Module(prepare, net=torch.compile(network(), backend="aot_eager"))


def test_compiled_network():
    torch._dynamo.reset()
    _compare(ATTACKS["linf"], _compiled)


def test_compiled_module():
    """Lightning puts the compiled step and forward on the instance; they are there again afterwards."""

    torch._dynamo.reset()
    attack, module = ATTACKS["linf"], torch.compile(Module(), backend="aot_eager")
    torch.manual_seed(7)
    trainer(AdversarialTraining(attack)).fit(module, loader())
    torch._dynamo.reset()
    assert same(state(module._orig_mod), fit(Module(lambda m, x, y: attack(m, x, y, key=m.current_epoch))))


class _Lbfgs(Module):
    """Four closures a batch."""

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.05, max_iter=4)


class _Counted:
    """Counts how often it attacks."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, x, y):
        self.calls += 1
        return TEXTBOOK(model, x, y)


def test_closures_attack_once_per_batch():
    counted, net = _Counted(), network(dropout=0.0)
    module = _Lbfgs(net=net)
    evaluations = []
    module.net.register_forward_pre_hook(lambda net, _: evaluations.append(net.training))
    fitted = fit(module, AdversarialTraining(counted), max_epochs=1)
    assert counted.calls == 6
    assert sum(evaluations) > 6  # forwards in training mode: the closures

    memo = {}

    def once_per_batch(module, x, y):
        if memo.get("x") is not x:
            memo.update(x=x, x_adv=textbook_pgd(module, x, y))
        return memo["x_adv"]

    assert same(fitted, fit(_Lbfgs(once_per_batch, net=network(dropout=0.0)), max_epochs=1))


class _SeededBatches(pl.Callback):
    """Dropout draws the same in every batch, whatever ran before: Lightning's checkpoints hold no generators."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(1000 * trainer.current_epoch + batch_idx)


@pytest.mark.parametrize("schedule", [None, WarmUp(epochs=3)], ids=["constant", "warm-up"])
def test_resuming_equals_never_stopping(tmp_path, schedule):
    def callbacks():
        return AdversarialTraining(PGD(Linf(0.1), 2), schedule=schedule), _SeededBatches()

    whole = fit(Module(), *callbacks(), max_epochs=4)
    first, loader = Module(), preloaded(batches("tuple"))
    stopped = trainer(*callbacks(), max_epochs=2)
    stopped.fit(first, loader)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    rest = Module(net=network(seed=5))
    trainer(*callbacks(), max_epochs=4).fit(rest, loader, ckpt_path=tmp_path / "half.ckpt")
    assert same(state(rest), whole)
    assert not same(state(first), whole)


AVERAGING = {
    "ema": lambda: pl.callbacks.EMAWeightAveraging(decay=0.5),
    "swa": lambda: pl.callbacks.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1, device=None),
}
if not hasattr(pl.callbacks, "EMAWeightAveraging"):  # it came with Lightning 2.6
    del AVERAGING["ema"]


@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
@pytest.mark.parametrize("averaging", AVERAGING.values(), ids=AVERAGING)
def test_weight_averaging(averaging, order):
    attack = PGD(Linf(0.1), 2)
    callbacks = [AdversarialTraining(attack), averaging()][::order]
    fitted = fit(Module(), *callbacks, max_epochs=3)

    def prepare(module, x, y):
        return attack(module, x, y, key=module.current_epoch)

    assert same(fitted, fit(Module(prepare), averaging(), max_epochs=3))
    assert not same(fitted, fit(Module(prepare), max_epochs=3))


def test_a_fraction_is_the_share_of_adversarial_samples():
    """In one forward over the mixed batch, the last samples adversarial."""
    for fraction, attacked in ((0.5, 2), (0.25, 1)):

        def prepare(module, x, y, first=4 - attacked):
            return torch.cat([x[:first], textbook_pgd(module, x[first:], y[first:])])

        fitted = fit(Module(), AdversarialTraining(TEXTBOOK, fraction=fraction), max_epochs=1)
        assert same(fitted, fit(Module(prepare), max_epochs=1))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_an_attack_of_radius_zero_changes_nothing(mode):
    """Nothing is drawn from the global generators, no statistics are touched: dropout and BatchNorm would tell."""
    attack = PGD(Linf(0.0), 2, mode=mode)
    assert same(fit(Module(), AdversarialTraining(attack)), fit(Module()))


def test_frozen_layers_stay_frozen():
    def frozen(prepare=None):
        module = Module(prepare)
        module.net[1].eval().requires_grad_(False)
        module.on_train_epoch_start = lambda: module.net[1].eval()
        return module

    module = frozen()
    before = state(module.net[1])
    fitted = fit(module, AdversarialTraining(TEXTBOOK))
    assert same(before, state(module.net[1]))
    assert not module.net[1].training
    assert not any(p.requires_grad for p in module.net[1].parameters())
    assert same(fitted, fit(frozen(_textbook)))


def test_the_fake_reads_batches_as_the_callback_does():
    x, y = data(4)
    for kind in MAKERS:
        batch = batches(kind, 4)[0]
        assert torch.equal(_nested.get(batch, fields(kind)["input"], "input"), x)
        assert torch.equal(unpack(batch)[1], y)
