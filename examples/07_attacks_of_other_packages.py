"""Attacks of other packages
=========================

torchattacks (AutoAttack among them) and foolbox beside our own attacks.

pip install "lightning-robust[torchattacks,foolbox]"
"""

import foolbox
import pytorch_lightning as pl
import torchattacks

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts
from lightning_robust.interop import from_foolbox, from_torchattacks
from lightning_robust.models import RobustClassifier, standard_net

# %%
# Attacks of torchattacks and foolbox become attacks of this package: inert, seeded and feasible.

eps = 0.05
attacks = {
    "pgd": PGD(Linf(eps), steps=10),
    "apgd": from_torchattacks(torchattacks.APGD, {"eps": eps, "steps": 10}),
    "bim": from_foolbox(foolbox.attacks.LinfBasicIterativeAttack(steps=10), eps=eps),
}

# %%
# AutoAttack takes thousands of queries for a sample that withstands it: a few samples here. `standard(Linf(eps))` takes
# about a tenth of them (docs/evaluation.md).

autoattack = from_torchattacks(torchattacks.AutoAttack, {"eps": eps, "n_classes": 10, "version": "standard"})
evaluations = [
    RobustEvaluation(attacks),
    RobustEvaluation({"autoattack": autoattack}, max_samples=8, prefix="standard/"),
]
trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, limit_val_batches=0)
model, data = RobustClassifier(standard_net()), Fonts("easy", train_size=500, test_size=200)
trainer.fit(model, data)
pl.Trainer(logger=False, callbacks=evaluations).test(model, data)
