"""The first block of the README, pasted into a program of a user."""

import re
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

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


def test_the_first_block_runs_and_is_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len(block.strip().splitlines()) < 15
    names = {"your_module": YourModule(), "your_data": YourData()}
    exec(block, names)
    found = names["trainer"].callback_metrics
    assert {"val/acc", "val/acc_pgd", "val/robust_acc"} <= set(found)
    assert found["val/robust_acc"] <= found["val/acc_pgd"] <= found["val/acc"]


def test_files_and_folders_that_are_named_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
