"""A network of timm
=================

A small vision transformer, attacked and evaluated; its module is as it was afterwards.

pip install timm
"""

import pytorch_lightning as pl
import timm
import torch
from torch import nn

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts


class Letters(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, num_classes=10, in_chans=1, img_size=28, patch_size=7, depth=2
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


# %%
evaluation = RobustEvaluation(PGD(Linf(0.05), steps=10), max_samples=100)
trainer = pl.Trainer(
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    callbacks=[AdversarialTraining(PGD(Linf(0.05), steps=3), fraction=0.5), evaluation],
)
trainer.fit(Letters(), Fonts("easy", train_size=200, val_size=100))
print(evaluation.results)
