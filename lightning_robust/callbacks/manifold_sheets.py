"""Pictures of a manifold while it is learnt."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust._lightning import pl
from lightning_robust.attacks.scope import plain, scope
from lightning_robust.callbacks import _batch, _pictures
from lightning_robust.callbacks._step import check_counts
from lightning_robust.plots.images import to_rgb

_COLUMNS = 10
_PER_ROW = 32  # how many samples are looked at for one interpolation: two of one class must be among them


class ManifoldSheets(pl.Callback):
    r"""Show what a manifold has learnt, in three pictures.

    - `reconstructions`: the first validation samples as pairs x | decode(encode(x)).
    - `samples`: images decode(z) of random codes, standard normal within :math:`|z_d| \le 2`; a row for each class,
      with the same codes in each, and the same in all epochs.
    - `interpolations`: in each row the images on the straight line between the codes of two samples of one class. The
      first row of each class comes first.

    They go to every logger of the Trainer that takes images (TensorBoard, Weights & Biases and others with
    `log_image`) and to `<log_dir>/<name>/epoch=<e>-step=<s>.png`.

    The module is a manifold: it has `encode(x, y)` and `decode(z, y, *fixed)`, as `VAEGAN` has, and as a module of your
    own has if you write these two; see `lightning_robust.manifolds.Manifold`. What stays fixed in a code is, in
    `samples`, that of the first validation sample of the class, and in `interpolations` that of the first end.

    When: at the end of validation within fit and alone (but the sanity check), from the samples of the first
    dataloader. The first process alone draws and writes, from its own samples. Both methods are called in evaluation
    mode, without gradients, in the precision of validation, and nothing is changed: not the module, not the random
    generators. Not supported: parameters sharded over processes.

    Args:
        num_reconstructions: how many pairs.
        num_samples: how many random codes.
        num_interpolations: how many rows; fewer where no two samples of one class are among the first 32 per row.
        steps: how many images in a row of `interpolations`, both ends among them.
        num_classes: K, how many classes the manifold tells apart. 1: it ignores labels. None: the attribute
            `num_classes` of the module if it has one, as `VAEGAN` has, else 1.
        every_n_epochs: Every so many epochs, from the first on.
        bound: of the random codes.
        seed: of the random codes.
        low: The value that is shown black.
        high: The value that is shown white.
        to_disk: Write PNG files?
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.

    Raises:
        ValueError: if an argument has another value than said here, or images have not 1 or 3 channels.
        TypeError: if the module is no manifold.

    Example:
        >>> from lightning_robust.datamodules import Fonts
        >>> from lightning_robust.manifolds import VAEGAN
        >>> trainer = pl.Trainer(max_epochs=10, callbacks=[ManifoldSheets()])
        >>> trainer.fit(VAEGAN(num_classes=10), Fonts(batch_size=1000))  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        num_reconstructions: int = 20,
        num_samples: int = 10,
        num_interpolations: int = 10,
        steps: int = 10,
        num_classes: int | None = None,
        every_n_epochs: int = 1,
        bound: float = 2.0,
        seed: int = 0,
        low: float = 0.0,
        high: float = 1.0,
        to_disk: bool = True,
        input: _batch.Field = 0,  # noqa: A002
        target: _batch.Field = 1,
    ) -> None:
        check_counts(
            num_reconstructions=num_reconstructions,
            num_samples=num_samples,
            num_interpolations=num_interpolations,
            steps=steps,
            num_classes=1 if num_classes is None else num_classes,
            every_n_epochs=every_n_epochs,
        )
        _batch.check_fields(input=input, target=target)
        if not bound > 0:
            raise ValueError(f"Expected argument `bound` to be positive, but got {bound}.")
        if not low < high:
            raise ValueError(f"Expected argument `low` to be less than `high`, but got low={low}, high={high}.")
        self.num_reconstructions, self.num_samples = num_reconstructions, num_samples
        self.num_interpolations, self.steps = num_interpolations, steps
        self.num_classes = num_classes
        self.every_n_epochs = every_n_epochs
        self.bound, self.seed = bound, seed
        self.low, self.high = low, high
        self.to_disk = to_disk
        self.input, self.target = input, target
        self._shown_at: int | None = None
        self._due = False
        self._kept: list[tuple[Tensor, Tensor]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that is no manifold."""
        if stage in ("fit", "validate"):
            for name in ("encode", "decode"):
                if not callable(getattr(pl_module, name, None)):
                    raise TypeError(
                        f"Expected the module to be a manifold, with a method `{name}`, but "
                        f"{type(pl_module).__name__} has none. Define encode(self, x, y) -> z and "
                        "decode(self, z, y) -> x."
                    )
            self._shown_at = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to keep samples, if it is time for pictures."""
        self._kept = []
        self._due = _pictures.due(trainer, self._shown_at, self.every_n_epochs)
        if self._due:
            self._shown_at = trainer.current_epoch

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples."""
        left = max(self.num_reconstructions, _PER_ROW * self.num_interpolations) - sum(len(x) for x, _ in self._kept)
        if not self._due or dataloader_idx or left <= 0 or not trainer.is_global_zero:
            return
        x, y = _batch.get(batch, self.input, "input"), _batch.get(batch, self.target, "target")
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"Expected images of shape (N, C, H, W) with C = 1 or 3, but got {tuple(x.shape)}.")
        if y.shape != x.shape[:1] or y.is_floating_point():
            raise ValueError(f"Expected integer labels of shape ({len(x)},), but got {y.dtype} {tuple(y.shape)}.")
        self._kept.append((x[:left].clone(), y[:left].clone()))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write."""
        if not self._due:
            return
        log_dir = trainer.log_dir  # a broadcast: every process must ask for it
        if not self._kept:
            return
        inert = scope(pl_module, seed=self.seed, device=self._kept[0][0].device)
        with inert, torch.no_grad(), trainer.precision_plugin.val_step_context():
            x, y = (torch.cat(part) for part in zip(*plain(self._kept), strict=True))
            self._kept = []
            pictures = {
                "reconstructions": self._reconstructions(pl_module, x, y),
                "samples": self._samples(pl_module, x, y),
                "interpolations": self._interpolations(pl_module, x, y),
            }
        for name, picture in pictures.items():
            if picture is not None:
                _pictures.publish(trainer, log_dir, name, picture, to_disk=self.to_disk)

    def _reconstructions(self, manifold: Any, x: Tensor, y: Tensor) -> Tensor:
        x, y = x[: self.num_reconstructions], y[: self.num_reconstructions]
        z, *fixed = _parts(manifold.encode(x, y))
        original, again = self._rgb(x), self._rgb(manifold.decode(z, y, *fixed))
        pairs = torch.cat((pad(original, (0, 1), value=1.0), again), dim=3)
        return _pictures.tile(pairs, min(len(pairs), _COLUMNS // 2), gap=4)

    def _samples(self, manifold: Any, x: Tensor, y: Tensor) -> Tensor:
        number = getattr(manifold, "num_classes", None) or 1 if self.num_classes is None else self.num_classes
        classes = torch.arange(number, device=y.device)
        first = (y == classes[:, None]).to(torch.uint8).argmax(1)  # 0 where a class has no sample
        z, *fixed = _parts(manifold.encode(x[first], classes))
        codes = torch.empty(self.num_samples, *z.shape[1:], dtype=torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        torch.nn.init.trunc_normal_(codes, a=-self.bound, b=self.bound, generator=generator)
        codes = torch.cat([codes.to(z)] * number)
        images = manifold.decode(codes, classes.repeat_interleave(self.num_samples), *_repeat(fixed, self.num_samples))
        columns = min(self.num_samples, _COLUMNS) if number == 1 else self.num_samples
        return _pictures.tile(self._rgb(images), columns)

    def _interpolations(self, manifold: Any, x: Tensor, y: Tensor) -> Tensor | None:
        start, end = _pairs(y, self.num_interpolations)
        if not len(start):
            return None
        z, *fixed = _parts(manifold.encode(x[start], y[start]))
        z_end, *_ = _parts(manifold.encode(x[end], y[end]))
        weight = torch.linspace(0, 1, self.steps, dtype=torch.float32).to(z).view(1, -1, *[1] * (z.ndim - 1))
        line = torch.lerp(z[:, None], z_end[:, None], weight).flatten(0, 1)
        images = manifold.decode(line, y[start].repeat_interleave(self.steps), *_repeat(fixed, self.steps))
        return _pictures.tile(self._rgb(images), self.steps)

    def _rgb(self, images: Tensor) -> Tensor:
        return to_rgb(images, self.low, self.high)


def _parts(code: Any) -> Any:
    """(z, *fixed) of a code."""
    return code if isinstance(code, tuple | list) else (code,)


def _repeat(fixed: list[Any], times: int) -> list[Any]:
    """What stays fixed in a code, each entry so many times."""
    return [entry.repeat_interleave(times, 0) if isinstance(entry, Tensor) else entry for entry in fixed]


def _pairs(y: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Rows of two samples of one class, two int64 (R,): the first two of each class, then the next two, and so on."""
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(y.tolist()):
        rows.setdefault(label, []).append(row)
    found = [(i, label, *of[i : i + 2]) for label, of in rows.items() for i in range(0, len(of) - 1, 2)]
    start, end = torch.tensor(sorted(found)[:limit], dtype=torch.int64, device=y.device).reshape(-1, 4).T[2:]
    return start, end
