"""The Fonts data set, letters in many faces under affine maps: it travels with the package."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from lightning_robust._checks import choice, count, number, seed
from lightning_robust._counter import permutation, uniform
from lightning_robust._fonts import (
    IMAGE_SHAPE,
    NUM_CLASSES,
    NUM_FONTS,
    Difficulty,
    load_glyphs,
    render,
    theta_range,
)
from lightning_robust.datamodules._batches import Batches
from lightning_robust.datamodules.base import ImageDataModule, Part
from lightning_robust.datamodules.subsets import balanced_subset

NUM_TRAIN = 960_000
"""Rows of the virtual set that are for training, 96 for each letter of each font; they come first."""

NUM_TEST = 160_000
"""Rows that are for test, 16 for each letter of each font."""


class FontsCode(NamedTuple):
    """The true latent code of a batch: the parameters may move, the font stays.

    Fields:
        theta: float32 of shape (N, 6), [t_x, t_y, shear_x, shear_y, scale, rotation].
        font: int64 of shape (N,).
    """

    theta: Tensor
    font: Tensor


@final
class Fonts(ImageDataModule):
    r"""Letters A to J in 1000 free faces, each under an affine map; 28 x 28, 10 classes: a FONTS-like set.

    Row i of 1,120,000 is a letter y, a font and six parameters,

    .. math::

        y = i \bmod 10, \qquad font = \lfloor i / 10 \rfloor \bmod 1000, \qquad \theta_i \sim U(low, high),

    and the image is the clean glyph under the map :math:`A(\theta_i)`, see
    `lightning_robust.manifolds.FontsManifold`. Nothing is stored but the glyphs: the parameters come from a
    counter-based generator, keyed by (`theta_seed`, i, coordinate), and the images are rendered on the device of the
    batch. So the true manifold is known, and with it what an on-manifold adversarial example is.

    Batches are `(x, y, code)`: x of shape (N, 1, 28, 28) in [0, 1], in the precision of the Trainer; y int64 of shape
    (N,); code a `FontsCode`. In a Trainer that has this data module, its loaders yield row numbers, and
    `on_after_batch_transfer` makes the batches on the device; elsewhere they yield batches, made on the CPU.

    Args:
        difficulty: of the map: "easy", "moderate" or "hard", see `FontsManifold.ranges`.
        train_size: number of training samples; None: all that are not held out.
        subset: how `train_size` are chosen: "first", the first ones, as in the paper (class-balanced for multiples of
            10); or "balanced", the same number of random rows from each class. Both are nested.
        split: what is new in the test set. "transformation", as in the paper: the parameters; all fonts are in both.
            "family": also the faces. Whole families of type faces are held out, since the weights of one design are
            much alike.
        held_out: the fraction of families that is held out for test where `split` is "family".
        val_size: number of training rows, the last ones, that are held out for validation.
        test_size: number of test samples, the first of the test rows; None: all, 160,000 for "transformation".
        theta_seed: which virtual data set: the seed of the parameters. Keep it fixed where models share a test set.
        seed: of the training order, of a "balanced" subset and of the held-out families.
        kwargs: as for `ImageDataModule`; batches have 100 samples by default, as in the paper.

    Raises:
        ValueError: if an argument has another value than said here, or more samples are asked for than there are.

    Example:
        >>> data = Fonts(difficulty="hard", train_size=2500)
        >>> x, y, code = data.batch([0, 1, 10])
        >>> y, code.font
        (tensor([0, 1, 0]), tensor([0, 0, 1]))
        >>> x.shape, code.theta.shape
        (torch.Size([3, 1, 28, 28]), torch.Size([3, 6]))

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        section 3.1. Other faces and another rendering than the paper's: numbers are not comparable with the paper's
        to the digit.
    """

    num_classes = NUM_CLASSES
    image_shape = IMAGE_SHAPE
    makes_batches_late = True

    def __init__(
        self,
        difficulty: Difficulty = "hard",
        *,
        train_size: int | None = None,
        subset: Literal["first", "balanced"] = "first",
        split: Literal["transformation", "family"] = "transformation",
        held_out: float = 0.2,
        val_size: int = 10_000,
        test_size: int | None = None,
        theta_seed: int = 0,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.difficulty, self._range = difficulty, theta_range(difficulty)
        self.train_size = None if train_size is None else count("train_size", train_size)
        self.test_size = None if test_size is None else count("test_size", test_size)
        self.val_size = count("val_size", val_size, 0)
        self.subset = choice("subset", subset, ("first", "balanced"))
        self.split = choice("split", split, ("transformation", "family"))
        self.held_out = number("held_out", held_out, 0, 1, above=True, below=True)
        self.theta_seed = seed("theta_seed", theta_seed)
        self._datasets: dict[Part, Batches] = {}

    def dataset(self, part: Part) -> Batches:
        """The row numbers of a part."""
        if not self._datasets:
            self._datasets = {name: Batches(rows) for name, rows in self._rows().items()}
        return self._datasets[part]

    def batch(self, rows: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, FontsCode]:
        """Make the samples of some rows of the virtual set.

        Args:
            rows: integers of shape (N,), 0 to 1,119,999; the samples are made on their device.

        Returns:
            x (N, 1, 28, 28) float32, y (N,) int64, and the code.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        y, font = _letter(rows), _font(rows)
        low, high = self._range.bounds(rows.device)
        coordinate = torch.arange(6, device=rows.device)
        theta = low + (high - low) * uniform(self.theta_seed, rows[:, None], coordinate)
        return render(theta, y, font), y, FontsCode(theta, font)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor, FontsCode]:
        """Turn row numbers into a batch on the device, x in the precision of the Trainer, the code in float32."""
        x, y, code = self.batch(batch) if isinstance(batch, Tensor) else batch
        return (x if self.trainer is None else self.trainer.precision_plugin.convert_input(x)), y, code

    def _rows(self) -> dict[Part, Tensor]:
        """The rows of each part, in order."""
        pool, test = torch.arange(NUM_TRAIN), torch.arange(NUM_TRAIN, NUM_TRAIN + NUM_TEST)
        if self.split == "family":
            unseen = _unseen_fonts(self.held_out, self.seed)
            pool, test = pool[~unseen[_font(pool)]], test[unseen[_font(test)]]
        available = len(pool) - self.val_size
        for name, asked, most in (
            ("val_size", self.val_size, len(pool) - 1),
            ("train_size", self.train_size, available),
            ("test_size", self.test_size, len(test)),
        ):
            if asked is not None and asked > most:
                raise ValueError(f"Expected argument `{name}` to be at most {most}, but got {asked}.")
        train, val = pool[:available], pool[available:]
        if self.train_size is not None and self.subset == "balanced":
            train = train[balanced_subset(_letter(train), self.train_size, self.seed, name="train_size")]
        return {"train": train[: self.train_size], "val": val, "test": test[: self.test_size]}


def _letter(rows: Tensor) -> Tensor:
    return rows % NUM_CLASSES


def _font(rows: Tensor) -> Tensor:
    return rows.div(NUM_CLASSES, rounding_mode="floor") % NUM_FONTS


def _unseen_fonts(fraction: float, seed: int) -> Tensor:
    """Which fonts are of the families held out, bool of shape (1000,)."""
    family = load_glyphs().family
    number = int(family.max()) + 1
    chosen = permutation(number, seed)[: max(1, round(fraction * number))]
    return torch.isin(family, chosen)
