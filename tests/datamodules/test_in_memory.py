import itertools

import pytest
import torch

from lightning_robust.datamodules import InMemoryDataModule, TensorDataModule

from .helpers import numbered


def rows(module, part):
    return module.dataset(part).rows


def data(**kwargs):
    return TensorDataModule(numbered(500), numbered(60), **{"val_size": 100, **kwargs})


def test_validation_is_a_stratified_part_of_the_training_data():
    module = data()
    train, val = rows(module, "train"), rows(module, "val")
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(500))
    assert (val % 10).bincount().tolist() == [10] * 10
    x, _ = module.tensors("val")
    assert torch.equal((x[:, 0, 0, 0] * 1000).round().long(), val)
    x, _ = module.tensors("test")
    assert torch.equal(x, numbered(60)[0])


def test_subsets_are_nested_balanced_and_apart_from_validation():
    sizes = (10, 50, 200, 400)
    parts = [data(train_size=size) for size in sizes]
    for size, module in zip(sizes, parts, strict=True):
        assert len(rows(module, "train")) == size
        assert (rows(module, "train") % 10).bincount().tolist() == [size // 10] * 10
        assert not torch.isin(rows(module, "train"), rows(module, "val")).any()
        assert torch.equal(rows(module, "val"), rows(parts[0], "val"))
    for small, large in itertools.pairwise(parts):
        assert torch.isin(rows(small, "train"), rows(large, "train")).all()


def test_the_seed_decides():
    assert torch.equal(rows(data(train_size=50), "train"), rows(data(train_size=50), "train"))
    assert not torch.equal(rows(data(train_size=50), "train"), rows(data(train_size=50, seed=1), "train"))
    assert not torch.equal(rows(data(), "val"), rows(data(seed=1), "val"))


def test_augmentation_is_of_training_batches_only():
    module = data(augment=lambda x: x + 1)
    assert torch.cat([x for x, _ in module.train_dataloader()]).min() >= 1
    assert torch.cat([x for x, _ in module.val_dataloader()]).max() <= 1
    assert torch.cat([x for x, _ in module.test_dataloader()]).max() <= 1


def test_too_much_is_asked_for():
    with pytest.raises(ValueError, match=r"`val_size` .* 500, but got 500"):
        data(val_size=500)
    with pytest.raises(ValueError, match=r"`val_size` .* 60, but got 5000"):
        TensorDataModule(numbered(60), numbered(60))
    with pytest.raises(ValueError, match=r"`train_size` to be at most 400 .* but got 410"):
        data(train_size=410)
    with pytest.raises(ValueError, match=r"`train_size` to be a positive multiple .*, 10, but got 15"):
        data(train_size=15)


class Broken(InMemoryDataModule):
    """A data module whose files hold something else than it says."""

    num_classes = 3
    image_shape = (1, 2, 2)

    def __init__(self, images, labels):
        super().__init__(val_size=0)
        self.content = images, labels

    def load(self, source):
        return self.content


LABELS = torch.tensor([0, 1, 2, 2])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(4, 3, 2, 2), LABELS, r"N >= 1 images of shape \(1, 2, 2\) .* got \(4, 3, 2, 2\) and \(4,\)"),
        (torch.zeros(5, 1, 2, 2), LABELS, r"got \(5, 1, 2, 2\) and \(4,\)"),
        (torch.zeros(0, 1, 2, 2), LABELS[:0], r"N >= 1"),
        (torch.zeros(4, 1, 2, 2), LABELS[:, None], r"labels of shape \(N,\)"),
        (torch.zeros(4, 1, 2, 2), LABELS + 1, r"integer labels in \[0, 2\], but got labels in \[1, 3\]"),
        (torch.zeros(4, 1, 2, 2), LABELS - 1, r"labels in \[-1, 1\]"),
        (torch.zeros(4, 1, 2, 2), LABELS.float(), r"got torch.float32 labels"),
        (torch.zeros(4, 1, 2, 2, dtype=torch.int64), LABELS, "uint8 or floating images, but got torch.int64"),
        (torch.full((4, 1, 2, 2), 255.0), LABELS, r"images in \[0.0, 1.0\], but got values in \[255, 255\]. Divide"),
        (torch.full((4, 1, 2, 2), -0.1), LABELS, r"got values in \[-0.1, -0.1\]"),
        (torch.full((4, 1, 2, 2), torch.nan), LABELS, r"got values in \[nan, nan\]"),
    ],
)
def test_wrong_data_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Broken(images, labels).setup("fit")
    with pytest.raises(ValueError, match="the test data of Broken"):
        Broken(images, labels).setup("test")


def test_data_are_read_once():
    class Counting(Broken):
        reads = 0

        def load(self, source):
            self.reads += 1
            return super().load(source)

    module = Counting(torch.zeros(4, 1, 2, 2), LABELS)
    module.setup("fit")
    module.setup("validate")
    module.train_dataloader()
    assert module.reads == 1
    module.setup("test")
    module.setup("predict")
    assert module.reads == 2
