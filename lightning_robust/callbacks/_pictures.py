"""Pictures that callbacks make: when, laid out how, and where they go."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust._lightning import pl


def due(trainer: pl.Trainer, shown_at: int | None, every_n_epochs: int) -> bool:
    """Is it time for a picture: in each validation alone, and within fit every n-th epoch, from the first on?

    Counted from the last picture: where not every epoch validates, none may fall on a multiple. All validations of an
    epoch with a picture have one. The sanity check has none.

    Args:
        trainer: in validation.
        shown_at: the epoch of the last picture; None: there was none.
        every_n_epochs: n.
    """
    if trainer.sanity_checking:
        return False
    since = None if shown_at is None else trainer.current_epoch - shown_at
    return trainer.state.fn != "fit" or since is None or since == 0 or since >= every_n_epochs


def publish(trainer: pl.Trainer, log_dir: str | None, key: str, picture: Tensor, *, to_disk: bool) -> None:
    """Give a picture to every logger that takes images, and write it to `<log_dir>/<key>/epoch=<e>-step=<s>.png`.

    Called by the first process alone.

    Args:
        trainer: whose loggers.
        log_dir: `trainer.log_dir`, which is a broadcast: every process must ask for it. None: the default root.
        key: the name in the loggers, and of the folder.
        picture: uint8 of shape (3, H, W) on the CPU.
        to_disk: whether to write the file.
    """
    loggers: list[Any] = trainer.loggers
    for logger in loggers:
        # Not every logger has an experiment.
        add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
        if add_image is not None:
            add_image(key, picture, trainer.global_step)
        elif hasattr(logger, "log_image"):
            logger.log_image(key=key, images=[picture.permute(1, 2, 0).numpy()], step=trainer.global_step)
    if to_disk:
        from PIL import Image

        folder = Path(log_dir or trainer.default_root_dir) / key
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        image.save(folder / f"epoch={trainer.current_epoch}-step={trainer.global_step}.png")


def tile(images: Tensor, columns: int, *, gap: int = 2, zoom: int = 2) -> Tensor:
    """Images in rows, parted and framed by white lines.

    Args:
        images: (N, 3, H, W) in [0, 1] on the CPU.
        columns: how many stand side by side; the last row is filled up with white.
        gap: the width of the lines, in pixels of the images.
        zoom: how many pixels a pixel becomes in either direction.

    Returns:
        uint8 of shape (3, zoom (R (H + gap) + gap), zoom (columns (W + gap) + gap)) for R = ceil(N / columns).

    Example:
        >>> tile(torch.rand(5, 3, 8, 6), columns=3, zoom=1).shape
        torch.Size([3, 22, 26])
    """
    white = images.new_ones(-len(images) % columns, *images.shape[1:])
    images = pad(torch.cat((images, white)), (gap, 0, gap, 0), value=1.0)  # room above and to the left of each
    rows = images.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)  # (3, R, H, columns, W)
    picture = pad(rows.flatten(3, 4).flatten(1, 2), (0, gap, 0, gap), value=1.0)
    picture = picture.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)
    return picture.mul(255.0).round().to(torch.uint8)
