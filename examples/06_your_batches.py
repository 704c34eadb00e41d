"""Batches of your own, and normalized data
========================================

Batches that are dictionaries, a forward with other arguments, data that arrives normalized.
"""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_robust import PGD, AdversarialTraining, Linf, PixelSpace, Threat

MEAN, STD = (0.5,), (0.25,)


class Masked(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def forward(self, pixel_values, mask):
        return {"logits": self.net(pixel_values * mask)}

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch["pixel_values"], batch["mask"])["logits"], batch["labels"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


# %%
# `input` and `target` say where things are in a batch, `forward` how logits come about. The radius is in units of
# [0, 1], although the batch holds normalized images.

images = torch.rand(64, 1, 8, 8)
rows = [
    {"pixel_values": (x - MEAN[0]) / STD[0], "mask": torch.ones(1, 8, 8), "labels": int(x.mean() > 0.5)} for x in images
]
callback = AdversarialTraining(
    PGD(Threat(Linf(8 / 255), PixelSpace(mean=MEAN, std=STD)), steps=5),
    input="pixel_values",
    target="labels",
    forward=lambda module, batch: module(batch["pixel_values"], batch["mask"])["logits"],
)
trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, callbacks=[callback])
trainer.fit(Masked(), DataLoader(rows, batch_size=16))

# %%
# The attack moved the images of a batch by 8/255, which is 8/255/0.25 after normalization.

batch = next(iter(trainer.train_dataloader))
x, y = batch["pixel_values"], batch["labels"]
x_adv = callback.attack(lambda x: trainer.lightning_module(x, batch["mask"])["logits"], x, y)
print("largest change:", round(float((x_adv - x).abs().max() * STD[0] * 255), 3), "/ 255")
