"""Several threats at once
=======================

One model against several threats: the worst of them for every sample, with a radius that grows over two epochs.
"""

import pytorch_lightning as pl

from lightning_robust import L2, PGD, AdversarialTraining, AffineSpace, Linf, RobustEvaluation, Threat, WarmUp, worst_of
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net

# %%
# In training the worst of three attacks for each sample; in evaluation each of them, and the worst of all.

threats = {"linf": Threat(Linf(0.05)), "l2": Threat(L2(1.0)), "affine": Threat(Linf(0.1), AffineSpace())}
training = worst_of(*(PGD(threat, steps=3) for threat in threats.values()))
evaluation = {name: PGD(threat, steps=10) for name, threat in threats.items()}
trainer = pl.Trainer(
    max_epochs=3,
    logger=False,
    enable_checkpointing=False,
    callbacks=[AdversarialTraining(training, schedule=WarmUp(epochs=2)), RobustEvaluation(evaluation)],
)
trainer.fit(RobustClassifier(standard_net()), Fonts("easy", train_size=500, val_size=200))
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
