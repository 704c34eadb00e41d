"""Callbacks by the environment: an unchanged script trains robustly, and without the variable nothing happens."""

import os

import pytest

from lightning_robust import _external
from lightning_robust.attacks import Linf
from lightning_robust.callbacks import AdversarialTraining, RobustEvaluation

YAML = """
- class_path: lightning_robust.recipes.trades
  init_args: {threat: {class_path: Linf, init_args: {eps: 0.25}}, beta: 3.0, steps: 1}
- class_path: RobustEvaluation
  init_args: {attacks: {class_path: PGD, init_args: {threat: {class_path: Linf, init_args: {eps: 0.25}}, steps: 2}}}
"""
SCRIPT = """
import sys
import torch
{imports}
class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, x):
        return self.layer(x)
    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
    def validation_step(self, batch):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 4), torch.arange(8) % 2), batch_size=4)
trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, accelerator="cpu")
trainer.fit(Module(), data, data)
print("callbacks", *(type(c).__name__ for c in trainer.callbacks))
print("metrics", *sorted(trainer.callback_metrics))
print("loaded", "lightning_robust.attacks" in sys.modules)
"""


@pytest.fixture
def run(fresh, tmp_path):
    """Runs the script of a user, with the variable in its environment or without it."""

    def run(variable, backend):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNING_ROBUST")}
        environment |= {} if variable is None else {_external.VARIABLE: str(variable)}
        return fresh.run(SCRIPT.format(imports=f"import {backend} as pl"), cwd=tmp_path, env=environment)

    return run


@pytest.mark.parametrize("backend", ["pytorch_lightning", "lightning.pytorch"])
def test_an_unchanged_script_trains_robustly(run, tmp_path, backend):
    path = tmp_path / "callbacks.yaml"
    path.write_text(YAML)
    done = run(path, backend)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count(f"this Trainer has AdversarialTraining, RobustEvaluation from {path}") == 1
    assert "AdversarialTraining RobustEvaluation" in done.stdout
    assert "metrics train/loss val/clean_acc val/robust_acc" in done.stdout


def test_without_the_variable_nothing_happens(run):
    done = run(None, "pytorch_lightning")
    assert done.returncode == 0, done.stderr
    assert "Robust" not in done.stdout + done.stderr
    assert "loaded False" in done.stdout


def test_the_file_is_read(tmp_path):
    path = tmp_path / "callbacks.yaml"
    path.write_text(YAML + "- lightning_robust.recipes.random_transformations\n")
    training, evaluation, augmentation = _external.read_callbacks(path)
    assert isinstance(training, AdversarialTraining)
    assert training.objective.beta == 3.0
    assert training.attack.threat.ball == Linf(0.25)
    assert isinstance(evaluation, RobustEvaluation)
    assert augmentation.fraction == 0.5


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "- class_path: pytorch_lightning.callbacks.ModelCheckpoint",
            "callbacks and recipes of lightning_robust alone",
        ),
        ("- class_path: os.system\n  init_args: {command: 'touch x'}", "lightning_robust alone"),
        ("- class_path: elsewhere.AdversarialTraining", "lightning_robust alone"),
        ("- init_args: {}", "but got 'None'"),
        ("class_path: AdversarialTraining", "to hold a list of callbacks"),
        ("- 3", "to hold a list of callbacks"),
        ("- {", "to name a YAML file"),
        ("- class_path: RobustEvaluation\n  init_args: {no_such: 1}", "RobustEvaluation cannot be made"),
        ("- AdversarialTraining", "AdversarialTraining cannot be made"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, match):
    path = tmp_path / "callbacks.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        _external.read_callbacks(path)
    with pytest.raises(ValueError, match=rf"{_external.VARIABLE} to name a YAML file.*No such file"):
        _external.read_callbacks(tmp_path / "missing.yaml")
