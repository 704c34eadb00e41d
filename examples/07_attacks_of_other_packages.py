"""torchattacks and foolbox beside our own attacks (pip install "lightning-robust[torchattacks,foolbox]")."""

import foolbox
import pytorch_lightning as pl
import torchattacks

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts
from lightning_robust.interop import from_foolbox, from_torchattacks
from lightning_robust.models import RobustClassifier, standard_net

if __name__ == "__main__":
    evaluation = RobustEvaluation(
        pgd=PGD(Linf(0.05), steps=10),
        apgd=from_torchattacks(torchattacks.APGD, eps=0.05, steps=10),
        bim=from_foolbox(foolbox.attacks.LinfBasicIterativeAttack(steps=10), eps=0.05),
    )
    trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, limit_val_batches=0)
    model, data = RobustClassifier(standard_net()), Fonts("easy", train_size=500, test_size=200)
    trainer.fit(model, data)
    pl.Trainer(logger=False, callbacks=[evaluation]).test(model, data)
