"""Faces: CelebA at the size of Stutz et al., through torchvision."""

from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from lightning_robust._checks import choice, text
from lightning_robust._files import replacing
from lightning_robust.datamodules.in_memory import Source
from lightning_robust.datamodules.vision import VisionDataModule

_FOLDER = "celeba"
_CACHE = "img_align_celeba_56x48.npy"


def shrink(image: Image.Image) -> np.ndarray:
    """An aligned face of 178 x 218 to uint8 (3, 56, 48).

    It is shrunk to 54 x 66, then 5 rows are cut at the top and bottom and 3 columns at the sides.
    """
    small = image.convert("RGB").resize((54, 66), Image.Resampling.BILINEAR).crop((3, 5, 51, 61))
    return np.asarray(small).transpose(2, 0, 1)


@final
class CelebA(VisionDataModule):
    """Faces of celebrities: 202,599 images of 56 x 48 in color, 2 classes by an attribute, 1 for having it.

    The aligned and cropped images are shrunk to 54 x 66 and cut to 48 x 56 (width by height). That is done once, which
    takes minutes, and kept in a file of 1.6 GB beside the images. Downloading is that of torchvision, which needs the
    package gdown; it fetches the whole set, 1.4 GB.

    Args:
        root: the folder that holds, or is to hold, the folder `celeba` with the files of the data set.
        attribute: which of the 40 attributes is the class.
        split: "stutz": the first 90 % of the files, 182,339, are for training, and the last 20,260 for test.
            "official": the official test partition of 19,962; the rest is for training. In both, validation is held out
            from the training data at random, so that it shares persons with it, as the parts of "stutz" do; the
            official test partition shares none.
        kwargs: as for `InMemoryDataModule`.

    Raises:
        ValueError: if `split` is another word, or, when read, the set has no such attribute.

    References:
        Liu, Luo, Wang, Tang, "Deep learning face attributes in the wild", ICCV 2015. Stutz, Hein, Schiele, CVPR 2019,
        use the attribute Male. They shrink with scikit-image, we with Pillow, so pixels differ a little.
    """

    num_classes = 2
    image_shape = (3, 56, 48)

    def __init__(
        self,
        root: str | Path = "data",
        *,
        attribute: str = "Male",
        split: Literal["stutz", "official"] = "stutz",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.attribute = text("attribute", attribute)
        self.split = choice("split", split, ("stutz", "official"))

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.CelebA(self.root, split="all", download=download)
        names = [name for name in files.attr_names if name]
        if self.attribute not in names:
            raise ValueError(f"Expected argument `attribute` to be one of {names}, but got {self.attribute!r}.")
        rows = self._rows(files.filename, source)
        images = torch.from_numpy(_images(self.root / _FOLDER, files.filename)[rows.numpy()])
        return images, files.attr[rows, names.index(self.attribute)].long()

    def _rows(self, names: list[str], source: Source) -> Tensor:
        """Which images belong to a part, in the order of the files."""
        if self.split == "stutz":
            held_out = torch.arange(len(names)) >= len(names) * 9 // 10
        else:
            test = set(datasets.CelebA(self.root, split="test").filename)
            held_out = torch.tensor([name in test for name in names])
        return (held_out == (source == "test")).nonzero()[:, 0]


def _images(folder: Path, names: list[str]) -> np.ndarray:
    """All images, uint8 (M, 3, 56, 48), mapped from a file that is made at the first call."""
    cache = folder / _CACHE
    if cache.exists():
        images = np.load(cache, mmap_mode="r", allow_pickle=False)
        if images.shape == (len(names), 3, 56, 48) and images.dtype == np.uint8:
            return images
    with replacing(cache) as temporary:  # several processes may be at it: the last one to finish counts
        made = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(names), 3, 56, 48))
        for row, name in enumerate(names):
            with Image.open(folder / "img_align_celeba" / name) as image:
                made[row] = shrink(image)
        made.flush()
    return np.load(cache, mmap_mode="r", allow_pickle=False)
