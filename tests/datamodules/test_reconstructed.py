import pytest
import torch
from torch import nn

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, RobustEvaluation, Threat
from lightning_robust.attacks import Context
from lightning_robust.datamodules import (
    ExtraDataModule,
    Fonts,
    GeneratedDataModule,
    ReconstructedDataModule,
    TensorDataModule,
)
from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.models import RobustClassifier

from .helpers import Recorder, flat, numbered, numbers, trainer
from .planes import PARTS, SHAPE, Gives, Plane, base, images


class Sum(nn.Module):
    """A code with what stays fixed: (z, shift, number). The first pixel is kept by the shift."""

    def encode(self, x, y):
        return torch.zeros(len(x), 2), x[:, :, :1, :1] - 0.25, torch.arange(len(x)) * 0 + y

    def decode(self, z, y, shift, number):
        assert torch.equal(number, y)
        return (0.25 + shift + z.sum(1).reshape(-1, 1, 1, 1)).expand(-1, *SHAPE)


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_the_true_manifold_gives_the_data_itself(difficulty):
    data = Fonts(difficulty, train_size=40, val_size=20, test_size=50)
    seen = ReconstructedDataModule(data, FontsManifold(difficulty), code=2, chunk=17)
    for part in PARTS:
        x, y, code = data.tensors(part)
        x_rec, y_rec, (theta, font) = seen.tensors(part)
        assert (x_rec - x).abs().max() < 1e-5
        assert torch.equal(y_rec, y)
        assert torch.equal(theta, code.theta)
        assert torch.equal(font, code.font)


def test_a_linear_manifold_in_closed_form():
    data, plane = base(), Plane()
    seen = ReconstructedDataModule(data, plane, chunk=7)
    for part in PARTS:
        x, y = data.tensors(part)
        x_rec, y_rec, z = seen.tensors(part)
        assert torch.equal(y_rec, y)
        expected = 0.5 + (x - 0.5).flatten(1) @ torch.linalg.pinv(plane.basis) @ plane.basis
        torch.testing.assert_close(x_rec.flatten(1), expected)
        torch.testing.assert_close(plane.eval().decode(z, y), x_rec)
        torch.testing.assert_close(plane.encode(x_rec, y), z)  # projecting twice is projecting once
    assert torch.equal(seen.tensors("test", limit=4)[2], z[:4])


def test_parts_and_subsets_are_those_of_the_data():
    class First:
        """Keeps the first pixel, which holds the number of the image, and nothing else."""

        def encode(self, x, y):
            return x.flatten(1)[:, :1]

        def decode(self, z, y):
            return torch.nn.functional.pad(z, (0, 15)).reshape(-1, *SHAPE)

    def module(train_size):
        data = TensorDataModule(numbered(130), numbered(30), val_size=30, train_size=train_size, batch_size=16)
        return data, ReconstructedDataModule(data, First())

    trained = {}
    for size in (20, 50, None):
        data, seen = module(size)
        for part in PARTS:
            assert numbers([seen.tensors(part)]) == numbers([data.tensors(part)])
        trained[size] = numbers([seen.tensors("train")])[0]
        # The loaders go through the same rows in the same order, epoch after epoch.
        loader, other = seen.train_dataloader(), data.train_dataloader()
        for _ in range(2):
            assert numbers(loader) == numbers(other)
        assert numbers(seen.val_dataloader()) == numbers(data.val_dataloader())
    assert trained[20] == trained[50][:20]
    assert set(trained[50]) <= set(trained[None])
    assert not set(trained[None]) & set(numbers([seen.tensors("val")])[0])


def test_what_stays_fixed_in_a_code():
    data = base()
    seen = ReconstructedDataModule(data, Sum(), chunk=7)
    x, y = data.tensors("test")
    x_rec, _, (z, shift, number) = seen.tensors("test")
    assert torch.equal(x_rec, x[:, :, :1, :1].expand(-1, *SHAPE))
    assert torch.equal(number, y)
    assert (z == 0).all()
    one_x, one_y, (one_z, one_shift, one_number) = seen.dataset("test")[-2]
    assert torch.equal(one_x, x_rec[28])
    assert (int(one_y), int(one_number)) == (8, 8)
    assert (one_z.shape, one_shift.shape) == ((2,), (1, 1, 1))
    assert torch.equal(one_shift, shift[28])
    with pytest.raises(IndexError, match=r"`index` to be in \[-30, 30\), but got 30"):
        seen.dataset("test")[30]
    assert ReconstructedDataModule(data, Plane()).dataset("test")[3][2].shape == (3,)


