"""Adversarial examples on a manifold
==================================

Adversarial examples that stay letters: attack the parameters that drew them, here on the true manifold. Training on
them makes a network read better, which training on examples in pixels does not.
"""

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, RobustEvaluation, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import RobustClassifier
from lightning_robust.plots import AttackedSamples, example_sheet

# %%
# The threat is a ball in the space of codes. `code=2` says where a batch has the codes of its images.

on_manifold = Threat(Linf(0.1), LatentSpace(FontsManifold("easy")))
data = Fonts("easy", train_size=2000, val_size=300, batch_size=50)


def trained(*callbacks):
    """A small network, and its errors on letters that it has not seen: as they are, and under two attacks."""
    pl.seed_everything(0)
    layers = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))
    model = RobustClassifier(network, optimizer=lambda parameters: torch.optim.Adam(parameters, 2e-3))
    evaluation = RobustEvaluation(
        {"pixels": PGD(Linf(0.1), steps=10), "on_manifold": PGD(on_manifold, steps=10)}, code=2
    )
    trainer = pl.Trainer(
        max_epochs=8,
        check_val_every_n_epoch=8,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, evaluation],
    )
    trainer.fit(model, data)
    names = ("clean_acc", "robust_acc_on_manifold", "robust_acc_pixels")
    return model, [1 - evaluation.results[f"val/{name}"] for name in names]


_, normal = trained()
model, robust = trained(AdversarialTraining(PGD(on_manifold, steps=3), fraction=0.5, code=2))  # half of each batch

# %%
# Two networks that differ in one callback. The third number is that of an attack which neither was trained against.

print(f"letters misread          {'normal':>10}{'on-manifold':>14}")
for name, *errors in zip(("as they are", "moved on the manifold", "changed in pixels"), normal, robust, strict=True):
    print(f"{name:25}{errors[0]:>10.1%}{errors[1]:>14.1%}")

# %%
# In pixels an example is a letter with noise. On the manifold it is a letter, drawn in another way.

x, y, code = data.tensors("test", limit=200)
with torch.no_grad():
    rows = (model(x).argmax(1) == y).nonzero()[:5, 0]  # letters that are read correctly
x, y, code = x[rows], y[rows], type(code)(*(part[rows] for part in code))


def shown(name, attack):
    x_adv = attack(model, x, y, code=code)
    with torch.no_grad():
        return AttackedSamples(
            name=name, x=x, x_adv=x_adv, y=y, before=model(x).argmax(1), after=model(x_adv).argmax(1)
        )


wide = Threat(Linf(0.3), LatentSpace(FontsManifold("easy")))  # three times as far as in training
attacks = {"in pixels, Linf 0.1": PGD(Linf(0.1), steps=20), "on the manifold, Linf 0.3": PGD(wide, steps=20)}
sheet = example_sheet([shown(name, attack) for name, attack in attacks.items()], class_names=list("ABCDEFGHIJ"))
