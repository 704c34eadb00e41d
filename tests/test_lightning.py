"""`lightning_robust._lightning`: which of the two copies of Lightning is meant."""

import importlib.util
import os
import runpy
import subprocess
import sys
import textwrap

import pytest

from lightning_robust import _lightning

VARIABLE = "LIGHTNING_ROBUST_BACKEND"
PL, L = "pytorch_lightning", "lightning.pytorch"


@pytest.fixture
def world(monkeypatch):
    """Set what is imported and what is installed."""

    def make(imported=(), installed=(PL, L), asked=None):
        monkeypatch.delenv(VARIABLE, raising=False)
        if asked is not None:
            monkeypatch.setenv(VARIABLE, asked)
        monkeypatch.setattr(sys, "modules", dict.fromkeys(imported))
        top = {name.partition(".")[0] for name in installed}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in top else None)
        return _lightning._choose()

    yield make
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, PL),
        ({"installed": (PL,)}, PL),
        ({"installed": (L,)}, L),
        ({"imported": (L,)}, L),
        ({"imported": (PL,)}, PL),
        ({"imported": (L, PL)}, PL),
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


def _python(code):
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


def test_a_project_that_uses_the_other_copy_is_served():
    """Its own classes, without a word from the user; the first copy is never imported."""
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("the package `lightning` is not installed")
    done = _python(
        """
        import sys
        import torch
        import lightning.pytorch as L
        from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
        from lightning_robust._lightning import pl

        assert pl is L
        assert issubclass(AdversarialTraining, L.Callback)
        assert "pytorch_lightning" not in sys.modules

        class Module(L.LightningModule):
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

        attack = PGD(Linf(0.1), steps=2)
        data = torch.utils.data.TensorDataset(torch.rand(8, 1, 2, 2), torch.arange(8) % 2)
        loader = torch.utils.data.DataLoader(data, batch_size=4)
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        callbacks = [AdversarialTraining(attack), RobustEvaluation(pgd=attack)]
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, callbacks=callbacks, **quiet)
        trainer.fit(Module(), loader, loader)
        print("robust", float(trainer.callback_metrics["val/robust_acc"]) <= 1)
        """
    )
    assert done.returncode == 0, done.stderr
    assert "robust True" in done.stdout


def test_a_bad_value_stops_the_import(monkeypatch):
    monkeypatch.setenv(VARIABLE, "lightning")
    with pytest.raises(ImportError, match=f"Expected `{VARIABLE}` to be one of .*, but got 'lightning'"):
        runpy.run_path(_lightning.__file__)
