import numpy as np
import pytest
import torch

from lightning_robust.datamodules import TensorDataModule


def test_describes_itself():
    x, y = torch.rand(40, 3, 6, 5), torch.arange(40) % 4
    module = TensorDataModule((x, y), (x[:8], y[:8]), val_size=10)
    assert (module.num_classes, module.image_shape, module.value_range) == (4, (3, 6, 5), (0.0, 1.0))
    assert TensorDataModule((x, y), (x, y), num_classes=7, val_size=0).num_classes == 7


def test_uint8_is_divided_by_255_and_the_rest_is_not():
    x, y = torch.randint(0, 256, (40, 1, 3, 3), dtype=torch.uint8), torch.arange(40) % 4
    module = TensorDataModule((x, y), (x, y), val_size=10)
    assert torch.equal(module.tensors("test")[0], x.float() / 255)
    module = TensorDataModule((x.float(), y), (x.float(), y), val_size=10, value_range=(0.0, 255.0))
    assert torch.equal(module.tensors("test")[0], x.float())


def test_vectors_are_data_too():
    x, y = torch.randn(40, 17), torch.arange(40) % 2
    module = TensorDataModule((x, y), (x, y), val_size=10, value_range=(-10.0, 10.0))
    assert module.tensors("train", limit=3)[0].shape == (3, 17)


def test_numpy_arrays_are_tensors():
    x, y = np.random.default_rng(0).random((40, 1, 3, 3)), np.arange(40, dtype=np.uint8) % 4
    module = TensorDataModule((x, y), (x[::-1], y), val_size=10)
    images, labels = module.tensors("test")
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)  # not numpy's float64, which no model takes
    assert np.array_equal(images.numpy(), x[::-1].astype(np.float32))
    assert np.array_equal(labels.numpy(), y)


X, Y = torch.rand(8, 1, 3, 3), torch.arange(8) % 2


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (X, "to be a pair .images, labels., but got Tensor"),
        ((X, Y, Y), "but got 3 things"),
        ((X.tolist(), Y), "to be tensors or numpy arrays, but got list"),
        ((X, np.array(["a"] * 8)), "to be tensors or numpy arrays, but got an array of <U1"),
        ((X, Y[:0]), r"N >= 1 labels, but got \(8, 1, 3, 3\) and \(0,\)"),
        ((X[:, 0, 0, 0], Y), "of at least two dimensions"),
        ((X, Y[:7]), r"N >= 1 images of shape"),
        ((X, Y.float()), r"integer labels in \[0, 1\], but got torch.float32 labels"),
        ((X * 255, Y), "Divide images in"),
        ((X.long(), Y), "to be uint8 or floating images"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_name(train, message):
    for name in ("train", "test"):
        with pytest.raises((TypeError, ValueError), match=f"argument `{name}` .*{message}"):
            TensorDataModule(**{"train": (X, Y), "test": (X, Y), name: train}, val_size=2, num_classes=2)
