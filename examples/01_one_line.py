"""One line makes a module robust
==============================

Adversarial training and robust accuracy for a LightningModule that knows nothing of either.
"""

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts


class Letters(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y, _ = batch
        return nn.functional.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y, _ = batch
        self.log("val/loss", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


# %%
# Two callbacks are all that is added. The module above is an ordinary one.

trainer = pl.Trainer(
    max_epochs=5,
    logger=False,
    enable_checkpointing=False,
    callbacks=[
        AdversarialTraining(PGD(Linf(0.05), steps=5)),
        RobustEvaluation(PGD(Linf(0.05), steps=20)),
    ],
)
trainer.fit(Letters(), Fonts("easy", train_size=2000, val_size=500))

# %%
# What was logged. `val/suspicious` counts reasons not to believe the numbers.

print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
