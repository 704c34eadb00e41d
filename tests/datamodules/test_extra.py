import pickle
import traceback

import numpy as np
import pytest
import torch

from lightning_robust.datamodules import (
    ExtraDataModule,
    Fonts,
    RandomCropFlip,
    TensorDataModule,
    pseudo_labels,
    read_npz,
)

from .helpers import Recorder, numbered, trainer

# ------------------------------------------------------------------------------------------------- npz, labels


def test_npz(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "generated.npz", image=images, label=np.arange(7, dtype=np.int32))
    x, y = read_npz(tmp_path / "generated.npz")
    assert x.shape == (7, 3, 5, 6)
    assert np.array_equal(x[4, 2].numpy(), images[4, :, :, 2])
    assert torch.equal(y, torch.arange(7))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((2, 4, 4, 3), np.uint8)}, r"arrays image and label, but got \['image'\]"),
        ({"image": np.zeros((2, 4, 4, 3)), "label": np.zeros(2, int)}, r"uint8 images .* got float64"),
        ({"image": np.zeros((2, 4, 4), np.uint8), "label": np.zeros(2, int)}, r"uint8 images .* got uint8 \(2, 4, 4\)"),
        ({"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.zeros(3, int)}, r"labels \(M,\), .* int64 \(3,\)"),
        ({"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.zeros(2)}, r"integer labels .* float64 \(2,\)"),
    ],
)
def test_npz_with_something_else(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_npz(tmp_path / "wrong.npz")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle has been loaded",))


def test_npz_never_loads_pickles(tmp_path):
    array = np.empty(2, object)
    array[:] = [Trap(), Trap()]
    np.savez(tmp_path / "trap.npz", image=array, label=np.zeros(2, int))
    with pytest.raises(ValueError, match=r"Python objects, which are never loaded\.$"):
        read_npz(tmp_path / "trap.npz")


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x93NUMPY", pickle.dumps([1]), np.zeros((2, 2))]
)
def test_what_is_no_npz(tmp_path, content):
    path = tmp_path / "wrong.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError, match=r"`path` to name an \.npz file of plain arrays, but .*wrong\.npy") as error:
        read_npz(path)
    shown = "".join(traceback.format_exception(error.value))
    assert "allow_pickle" not in shown  # no advice to load it unsafely


def test_pseudo_labels():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.Dropout()).eval()
    images = torch.randint(0, 256, (25, 3, 2, 2), dtype=torch.uint8)
    expected = model(images.float() / 255).argmax(1)
    assert torch.equal(pseudo_labels(model, images, batch_size=7), expected)
    assert torch.equal(pseudo_labels(model, images.float() / 255), expected)
    assert model[1].weight.grad is None
    with pytest.raises(ValueError, match=r"evaluation mode, .* `model.eval\(\)`"):
        pseudo_labels(model.train(), images)


# ------------------------------------------------------------------------------------------------- extra images


def base(**kwargs):
    return TensorDataModule(numbered(130), numbered(30), **{"val_size": 30, "batch_size": 16, **kwargs})


def extra(n=1000):
    """Float images whose first pixel is 0.5 + their number / 10,000; nothing of the base has more than 0.13."""
    images = torch.zeros(n, 1, 4, 4)
    images.flatten(1)[:, 0] = 0.5 + torch.arange(n) / 10_000
    return images, torch.arange(n) % 10


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 16), (0.25, 5), (0.75, 48)])
def test_batches_are_those_of_the_base_and_extra_ones(fraction, count):
    module = ExtraDataModule(base(), *extra(), fraction=fraction)
    for (x, y), (own_x, own_y) in zip(module.train_dataloader(), base().train_dataloader(), strict=True):
        n = len(own_x)
        assert len(x) == n + (count if n == 16 else round(n * fraction / (1 - fraction)))
        assert torch.equal(x[:n], own_x)
        assert torch.equal(y[:n], own_y)
        number = ((x[n:, 0, 0, 0] - 0.5) * 10_000).round().long()
        assert (number >= 0).all()
        assert torch.equal(y[n:], number % 10)


