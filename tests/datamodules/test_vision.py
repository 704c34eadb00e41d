"""Tiny files in the original formats, written here. Of torchvision only the checksums are replaced, by theirs."""

import gzip
import hashlib
import pickle
import zipfile
from urllib.request import urlretrieve

import numpy as np
import pytest
import torch
from torchvision import datasets

from lightning_robust.datamodules import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    CelebA,
    EMNISTDigits,
    FashionMNIST,
    RandomCropFlip,
    SVHNExtra,
    VisionDataModule,
    vision,
)
from lightning_robust.datamodules.vision import DownloadError
from tests.clothes import idx


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def digits(rng, n):
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


FAMILY = pytest.mark.parametrize(
    ("cls", "source", "folder"),
    [(MNIST, datasets.MNIST, "mnist"), (FashionMNIST, datasets.FashionMNIST, "fashion-mnist")],
)


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """A folder in place of that of Debian's packages, which may be installed here."""
    monkeypatch.setattr(vision, "_DEBIAN", tmp_path / "debian")
    return tmp_path / "debian"


def written(folder, content, *, packed=True):
    """The four files of a set like MNIST; their names and checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    resources = []
    for name, (images, labels) in content.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
            resources.append((path.name, md5(path)))
    return resources


@FAMILY
@pytest.mark.parametrize("place", ["torchvision's", "its own", "root itself", "Debian's", "unpacked"])
def test_mnist_family_is_read_where_it_lies(cls, source, folder, place, tmp_path, rng, debian):
    content = {"train": digits(rng, 60), "t10k": digits(rng, 20)}
    raw = tmp_path / source.__name__ / "raw"
    root, where = {
        "torchvision's": (tmp_path, raw),
        "its own": (tmp_path, tmp_path / folder),
        "root itself": (tmp_path / folder, tmp_path / folder),
        "Debian's": (tmp_path, debian / folder),
        "unpacked": (tmp_path, raw),
    }[place]
    names = [name for name, _ in written(where, content, packed=place != "unpacked")]
    assert place == "unpacked" or names == [name for name, _ in source.resources]

    module = cls(root=root, val_size=10)
    module.prepare_data()
    module.setup("fit")
    assert sorted(path.name for path in tmp_path.rglob("*ubyte*")) == sorted(names), "nothing is unpacked or fetched"
    x, y = module.tensors("test")
    assert x.dtype == torch.float32
    assert np.array_equal((x[:, 0] * 255).round().numpy(), content["t10k"][0])
    assert y.tolist() == content["t10k"][1].tolist()
    parts = [module.dataset(part) for part in ("train", "val")]
    assert [len(part) for part in parts] == [50, 10]
    assert np.array_equal(parts[0].images[:, 0].numpy(), content["train"][0])
    assert parts[0].images.dtype == torch.uint8


def test_files_in_root_count_before_those_of_debian(tmp_path, rng, debian):
    original, own = ({"train": digits(rng, 20), "t10k": digits(rng, 20)} for _ in range(2))
    written(debian / "fashion-mnist", original)
    written(tmp_path / "FashionMNIST" / "raw", own)
    assert np.array_equal(FashionMNIST(root=tmp_path).load("test")[0][:, 0].numpy(), own["t10k"][0])


def test_files_of_a_folder_that_is_not_named_like_the_set_may_be_of_another(tmp_path, rng, debian):
    written(tmp_path, {"train": digits(rng, 20), "t10k": digits(rng, 20)})
    with pytest.raises(FileNotFoundError, match=r"FashionMNIST in .* are missing .*prepare_data\(\)"):
        FashionMNIST(root=tmp_path).setup("test")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-20], "is damaged"),
        (lambda data: b"", "is no IDX file"),
        (lambda data: b"<html>", "is damaged"),
        (lambda data: gzip.compress(b"<html>"), "is no IDX file"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-1]), "is no IDX file"),
        (lambda data: gzip.compress(gzip.decompress(data)[:7]), "is no IDX file"),
        (lambda data: gzip.compress(gzip.decompress(data)[:3]), "is no IDX file"),
    ],
)
def test_a_damaged_file_is_not_used(damage, says, tmp_path, rng, debian):
    written(tmp_path / "mnist", {"train": digits(rng, 20), "t10k": digits(rng, 20)})
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=says):
        vision.read_idx(path)
    assert len(MNIST(root=tmp_path).load("train")[0]) == 20
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        MNIST(root=tmp_path).load("test")


def unreachable(monkeypatch, tmp_path):
    """Torchvision's addresses point nowhere, as without a network."""
    nowhere = (tmp_path / "nowhere").as_uri() + "/"
    for source in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(source, "mirrors", [nowhere])
    for source in (datasets.EMNIST, datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(source, "url", nowhere)
    listed = {part: [nowhere, *rest] for part, (_, *rest) in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    monkeypatch.setattr(
        "torchvision.datasets.celeba.download_file_from_google_drive",
        lambda *args: (_ for _ in ()).throw(RuntimeError("no\nnetwork")),
    )


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST, EMNISTDigits, CIFAR10, CIFAR100, SVHN, SVHNExtra, CelebA])
def test_without_a_network_one_line_says_which_data_set_where_and_what_to_do(cls, tmp_path, debian, monkeypatch):
    unreachable(monkeypatch, tmp_path)
    with pytest.raises(DownloadError) as failed:
        cls(root=tmp_path / "mine").prepare_data()
    said = str(failed.value)
    assert said.startswith(f"{cls.__name__} is not in '{tmp_path / 'mine'}' and could not be downloaded to it (")
    assert "Put its files there, or set `root`" in said
    assert "\n" not in said
    assert ("apt install" in said) == (cls is FashionMNIST)
    assert not said.endswith(" ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, debian):
    (tmp_path / "data").touch()
    with pytest.raises(DownloadError, match=r"MNIST is not in .*data' and could not .* \(.*Not a directory"):
        MNIST(root=tmp_path / "data").prepare_data()


def test_mnist_archives_with_a_wrong_checksum_are_fetched_anew(tmp_path, rng, debian, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in datasets.MNIST.resources:
        (raw / name).write_bytes(gzip.compress(idx(digits(rng, 5)[0]))[:-30])
    unreachable(monkeypatch, tmp_path)
    with pytest.raises(DownloadError):
        MNIST(root=tmp_path).prepare_data()


def test_what_torchvision_fetches_is_read(tmp_path, rng, debian, monkeypatch):
    content = {"train": digits(rng, 60), "t10k": digits(rng, 20)}
    monkeypatch.setattr(datasets.MNIST, "resources", written(tmp_path / "mirror", content))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "mirror").as_uri() + "/"])
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda url, path: urlretrieve(url, path))
    module = MNIST(root=tmp_path / "data", val_size=10)
    with pytest.raises(FileNotFoundError, match=r"prepare_data\(\)"):
        module.setup("fit")
    module.prepare_data()
    assert np.array_equal((module.tensors("test")[0][:, 0] * 255).round().numpy(), content["t10k"][0])


