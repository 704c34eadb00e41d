"""The models of the comparison: how each is trained, its threat, and its test images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, Threat, cells
from lightning_robust._fitting import loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.attacks import L1, L2, Ball, divergence
from lightning_robust.datamodules import FashionMNIST, Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.objectives import trades
from lightning_robust.recipes import NearbyStart

WEIGHTS = "weights.pt"
BALLS: dict[str, type[Ball]] = {"Linf": Linf, "L2": L2, "L1": L1}


@dataclass(frozen=True)
class Trained:
    """A model to evaluate.

    Args:
        data: "fonts" or "fashion".
        training: "normal", "pgd", "trades" or "on-manifold".
        norm: Of the threat, in training and in evaluation.
        eps: Its radius.
        net: "plain", two convolutions, or "batchnorm", `standard_net`.
        scale: The logits are multiplied by it after training.
        robust: Is it trained against the threat of the evaluation?
        base: The model whose weights it has; None: its own.
    """

    data: str
    training: str
    norm: str
    eps: float
    net: str = "plain"
    scale: float = 1.0
    robust: bool = True
    base: str | None = None

    @property
    def ball(self) -> Ball:
        return BALLS[self.norm](self.eps)


MODELS = {
    "fonts normal": Trained("fonts", "normal", "Linf", 0.1, robust=False),
    "fonts PGD": Trained("fonts", "pgd", "Linf", 0.06),
    "fonts TRADES": Trained("fonts", "trades", "Linf", 0.1),
    "fonts L2": Trained("fonts", "pgd", "L2", 1.0),
    "fonts L1": Trained("fonts", "pgd", "L1", 6.0),
    "fonts on-manifold": Trained("fonts", "on-manifold", "Linf", 0.03, robust=False),
    "fonts BatchNorm": Trained("fonts", "pgd", "Linf", 0.06, net="batchnorm"),
    "fashion normal": Trained("fashion", "normal", "Linf", 0.1, robust=False),
    "fashion PGD": Trained("fashion", "pgd", "Linf", 0.1),
    "fashion PGD x100": Trained("fashion", "pgd", "Linf", 0.1, scale=100.0, base="fashion PGD"),
    "fashion PGD /100": Trained("fashion", "pgd", "Linf", 0.1, scale=0.01, base="fashion PGD"),
}


class Scaled(nn.Module):
    """A network whose logits are multiplied by a number."""

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.network(x)


def plain_net() -> nn.Sequential:
    """Two strided convolutions and two linear layers: 109,562 parameters."""
    convolutions = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10))


def network(net: str) -> nn.Module:
    return plain_net() if net == "plain" else standard_net(negative_slope=0.0)


def data_of(name: str, train_size: int, root: str) -> pl.LightningDataModule:
    if name == "fonts":
        return Fonts("moderate", train_size=train_size, batch_size=100)
    return FashionMNIST(root, train_size=train_size, batch_size=100)


def images(name: str, count: int, root: str, first: int = 0) -> tuple[Tensor, Tensor]:
    """Test images and their labels, from the first on."""
    data = data_of(name, 1000, root)
    x, y = data.tensors("test", limit=first + count)[:2]
    return x[first:], y[first:]


def callbacks(model: Trained, steps: int) -> list[pl.Callback]:
    """The training method. Its attack has the textbook's constant step, written out."""
    options: dict[str, Any] = {"rel_step_size": 2.5 / steps}
    if model.training == "pgd":
        return [AdversarialTraining(PGD(model.ball, steps, **options))]
    if model.training == "trades":
        attack = PGD(model.ball, steps, gain=divergence, random_start=NearbyStart(), **options)
        return [AdversarialTraining(attack, trades(6.0))]
    if model.training == "on-manifold":
        threat = Threat(Linf(0.3), LatentSpace(FontsManifold("moderate")))
        return [AdversarialTraining(PGD(threat, steps, **options), fraction=0.5, code=2)]
    return []


@dataclass(frozen=True)
class Train:
    """The work of a cell: train a model and keep its weights.

    Args:
        root: Folder of the data.
        train_size: Number of training images.
        epochs: Passes over them.
        steps: Steps of the attack.
    """

    root: str = field(repr=False)
    train_size: int = 10_000
    epochs: int = 10
    steps: int = 7

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """Train the model of the cell."""
        model = MODELS[str(cell["model"])]
        pl.seed_everything(int(str(cell["seed"])), verbose=False)
        total = -(-self.train_size // 100) * self.epochs
        module = RobustClassifier(
            network(model.net),
            optimizer=partial(torch.optim.Adam, lr=0.002),
            scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total),
            interval="step",
        )
        data = data_of(model.data, self.train_size, self.root)
        quiet_trainer(callbacks(model, self.steps), max_epochs=self.epochs, limit_val_batches=0).fit(module, data)
        cells.save_artifact(folder / WEIGHTS, module.state_dict())
        return [{"parameters": sum(p.numel() for p in module.parameters())}]


def train(folder: Path, work: Train, names: Sequence[str], seed: int) -> None:
    """Train what is not trained yet, in this process."""
    own = list(dict.fromkeys(MODELS[name].base or name for name in names))
    cells.run_cells(cells.expand(model=own, seed=[seed]), work, folder, executor=cells.Inline())


def load(folder: Path, name: str, seed: int) -> nn.Module:
    """A trained model, frozen, from images in [0, 1] to logits."""
    model = MODELS[name]
    path = cells.cell_folder(folder, {"model": model.base or name, "seed": seed}) / WEIGHTS
    module = loaded(RobustClassifier(network(model.net)), path)
    return module if model.scale == 1 else Scaled(module, model.scale).eval()


@dataclass(frozen=True)
class OnModels:
    """The work of a cell on a trained model and some of its test images.

    Args:
        models: Folder of the trained models.
        root: Folder of the data.
    """

    models: str = field(repr=False)
    root: str = field(repr=False)

    def given(self, cell: cells.Row) -> tuple[Trained, nn.Module, Tensor, Tensor]:
        """What the model is, its network, and `count` images from number `first` on with their labels."""
        name, first = str(cell["model"]), int(str(cell.get("first", 0)))
        x, y = images(MODELS[name].data, int(str(cell["count"])), self.root, first)
        return MODELS[name], load(Path(self.models), name, int(str(cell["seed"]))), x, y
