"""Pictures of a manifold while it is learned."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_robust import _checks
from lightning_robust._codes import parts
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust._step import muted
from lightning_robust.attacks.scope import ordinary, scope
from lightning_robust.callbacks._base import BatchCallback, check_alone
from lightning_robust.callbacks._pictures import Pictures, check_images, check_range
from lightning_robust.evaluation._reader import Reader
from lightning_robust.plots.images import tile, to_rgb

Encode = Callable[[slice | Tensor, Tensor], list[Any]]
"""`(rows, y) -> [z, *fixed]`: the codes of some of the kept samples."""

_COLUMNS = 10
_PER_ROW = 32  # samples that are kept for one interpolation: two of one class must be among them


class ManifoldSheets(BatchCallback):
    r"""Show what a manifold has learned, in three pictures.

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

    When: in validation within fit and alone, from the samples of the first dataloader as they are before the module's
    step, as soon as there are enough. In the sanity check the pictures are tried and go nowhere, so that what cannot be
    shown is refused before training. Later an error becomes one warning: no training ends because of a picture. The
    first process alone draws and writes, from its own samples. Both methods are called in evaluation mode, without
    gradients, in the precision of validation, and nothing is changed: not the module, not the random generators, not
    what is logged. Not supported: parameters sharded over processes; more than one of this callback in a Trainer.

    Args:
        num_reconstructions: Number of pairs.
        num_samples: Number of random codes.
        num_interpolations: Number of rows; fewer if no two samples of one class are among the first 32 per row.
        steps: Number of images in a row of `interpolations`, both ends among them.
        num_classes: K, the number of classes that the manifold tells apart. 1: it ignores labels. None: the attribute
            `num_classes` of the module if it has one, as `VAEGAN` has, else 1.
        every_n_epochs: Within fit, only in the first validation, then in the epochs n - 1, 2 n - 1, ..., and in the
            last.
        bound: Largest size of the random codes, in each dimension.
        seed: Seed of the random codes.
        low: The value that is shown black.
        high: The value that is shown white.
        to_disk: Write PNG files? Not in `fast_dev_run` and `barebones`, in which nothing is written.
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the codes are, for data that brings them; then nothing is encoded.
        manifold: `module -> manifold`, if the module itself does not encode and decode.

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
        input: Field = 0,  # noqa: A002
        target: Field = 1,
        code: Field | None = None,
        manifold: Callable[[Any], Any] | None = None,
    ) -> None:
        self.num_reconstructions = _checks.count("num_reconstructions", num_reconstructions)
        self.num_samples = _checks.count("num_samples", num_samples)
        self.num_interpolations = _checks.count("num_interpolations", num_interpolations)
        self.steps = _checks.count("steps", steps)
        self.num_classes = None if num_classes is None else _checks.count("num_classes", num_classes)
        self.bound, self.seed = _checks.number("bound", bound, 0, above=True), _checks.seed("seed", seed)
        self.low, self.high = check_range(low, high)
        if target is None:
            raise TypeError("Expected argument `target` to be where the labels are, but got None.")
        self.reader = Reader(input, target, code)
        if manifold is not None:
            _checks.function("manifold", manifold, "module -> manifold")
        self.manifold = manifold
        self._pictures = Pictures(type(self).__name__, every_n_epochs, to_disk)
        self.every_n_epochs, self.to_disk = self._pictures.every.n, self._pictures.to_disk
        self._resumed = self._pictures.every
        self._due = False
        self._kept: list[list[Any]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that is no manifold."""
        check_backend(trainer)
        if stage not in ("fit", "validate"):
            return
        check_alone(trainer, self, "Each would overwrite the pictures of the other.")
        manifold = self._manifold(pl_module)
        for name in ("encode", "decode") if self.reader.code is None else ("decode",):
            if not callable(getattr(manifold, name, None)):
                raise TypeError(
                    f"Expected the module to be a manifold, with a method `{name}`, but {type(manifold).__name__} has "
                    "none. Define encode(self, x, y) -> z and decode(self, z, y) -> x, or say where they are: "
                    "manifold=lambda module: module.vae."
                )
        self._pictures.start(stage)

    def _manifold(self, module: Any) -> Any:
        return module if self.manifold is None else self.manifold(module)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to keep samples, if it is time for pictures."""
        self._kept = []
        self._due = self._pictures.due(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first samples, which the step may write to, and draw as soon as there are enough.

        Within the validation: a callback that swaps the weights for it has not swapped them back yet.
        """
        if not self._due or not trainer.is_global_zero:
            return
        if dataloader_idx == 0:
            self._keep(trainer, batch)
        # A later dataloader, or the last batch of all: there are no more.
        if dataloader_idx or self._left() <= 0 or _is_last_batch(trainer):
            self._draw(trainer, pl_module)

    def _left(self) -> int:
        """Number of samples that are still to be kept."""
        return max(self.num_reconstructions, _PER_ROW * self.num_interpolations) - sum(len(x) for x, *_ in self._kept)

    def _keep(self, trainer: pl.Trainer, batch: Any) -> None:
        left = self._left()
        with self._pictures.attempt(trainer):
            sample = self.reader.read(batch)
            if sample is None:
                return
            x, y, code = sample.x, sample.y, sample.code
            check_images(x)
            if not isinstance(y, Tensor) or y.shape != x.shape[:1] or y.is_floating_point():
                got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
                raise ValueError(f"Expected integer labels of shape ({len(x)},), but got {got}.")
            code = [] if code is None else _rows(parts(code), slice(0, left))
            self._kept.append(
                [entry.clone() if isinstance(entry, Tensor) else entry for entry in (x[:left], y[:left], *code)]
            )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, where Lightning has not told which batch is the last."""
        self._draw(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the samples."""
        self._kept, self._due = [], False

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write."""
        kept, self._kept, self._due = self._kept, [], False
        if not kept:
            return
        pictures: dict[str, Tensor | None] = {}
        inert = scope(pl_module, kept[0][0], seed=self.seed)
        with self._pictures.attempt(trainer):
            with inert, torch.no_grad(), trainer.precision_plugin.val_step_context(), muted(pl_module):
                x, y, *code = (_joined(entries) for entries in zip(*ordinary(kept), strict=True))
                manifold = self._manifold(pl_module)

                def encode(rows: slice | Tensor, y: Tensor) -> list[Any]:
                    return _rows(code, rows) if code else list(parts(manifold.encode(x[rows], y)))

                pictures["reconstructions"] = self._reconstructions(manifold, encode, x, y)
                pictures["samples"] = self._samples(manifold, encode, y)
                pictures["interpolations"] = self._interpolations(manifold, encode, y)
            for name, picture in pictures.items():
                if picture is not None:
                    self._pictures.publish(trainer, name, picture)

    def _reconstructions(self, manifold: Any, encode: Encode, x: Tensor, y: Tensor) -> Tensor:
        rows = slice(0, self.num_reconstructions)
        z, *fixed = encode(rows, y[rows])
        original, again = self._rgb(x[rows]), self._rgb(manifold.decode(z, y[rows], *fixed))
        pairs = torch.cat((pad(original, (0, 1), value=1.0), again), dim=3)
        return tile(pairs, min(len(pairs), _COLUMNS // 2), gap=4)

    def _samples(self, manifold: Any, encode: Encode, y: Tensor) -> Tensor:
        number = getattr(manifold, "num_classes", None) or 1 if self.num_classes is None else self.num_classes
        classes = torch.arange(number, device=y.device)
        first = (y == classes[:, None]).to(torch.uint8).argmax(1)  # 0 where a class has no sample
        z, *fixed = encode(first, classes)
        codes = torch.empty(self.num_samples, *z.shape[1:], dtype=torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        torch.nn.init.trunc_normal_(codes, a=-self.bound, b=self.bound, generator=generator)
        codes = torch.cat([codes.to(z)] * number)
        images = manifold.decode(codes, classes.repeat_interleave(self.num_samples), *_repeat(fixed, self.num_samples))
        columns = min(self.num_samples, _COLUMNS) if number == 1 else self.num_samples
        return tile(self._rgb(images), columns)

    def _interpolations(self, manifold: Any, encode: Encode, y: Tensor) -> Tensor | None:
        start, end = _pairs(y, self.num_interpolations)
        if not len(start):
            return None
        z, *fixed = encode(start, y[start])
        z_end, *_ = encode(end, y[end])
        weight = torch.linspace(0, 1, self.steps, dtype=torch.float32).to(z).view(1, -1, *[1] * (z.ndim - 1))
        line = torch.lerp(z[:, None], z_end[:, None], weight).flatten(0, 1)
        images = manifold.decode(line, y[start].repeat_interleave(self.steps), *_repeat(fixed, self.steps))
        return tile(self._rgb(images), self.steps)

    def _rgb(self, images: Tensor) -> Tensor:
        return to_rgb(images, self.low, self.high)


def _is_last_batch(trainer: Any) -> bool:
    """Is the batch at hand the last of the validation?"""
    loop = trainer.fit_loop.epoch_loop.val_loop if trainer.state.fn == "fit" else trainer.validate_loop
    return bool(loop.batch_progress.is_last_batch)


def _rows(code: Any, rows: slice | Tensor) -> list[Any]:
    """Some rows of the parts of a code; what is no tensor is common to all samples."""
    return [entry[rows] if isinstance(entry, Tensor) else entry for entry in code]


def _joined(entries: tuple[Any, ...]) -> Any:
    """One of the batches' entries."""
    return torch.cat(entries) if isinstance(entries[0], Tensor) else entries[0]


def _repeat(fixed: list[Any], times: int) -> list[Any]:
    """What stays fixed in a code, each entry repeated for consecutive samples."""
    return [entry.repeat_interleave(times, 0) if isinstance(entry, Tensor) else entry for entry in fixed]


def _pairs(y: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Rows of two samples of one class, two int64 (R,): the first two of each class, then the next two, and so on."""
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(y.tolist()):
        rows.setdefault(label, []).append(row)
    pairs = [(i, label, *of[i : i + 2]) for label, of in rows.items() for i in range(0, len(of) - 1, 2)]
    start, end = torch.tensor(sorted(pairs)[:limit], dtype=torch.int64, device=y.device).reshape(-1, 4).T[2:]
    return start, end