def test_draws_are_uniform_and_new_in_every_epoch_and_the_same_again():
    module, again, other = (ExtraDataModule(base(), *extra(100), fraction=0.9, seed=s) for s in (None, 0, 5))
    loader, state = module.train_dataloader(), torch.get_rng_state()
    first, second = ([x[len(x) // 10 :] for x, _ in loader] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, x[len(x) // 10 :]) for a, (x, _) in zip(first, again.train_dataloader(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    number = ((torch.cat([*first, *second])[:, 0, 0, 0] - 0.5) * 10_000).round().long()
    assert len(number) == 1800
    counts = number.bincount(minlength=100).double()
    assert ((counts - 18).square() / 18).sum() < 99 + 5 * (2 * 99) ** 0.5  # chi-square
    assert not torch.equal(next(iter(other.train_dataloader()))[0][16:], first[0])


def test_each_part_has_its_own_augmentation():
    def noisy(x):
        return x + torch.rand(len(x), 1, 1, 1) + 5

    x, _ = next(iter(ExtraDataModule(base(augment=lambda x: x + 2), *extra(), augment=noisy).train_dataloader()))
    assert (x[:16, 0, 0, 0] >= 2).all()
    assert (x[:16, 0, 0, 0] < 3).all()
    assert (x[16:, 0, 0, 0] > 5.5).all()
    images, labels = (255 * torch.rand(9, 1, 4, 4)).byte(), torch.zeros(9).long()
    x, _ = next(iter(ExtraDataModule(base(), images, labels, augment=RandomCropFlip(0, False)).train_dataloader()))
    assert x.dtype == torch.float32
    assert x.max() <= 1


def test_validation_and_test_are_those_of_the_base():
    module = ExtraDataModule(base(eval_batch_size=7), *extra())
    assert (module.num_classes, module.image_shape, module.eval_batch_size) == (10, (1, 4, 4), 7)
    model, lightning = Recorder(16), trainer(max_epochs=2)
    lightning.fit(model, module)
    lightning.test(model, module, verbose=False)
    for part in ("val", "test"):
        seen = torch.cat([x for x, _ in model.seen[part]])
        assert torch.equal(seen.unique(dim=0), base().tensors(part)[0].unique(dim=0))
    assert [len(x) for x, _ in model.seen["train"]] == [32] * 6 + [8] + [32] * 6 + [8]
    assert torch.equal(module.tensors("train")[0], base().tensors("train")[0])


def test_with_fonts_in_half_precision_and_workers():
    fonts = Fonts("easy", train_size=40, val_size=10, test_size=10, batch_size=20, num_workers=1)
    module = ExtraDataModule(fonts, torch.zeros(5, 1, 28, 28), torch.full((5,), 3))
    model = Recorder()
    trainer(max_epochs=1, precision="bf16-true").fit(model, module)
    assert [x.shape for x, _ in model.seen["train"]] == [(40, 1, 28, 28)] * 2
    assert {x.dtype for x, _ in model.seen["train"]} == {torch.bfloat16}
    assert all((y[20:] == 3).all() and (x[20:] == 0).all() for x, y in model.seen["train"])
    x, _, code = model.seen["val"][0]
    assert (x.dtype, code.theta.dtype) == (torch.bfloat16, torch.float32)


def test_from_npz(tmp_path):
    np.savez(tmp_path / "more.npz", image=np.full((3, 4, 4, 1), 255, np.uint8), label=np.array([9, 9, 9]))
    x, y = next(iter(ExtraDataModule.from_npz(base(), tmp_path / "more.npz", fraction=0.2).train_dataloader()))
    assert len(x) == 20
    assert (x[16:] == 1).all()
    assert (y[16:] == 9).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.zeros(1000, 3, 4, 4)}, r"images of shape \(1, 4, 4\) .* but got \(1000, 3, 4, 4\)"),
        ({"images": torch.full((1000, 1, 4, 4), 255.0)}, r"images in \[0.0, 1.0\], .* Divide images in"),
        ({"labels": torch.zeros(999).long()}, r"labels of shape \(N,\), but got .* and \(999,\)"),
        ({"labels": torch.zeros(1000)}, r"integer labels in \[0, 9\], but got torch.float32"),
        ({"labels": torch.full((1000,), 10)}, r"but got labels in \[10, 10\]"),
    ],
)
def test_wrong_arguments(arguments, message):
    images, labels = extra()
    with pytest.raises(ValueError, match=f"arguments `images` and `labels` to .*{message}"):
        ExtraDataModule(base(), **{"images": images, "labels": labels, **arguments})


def test_numpy_arrays_are_welcome():
    images, labels = extra()
    arrays = ExtraDataModule(base(), images.numpy(), labels.to(torch.int16).numpy()).train_dataloader()
    for a, b in zip(
        next(iter(arrays)), next(iter(ExtraDataModule(base(), images, labels).train_dataloader())), strict=True
    ):
        assert torch.equal(a, b)
