"""Images seen through a learned manifold
======================================

A classifier reads images, what a learned manifold keeps of them, and random samples of the manifold.
"""

import pytorch_lightning as pl

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust.callbacks import ManifoldSheets
from lightning_robust.datamodules import Fonts, GeneratedDataModule, ReconstructedDataModule
from lightning_robust.manifolds import VAEGAN
from lightning_robust.models import RobustClassifier, standard_net


def trainer(*callbacks, epochs=1):
    return pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, callbacks=list(callbacks))


# %%
# A VAE-GAN for each letter, all in one run. The sheets show reconstructions, samples and interpolations after each
# epoch.

pl.seed_everything(0)
manifold = VAEGAN(num_classes=10, width=1 / 8, gamma=0.0)  # one for each letter; no discriminator, for speed
trainer(ManifoldSheets(), epochs=2).fit(manifold, Fonts("easy", train_size=5000, val_size=500))

# %%
# A classifier of images, and the test images, what the manifold makes of them, and samples of the manifold.

classifier = RobustClassifier(standard_net())
trainer(epochs=4).fit(classifier, Fonts("easy", train_size=2000, val_size=500))

images = Fonts("easy", test_size=500)
sets = {
    "images": images,
    "reconstructions": ReconstructedDataModule(images, manifold),
    "samples": GeneratedDataModule(manifold, manifold.num_classes, manifold.latent, test_size=500),
}

# %%
# The test error on each of them. After so short a training the manifold still loses some letters; with 10,000 images
# and three epochs reconstructions are read as well as images, and samples nearly so.

for name, data in sets.items():
    evaluation = RobustEvaluation(PGD(Linf(0.02), steps=3))  # logs test/clean_acc and test/robust_acc
    (metrics,) = trainer(evaluation).test(classifier, data, verbose=False)
    print(f"test error on {name}: {1 - metrics['test/clean_acc']:.3f}, attacked: {1 - metrics['test/robust_acc']:.3f}")
