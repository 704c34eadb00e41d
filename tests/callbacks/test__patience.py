import warnings

import pytest
import torch
from callbacks_fakes import SIDE, TEXTBOOK, Module, loader, trainer

from lightning_robust import RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.callbacks import RobustGeneralizationGap

KEY = "val/robust_acc"


def said(monitor, n=5, callback=RobustEvaluation, module=None, **kwargs):
    """What a fit says about patience: a text for each monitor."""
    callbacks = [callback(TEXTBOOK, every_n_epochs=n), *monitor]
    t = trainer(*callbacks, **{"max_epochs": 1, "limit_val_batches": 1} | kwargs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t.fit(Module() if module is None else module, loader(), loader(4))
    return [str(w.message) for w in caught if "patience" in str(w.message)]


def stops(patience, key=KEY, **kwargs):
    return pl.callbacks.EarlyStopping(key, mode="max", patience=patience, strict=False, **kwargs)


class Lowers(Module):
    def __init__(self, patience, key=KEY, **kwargs):
        super().__init__()
        self.patience, self.key, self.more = patience, key, kwargs

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=self.patience)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self.key, **self.more}}


@pytest.mark.parametrize(
    ("patience", "kwargs", "enough"),
    [
        (4, {}, 5),
        (3, {"n": 4}, 4),
        (2, {"check_val_every_n_epoch": 2, "max_epochs": 2}, 3),
        (8, {"val_check_interval": 0.5}, 9),
        (8, {"val_check_interval": 3, "check_val_every_n_epoch": None}, 9),
    ],
    ids=str,
)
def test_an_early_stop_on_values_that_are_logged_again_is_told(patience, kwargs, enough):
    """The number in the text is the least that is long enough."""
    (text,) = said([stops(patience)], **kwargs)
    assert text.startswith(f"EarlyStopping looks at `{KEY}` with patience={patience}, but with every_n_epochs=")
    assert f"once in {enough} looks" in text
    assert f"Set patience={enough} to act on the first measurement that is no better, {2 * enough} on the s" in text
    assert said([stops(enough)], **kwargs) == []


@pytest.mark.parametrize(("patience", "last", "expected"), [(3, 3, {0}), (5, 5, {0, 4})])
def test_what_is_told_is_so(patience, last, expected):
    """A fit of values that never change ends without a second measurement, and with it where the advice is taken."""
    measured = set()

    def same(model, x, y):
        measured.add(t.current_epoch)
        return x

    t = trainer(RobustEvaluation(same, every_n_epochs=5), stops(patience), max_epochs=9, limit_train_batches=1)
    module = Module(net=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE**2, 3)))
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    t.fit(module, loader(), loader(4))
    assert t.current_epoch - 1 == last
    assert measured == expected


@pytest.mark.parametrize("key", [KEY, "train/robust_acc"])
def test_a_lower_learning_rate_is_told(key):
    """It acts at one look more than its patience."""
    callback = RobustEvaluation if key == KEY else RobustGeneralizationGap
    (text,) = said([], module=Lowers(3, key), callback=callback)
    assert text.startswith(f"ReduceLROnPlateau looks at `{key}` with patience=3, but with every_n_epochs=5 ")
    assert "Set patience=4 to act on the first measurement that is no better, 9 on the second" in text
    assert said([], module=Lowers(4, key), callback=callback) == []
    assert said([], module=Lowers(0, key, frequency=5), callback=callback) == []


def test_nothing_is_told_of_other_keys_and_where_all_is_measured():
    assert said([stops(1, "val/own")]) == []
    assert said([stops(1)], n=1) == []
    assert len(said([stops(1, "gap/clean_acc"), stops(1)], callback=RobustGeneralizationGap)) == 1
