"""A robust network as fast as possible
=====================================

Fashion-MNIST, a network robust in Linf 0.1: how long does it take, and how robust is it by ``standard``? This is the
program of the record in docs/performance.md. What is quick: one step of the attack from a random start (Wong, Rice,
Kolter, ICLR 2020, who made the first such record) or few of PGD; a learning rate that rises and falls once; an attack
that calls the model as this processor does it quickest (``fast``, chosen by measurement); a small network. ``--method
pgd`` is the textbook to compare with.

    python examples/speedrun.py                                  # fgsm, 5 passes over 60,000 images
    python examples/speedrun.py --method pgd --plain             # PGD with 7 steps, the attack as it is
    python examples/speedrun.py --train 600 --epochs 1 --images 10      # does it run?
"""

import argparse
import time

import pytorch_lightning as pl
import torch

from lightning_robust import AdversarialTraining, Linf, evaluate, recipes, standard
from lightning_robust.attacks import fast
from lightning_robust.datamodules import FashionMNIST
from lightning_robust.models import RobustClassifier, standard_net

parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--data", default="data", help="folder of the original files; Debian's package is found by itself")
parser.add_argument("--method", choices=["fgsm", "pgd"], default="fgsm", help="attack of the training")
parser.add_argument("--steps", type=int, default=7, help="steps of pgd")
parser.add_argument("--plain", action="store_true", help="the attack as it is, not the quickest way to call the model")
parser.add_argument("--compile", action="store_true", help="try compilation too (costs its time before the first step)")
parser.add_argument("--train", type=int, default=60_000, help="training images")
parser.add_argument("--epochs", type=int, default=5, help="passes over them")
parser.add_argument("--batch_size", type=int, default=128)
parser.add_argument("--lr", type=float, default=4e-3, help="largest learning rate, of Adam")
parser.add_argument("--images", type=int, default=1_000, help="test images that are judged, the first ones")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()

# %%
# The data lies in memory; the schedule knows the number of steps.

EPS = 0.1
pl.seed_everything(given.seed)
data = FashionMNIST(given.data, train_size=given.train, val_size=0, batch_size=given.batch_size)
data.prepare_data()
data.setup("fit")
steps = given.epochs * len(data.train_dataloader())


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, given.lr, total_steps=steps, pct_start=0.3)


model = RobustClassifier(standard_net(), lambda parameters: torch.optim.Adam(parameters, given.lr), one_cycle)

# %%
# The recipe holds the attack of its paper; ``fast`` goes around it.

recipe = recipes.fgsm_rs(Linf(EPS)) if given.method == "fgsm" else recipes.madry(Linf(EPS), steps=given.steps)
attack = next(part.attack for part in recipe if isinstance(part, AdversarialTraining))
if not given.plain:
    attack = fast(attack, precision="auto", channels_last="auto", compile="auto" if given.compile else False)
quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
quiet["limit_val_batches"] = 0
trainer = pl.Trainer(max_epochs=given.epochs, callbacks=[AdversarialTraining(attack)], **quiet)

began, processor = time.perf_counter(), time.process_time()
trainer.fit(model, data)
seconds, processor = time.perf_counter() - began, time.process_time() - processor

# %%
# The verdict. The interval is for the draw of the attacked test images.

passes = given.epochs * given.train * (2 if given.method == "fgsm" else given.steps + 1)
print(f"{seconds:.0f} s ({processor:.0f} s of processor, threads: {torch.get_num_threads()}), seed {given.seed}")
print(f"{passes:,} images forward and backward, in {trainer.global_step:,} steps")
print(evaluate(model, data.tensors("test", limit=given.images), standard(Linf(EPS))))
