"""Rotations and translations
==========================

Gradients and a grid each miss some of them, so the worst of both is what counts.
"""

import pytorch_lightning as pl

from lightning_robust import PGD, AffineSpace, Linf, RobustEvaluation, Threat
from lightning_robust.attacks import GridSearch
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net

# Shift by 2.5 % of the image, turn by 0.1 rad (6 degrees): a ball that is larger than the ranges leaves all of them.
THREAT = Threat(Linf(1.0), AffineSpace(translation=0.05, shear=0.0, scale=0.0, rotation=0.1))

# %%
pl.seed_everything(0)
attacks = {
    "gradient": PGD(THREAT, steps=20, rel_step_size=0.01),
    "grid": GridSearch(THREAT, points=(5, 5, 1, 1, 1, 5)),  # 125 transformations of each image
}
evaluation = RobustEvaluation(attacks)
data, module = Fonts("easy", train_size=1000, test_size=500), RobustClassifier(standard_net())
pl.Trainer(max_epochs=10, limit_val_batches=0, logger=False, enable_checkpointing=False).fit(module, data)
pl.Trainer(logger=False, callbacks=[evaluation]).test(module, data, verbose=False)
for name in ("clean_acc", "robust_acc_gradient", "robust_acc_grid", "robust_acc"):
    low, high = evaluation.intervals[f"test/{name}"]
    print(f"{name}: {evaluation.results[f'test/{name}']:.3f} [{low:.3f}, {high:.3f}]")
