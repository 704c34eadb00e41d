import json
import random

import pytest
import torch

from lightning_robust._lightning import pl
from lightning_robust.datamodules import ImageDataModule, TensorDataModule
from tests.processes import run_alone

from .helpers import Recorder, flat, numbered, numbers, trainer


def data(**kwargs):
    train, test = numbered(130), numbered(30)
    return TensorDataModule(train, test, **{"val_size": 30, "batch_size": 16, **kwargs})


def test_loaders_without_a_trainer():
    module = data(eval_batch_size=25)
    train, val, test = (
        numbers(module.train_dataloader()),
        numbers(module.val_dataloader()),
        numbers(module.test_dataloader()),
    )
    assert [len(b) for b in train] == [16] * 6 + [4]
    assert [len(b) for b in val] == [25, 5]
    assert [len(b) for b in test] == [25, 5]
    trained, held_out = set(flat(train)), set(flat(val))
    assert trained | held_out == set(range(130))
    assert not trained & held_out
    assert flat(test) == list(range(30))
    assert numbers(module.predict_dataloader()) == test
    assert flat(val) == sorted(held_out)


def test_drop_last_concerns_training_only():
    module = data(drop_last=True)
    assert [len(b) for b in numbers(module.train_dataloader())] == [16] * 6
    assert [len(b) for b in numbers(module.val_dataloader())] == [16, 14]


def test_order_depends_on_seed_and_epoch():
    loader, again, other = data().train_dataloader(), data().train_dataloader(), data(seed=1).train_dataloader()
    first, second = numbers(loader), numbers(loader)
    assert flat(first) != flat(second)
    assert sorted(flat(first)) == sorted(flat(second))
    torch.manual_seed(77)
    assert numbers(again) == first
    assert numbers(again) == second
    assert numbers(other) != first


@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_generators_are_left_alone(num_workers):
    """Order and augmentation do not depend on the number of workers either."""
    plain, module = (data(num_workers=n, augment=lambda x: x + torch.rand_like(x) / 10) for n in (0, num_workers))
    expected = [[x for x, _ in plain_loader] for plain_loader in [plain.train_dataloader()] for _ in range(2)]
    states = torch.random.get_rng_state(), random.getstate()
    loader = module.train_dataloader()
    again = [[x for x, _ in loader] for _ in range(2)]
    list(module.val_dataloader())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    for epoch, same in zip(expected, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(epoch, same, strict=True))
    assert not torch.equal(again[0][0], again[1][0])


def test_tensors():
    module = data(augment=lambda x: x + 1)
    x, y = module.tensors("test", limit=7)
    assert torch.equal(x, numbered(30)[0][:7])
    assert torch.equal(y, numbered(30)[1][:7])
    assert len(module.tensors("test")[0]) == 30
    assert len(module.tensors("test", limit=1000)[0]) == 30
    x, _ = module.tensors("train")
    assert len(x) == 100
    assert x.max() < 1, "augmented"
    with pytest.raises(ValueError, match=r"`limit` .* got 0"):
        module.tensors("train", limit=0)


def test_needs_a_dataset():
    with pytest.raises(TypeError, match="dataset"):
        ImageDataModule()


def test_trainer_serves_every_part():
    model, module = Recorder(16), data()
    lightning = trainer(max_epochs=2)
    lightning.fit(model, datamodule=module)
    lightning.test(model, datamodule=module, verbose=False)
    seen = {part: numbers(batches) for part, batches in model.seen.items()}
    loader = data().train_dataloader()
    assert seen["train"] == numbers(loader) + numbers(loader)
    assert seen["val"] == 2 * numbers(data().val_dataloader())
    assert seen["test"] == numbers(data().test_dataloader())
    assert torch.equal(torch.cat(lightning.predict(model, datamodule=module)), numbered(30)[1])


def test_trainer_without_validation_and_with_overfitting():
    model = Recorder(16)
    trainer(max_epochs=1).fit(model, datamodule=data(val_size=0))
    assert len(model.seen["train"]) == 9
    assert not model.seen["val"]
    model = Recorder(16)
    trainer(max_epochs=2, overfit_batches=2).fit(model, datamodule=data())
    seen = numbers(model.seen["train"])
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def noise(x):
    return x + torch.rand_like(x) / 100


class Save(pl.Callback):
    """Write a checkpoint after so many steps, while training goes on."""

    def __init__(self, steps, path):
        self.steps, self.path = steps, path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("steps", [3, 7, 10, 20])
def test_resumed_training_sees_what_it_would_have_seen(tmp_path, steps):
    """From the middle of an epoch, its last batch, the middle of a later one, the last batch but one of all."""
    path = tmp_path / "stopped.ckpt"
    whole, resumed = Recorder(16), Recorder(16)
    trainer(max_epochs=3, callbacks=[Save(steps, path)]).fit(whole, datamodule=data(augment=noise))
    torch.manual_seed(1234)
    trainer(max_epochs=3).fit(resumed, datamodule=data(augment=noise), ckpt_path=path)

    assert len(whole.seen["train"]) == 21
    assert len(resumed.seen["train"]) == 21 - steps
    for (x, y), (x_whole, y_whole) in zip(resumed.seen["train"], whole.seen["train"][steps:], strict=True):
        assert torch.equal(x, x_whole)
        assert torch.equal(y, y_whole)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_resuming_after_epochs_that_were_cut_short(tmp_path):
    lightning = trainer(max_epochs=1, limit_train_batches=3)
    lightning.fit(Recorder(16), datamodule=data())
    lightning.save_checkpoint(tmp_path / "stopped.ckpt")
    model = Recorder(16)
    trainer(max_epochs=2, limit_train_batches=3).fit(model, datamodule=data(), ckpt_path=tmp_path / "stopped.ckpt")
    loader = data().train_dataloader()
    _, second = numbers(loader), numbers(loader)
    assert numbers(model.seen["train"]) == second[:3]


class Writer(Recorder):
    """Writes what it was given."""

    def __init__(self, folder):
        super().__init__(16)
        self.folder = folder

    def on_train_end(self):
        seen = {part: numbers(batches) for part, batches in self.seen.items()}
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(seen))


def together(folder):
    trainer(devices=2, strategy="ddp_fork", max_epochs=2).fit(Writer(folder), datamodule=data(batch_size=10))


def test_two_processes_share_each_epoch(tmp_path):
    run_alone(together, tmp_path, timeout=120)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    trained = {n for batch in numbers(data().train_dataloader()) for n in batch}
    epochs = []
    for epoch in (0, 1):
        shares = [flat(rank["train"][5 * epoch : 5 * epoch + 5]) for rank in ranks]
        assert [len(share) for share in shares] == [50, 50]
        assert set(shares[0]) | set(shares[1]) == trained
        epochs.append(shares[0])
    assert epochs[0] != epochs[1]
    held_out = [flat(rank["val"]) for rank in ranks]
    assert len(set(held_out[0]) | set(held_out[1])) == 30
    assert not (set(held_out[0]) | set(held_out[1])) & trained
