"""Functions of adv-lib
====================

A function `(model, x, y) -> x_adv` is an attack: those of adv-lib, with arguments given by `functools.partial`.

pip install adv-lib
"""

import sys
import types
from functools import partial

try:
    import visdom  # noqa: F401  adv-lib imports this plot server, which does not build everywhere; no attack needs it
except ImportError:
    sys.modules["visdom"] = types.ModuleType("visdom")

import pytorch_lightning as pl
from adv_lib.attacks import ddn, pgd_linf

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net

# %%
eps = 0.05
attacks = {
    "ours": PGD(Linf(eps), steps=10),
    "adv_lib": partial(pgd_linf, ε=eps, steps=10, relative_step_size=0.25),
    "nearest": partial(ddn, steps=20),  # the nearest adversarial example in L2, however far it is
}
evaluation = RobustEvaluation(attacks, max_samples=100)
trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, limit_val_batches=0)
model, data = RobustClassifier(standard_net()), Fonts("easy", train_size=500, test_size=100)
trainer.fit(model, data)
pl.Trainer(logger=False, callbacks=evaluation).test(model, data)
