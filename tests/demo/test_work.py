"""One model of the demonstration."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from lightning_robust._lightning import pl
from lightning_robust.cells import load_artifact
from lightning_robust.demo import Settings, work
from lightning_robust.demo.settings import SCHEMES
from lightning_robust.metrics import wilson_interval

TINY = Settings(train_size=200, test_size=20, epochs=2, train_steps=1, test_steps=2, restarts=1)


def test_the_model_is_the_running_average_of_its_weights(monkeypatch):
    seen = []
    fit = pl.Trainer.fit

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            seen.append({name: value.clone() for name, value in module.network.state_dict().items()})

    def looked(trainer, *args):
        trainer.callbacks.append(Look())
        return fit(trainer, *args)

    monkeypatch.setattr(pl.Trainer, "fit", looked)
    module = work._trained(replace(TINY, average=0.2), None)
    assert len(seen) == 4
    for name, value in module.network.state_dict().items():
        if value.is_floating_point():
            first, *others = (state[name] for state in seen)
            for factor, other in zip((2 / 11, 0.2, 0.2), others, strict=True):  # it begins with more of the new
                first = factor * first + (1 - factor) * other
            torch.testing.assert_close(value, first)
    last = work._trained(replace(TINY, average=0.0), None)
    torch.testing.assert_close(dict(last.network.state_dict()), seen[-1])


@pytest.mark.parametrize("model", SCHEMES)
def test_a_cell_is_a_model_with_its_numbers_and_its_weights(model, tmp_path):
    (cell,) = (cell for cell in TINY.models() if cell["model"] == model)
    rows = work.train_and_attack(cell, tmp_path)
    assert [row["metric"] for row in rows] == list(work.METRICS)[: len(rows)]
    assert len(rows) >= 3
    module = work.RobustClassifier(work.standard_net())
    module.load_state_dict(load_artifact(tmp_path / work.WEIGHTS))
    x, y, _ = work.data(TINY).tensors("test", limit=20)
    wrong = int((module.eval()(x).argmax(1) != y).sum())
    assert rows[0]["value"] == pytest.approx(wrong / 20)
    low, high = (float(end) for end in wilson_interval(torch.tensor(wrong), torch.tensor(20)))
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((low, high), abs=1e-6)
    assert work.cost(cell) > 0


def test_a_model_that_reads_nothing_has_no_success_rate():
    options = replace(TINY, test_size=1)
    _, y, _ = work.data(options).tensors("test")
    module = work.RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    with torch.no_grad():
        module.network[1].weight.zero_()
        module.network[1].bias.zero_()[(int(y) + 1) % 10] = 1
    found = work._attacked(module, options)
    assert list(found) == list(work.METRICS)[:3]
    assert [estimate.value for estimate in found.values()] == [1.0] * 3


PROGRAM = """
import json, sys
from lightning_robust.demo import Settings, work
module = work._trained(Settings(), sys.argv[1])
x, y, _ = work.data(Settings()).tensors("test", limit=2000)
print(int((module.eval()(x).argmax(1) != y).sum()))
"""


@pytest.mark.slow
def test_processors_agree_within_the_intervals():
    """The same command and seed under three sets of instructions: a minute and a half of processor time for each."""
    intervals = []
    for changed in ({}, {"DNNL_MAX_CPU_ISA": "SSE41"}, {"ATEN_CPU_CAPABILITY": "default"}):
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, "on_manifold"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **changed}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=3600)
        intervals.append(wilson_interval(torch.tensor(int(done.stdout.split()[-1])), torch.tensor(2000)))
    assert max(low for low, _ in intervals) <= min(high for _, high in intervals), intervals
