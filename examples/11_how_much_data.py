"""How much data robustness needs
==============================

For a module and data of your own: a study that can be stopped and continued.
"""

import pytorch_lightning as pl
import torch

from lightning_robust.cells import Inline
from lightning_robust.datamodules import TensorDataModule
from lightning_robust.learning_curves import learning_curve

STEPS = 60


class YourModule(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def your_data(n, seed):
    """Stripes, across or upright, in noise: n training images, the same test images for all n."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 2
    stripes = (torch.arange(8) % 2 * 0.3 + 0.35).expand(8, 8)
    x = torch.where(y[:, None, None] == 0, stripes, stripes.T) + 0.25 * torch.randn(4000, 8, 8, generator=generator)
    x = x.clamp(0, 1)[:, None]
    train, test = (x[:3000], y[:3000]), (x[3000:], y[3000:])
    return TensorDataModule(train, test, train_size=n, val_size=500, batch_size=50, eval_batch_size=500, seed=seed)


# %%
# Sizes x training radii x seeds. What is finished is kept in `out`: stop it and start it again.

options = {"seeds": 2, "steps": STEPS, "images": 100, "out": "runs/how_much_data"}
options |= {"masked_images": 20, "executor": Inline()}  # in this process; without it, in processes of this machine
curves = learning_curve(your_data, YourModule, sizes=[20, 100, 500], eps_train=[0, 0.1], **options)
print(curves.best()[["n", "seed", "eps_test", "eps_train", "value"]].to_string(index=False))

# %%
# How many images a model needs, with intervals over the seeds.

print("Training images for 80 % without an attack:", curves.samples_needed(0.8, eps_test=0))
print("Training images for 80 % at radius 0.1:", curves.samples_needed(0.8))
print("How many times as many:", curves.ratio_needed(0.8))
figure = curves.figure()
figure.savefig("runs/how_much_data/accuracy.png")
