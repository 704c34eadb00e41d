"""Robust accuracy over the radius
===============================

Two networks of one kind learn to read clothes (Fashion-MNIST), one as usual and one from adversarial examples.

A single run of the plan ``standard`` with ``radii=True`` tells for each image at which radius it falls, so it gives the
whole curve. The figure of the README is this program with ``--train 20000 --epochs 10 --images 1000``.
"""

import argparse

import pytorch_lightning as pl
import torch

from lightning_robust import Linf, evaluate, recipes, standard
from lightning_robust.datamodules import FashionMNIST
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.plots import radius_curve, save_png

options = argparse.ArgumentParser()
options.add_argument("--train", type=int, default=2000, help="training images")
options.add_argument("--epochs", type=int, default=3, help="passes over them")
options.add_argument("--images", type=int, default=50, help="test images that are attacked")
given = options.parse_args()

# %%
# Training: the recipe is the only difference between the two.

EPS = 0.1
data = FashionMNIST(train_size=given.train)


def trained(callbacks):
    pl.seed_everything(0)
    model = RobustClassifier(standard_net(), lambda parameters: torch.optim.Adam(parameters, 2e-3))
    quiet = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    pl.Trainer(max_epochs=given.epochs, callbacks=callbacks, **quiet).fit(model, data)
    return model


models = {
    "normal training": trained([]),
    "adversarial training, radius 0.1": trained(recipes.madry(Linf(EPS), steps=5)),
}

# %%
# The same test images for both; the radius goes up to twice that of training.

x, y = data.tensors("test", limit=given.images)
reports = {name: evaluate(model, (x, y), standard(Linf(2 * EPS), radii=True)) for name, model in models.items()}
for name, report in reports.items():
    print(f"{name}: {report}")

# %%
# A curve that does not fall to zero at a large radius shows a weak attack. A band is the 95 % interval at each radius.

rows = [{"model": name, **row} for name, report in reports.items() for row in report.radius_curve()]
figure = radius_curve(rows)
save_png(figure, "robust_accuracy_over_the_radius.png")

# %%
# The two models on the same images, at the largest radius. The interval is that of the difference.

normal, robust = reports.values()
print(robust.compare(normal))
