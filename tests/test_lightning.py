"""`lightning_robust._lightning`: which of the two copies of Lightning is meant."""

import importlib.util
import os
import re
import runpy
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lightning_robust import _lightning
from lightning_robust._lightning import pl

VARIABLE = "LIGHTNING_ROBUST_BACKEND"
PL, L = "pytorch_lightning", "lightning.pytorch"


@pytest.fixture
def world(monkeypatch):
    """What is chosen where these are imported, in this order, installed, and blocked."""

    def make(imported=(), installed=(PL, L), asked=None, blocked=()):
        modules = dict.fromkeys(blocked) | {name: ModuleType(name) for name in imported}
        top = {name.partition(".")[0] for name in installed}
        with monkeypatch.context() as patch:
            patch.delenv(VARIABLE, raising=False)
            if asked is not None:
                patch.setenv(VARIABLE, asked)
            patch.setattr(importlib.util, "find_spec", lambda name: object() if name in top else None)
            patch.setattr(sys, "modules", modules)
            return _lightning._choose()

    return make


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, PL),
        ({"installed": (PL,)}, PL),
        ({"installed": (L,)}, L),
        ({"imported": (L,)}, L),
        ({"imported": (PL,)}, PL),
        ({"imported": (L, PL)}, L),
        ({"imported": (PL, L)}, PL),
        ({"imported": ("torch", "lightning", L, PL)}, L),
        ({"imported": ("lightning",), "installed": (PL, L)}, PL),
        ({"blocked": (PL,), "installed": (L,)}, L),
        ({"blocked": (PL,), "imported": (L,)}, L),
        ({"asked": L}, L),
        ({"asked": PL}, PL),
        ({"asked": L, "imported": (PL,)}, L),
        ({"asked": PL, "imported": (L,)}, PL),
    ],
)
def test_the_choice(world, kwargs, expected):
    assert world(**kwargs) == expected


@pytest.mark.parametrize("asked", ["lightning", "", "pytorch-lightning"])
def test_an_unknown_backend_is_refused(world, asked):
    with pytest.raises(ImportError) as caught:
        world(asked=asked)
    text = str(caught.value)
    assert all(part in text for part in (f"`{VARIABLE}`", PL, L, repr(asked)))


def test_without_lightning_the_error_says_what_to_install(world):
    with pytest.raises(ImportError, match="pip install pytorch-lightning"):
        world(installed=())


@pytest.fixture
def python(fresh):
    """Runs a program in a process in which neither Lightning nor this library is loaded."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return lambda program: fresh.run(program, env=environment)


NEEDS_PL = pytest.mark.skipif(importlib.util.find_spec(PL) is None, reason="needs the package `pytorch_lightning`")
BOTH = pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs the package `lightning`")

FIT = """
import torch
from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation

class Module(Lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def fit(*callbacks):
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    data = torch.utils.data.TensorDataset(torch.rand(8, 1, 2, 2), torch.arange(8) % 2)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    trainer = Lightning.Trainer(accelerator="cpu", max_epochs=1, callbacks=list(callbacks), **quiet)
    trainer.fit(Module(), loader, loader)
    return float(trainer.callback_metrics["val/robust_acc"])

attack = PGD(Linf(0.1), steps=2)
"""
"""A user's program; `Lightning` is the copy that it uses."""


@BOTH
def test_a_project_that_uses_the_other_copy_is_served(python):
    """Its own classes, without a word from the user, though `pytorch_lightning` is imported too."""
    _served(python, L, "import lightning.pytorch as Lightning; import pytorch_lightning")


@pytest.mark.parametrize(
    ("copy", "others"),
    [pytest.param(PL, ["lightning"], marks=NEEDS_PL), pytest.param(L, [PL, "lightning_fabric"], marks=BOTH)],
)
def test_a_project_with_one_copy_alone(python, copy, others):
    """No other copy can be imported, nor a package that comes with it."""
    _served(python, copy, f"import sys; sys.modules.update(dict.fromkeys({others})); import {copy} as Lightning")


def _served(python, copy, first):
    """A program that begins so fits with both callbacks, with the classes of this copy."""
    done = python(
        f"""{first}
import sys
known = {{name: sys.modules.get(name) for name in {(PL, "lightning")}}}
{FIT}
import {copy}.cli
from lightning_robust._lightning import lightning_cli, move_to_device, pl

assert pl is Lightning is sys.modules["{copy}"]
assert issubclass(AdversarialTraining, Lightning.Callback)
assert issubclass(lightning_cli(), Lightning.cli.LightningCLI)
assert move_to_device([torch.ones(1)], "cpu") == [1]
print("robust", fit(AdversarialTraining(attack), RobustEvaluation({{"pgd": attack}})) <= 1)
assert all(sys.modules.get(name) is module for name, module in known.items())
"""
    )
    assert done.returncode == 0, done.stderr
    assert "robust True" in done.stdout


@BOTH
def test_callbacks_refuse_a_trainer_of_the_other_copy(python):
    done = python(
        f"""
import pytorch_lightning
import lightning.pytorch as Lightning
{FIT}
for callback in (AdversarialTraining(attack), RobustEvaluation({{"pgd": attack}})):
    try:
        fit(callback)
    except (TypeError, ValueError) as error:
        print("refused:", error)
"""
    )
    assert done.returncode == 0, done.stderr
    # Older releases refuse callbacks with a state themselves, in fewer words, when the Trainer is made.
    refusals = re.findall("refused: Expected a (?:Trainer of|parent)", done.stdout)
    assert len(refusals) == 2, done.stdout


@pytest.mark.parametrize("other", [PL, L])
def test_the_refusal_says_what_to_do(monkeypatch, other):
    (ours,) = {PL, L} - {other}
    trainers = {name: type("Trainer", (), {}) for name in (PL, L)}
    for name, kind in trainers.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__name__=name, Trainer=kind))
    monkeypatch.setattr(_lightning, "pl", sys.modules[ours])
    _lightning.check_backend(trainers[ours]())
    with pytest.raises(TypeError) as caught:
        _lightning.check_backend(type("Mine", (trainers[other],), {})())
    text = str(caught.value)
    assert text.startswith(f"Expected a Trainer of `{ours}`, but got one of `{other}`")
    assert f"Import `{other}` before" in text
    assert f"{VARIABLE}={other}" in text


@pytest.mark.parametrize("trainer", [None, object(), pl.Trainer])
def test_what_is_no_trainer_of_the_other_copy_passes(trainer):
    _lightning.check_backend(trainer)


def test_a_bad_value_stops_the_import(monkeypatch):
    monkeypatch.setenv(VARIABLE, "lightning")
    with pytest.raises(ImportError, match=f"Expected `{VARIABLE}` to be one of .*, but got 'lightning'"):
        runpy.run_path(_lightning.__file__)
