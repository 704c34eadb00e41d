"""What the README says in code, pasted into a program of a user."""

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import L2, PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.attacks import binary_correct, binary_margin, dense, dense_correct, log_odds

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


class YourModule(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class YourData(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(32, 3, 4, 4), torch.arange(32) % 3), batch_size=16)

    val_dataloader = train_dataloader


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks define, one after the other."""
    namespace = {"your_module": YourModule(), "your_data": YourData()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        for block in BLOCKS:
            exec(block, namespace)
    return namespace


def test_the_first_block_is_short_and_logs_what_it_says(names):
    assert len(BLOCKS[0].strip().splitlines()) < 15
    logged = names["trainer"].callback_metrics
    said = set(re.findall(r"val/\w+", BLOCKS[0]))
    assert said == {key for key in logged if key != "val/loss"}
    assert logged["val/robust_acc"] <= logged["val/clean_acc"]


def test_normalised_data_is_attacked_in_units_of_the_images(names):
    x = torch.rand(4, 3, 4, 4)
    space = names["threat"].space
    mean, std = (torch.tensor(value)[:, None, None] for value in (space.mean, space.std))
    x_adv = names["attack"](names["your_module"], (x - mean) / std, torch.arange(4) % 3)
    moved = (x_adv * std + mean - x).abs().amax()
    assert moved == pytest.approx(8 / 255, rel=1e-4)


def test_several_attacks_are_logged_by_name_with_intervals():
    call = re.search(r"`(RobustEvaluation\(\{.*?\))`", README).group(1)
    attacks = {"a": PGD(Linf(0.1), steps=1), "b": PGD(L2(0.1), steps=1)}
    evaluation = eval(call, {"RobustEvaluation": RobustEvaluation, **attacks})
    quiet = {"logger": False, "enable_progress_bar": False}
    pl.Trainer(**quiet, callbacks=[evaluation]).validate(YourModule(), YourData(), verbose=False)
    keys = set(re.findall(r"`(val/\w+)`", README))
    assert len(keys) == 5
    assert keys < set(evaluation.results)
    assert keys - {"val/suspicious"} < set(evaluation.intervals)


def test_labels_of_other_kinds_have_a_gain_and_a_correct():
    about = README.partition("**Labels**")[2].partition("\n\n")[0]
    code = " ".join(re.findall(r"`([^`]*)`", about))
    names = set(re.findall(r"\b(?:binary|dense)\w*", code))
    assert names == {"binary_margin", "binary_correct", "dense", "dense_correct"}
    logits, yes = torch.randn(4, 2), torch.ones(4, 2)
    assert torch.equal(binary_margin(logits, yes) > 0, ~binary_correct(logits, yes))
    scores, classes = torch.randn(4, 3, 5), torch.zeros(4, 5).long()
    assert dense(log_odds)(scores, classes).shape == dense_correct(0.9)(scores, classes).shape == (4,)


def test_the_tuner_keeps_the_attack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def attack(model, x, y):
        seen.append(len(x))
        return x

    callback, module = AdversarialTraining(attack), YourModule()
    module.lr = 0.1
    module.train_dataloader = YourData().train_dataloader
    trainer = pl.Trainer(
        max_epochs=1, limit_val_batches=0, logger=False, enable_progress_bar=False, callbacks=[callback]
    )
    line = re.search(r"`(with callback.attached.*?)`", README, re.DOTALL).group(1)
    exec(line, {"callback": callback, "module": module, "trainer": trainer, "Tuner": Tuner})
    assert seen == [16, 16]  # one epoch


def test_files_and_folders_that_are_named_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
