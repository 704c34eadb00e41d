"""TRADES with adversarial weight perturbation: the objective takes the place of the module's own loss."""

import pytorch_lightning as pl

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.attacks import divergence
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.objectives import awp, trades

if __name__ == "__main__":
    trainer = pl.Trainer(
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        callbacks=[
            AdversarialTraining(
                PGD(Linf(0.05), steps=5, gain=divergence), objective=awp(trades(beta=6.0), gamma=0.005)
            ),
            RobustEvaluation(PGD(Linf(0.05), steps=10)),
        ],
    )
    trainer.fit(RobustClassifier(standard_net()), Fonts("easy", train_size=500, val_size=200))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
