r"""Many processes and many machines
================================

The same two callbacks under DDP.

Each process attacks its own samples, nobody waits for another within an attack, and `RobustEvaluation` counts every
sample once: the values are those of all processes together, whatever their number.

By itself, the program starts a second process on this machine::

    python 16_many_processes.py

With torchrun, on each of two machines with eight GPUs::

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint first-machine:29500 \
        16_many_processes.py --nodes 2 --devices 8 --accelerator gpu

On a cluster with SLURM, `sbatch robust.sh`. There are as many tasks on a node as devices; by the signal Lightning saves
a checkpoint 90 seconds before the time is over, puts the job into the queue again, and goes on where it was::

    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=8
    #SBATCH --gpus-per-node=8
    #SBATCH --cpus-per-task=6
    #SBATCH --time=02:00:00
    #SBATCH --signal=SIGUSR1@90
    srun python 16_many_processes.py --nodes 2 --devices 8 --accelerator gpu
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust.datamodules import Fonts


class Letters(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


parser = argparse.ArgumentParser()
parser.add_argument("--nodes", type=int, default=1)
parser.add_argument("--devices", type=int, default=2)
parser.add_argument("--accelerator", default="cpu")
args = parser.parse_args()

# %%
# Nothing is said about attacks here: whoever starts the processes, the callbacks find out which of them they are in.

pl.seed_everything(0, verbose=False)
evaluation = RobustEvaluation(PGD(Linf(0.05), steps=10))
trainer = pl.Trainer(
    accelerator=args.accelerator,
    devices=args.devices,
    num_nodes=args.nodes,
    strategy="ddp",
    max_epochs=2,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[AdversarialTraining(PGD(Linf(0.05), steps=5)), evaluation],
)
trainer.fit(Letters(), Fonts("easy", train_size=1000, val_size=201))

# %%
# Of 201 samples one process has 101 and the other as many, one of them twice. It counts once.

if trainer.is_global_zero:
    print({name: round(value, 3) for name, value in evaluation.results.items()})
