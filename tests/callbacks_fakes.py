"""What the tests of the callbacks share: a small problem, a module that can attack by hand, batches, a Trainer.

All numbers are multiples of 2^-6 and all steps powers of two, so that x + delta is exact in float32 and a textbook
attack can be compared bit for bit.
"""

from collections import UserDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust._lightning import pl
from lightning_robust.attacks import PGD, Linf
from lightning_robust.attacks.gains import cross_entropy

EPS, STEP, STEPS = 2.0**-3, 2.0**-5, 3
N, BATCH, CLASSES, SIDE = 24, 4, 3, 6
TEXTBOOK = PGD(Linf(EPS), STEPS, rel_step_size=STEP / EPS, random_start=False, gain=cross_entropy)


def textbook_pgd(model, x, y, steps=STEPS):
    """Madry et al. as everybody writes it: sign steps, clipping, evaluation mode one submodule at a time."""
    modes = [(m, m.training) for m in model.modules()]
    for m, _ in modes:
        m.training = False
    x_adv = x.clone()
    for _ in range(steps):
        x_adv.requires_grad_()
        loss = F.cross_entropy(model(x_adv), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + STEP * grad.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - EPS), x + EPS).clamp(0, 1)
    for m, mode in modes:
        m.training = mode
    return x_adv.detach()


def data(n=N, seed=0):
    """Images (n, 1, 6, 6) on a grid in [0, 1] whose brightest third is the label, with noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x = torch.randint(0, 33, (n, 1, SIDE, SIDE), generator=generator).float()
    for k in range(CLASSES):
        x[y == k, :, 2 * k : 2 * k + 2] += 16
    return x / 64, y


def loader(n=N, batch_size=BATCH, seed=0):
    """Batches [x, y], as a DataLoader collates them."""
    return DataLoader(TensorDataset(*data(n, seed)), batch_size=batch_size)


def identity(batch):
    return batch


def preloaded(batches):
    """A loader that hands out these very objects."""
    return DataLoader(batches, batch_size=None, collate_fn=identity)


class Pair(NamedTuple):
    image: Any
    label: Any


@dataclass
class Sample:
    image: Any
    label: Any


MAKERS = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: {"image": x, "label": y},
    "userdict": lambda x, y: UserDict(image=x, label=y),
    "namedtuple": Pair,
    "dataclass": Sample,
    "nested": lambda x, y: {"views": ([x], "kept"), "truth": (y,)},
}
FIELDS = {
    "tuple": (0, 1),
    "list": (0, 1),
    "nested": (("views", 0, 0), ("truth", 0)),
}
NAMED = ("image", "label")


def fields(kind):
    """The arguments `input` and `target` for a kind of batch."""
    return dict(zip(("input", "target"), FIELDS.get(kind, NAMED), strict=True))


def unpack(batch):
    """(x, y) of any of these batches, written without the code under test."""
    if isinstance(batch, dict | UserDict):
        return (batch["views"][0][0], batch["truth"][0]) if "views" in batch else (batch["image"], batch["label"])
    if isinstance(batch, Sample):
        return batch.image, batch.label
    return batch[0], batch[1]


def batches(kind, n=N, size=BATCH):
    """Preloaded batches of a kind."""
    x, y = data(n)
    pairs = zip(x.split(size), y.split(size), strict=True)
    return [MAKERS[kind](x, y) for x, y in pairs]


def network(seed=0, dropout=0.25):
    """Convolution, BatchNorm, dropout: everything that an attack may disturb."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(4 * SIDE * SIDE, CLASSES),
    )


class Module(pl.LightningModule):
    """A user's module. `prepare` is where somebody would write an attack by hand.

    Args:
        prepare: `(module, x, y) -> x`.
        manual: Optimise by hand, every `accumulate` batches.
        accumulate: For manual optimisation only.
        net: The network.
    """

    def __init__(self, prepare=None, *, manual=False, accumulate=1, net=None):
        super().__init__()
        self.net = network() if net is None else net
        self.prepare = prepare
        self.automatic_optimization = not manual
        self.accumulate = accumulate

    def forward(self, x):
        return self.net(x)

    def loss(self, x, y):
        return F.cross_entropy(self(x), y)

    def training_step(self, batch, batch_idx):
        x, y = unpack(batch)
        if self.prepare is not None:
            x = self.prepare(self, x, y)
        loss = self.loss(x, y)
        self.log("train/own", loss)
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0:
            self.optimizers().step()
            self.optimizers().zero_grad()
        return None

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = unpack(batch)
        self.log("val/own", F.cross_entropy(self(x), y), batch_size=len(x), sync_dist=True)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = unpack(batch)
        self.log("test/own", F.cross_entropy(self(x), y), batch_size=len(x))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class ImageLogger(pl.loggers.logger.Logger):
    """A logger that takes images as Weights & Biases does, and keeps metrics.

    Attributes:
        images: (key, images, step) of each call.
        metrics: (metrics, step) of each call.
    """

    name, version, experiment = "fake", 0, None

    def __init__(self):
        super().__init__()
        self.images, self.metrics = [], []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((dict(metrics), step))

    def log_hyperparams(self, params, *args, **kwargs):
        return None

    def log_image(self, key, images, step=None):
        self.images.append((key, images, step))


def trainer(*callbacks, **kwargs):
    """A quiet Trainer on one CPU for two epochs."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**(quiet | kwargs), callbacks=list(callbacks))


def fit(module, *callbacks, loader=None, seed=7, **kwargs):
    """Fit from a seed, which dropout draws from; returns the weights and buffers."""
    torch.manual_seed(seed)
    trainer(*callbacks, **kwargs).fit(module, globals()["loader"]() if loader is None else loader)
    return state(module)


def state(module):
    """Parameters and buffers, copied."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one, other):
    """Are two states equal bit for bit?"""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def fingerprint(module):
    """All that an attack must leave as it was: instance attributes, modes, requires_grad, gradients, generator."""
    return (
        {name: id(value) for name, value in vars(module).items() if name.endswith("_step") or name == "forward"},
        [m.training for m in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [sorted(m._buffers) for m in module.modules()],
        [id(b) for b in module.buffers()],
    )
