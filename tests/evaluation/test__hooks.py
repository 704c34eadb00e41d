"""Batches of an evaluation are those of `trainer.test`: the law of batch hooks."""

import sys
import warnings
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import PGD, Linf, RobustEvaluation, evaluate
from lightning_robust._lightning import pl
from lightning_robust.attacks import PixelSpace, Threat, expectation
from lightning_robust.cli import main
from lightning_robust.evaluation._hooks import module_in, ready_for

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
ATTACK = PGD(Threat(Linf(0.1), PixelSpace(-10, 10)), steps=3)
X = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
NAMES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def changed(name, scale, shift):
    """A hook that changes the inputs."""

    def hook(self, batch, *args):
        x, y = batch
        return [scale * x + shift, y]

    return {name: hook}


class Net(pl.LightningModule):
    """Right where the mean of its input is above 0 if the label says so; its margins are as narrow as the attack."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Linear(16, 2, bias=False)
        with torch.no_grad():
            self.mean.weight.copy_(torch.ones(16) * torch.tensor([[-1.0], [1.0]]))

    def forward(self, x):
        return self.mean(x.flatten(1))

    def test_step(self, batch, batch_idx):
        pass


class Data(pl.LightningDataModule):
    def test_dataloader(self):
        return loader()


def loader():
    return DataLoader(TensorDataset(X, (X.mean((1, 2, 3)) > 0.5).long()), batch_size=7)


def both(module, data):
    """What the callback and `evaluate` say: clean and robust accuracy."""
    callback = RobustEvaluation(ATTACK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(callbacks=[callback], **QUIET).test(module, data, verbose=False)
        report = evaluate(module, data, ATTACK, progress=False)
    ours = (report.clean_acc.value, report.robust_acc.value)
    return (callback.results["test/clean_acc"], callback.results["test/robust_acc"]), pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["module", "data", "both"])
def test_the_hooks_are_those_of_the_trainer(name, of):
    own, other = changed(name, 2.0, -1.0), changed(name, -2.0, 1.2)
    module = type("Own", (Net,), {} if of == "data" else other if of == "both" else own)()
    data = type("OwnData", (Data,), {} if of == "module" else own)()
    expected, ours = both(module, data)
    assert ours == expected
    assert expected[0] > 0.9  # by the hook that is meant, and with room for the attack
    assert 0.1 < expected[1] < 0.9
    if of != "data":  # a loader alone has the hook of the module
        expected, ours = both(module, loader())
        assert ours == expected
        assert (expected[0] > 0.9) == (of == "module")


def test_different_hooks_of_both_are_made_in_turn():
    module = type("Own", (Net,), changed("on_after_batch_transfer", 2.0, 0.0))()
    data = type("OwnData", (Data,), changed("on_before_batch_transfer", 1.0, -0.5))()
    expected, ours = both(module, data)
    assert ours == expected
    assert expected[0] > 0.9


class Augmenting(Net):
    """Turns images upside down in training, as two idioms ask for it."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.asked = (self.training, self.mean.training, torch.is_grad_enabled())
        x, y = batch
        return [-x if self.training or (self._trainer is not None and self.trainer.training) else 2 * x - 1, y]


def test_a_hook_that_augments_in_training_does_not():
    module = Augmenting().train()
    module.mean.eval()  # frozen by the user
    assert evaluate(module, loader(), ATTACK, progress=False).clean_acc.value > 0.9
    assert module.asked == (False, False, False)
    assert (module.training, module.mean.training) == (True, False)
    trainer = module.trainer = pl.Trainer(**QUIET)
    trainer.training = True  # as in a hook of a fit
    assert evaluate(module, loader(), ATTACK, progress=False).clean_acc.value > 0.9
    assert trainer.training


