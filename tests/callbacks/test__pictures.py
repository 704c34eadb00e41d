from types import SimpleNamespace

import numpy as np
import pytest
import torch
from callbacks_fakes import ImageLogger, trainer
from torchvision.io import read_image
from torchvision.utils import make_grid

from lightning_robust._lightning import pl
from lightning_robust.callbacks._pictures import Pictures, check_images, check_range
from lightning_robust.plots.images import tile


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


@pytest.mark.parametrize("x", [torch.rand(4, 1, 2, 2), torch.rand(1, 3, 2, 5).bfloat16()])
def test_images_can_be_shown(x):
    check_images(x)


@pytest.mark.parametrize("shape", [(4, 2, 6, 6), (4, 4, 6, 6), (4, 1, 16), (4, 16), (4, 1, 3, 6, 6), (0, 1, 6, 6)])
def test_other_things_cannot(shape):
    with pytest.raises(ValueError, match=r"with C = 1 or 3, but got .*: leave the callback out") as caught:
        check_images(torch.zeros(shape))
    assert str(shape) in str(caught.value)
    with pytest.raises(ValueError, match="but got list"):
        check_images([1.0])


def test_the_range_of_values():
    assert check_range(np.float32(-1), 1) == (-1.0, 1)
    for wrong, error in (((1, 1), ValueError), (("0", 1), TypeError), ((0, float("nan")), ValueError)):
        with pytest.raises(error, match=r"`low`|`high`"):
            check_range(*wrong)


def at(fn, sanity=False):
    """A Trainer, as far as `attempt` looks at it."""
    return SimpleNamespace(state=SimpleNamespace(fn=fn), sanity_checking=sanity)


@pytest.mark.parametrize(("fn", "sanity"), [("validate", False), ("test", False), ("fit", True)])
def test_errors_are_errors_outside_training(fn, sanity):
    with pytest.raises(ZeroDivisionError), Pictures("Owner", 1, True).attempt(at(fn, sanity)):
        raise ZeroDivisionError


def test_errors_in_training_are_one_warning():
    def fails(times=3):
        for _ in range(times):
            with pictures.attempt(at("fit")):
                raise ZeroDivisionError("by 0")

    pictures = Pictures("Owner", 1, True)
    for _ in range(2):
        pictures.start("fit")
        with pytest.warns(UserWarning, match=r"Owner makes no picture, .*: ZeroDivisionError: by 0") as caught:
            fails()
        assert len(caught) == 1
    with pytest.raises(KeyboardInterrupt), pictures.attempt(at("fit")):
        raise KeyboardInterrupt


class Board(ImageLogger):
    """A logger that takes images as TensorBoard does; what it would do with `log_image` is not asked for."""

    @property
    def experiment(self):
        return SimpleNamespace(add_image=lambda *call: self.images.append(call))


@pytest.mark.parametrize("to_disk", [True, False])
def test_publish(tmp_path, monkeypatch, to_disk):
    wandb, board = ImageLogger(), Board()
    t = trainer(logger=[wandb, board, pl.loggers.CSVLogger(tmp_path)], default_root_dir=tmp_path)
    picture = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    t.state.fn = "validate"
    pictures = Pictures("Owner", 1, to_disk)
    for folder in (None, str(tmp_path / "elsewhere")):
        monkeypatch.setattr(pl.Trainer, "log_dir", folder)
        assert pictures.due(t)
        pictures.publish(t, "sheets", picture)
    assert [(key, step) for key, _, step in wandb.images + board.images] == [("sheets", 0)] * 4
    assert torch.equal(torch.from_numpy(wandb.images[0][1][0]).permute(2, 0, 1), picture)
    assert torch.equal(board.images[0][1], picture)
    files = sorted(tmp_path.rglob("*.png"))
    name = "sheets/epoch=0-step=0.png"
    assert files == ([tmp_path / "elsewhere" / name, tmp_path / name] if to_disk else [])
    assert all(torch.equal(read_image(str(file)), picture) for file in files)