def test_made_once_in_chunks_and_inert():
    plane = Plane()
    plane.dropout.train()
    plane.norm.eval()
    seen = ReconstructedDataModule(base(), plane, chunk=40)
    assert not plane.calls, "nothing is made before it is asked for"
    stream = torch.get_rng_state()
    seen.setup("fit")
    assert [size for size, *_ in plane.calls] == [40, 40, 40, 40, 20, 20, 30, 30]
    assert not any(training or grad for _, training, grad, _ in plane.calls)
    assert (plane.dropout.training, plane.norm.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), stream)
    x = seen.tensors("train")[0]
    assert len(plane.calls) == 8, "and once"
    assert not x.requires_grad
    with torch.inference_mode():
        x, _, z = seen.dataset("test").samples
    assert not x.is_inference()
    assert not z[0].is_inference()
    # What the manifold draws itself is the same again, wherever the global stream is.
    torch.rand(5)
    ReconstructedDataModule(base(), again := Plane(), chunk=40).setup("fit")
    assert [call[-1] for call in again.calls] == [call[-1] for call in plane.calls[:8]]


def test_half_and_double_precision_of_the_manifold():
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        seen = ReconstructedDataModule(base(), Plane().to(dtype))
        x, _, z = seen.tensors("test")
        assert (x.dtype, z.dtype) == (torch.float32, wide)


def test_no_validation_part():
    seen = ReconstructedDataModule(base(val_size=0), Plane())
    assert seen.val_dataloader() == []
    assert [len(part) for part in seen.tensors("val")] == [0, 0, 0]
    trainer(max_epochs=1).fit(Recorder(16), seen)


def test_data_of_other_kinds():
    """Augmentation is left out; extra images are for training on `data` itself."""
    augmented = ReconstructedDataModule(base(augment=lambda x: x + 2), Plane())
    assert torch.equal(augmented.tensors("train")[0], ReconstructedDataModule(base(), Plane()).tensors("train")[0])
    augmented.setup("fit")
    assert all(x.max() < 1 for x, *_ in augmented.train_dataloader())
    mixed = ReconstructedDataModule(ExtraDataModule(base(), *images(9)), Plane())
    assert torch.equal(mixed.tensors("train")[0], augmented.tensors("train")[0])


def test_options_are_those_of_the_data():
    called, data = [], base(batch_size=8, eval_batch_size=5, num_workers=1, drop_last=True, seed=3)
    data.prepare_data = lambda: called.append(1)
    seen = ReconstructedDataModule(data, Plane())
    for name in ("batch_size", "eval_batch_size", "num_workers", "drop_last", "pin_memory", "seed", "num_classes"):
        assert getattr(seen, name) == getattr(data, name), name
    assert (seen.image_shape, seen.value_range) == (SHAPE, (0.0, 1.0))
    model = Recorder(16)
    trainer(max_epochs=1).fit(model, seen)
    assert called
    assert [x.shape[0] for x, *_ in model.seen["train"]] == [8] * 12
    assert flat(y.tolist() for _, y, _ in model.seen["val"]) == data.tensors("val")[1].tolist()


