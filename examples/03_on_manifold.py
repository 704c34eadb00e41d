"""Adversarial examples that stay letters: attack the parameters that drew them, here on the true manifold."""

import pytorch_lightning as pl

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, RobustEvaluation, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import RobustClassifier, standard_net

if __name__ == "__main__":
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
    trainer.fit(RobustClassifier(standard_net()), Fonts("hard", train_size=1000, val_size=200))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
