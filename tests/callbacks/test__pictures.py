from types import SimpleNamespace

import pytest
import torch
from callbacks_fakes import trainer
from torchvision.io import read_image
from torchvision.utils import make_grid

from lightning_robust._lightning import pl
from lightning_robust.callbacks._pictures import due, publish, tile


@pytest.mark.parametrize("count", [2, 5, 6, 7])
@pytest.mark.parametrize("zoom", [1, 3])
def test_tiles_are_those_of_torchvision(count, zoom):
    """Its grid fills the last row up with the colour of the lines, too."""
    images = torch.rand(count, 3, 5, 4)
    columns = min(count, 3)
    expected = make_grid(images, nrow=columns, padding=2, pad_value=1.0).mul(255).round().to(torch.uint8)
    picture = tile(images, columns, gap=2, zoom=zoom)
    assert picture.dtype == torch.uint8
    assert torch.equal(picture[:, ::zoom, ::zoom], expected)
    assert torch.equal(picture[:, zoom - 1 :: zoom, zoom - 1 :: zoom], expected)


def test_one_image_is_framed_too():
    picture = tile(torch.zeros(1, 3, 2, 2), 1, gap=1, zoom=1)
    assert torch.equal(picture[0], torch.tensor([[255, 255, 255, 255], [255, 0, 0, 255]] * 2).byte()[[0, 1, 3, 2]])


@pytest.mark.parametrize(
    ("fn", "sanity", "epoch", "shown_at", "every", "expected"),
    [
        ("fit", False, 0, None, 3, True),
        ("fit", True, 0, None, 3, False),
        ("fit", False, 0, 0, 3, True),
        ("fit", False, 2, 0, 3, False),
        ("fit", False, 3, 0, 3, True),
        ("fit", False, 4, 0, 3, True),
        ("validate", False, 2, 0, 3, True),
    ],
)
def test_due(fn, sanity, epoch, shown_at, every, expected):
    now = SimpleNamespace(sanity_checking=sanity, current_epoch=epoch, state=SimpleNamespace(fn=fn))
    assert due(now, shown_at, every) is expected


class Wandb(pl.loggers.logger.Logger):
    """A logger that takes images as Weights & Biases does."""

    name, version = "fake", 0

    def __init__(self):
        super().__init__()
        self.images = []

    def log_metrics(self, metrics, step=None):
        return None

    def log_hyperparams(self, params, *args, **kwargs):
        return None

    def log_image(self, key, images, step=None):
        self.images.append((key, images, step))


class Board(Wandb):
    """A logger that takes images as TensorBoard does; what it would do with `log_image` is not asked for."""

    @property
    def experiment(self):
        return SimpleNamespace(add_image=lambda *call: self.images.append(call))


@pytest.mark.parametrize("to_disk", [True, False])
def test_publish(tmp_path, to_disk):
    wandb, board = Wandb(), Board()
    t = trainer(logger=[wandb, board, pl.loggers.CSVLogger(tmp_path)], default_root_dir=tmp_path)
    picture = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    publish(t, None, "sheets", picture, to_disk=to_disk)
    publish(t, str(tmp_path / "elsewhere"), "sheets", picture, to_disk=to_disk)
    assert [(key, step) for key, _, step in wandb.images + board.images] == [("sheets", 0)] * 4
    assert torch.equal(torch.from_numpy(wandb.images[0][1][0]).permute(2, 0, 1), picture)
    assert torch.equal(board.images[0][1], picture)
    files = sorted(tmp_path.rglob("*.png"))
    name = "sheets/epoch=0-step=0.png"
    assert files == ([tmp_path / "elsewhere" / name, tmp_path / name] if to_disk else [])
    assert all(torch.equal(read_image(str(file)), picture) for file in files)
