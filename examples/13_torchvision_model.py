"""A network of torchvision
========================

It is in a LightningModule of one's own, trained robustly with a published method (TRADES).

The normalization that torchvision's networks ask for is the first layer, so that radii stay in units of [0, 1].
"""

import pytorch_lightning as pl
import torch
import torchvision
from torch import nn

from lightning_robust import PGD, Linf, RobustEvaluation, recipes
from lightning_robust.datamodules import Fonts
from lightning_robust.models import Normalize


class Letters(pl.LightningModule):
    def __init__(self):
        super().__init__()
        normalize = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.net = nn.Sequential(normalize, torchvision.models.mobilenet_v3_small(num_classes=10))

    def forward(self, x):
        return self.net(x.expand(-1, 3, -1, -1))  # gray to RGB

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


# %%
threat = Linf(4 / 255)
evaluation = RobustEvaluation(PGD(threat, steps=10), max_samples=50)
trainer = pl.Trainer(
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    callbacks=[*recipes.trades(threat, beta=6, steps=2), evaluation],
)
trainer.fit(Letters(), Fonts("easy", train_size=100, val_size=50))
print(evaluation.results)
