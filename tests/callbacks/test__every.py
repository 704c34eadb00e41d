import numpy as np
import pytest
import torch
from callbacks_fakes import trainer
from torch.utils.data import DataLoader, IterableDataset

from lightning_robust._lightning import pl
from lightning_robust.callbacks._every import Every

BATCHES = 4


class Counts(pl.LightningModule):
    """The least that can be fitted; `steps` optimizer steps per batch, by hand if they are several."""

    def __init__(self, steps=1):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps, self.automatic_optimization = steps, steps == 1

    def training_step(self, batch, batch_idx):
        if self.automatic_optimization:
            return self.weight * 1.0
        for _ in range(self.steps):
            self.optimizers().step()
        return None

    def validation_step(self, batch, batch_idx):
        return None

    def test_step(self, batch, batch_idx):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Asks(pl.Callback):
    """Asks at every validation, as the callbacks do, and notes the epochs in which it was time."""

    def __init__(self, n):
        self.every, self.epochs, self.validations = Every(n), [], []

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            self.every.reset()

    def on_validation_epoch_start(self, trainer, pl_module):
        before = self.every.state_dict()
        due = self.every.due(trainer)
        assert self.every.due(trainer) is due
        assert self.every.state_dict() == before
        self.validations.append(trainer.current_epoch)
        if due:
            self.epochs.append(trainer.current_epoch)
            self.every.done(trainer)

    def on_test_epoch_start(self, trainer, pl_module):
        self.on_validation_epoch_start(trainer, pl_module)

    def state_dict(self):
        return self.every.state_dict()

    def load_state_dict(self, state):
        self.every.load_state_dict(state)