@pytest.mark.parametrize("kind", ["reconstructed", "sampled"])
def test_codes_of_the_batch_are_attacked(kind):
    """Those of `LatentSpace`: around the code of the batch, for which nothing need be encoded again."""
    torch.manual_seed(0)
    manifold = VAEGAN(latent=4, width=1 / 16, init_std=None, bound=3.0)
    if kind == "reconstructed":
        data = ReconstructedDataModule(Fonts(train_size=20, val_size=20, test_size=20, batch_size=20), manifold)
    else:
        data = GeneratedDataModule(manifold, 10, 4, train_size=20, val_size=20, test_size=20, batch_size=20)
    threat = Threat(Linf(0.3), LatentSpace(manifold))
    attack = PGD(threat, steps=2)
    model = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    x, y, z = data.tensors("test")
    outcome = attack.run(model, x, y, Context(z))
    assert outcome.delta.abs().max() <= 0.3 + 1e-6
    torch.testing.assert_close(outcome.x_adv, manifold.decode(z + outcome.delta, y).detach())
    data.setup("fit")
    manifold.encode = None  # not needed: the batch brings its codes
    run = trainer(
        max_epochs=1, callbacks=[AdversarialTraining(attack, code=2), RobustEvaluation({"on_manifold": attack}, code=2)]
    )
    run.fit(model, data)
    run.test(model, data, verbose=False)
    assert 0 <= run.callback_metrics["test/robust_acc_on_manifold"] <= run.callback_metrics["test/clean_acc"] <= 1


def test_half_precision_of_the_trainer():
    model = Recorder(16)
    trainer(precision="bf16-true").test(model, ReconstructedDataModule(base(), Plane()), verbose=False)
    assert {x.dtype for x, *_ in model.seen["test"]} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("manifold", "message"),
    [
        (Gives(z=lambda n: torch.zeros(n)), r"codes to be float of shape \(30, Z\), but got torch.float32 \(30,\)"),
        (Gives(z=lambda n: torch.zeros(1, 2)), r"codes to be float .* got torch.float32 \(1, 2\)"),
        (Gives(z=lambda n: torch.zeros(n, 2).long()), r"codes to be float .* got torch.int64 \(30, 2\)"),
        (Gives(z=lambda n: "code"), r"codes to be float .* got str"),
        (Gives(z=lambda n: (torch.zeros(n, 2), 5)), r"fixed in a code to be tensors of 30 rows, but got int"),
        (Gives(z=lambda n: (torch.zeros(n, 2), torch.zeros(2))), r"tensors of 30 rows, but got torch.float32 \(2,\)"),
        (Gives(x=lambda n: torch.zeros(n, 16)), r"shape \(30, 1, 4, 4\), but got torch.float32 \(30, 16\)"),
        (
            Gives(x=lambda n: torch.zeros(n + 1, *SHAPE)),
            r"shape \(30, 1, 4, 4\), but got torch.float32 \(31, 1, 4, 4\)",
        ),
        (Gives(x=lambda n: torch.zeros(n, *SHAPE).byte()), r"float images .* got torch.uint8 \(30, 1, 4, 4\)"),
        (Gives(x=lambda n: None), r"float images of shape .* got NoneType"),
        (
            Gives(x=lambda n: torch.full((n, *SHAPE), -0.2)),
            r"images in \[0.0, 1.0\], .* \[-0.2, -0.2\]. Let the decoder",
        ),
        (
            Gives(x=lambda n: torch.full((n, *SHAPE), torch.nan)),
            r"images in \[0.0, 1.0\], but got values in \[nan, nan",
        ),
    ],
)
def test_what_a_manifold_may_not_give(manifold, message):
    with pytest.raises(ValueError, match=message):
        ReconstructedDataModule(base(), manifold).tensors("test")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": 3}, TypeError, r"`data` to be an ImageDataModule, but got 3"),
        ({"manifold": 3}, TypeError, r"`manifold` to have a method `encode`, but got int"),
        ({"manifold": Plane}, TypeError, r"`manifold` to have a method `encode`, but got the class Plane"),
        ({"code": 1}, ValueError, r"`code` to be an integer of at least 2, but got 1"),
        ({"device": "toaster"}, ValueError, r"`device` to be a device, but got 'toaster'"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ReconstructedDataModule(**{"data": base(), "manifold": Plane(), **arguments})


def test_data_that_brings_no_codes():
    with pytest.raises(ValueError, match=r"`code` to be where the batches of `data` bring codes, .* 2 entries, .* 2"):
        ReconstructedDataModule(base(), Plane(), code=2).setup("test")
