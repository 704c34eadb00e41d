"""Small files in the format of MNIST and Fashion-MNIST."""

import gzip
import struct

import numpy as np


def idx(array):
    """The bytes of an idx file: type and number of dimensions, sizes, content."""
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_clothes(root, train=90, test=12):
    """Files of Fashion-MNIST: class k is lit in row 2 k. The first two test images differ in their labels alone."""
    folder = root / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, n in (("train", train), ("t10k", test)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.random.default_rng(n).integers(0, 60, (n, 28, 28), dtype=np.uint8)
        images[np.arange(n), 2 * labels] += 150
        if name == "t10k":
            images[1] = images[0]
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array), 1))
