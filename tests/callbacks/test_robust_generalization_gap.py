import warnings
from dataclasses import replace

import pytest
import torch
from callbacks_fakes import (
    BATCH,
    EPS,
    TEXTBOOK,
    Module,
    data,
    loader,
    trainer,
)

from lightning_robust import AdversarialTraining
from lightning_robust._lightning import pl
from lightning_robust.attacks import as_attack
from lightning_robust.callbacks.robust_generalization_gap import RobustGeneralizationGap

ATTACK = replace(TEXTBOOK, keep="best")


def fit(callback, *others, module=None, train=None, val=None, **kwargs):
    torch.manual_seed(7)
    module = Module() if module is None else module
    lightning = trainer(callback, *others, **kwargs)
    lightning.fit(module, loader() if train is None else train, loader(12, seed=1) if val is None else val)
    return module, lightning


def accuracies(module, x, y, attack=ATTACK):
    """Clean and robust accuracy by hand."""
    net = module.net.eval()
    clean = net(x).argmax(1) == y
    robust = clean & (net(attack(net, x, y)).argmax(1) == y)
    return float(clean.double().mean()), float(robust.double().mean())


def test_nothing_is_measured_where_the_first_dataloader_is_empty():
    class Empty(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    class Two(Module):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return None

    callback = RobustGeneralizationGap(ATTACK)
    fit(callback, module=Two(), val=[torch.utils.data.DataLoader(Empty()), loader(4)])
    assert callback.results == {}


@pytest.mark.parametrize("size", [1000, 10, 8])
def test_the_values_are_those_by_hand(size):
    callback = RobustGeneralizationGap(ATTACK, max_samples=size)
    module, lightning = fit(callback, max_epochs=4)
    number = {"train": min(size, 24), "val": min(size, 12)}
    expected = {}
    for part, (x, y) in {"train": data(), "val": data(12, seed=1)}.items():
        clean, robust = accuracies(module, x[: number[part]], y[: number[part]])
        expected |= {f"{part}/clean_acc": clean, f"{part}/robust_acc": robust, f"{part}/n": number[part]}
    for name in ("clean_acc", "robust_acc"):
        expected[f"gap/{name}"] = expected[f"train/{name}"] - expected[f"val/{name}"]
    assert callback.results == pytest.approx(expected)
    assert expected["train/clean_acc"] > expected["train/robust_acc"] > 0
    for name in ("train/robust_acc", "gap/clean_acc", "gap/robust_acc"):
        assert float(lightning.callback_metrics[name]) == pytest.approx(expected[name])
    assert "val/clean_acc" not in lightning.callback_metrics


def test_the_first_samples_of_the_first_epoch_are_kept_clean(monkeypatch):
    """Also when they come shuffled and are attacked in training, and the user's batch is written to afterwards."""
    seen = []

    class Rude(Module):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            batch[0].zero_()

    callback = RobustGeneralizationGap(ATTACK, max_samples=6)
    monkeypatch.setattr(callback, "teardown", lambda *args, **kwargs: seen.extend(callback._kept))
    shuffled = torch.utils.data.DataLoader(
        loader().dataset, batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(3)
    )
    order = torch.utils.data.DataLoader(
        loader().dataset, batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(3)
    )
    fit(callback, AdversarialTraining(TEXTBOOK), module=Rude(), train=shuffled)
    first = iter(order)
    (x, y), (more_x, more_y) = next(first), next(first)
    assert torch.equal(torch.cat([sample.x for sample in seen]), torch.cat([x, more_x[:2]]))
    assert torch.equal(torch.cat([sample.y for sample in seen]), torch.cat([y, more_y[:2]]))


def helpful(model, x, y):
    """The contrary of an attack: a step down the loss, which brings wrong samples right."""
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), x)
    return (x - 3 * EPS * grad.sign()).clamp(0, 1)


def test_a_sample_that_is_wrong_when_clean_is_not_robust():
    x, y = data()
    y = torch.where(torch.arange(24) % 4 == 1, 0, y)
    train = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)
    callback = RobustGeneralizationGap(helpful)
    module, _ = fit(callback, train=train, max_epochs=1)
    net, attack = module.net.eval(), as_attack(helpful)
    assert ((net(x).argmax(1) != y) & (net(attack(net, x, y)).argmax(1) == y)).any()
    assert callback.results["train/robust_acc"] == pytest.approx(accuracies(module, x, y, attack)[1])