class Stops(pl.Callback):
    """Tells the Trainer to stop within an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            trainer.should_stop = True


class Stream(IterableDataset):
    """Data of unknown length."""

    def __iter__(self):
        return iter(torch.zeros(BATCHES, 1))


def loader():
    return DataLoader(torch.zeros(BATCHES, 1), batch_size=1)


def fit(n, *, module=None, callbacks=(), data=None, **kwargs):
    asks = Asks(n)
    t = trainer(asks, *callbacks, **kwargs)
    t.fit(Counts() if module is None else module, loader() if data is None else data, loader())
    return asks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("n", "kwargs", "validations", "expected"),
    [
        # Every epoch validates.
        (1, {"max_epochs": 3}, [0, 1, 2], [0, 1, 2]),
        (2, {"max_epochs": 4}, [0, 1, 2, 3], [0, 1, 3]),
        (3, {"max_epochs": 8}, list(range(8)), [0, 2, 5, 7]),
        (9, {"max_epochs": 4}, [0, 1, 2, 3], [0, 3]),
        (1, {"max_epochs": 1, "num_sanity_val_steps": 2}, [0, 0], [0]),
        (9, {"fast_dev_run": True}, [0], [0]),
        # Not every epoch does.
        (2, {"max_epochs": 6, "check_val_every_n_epoch": 2}, [1, 3, 5], [1, 3, 5]),
        (3, {"max_epochs": 8, "check_val_every_n_epoch": 2}, [1, 3, 5, 7], [1, 3, 5, 7]),
        (4, {"max_epochs": 14, "check_val_every_n_epoch": 2}, [1, 3, 5, 7, 9, 11, 13], [1, 3, 7, 11, 13]),
        (9, {"max_epochs": 7, "check_val_every_n_epoch": 2}, [1, 3, 5], [1, 5]),
        (2, {"max_epochs": 7, "check_val_every_n_epoch": 3}, [2, 5], [2, 5]),
        # Several validations in an epoch, or by the number of batches.
        (3, {"max_epochs": 4, "val_check_interval": 0.5}, [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 2, 2, 3, 3]),
        (9, {"max_epochs": 3, "val_check_interval": 2}, [0, 0, 1, 1, 2, 2], [0, 0, 2, 2]),
        (2, {"max_epochs": 3, "val_check_interval": 3, "check_val_every_n_epoch": None}, [0, 1, 2, 2], [0, 1, 2, 2]),
        # The end is a number of steps.
        (9, {"max_epochs": -1, "max_steps": 10}, [0, 1], [0, 1]),
        (3, {"max_epochs": -1, "max_steps": 20}, [0, 1, 2, 3, 4], [0, 2, 4]),
        (9, {"max_epochs": -1, "max_steps": 16, "check_val_every_n_epoch": 2}, [1, 3], [1, 3]),
        (9, {"max_epochs": -1, "max_steps": 6, "accumulate_grad_batches": 2}, [0, 1, 2], [0, 2]),
        (9, {"max_epochs": -1, "max_steps": 16, "module": 2}, [0, 1], [0, 1]),
        # The Trainer is told to stop, and may or may not.
        (9, {"max_epochs": 9, "stop": 2}, [0, 1, 2], [0, 2]),
        (9, {"max_epochs": 9, "stop": 1, "min_epochs": 4}, [0, 1, 2, 3], [0, 3]),
        (9, {"max_epochs": 9, "stop": 1, "min_steps": 14}, [0, 1, 2, 3], [0, 3]),
        # Data of unknown length.
        (2, {"max_epochs": 4, "data": True}, [0, 1, 2, 3], [0, 1, 3]),
    ],
    ids=str,
)
def test_fits(n, kwargs, validations, expected):
    kwargs = dict(kwargs)
    callbacks = [Stops(kwargs.pop("stop"))] if "stop" in kwargs else []
    module = Counts(kwargs.pop("module", 1))
    data = DataLoader(Stream(), batch_size=1) if kwargs.pop("data", False) else None
    asks = fit(n, module=module, callbacks=callbacks, data=data, **kwargs)
    assert asks.validations == validations
    assert asks.epochs == expected


def test_outside_fit_it_is_always_time_and_counts_for_nothing():
    asks, module = Asks(5), Counts()
    t = trainer(asks, max_epochs=4)
    for _ in range(2):
        t.validate(module, loader(), verbose=False)
        t.test(module, loader(), verbose=False)
    assert len(asks.epochs) == 4
    assert asks.every.state_dict() == {"epoch": None}
    asks.epochs.clear()
    t.fit(module, loader(), loader())
    assert asks.epochs == [0, 3]


def test_every_fit_begins_with_one():
    asks = Asks(3)
    for _ in range(2):
        trainer(asks, max_epochs=1, check_val_every_n_epoch=1).fit(Counts(), loader(), loader())
        trainer(asks, max_epochs=6, check_val_every_n_epoch=2).fit(Counts(), loader(), loader())
    assert asks.epochs == [0, 1, 3, 5] * 2


@pytest.mark.parametrize("every", [{"every_n_epochs": 1, "save_on_train_epoch_end": True}, {"every_n_train_steps": 3}])
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_fit_goes_on_counting(tmp_path, every):
    """From any checkpoint, at the end of an epoch or within one, the rest is that of the whole fit."""
    keeps = pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}-{step}", save_top_k=-1, **every)
    whole = fit(3, max_epochs=8, callbacks=[keeps], enable_checkpointing=True)
    assert whole.epochs == [0, 2, 5, 7]
    for file in tmp_path.glob("*.ckpt"):
        saved = torch.load(file, weights_only=False)
        (state,) = [state for key, state in saved["callbacks"].items() if "Asks" in key]
        if "every_n_train_steps" in every and saved["global_step"] % BATCHES == 0:
            continue  # saved before the validation of its epoch, which Lightning then leaves out
        asks = Asks(3)
        trainer(asks, max_epochs=8).fit(Counts(), loader(), loader(), ckpt_path=file)
        rest = [epoch for epoch in whole.epochs if state["epoch"] is None or epoch > state["epoch"]]
        assert asks.epochs == rest


@pytest.mark.parametrize("validates", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_checkpoint_of_every_n_epochs_is_of_an_epoch_that_was_measured(tmp_path, n, validates):
    """`ModelCheckpoint` with the same number saves what this epoch has measured, not what an earlier one has."""
    keeps = pl.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=n)
    kwargs = {"max_epochs": 15, "check_val_every_n_epoch": validates, "enable_checkpointing": True}
    asks = fit(n, callbacks=[keeps], **kwargs)
    saved = {int(file.stem.removeprefix("epoch=")) for file in tmp_path.glob("*.ckpt")}
    assert saved
    assert saved & set(asks.validations) <= set(asks.epochs)
    gaps = torch.tensor(asks.epochs).diff()
    assert gaps.max() <= -(-n // validates) * validates


def test_the_number_is_checked():
    every = Every(np.int64(3))
    assert every.n == 3
    every.load_state_dict({})  # a checkpoint without the epoch
    assert every.state_dict() == {"epoch": None}
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(error, match=r"`every_n_epochs`.*integer of at least 1"):
            Every(wrong)
