"""Adversarial examples on a manifold
==================================

Adversarial examples that stay letters: attack the parameters that drew them, here on the true manifold.
"""

import pytorch_lightning as pl
import torch

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, RobustEvaluation, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.plots import AttackedSamples, example_sheet

# %%
# The threat is a ball in the space of codes. `code=2` says where a batch has the codes of its images.

on_manifold = Threat(Linf(0.3), LatentSpace(FontsManifold("hard")))
trainer = pl.Trainer(
    max_epochs=3,
    logger=False,
    enable_checkpointing=False,
    callbacks=[
        AdversarialTraining(PGD(on_manifold, steps=5), fraction=0.5, code=2),  # the batch brings its codes
        RobustEvaluation({"pixels": PGD(Linf(0.1), steps=10), "on_manifold": PGD(on_manifold, steps=10)}, code=2),
    ],
)
model, data = RobustClassifier(standard_net()), Fonts("hard", train_size=1000, val_size=200)
trainer.fit(model, data)
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})

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


attacks = {"in pixels, Linf 0.1": PGD(Linf(0.1), steps=20), "on the manifold, Linf 0.3": PGD(on_manifold, steps=20)}
sheet = example_sheet([shown(name, attack) for name, attack in attacks.items()], class_names=list("ABCDEFGHIJ"))