def test_emnist_digits_stand_upright(tmp_path, rng, debian, monkeypatch):
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


def test_emnist_digits_are_read_gzipped(tmp_path, rng, debian):
    content = {"emnist-digits-train": digits(rng, 60), "emnist-digits-test": digits(rng, 20)}
    written(tmp_path / "EMNIST", content)
    images, labels = EMNISTDigits(root=tmp_path).load("test")
    assert np.array_equal(images[:, 0].mT.numpy(), content["emnist-digits-test"][0])
    assert labels.tolist() == content["emnist-digits-test"][1].tolist()


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


@pytest.mark.parametrize(("cls", "training"), [(SVHN, ("train",)), (SVHNExtra, ("train", "extra"))])
def test_svhn(cls, training, tmp_path, rng, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    content, listed = {}, {}
    for part, size in (("train", 30), ("test", 20), ("extra", 50)):
        images = rng.integers(0, 256, (32, 32, 3, size), dtype=np.uint8)
        labels = (np.arange(size) % 10 + 1).astype(np.uint8)[:, None]  # the files call the digit 0 "10"
        path = tmp_path / f"{part}_32x32.mat"
        scipy_io.savemat(path, {"X": images, "y": labels})
        content[part] = images.transpose(3, 2, 0, 1), labels[:, 0] % 10
        url, name, _ = datasets.SVHN.split_list[part]
        assert name == path.name
        listed[part] = [url, name, md5(path)]
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        cls(root=tmp_path).setup("test")
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)

    module = cls(root=tmp_path, val_size=10)
    module.prepare_data()
    x, y = module.tensors("test")
    assert np.array_equal((x * 255).round().numpy(), content["test"][0])
    assert y.tolist() == content["test"][1].tolist()
    train = module.dataset("train")
    images, labels = (np.concatenate([content[part][i] for part in training]) for i in (0, 1))
    assert np.array_equal(train.images.numpy(), images)
    assert np.array_equal(train.labels.numpy(), labels)
    monkeypatch.setattr(datasets.SVHN, "split_list", {**listed, training[-1]: [*listed[training[-1]][:2], "0" * 32]})
    with pytest.raises(FileNotFoundError, match="missing or damaged"):
        cls(root=tmp_path).setup("fit")


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
