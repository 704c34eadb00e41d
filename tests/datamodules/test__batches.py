import pytest
import torch
from torch.utils.data import DataLoader

from lightning_robust.datamodules._batches import Batches, ImageBatches, identity


def images_and_labels(n=50):
    images = torch.randint(0, 256, (n, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(n) % 7


def noisy(x):
    return x + torch.rand_like(x)


def test_rows():
    data = Batches(torch.tensor([5, 3, 9]))
    assert len(data) == 3
    assert data.__getitems__([2, 0]).tolist() == [9, 5]
    assert data[1] == 3
    assert data[-1] == 9
    with pytest.raises(IndexError, match="got 3"):
        data[3]
    # Beyond the length: the same samples in a later epoch.
    assert data.__getitems__([3, 4, 5, 6]).tolist() == [5, 3, 9, 5]


def test_images_become_floats_once_per_batch():
    images, labels = images_and_labels()
    x, y = ImageBatches(images, labels, torch.arange(10, 40)).__getitems__([3, 0])
    assert x.dtype == torch.float32
    assert torch.equal(x, images[[13, 10]].to(torch.float32) / 255)
    assert torch.equal(y, labels[[13, 10]])
    x, y = ImageBatches(images, labels, torch.arange(10, 40))[5]
    assert x.shape == (3, 5, 4)
    assert y == labels[15]


def test_float_images_stay_as_they_are():
    images, labels = torch.rand(6, 1, 2, 2, dtype=torch.float64), torch.arange(6)
    x, _ = ImageBatches(images, labels, torch.arange(6)).__getitems__([4])
    assert torch.equal(x, images[4:5])


def test_a_loader_makes_one_call_for_each_batch():
    calls = []

    class Counting(ImageBatches):
        def __getitems__(self, indices):
            calls.append(list(indices))
            return super().__getitems__(indices)

    images, labels = images_and_labels()
    batches = list(DataLoader(Counting(images, labels, torch.arange(50)), batch_size=20, collate_fn=identity))
    assert [len(call) for call in calls] == [20, 20, 10]
    assert torch.equal(torch.cat([x for x, _ in batches]), images.float() / 255)
    assert torch.equal(torch.cat([y for _, y in batches]), labels)


def test_augmentation_depends_on_seed_and_indices_alone():
    images, labels = images_and_labels()
    data = ImageBatches(images, labels, torch.arange(50), noisy, seed=3)
    plain = ImageBatches(images, labels, torch.arange(50))
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = data.__getitems__([1, 2])[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(data.__getitems__([1, 2])[0], first)
    assert not torch.equal(plain.__getitems__([1, 2])[0], first)
    # Another epoch of the same samples, another seed.
    assert not torch.equal(data.__getitems__([51, 52])[0], first)
    assert not torch.equal(ImageBatches(images, labels, torch.arange(50), noisy, 4).__getitems__([1, 2])[0], first)


def test_augmentation_that_fails_leaves_the_generator_as_it_was():
    def broken(x):
        torch.rand(3)
        raise RuntimeError("broken")

    images, labels = images_and_labels()
    state = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="broken"):
        ImageBatches(images, labels, torch.arange(50), broken).__getitems__([0])
    assert torch.equal(torch.random.get_rng_state(), state)
