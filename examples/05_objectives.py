"""A published method: TRADES with weight perturbation
===================================================

TRADES with adversarial weight perturbation: a recipe puts the attack and the objective of a method together.
"""

import pytorch_lightning as pl

from lightning_robust import PGD, Linf, RobustEvaluation, recipes
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net

# %%
# The same by hand: AdversarialTraining(PGD(..., gain=divergence), objective=awp(trades(beta=6.0), gamma=0.005)).
recipe = recipes.awp(recipes.trades(Linf(0.05), beta=6.0, steps=5), gamma=0.005)
trainer = pl.Trainer(
    max_epochs=2,
    logger=False,
    enable_checkpointing=False,
    callbacks=[*recipe, RobustEvaluation(PGD(Linf(0.05), steps=10))],
)
trainer.fit(RobustClassifier(standard_net()), Fonts("easy", train_size=500, val_size=200))
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
