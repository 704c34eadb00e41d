"""The program of a user into which the blocks of README.md and docs/ are pasted: a module, data and a checkpoint."""

import ast
import re
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[1]


class YourModule(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.lr = 1e-3
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


class YourData(pl.LightningDataModule):
    def train_dataloader(self):
        generator = torch.Generator().manual_seed(1)
        return DataLoader(
            TensorDataset(torch.rand(32, 3, 32, 32, generator=generator), torch.arange(32) % 3), batch_size=16
        )

    val_dataloader = test_dataloader = train_dataloader


def blocks(page: Path) -> list[str]:
    """The blocks of Python of a page, in order, and the objects of tests that it shows."""
    found = re.finditer(
        r"^```python\n(?P<code>.*?)^```|^```\{literalinclude\} (?P<file>\S+)\n:pyobject: (?P<name>\w+)\n",
        page.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return [m["code"] if m["file"] is None else source(page.parent / m["file"], m["name"]) for m in found]


def source(path: Path, name: str) -> str:
    """The source of a class or a function of a file."""
    text = path.read_text("utf-8")
    (node,) = [node for node in ast.parse(text).body if getattr(node, "name", None) == name]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def program(folder: Path) -> dict[str, Any]:
    """The names that a user has; the checkpoint and the weights are in a folder."""
    module, data = YourModule(), YourData()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, limit_val_batches=0, default_root_dir=folder, **quiet)
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "last.ckpt")
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    torch.save(net.state_dict(), folder / "weights.pt")
    x, y = next(iter(data.test_dataloader()))
    own = {"your_module": module, "your_data": data, "YourModule": YourModule, "YourData": YourData}
    return {**own, "net": net, "x": x, "y": y, "__name__": "program"}