def test_the_precision_is_that_of_validation():
    types = set()

    class Watching(Module):
        def forward(self, x):
            logits = super().forward(x)
            types.add(logits.dtype)
            return logits

    callback = RobustGeneralizationGap(ATTACK)
    fit(callback, module=Watching(), precision="bf16-mixed", max_epochs=1)
    assert types == {torch.bfloat16}
    assert callback.results["train/n"] == 24


def test_when():
    measured = []

    class Counting(RobustGeneralizationGap):
        def on_validation_epoch_end(self, trainer, pl_module):
            if self._counts:
                measured.append(trainer.current_epoch)
            super().on_validation_epoch_end(trainer, pl_module)

    callback = Counting(ATTACK)
    module, lightning = fit(callback, num_sanity_val_steps=2)
    assert measured == [0, 1]
    assert callback._kept == []
    lightning.validate(module, loader(12), verbose=False)
    assert measured == [0, 1]


def test_two_dataloaders_and_a_forward():
    callback = RobustGeneralizationGap(ATTACK, max_samples=10, forward=lambda module, batch: module.net(batch[0]))
    module, _ = fit(callback, val=[loader(), loader(20, seed=2)], max_epochs=1)
    x, y = (part[:10] for part in data())
    assert (callback.results["val/clean_acc"], callback.results["val/robust_acc"]) == accuracies(module, x, y)
    assert callback.results["gap/robust_acc"] == 0, "the same samples in both"
    assert callback.results["val/n"] == 10


@pytest.mark.parametrize(
    ("size", "kwargs", "expected"),
    [
        (24, {}, [(0, 24)] + [(1, 24)] * 3),
        (16, {}, [(0, 16)] * 2 + [(1, 16)] * 3),
        (24, {"every_n_epochs": 3, "max_epochs": 3}, [(0, 24)] + [(2, 24)] * 3),
        (24, {"val_check_interval": 4}, [(0, 16), (1, 16)]),
        (24, {"val_check_interval": 4, "check_val_every_n_epoch": None}, [(0, 16), (1, 16), (1, 16)]),
        (24, {"unknown": True}, [(0, 24)] + [(1, 24)] * 3),
    ],
    ids=str,
)
def test_all_measurements_are_of_the_same_training_samples(size, kwargs, expected):
    """With several validations an epoch: there is none before they are there, or the last chance in the epoch."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(*data(), strict=True))

    class Notes(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if callback.results:
                rows.append((trainer.current_epoch, int(callback.results["train/n"])))
                callback.results = {}

    kwargs, rows = {"val_check_interval": 2} | kwargs, []
    train = torch.utils.data.DataLoader(Stream(), batch_size=BATCH) if kwargs.pop("unknown", False) else None
    callback = RobustGeneralizationGap(ATTACK, max_samples=size, every_n_epochs=kwargs.pop("every_n_epochs", 1))
    fit(callback, Notes(), train=train, **kwargs)
    assert rows == expected


def test_a_resume_that_ends_an_epoch_without_a_batch_does_not_end_the_measurements(tmp_path):
    """A checkpoint of the last validation of an epoch: Lightning ends that epoch at once."""
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, save_on_train_epoch_end=False)
    fit(RobustGeneralizationGap(ATTACK), checkpoint, max_epochs=1, enable_checkpointing=True)
    callback, module = RobustGeneralizationGap(ATTACK), Module()
    trainer(callback, max_epochs=3).fit(module, loader(), loader(12, seed=1), ckpt_path=checkpoint.best_model_path)
    assert callback.results["train/n"] == 24


def test_no_sample_is_kept_after_an_exception():
    class Breaks(Module):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            raise FloatingPointError

    callback = RobustGeneralizationGap(ATTACK)
    with pytest.raises(FloatingPointError):
        fit(callback, module=Breaks())
    assert callback._kept == []


def test_a_cut_of_sorted_validation_data_is_told_of_once():
    x, y = data(90, seed=1)
    for rows, size, expected in (
        (y.argsort(stable=True), 25, 1),
        (y.argsort(stable=True), 90, 0),
        (torch.arange(90), 25, 0),
    ):
        val = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[rows], y[rows]), batch_size=7)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(RobustGeneralizationGap(ATTACK, max_samples=size), val=val, max_epochs=2)
        assert sum("sorted_cut" in str(one.message) for one in caught) == expected