@pytest.mark.parametrize("base", [Net, Data])
def test_a_hook_that_asks_for_a_trainer_gets_an_error_that_says_what_to_do(base):
    def hook(self, batch, dataloader_idx):
        return batch if self.trainer.training else [2 * batch[0] - 1, batch[1]]

    own = type("Own", (base,), {"on_after_batch_transfer": hook})()
    module, data = (own, Data()) if base is Net else (Net(), own)
    with pytest.raises(RuntimeError, match=r"`on_after_batch_transfer` of Own .*`trainer.test` with"):
        evaluate(module, data, ATTACK, progress=False)
    own.trainer = pl.Trainer(**QUIET)
    assert evaluate(module, data, ATTACK, progress=False).clean_acc.value > 0.9


def test_an_error_of_a_hook_is_its_own():
    def hook(self, batch, dataloader_idx):
        raise RuntimeError("no such file")

    def other(self, batch, dataloader_idx):
        return None.shape

    module = type("Own", (Net,), {"on_after_batch_transfer": hook})()
    with pytest.raises(RuntimeError, match=r"^no such file$"):
        evaluate(module, loader(), ATTACK, progress=False)
    module = type("Own", (Net,), {"on_after_batch_transfer": other})()
    with pytest.raises(AttributeError, match="shape"):
        evaluate(module, loader(), ATTACK, progress=False)


@pytest.mark.parametrize("error", [TypeError, NotImplementedError])
def test_a_stream_that_does_not_know_its_length(error):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(*next(iter(loader())), strict=True))

        def __len__(self):
            raise error("no valid length")

    class Batches:
        dataset = Stream()

        def __iter__(self):
            return iter(loader())

    report = evaluate(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), Batches(), ATTACK, progress=False, max_samples=4)
    assert report.n == 4


def test_the_module_within_what_is_put_around_it():
    module = Net()
    for model in (module, expectation(module, 2), torch.compile(module), AveragedModel(module, use_buffers=True)):
        assert isinstance(module_in(model), Net)
    for model in (nn.Sequential(module), nn.Linear(1, 1), module.forward):
        assert module_in(model) is None


class Scaled(Net):
    """Of a checkpoint: normalizes on the device."""

    def __init__(self, mean=0.5):
        super().__init__()
        self.save_hyperparameters()

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [2 * (batch[0] - self.hparams.mean), batch[1]]


def test_a_checkpoint_and_the_command(tmp_path, capsys, monkeypatch):
    module = Scaled()
    trainer = pl.Trainer(enable_model_summary=False, **QUIET)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    expected = evaluate(Net(), [[2 * x - 1, y] for x, y in loader()], ATTACK, progress=False)
    report = evaluate(tmp_path / "net.ckpt", loader(), ATTACK, model_class=Scaled, progress=False)
    assert str(report) == str(expected)
    assert expected.clean_acc.value > 0.9
    monkeypatch.setattr("lightning_robust.evaluation.command.standard", lambda threat, radii: ATTACK)
    options = "--ckpt {0} --model {1}.Scaled --data {1}.Data --threat linf --eps 0.2"
    main(["evaluate", *options.format(tmp_path / "net.ckpt", __name__).split()])
    assert str(expected) in capsys.readouterr().out


def test_modules_of_both_copies_have_hooks(monkeypatch):
    """`pytorch_lightning` and `lightning.pytorch` are two copies; either may be imported beside the other."""
    other = "lightning.pytorch" if pl.__name__ == "pytorch_lightning" else "pytorch_lightning"

    class LightningModule(nn.Module):
        on_before_batch_transfer = on_after_batch_transfer = staticmethod(lambda batch, index: [batch, index])
        transfer_batch_to_device = staticmethod(lambda batch, device, index: [batch, device, index])

    copy = ModuleType(other)
    copy.LightningModule = LightningModule
    monkeypatch.setitem(sys.modules, other, copy)
    batch = ready_for(LightningModule(), [], torch.device("cpu"))(1)
    assert batch == [[[1, 0], torch.device("cpu"), 0], 0]
