"""Tiny files in the original formats, written here. Of torchvision only the checksums are replaced, by theirs."""

import gzip
import hashlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from torchvision import datasets

from lightning_robust.datamodules import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    EMNISTDigits,
    FashionMNIST,
    RandomCropFlip,
    VisionDataModule,
)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array):
    """The bytes of an idx file: type and number of dimensions, sizes, content."""
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def digits(rng, n):
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("cls", "source"), [(MNIST, datasets.MNIST), (FashionMNIST, datasets.FashionMNIST)])
def test_mnist_family(cls, source, tmp_path, rng, monkeypatch):
    content = {"train": digits(rng, 60), "t10k": digits(rng, 20)}
    raw = tmp_path / source.__name__ / "raw"
    raw.mkdir(parents=True)
    resources = []
    for name, (images, labels) in content.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = raw / f"{name}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            resources.append((path.name, md5(path)))
    assert [name for name, _ in resources] == [name for name, _ in source.resources]
    monkeypatch.setattr(source, "resources", resources)

    module = cls(root=tmp_path, val_size=10)
    with pytest.raises(FileNotFoundError, match=r"prepare_data\(\)"):
        module.setup("fit")
    module.prepare_data()
    x, y = module.tensors("test")
    assert x.dtype == torch.float32
    assert np.array_equal((x[:, 0] * 255).round().numpy(), content["t10k"][0])
    assert y.tolist() == content["t10k"][1].tolist()
    parts = [module.dataset(part) for part in ("train", "val")]
    assert [len(part) for part in parts] == [50, 10]
    assert np.array_equal(parts[0].images[:, 0].numpy(), content["train"][0])
    assert parts[0].images.dtype == torch.uint8


def test_mnist_archives_with_a_wrong_checksum_are_not_used(tmp_path, rng, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in datasets.MNIST.resources:
        (raw / name).write_bytes(gzip.compress(idx(digits(rng, 5)[0])))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(RuntimeError, match="Error downloading"):
        MNIST(root=tmp_path).prepare_data()


def test_emnist_digits_stand_upright(tmp_path, rng, monkeypatch):
    content = {"train": digits(rng, 60), "test": digits(rng, 20)}
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    # One archive that holds every split; only that of the digits is looked at. Images lie transposed in it.
    with zipfile.ZipFile(raw / "gzip.zip", "w") as archive:
        for name, (images, labels) in content.items():
            prefix = f"gzip/emnist-digits-{name}"
            stored = np.ascontiguousarray(images.transpose(0, 2, 1))
            archive.writestr(f"{prefix}-images-idx3-ubyte.gz", gzip.compress(idx(stored)))
            archive.writestr(f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(raw / "gzip.zip"))

    module = EMNISTDigits(root=tmp_path, val_size=10)
    module.prepare_data()
    x, y = module.tensors("test")
    assert np.array_equal((x[:, 0] * 255).round().numpy(), content["test"][0])
    assert y.tolist() == content["test"][1].tolist()
    assert np.array_equal(module.dataset("train").images[:, 0].numpy(), content["train"][0])


@pytest.mark.parametrize(
    ("cls", "source", "key", "classes"),
    [(CIFAR10, datasets.CIFAR10, "labels", 10), (CIFAR100, datasets.CIFAR100, "fine_labels", 100)],
)
def test_cifar(cls, source, key, classes, tmp_path, rng, monkeypatch):
    folder = tmp_path / source.base_folder
    folder.mkdir()
    content, checksums = {"train_list": [], "test_list": []}, {}
    for part, entries in content.items():
        for name, _ in getattr(source, part):
            images = rng.integers(0, 256, (2 * classes, 3, 32, 32), dtype=np.uint8)
            labels = rng.permutation(2 * classes) % classes
            entries.append((images, labels))
            entry = {"data": images.reshape(len(images), -1), key: labels.tolist()}
            (folder / name).write_bytes(pickle.dumps(entry))
    names = [f"class {i}" for i in range(classes)]
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({source.meta["key"]: names}))

    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        cls(root=tmp_path).setup("fit")
    for part in content:
        checksums = [[name, md5(folder / name)] for name, _ in getattr(source, part)]
        monkeypatch.setattr(source, part, checksums)
    meta = {**source.meta, "md5": md5(folder / source.meta["filename"])}
    monkeypatch.setattr(source, "meta", meta)

    module = cls(root=tmp_path, val_size=classes, train_size=classes if classes == 100 else 50)
    module.prepare_data()
    x, y = module.tensors("test")
    images, labels = (np.concatenate(part) for part in zip(*content["test_list"], strict=True))
    assert np.array_equal((x * 255).round().numpy(), images)
    assert y.tolist() == labels.tolist()
    images, labels = (np.concatenate(part) for part in zip(*content["train_list"], strict=True))
    train = module.dataset("train")
    assert np.array_equal(train.images.numpy(), images)
    assert np.array_equal(train.labels.numpy(), labels)
    assert train.labels[train.rows].bincount().unique().tolist() == [len(train) // classes]


def test_svhn(tmp_path, rng, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    content, listed = {}, {}
    for part in ("train", "test"):
        images = rng.integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)
        labels = (np.arange(30) % 10 + 1).astype(np.uint8)[:, None]  # the files call the digit 0 "10"
        path = tmp_path / f"{part}_32x32.mat"
        scipy_io.savemat(path, {"X": images, "y": labels})
        content[part] = images.transpose(3, 2, 0, 1), labels[:, 0] % 10
        url, name, _ = datasets.SVHN.split_list[part]
        assert name == path.name
        listed[part] = [url, name, md5(path)]
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        SVHN(root=tmp_path).setup("test")
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)

    module = SVHN(root=tmp_path, val_size=10)
    module.prepare_data()
    x, y = module.tensors("test")
    assert np.array_equal((x * 255).round().numpy(), content["test"][0])
    assert y.tolist() == content["test"][1].tolist()
    assert np.array_equal(module.dataset("train").images.numpy(), content["train"][0])


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST, EMNISTDigits, CIFAR10, CIFAR100, SVHN])
def test_describe_themselves_without_files(cls):
    module = cls()
    assert module.num_classes == (100 if cls is CIFAR100 else 10)
    assert module.image_shape == ((3, 32, 32) if cls in (CIFAR10, CIFAR100, SVHN) else (1, 28, 28))
    assert module.value_range == (0.0, 1.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_can_be_written_on_a_command_line(tmp_path):
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VisionDataModule, "data")
    words = [
        f"--data={CIFAR10.__module__}.CIFAR10",
        f"--data.root={tmp_path}",
        "--data.train_size=500",
        "--data.seed=3",
    ]
    augment = ["--data.augment=lightning_robust.datamodules.RandomCropFlip", "--data.augment.padding=2"]
    module = parser.instantiate_classes(parser.parse_args([*words, *augment])).data
    assert isinstance(module, CIFAR10)
    assert (module.root, module.train_size) == (tmp_path, 500)
    assert module.augment == RandomCropFlip(padding=2)
