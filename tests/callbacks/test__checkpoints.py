import datetime as dt
import warnings

import pytest
import torch
from callbacks_fakes import SIDE, Module, loader, trainer

from lightning_robust import RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.callbacks import RobustGeneralizationGap

KEY = "val/robust_acc"


class Fit(Module):
    """Its weights say of which epoch they are."""

    def __init__(self):
        super().__init__(net=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE**2, 3)))
        self.register_buffer("epoch", torch.tensor(-1))

    def training_step(self, batch, batch_idx):
        self.epoch.fill_(self.current_epoch)
        return super().training_step(batch, batch_idx)


def fitted(tmp_path, n=5, callback=RobustEvaluation, key=KEY, max_epochs=8, more=None, mode="max", **kwargs):
    """The warnings of a fit, and whether it keeps a checkpoint for a score that was measured in another epoch."""
    measured = set()

    def same(model, x, y):
        measured.add(t.current_epoch)
        return x

    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, monitor=key, mode=mode, filename="{epoch}-{step}", **kwargs)
    given = {"max_epochs": max_epochs, "enable_checkpointing": True, "limit_train_batches": 2} | (more or {})
    t = trainer(callback(same, every_n_epochs=n), checkpoint, **given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t.fit(Fit(), loader(), loader(4))
    kept = [torch.load(path, weights_only=True) for path in checkpoint.best_k_models]
    stale = any(int(one["state_dict"]["epoch"]) not in measured for one in kept)
    return [str(w.message) for w in caught if "earlier weights" in str(w.message)], stale


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"save_top_k": 3}, True),
        ({"save_top_k": -1}, True),
        ({"save_top_k": 3, "n": 4, "every_n_epochs": 2}, True),
        ({"save_top_k": -1, "every_n_epochs": 5}, False),
        ({"save_top_k": 3, "every_n_epochs": 4, "n": 2}, False),
        ({"save_top_k": -1, "n": 2, "more": {"check_val_every_n_epoch": 2}}, False),
        ({"save_top_k": -1, "n": 2, "max_epochs": 12, "more": {"check_val_every_n_epoch": 3}}, False),
        ({"save_top_k": -1, "n": 4, "more": {"check_val_every_n_epoch": 2}}, True),
        ({"save_top_k": -1, "n": 1, "save_on_train_epoch_end": True, "more": {"check_val_every_n_epoch": 2}}, True),
        ({"save_top_k": -1, "n": 8, "max_epochs": 2}, False),  # the first and the last
        ({"save_top_k": -1, "n": 1}, False),
        ({}, False),  # the same value again is no better
        ({"save_last": True}, False),
        ({"every_n_epochs": 3}, True),  # not in the epochs that measure
    ],
    ids=str,
)
def test_a_score_of_earlier_weights_is_told_of(tmp_path, kwargs, told):
    """And what is not told of does not happen."""
    texts, stale = fitted(tmp_path, **kwargs)
    assert stale == bool(texts) == told
    assert len(texts) == told
    enough = 2 if "save_on_train_epoch_end" in kwargs else kwargs.get("n", 5)
    assert all(f"Set ModelCheckpoint(every_n_epochs={enough})" in text for text in texts)
    if told:
        assert fitted(tmp_path / "again", **kwargs | {"every_n_epochs": enough}) == ([], False)


@pytest.mark.parametrize("kwargs", [{"every_n_train_steps": 1}, {"train_time_interval": dt.timedelta(0)}], ids=str)
@pytest.mark.parametrize("n", [1, 2])
def test_a_save_between_validations_is_told_of(tmp_path, n, kwargs):
    (text,), _ = fitted(tmp_path, n, max_epochs=1, **kwargs)
    assert f"Set ModelCheckpoint(every_n_epochs={n}) in place of `every_n_train_steps`" in text


def test_others_are_left_alone(tmp_path):
    assert fitted(tmp_path / "own", key="val/own", save_top_k=2, max_epochs=1)[0] == []
    assert fitted(tmp_path / "none", key=None, save_top_k=-1, max_epochs=1)[0] == []
    assert fitted(tmp_path / "zero", save_top_k=0, max_epochs=2)[0] == []
    (text,), _ = fitted(tmp_path / "gap", callback=RobustGeneralizationGap, key="gap/robust_acc", save_top_k=2)
    assert "by `gap/robust_acc`, which is measured every 5 epochs" in text
