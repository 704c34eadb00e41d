"""A fit that is killed within an epoch and resumed ends with the weights of the fit that never stopped."""

import os
import signal

import pytest
from callbacks_fakes import Module, batches, network, same, state, trainer

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation, WarmUp
from lightning_robust._lightning import pl
from tests.processes import run_alone, told

KILLED = 8
"""Batches that are over when the process is killed; an epoch has six."""


class Remembers:
    """A loader that goes on where it was: Lightning keeps the state of such in its checkpoints."""

    def __init__(self):
        self.batches, self.next = batches("tuple"), 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        while self.next < len(self):
            self.next += 1
            yield self.batches[self.next - 1]
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


class Kill(pl.Callback):
    """The process is gone at once, as under a scheduler that runs out of patience."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder, *callbacks, module, **kwargs):
    keeps = pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)
    ours = AdversarialTraining(PGD(Linf(0.1), 2), schedule=WarmUp(epochs=2)), RobustEvaluation(PGD(Linf(0.1), 1))
    t = trainer(keeps, *ours, *callbacks, enable_checkpointing=True, max_epochs=3)
    t.fit(module, Remembers(), Remembers(), **kwargs)
    return state(module)


def dropless(seed=0):
    """Lightning's checkpoints hold no generators, so nothing is drawn."""
    return Module(net=network(seed, dropout=0.0))


def killed(folder):
    fit(folder, Kill(), module=dropless())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.filterwarnings("ignore")
def test_killed_within_an_epoch(tmp_path):
    ended = run_alone(killed, tmp_path / "killed", timeout=300, check=False)
    assert ended.code == -signal.SIGKILL, told([ended])
    whole = fit(tmp_path / "whole", module=dropless())
    resumed = fit(tmp_path / "killed", module=dropless(seed=5), ckpt_path=tmp_path / "killed" / "last.ckpt")
    assert same(resumed, whole)
    assert not same(fit(tmp_path / "other", module=dropless(seed=5)), whole)
