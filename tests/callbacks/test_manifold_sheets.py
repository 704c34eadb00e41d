import warnings

import pytest
import torch
from callbacks_fakes import (
    SIDE,
    batches as user_batches,
    data,
    fingerprint,
    loader,
    preloaded,
    same,
    state,
    trainer,
)
from torch import nn
from torchvision.io import decode_image, read_image

from lightning_robust._lightning import pl
from lightning_robust.callbacks import ManifoldSheets
from lightning_robust.callbacks.manifold_sheets import _pairs
from lightning_robust.manifolds import VAEGAN
from tests.helpers import unchanged

NAMES = ("interpolations", "reconstructions", "samples")


def files(path):
    return {file.relative_to(path).as_posix(): read_image(str(file)) for file in sorted(path.rglob("*.png"))}


def cell(picture, row, column, *, width=SIDE, gap=2):
    """One image of a picture, (SIDE, width) in [0, 1], the red channel."""
    picture = picture[0, ::2, ::2].float() / 255
    top, left = gap + row * (SIDE + gap), gap + column * (width + gap)
    return picture[top : top + SIDE, left : left + width]


def close(shown, image):
    """Equal up to the eight bits of a file."""
    return bool((shown - image.reshape(shown.shape)).abs().max() <= 0.5 / 255 + 1e-6)


class Calls:
    """A list within an object: those in attributes of a module are put back after the pictures."""

    def __init__(self):
        self.list = []


class Sums(pl.LightningModule):
    """A user's own: a code (N, 2) holds two numbers, the image is one grey: x_ij = z_0 / 4 + y z_1 / 16 + 1 / 2.

    It has all that must not be disturbed: dropout, batch normalisation, noise in both methods.
    """

    def __init__(self, fixed=False):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
        self.fixed = fixed
        self._calls = Calls()

    @property
    def calls(self):
        return self._calls.list

    def encode(self, x, y):
        self.calls.append(("encode", x, y, self.net.training, torch.is_grad_enabled(), torch.rand(1)))
        self.log("encoded", 1.0)
        z = torch.stack([x.mean((1, 2, 3)), y.to(x) / 2], 1)
        return (z, x[:, :, :1, :1], "constant") if self.fixed else z

    def decode(self, z, y, *fixed):
        self.calls.append(("decode", z, y, self.net.training, torch.is_grad_enabled(), torch.rand(1)))
        self._calls.autocast = torch.is_autocast_enabled("cpu")
        x = (z[:, 0] / 4 + y * z[:, 1] / 16 + 0.5).reshape(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE)
        if fixed:
            assert fixed[1] == "constant"
            x = x * 0 + fixed[0]
        return x

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def validate(path, callback, module=None, batches=None, **kwargs):
    t = trainer(callback, default_root_dir=path, **kwargs)
    t.validate(Sums() if module is None else module, loader() if batches is None else batches, verbose=False)
    return {name.split("/")[0]: picture for name, picture in files(path).items()}


# ---------------------------------------------------------------------------------------------------- the pictures


def test_reconstructions(tmp_path):
    picture = validate(tmp_path, ManifoldSheets(num_reconstructions=7))["reconstructions"]
    width = 2 * SIDE + 1
    assert picture.shape == (3, 2 * (2 * (SIDE + 4) + 4), 2 * (5 * (width + 4) + 4))
    x, y = data()
    for i in range(7):
        pair = cell(picture, i // 5, i % 5, width=width, gap=4)
        assert close(pair[:, :SIDE], x[i])
        assert (pair[:, SIDE] == 1).all()
        value = x[i].mean() / 4 + y[i] * y[i] / 32 + 0.5
        assert close(pair[:, SIDE + 1 :], value.expand(SIDE, SIDE))
    assert (cell(picture, 1, 2, width=width, gap=4) == 1).all()


def test_samples_are_truncated_normal_with_a_row_for_each_class(tmp_path):
    module = Sums()
    picture = validate(tmp_path, ManifoldSheets(num_samples=400, num_classes=3), module)["samples"]
    assert picture.shape == (3, 2 * (3 * (SIDE + 2) + 2), 2 * (400 * (SIDE + 2) + 2))
    z, y = next((z, y) for name, z, y, *_ in module.calls if name == "decode" and len(z) == 1200)
    assert torch.equal(y, torch.arange(3).repeat_interleave(400))
    z = z.unflatten(0, (3, 400))
    assert torch.equal(z[0], z[1])
    assert torch.equal(z[0], z[2])
    assert z.abs().max() <= 2
    # The distribution function of the normal one cut at 2, at 17 places: within five deviations.
    normal = torch.distributions.Normal(0.0, 1.0)
    at = torch.linspace(-1.6, 1.6, 17)
    expected = (normal.cdf(at) - normal.cdf(torch.tensor(-2.0))) / (2 * normal.cdf(torch.tensor(2.0)) - 1)
    fractions = (z[0].flatten()[:, None] <= at).float().mean(0)
    assert ((fractions - expected).abs() < 5 * (expected * (1 - expected) / 800).sqrt()).all()
    for k in range(3):
        for i in (0, 5, 399):
            value = (z[k, i, 0] / 4 + k * z[k, i, 1] / 16 + 0.5).clamp(0, 1)
            assert close(cell(picture, k, i), value.expand(SIDE, SIDE))


def test_samples_depend_on_seed_and_bound_alone(tmp_path):
    one, again, other, narrow = (
        validate(tmp_path / str(i), ManifoldSheets(num_samples=16, **kwargs))["samples"]
        for i, kwargs in enumerate([{}, {}, {"seed": 1}, {"bound": 0.1}])
    )
    assert one.shape == (3, 2 * (2 * (SIDE + 2) + 2), 2 * (10 * (SIDE + 2) + 2)), "one class is wrapped"
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    inside = torch.cat([cell(narrow, i // 10, i % 10).flatten() for i in range(16)])
    assert (inside - 0.5).abs().max() <= 0.1 / 4 + 1 / 255


def test_interpolations(tmp_path):
    module = Sums()
    picture = validate(tmp_path, ManifoldSheets(num_interpolations=4, steps=5), module)["interpolations"]
    assert picture.shape == (3, 2 * (4 * (SIDE + 2) + 2), 2 * (5 * (SIDE + 2) + 2))
    x, _ = data()
    # Labels are 0, 1, 2, 0, 1, 2, ...: the first two of each class, then the next two of class 0.
    for row, (start, end, label) in enumerate([(0, 3, 0), (1, 4, 1), (2, 5, 2), (6, 9, 0)]):
        for step in range(5):
            mean = x[start].mean() + step / 4 * (x[end].mean() - x[start].mean())
            value = mean / 4 + label**2 / 32 + 0.5
            assert close(cell(picture, row, step), value.expand(SIDE, SIDE))


def test_pairs_of_one_class():
    start, end = _pairs(torch.tensor([5, 5, 2, 5, 2, 5, 5, 7]), 10)
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == [(2, 4), (0, 1), (3, 5)]
    assert _pairs(torch.tensor([5, 5, 2, 5, 2, 5, 5, 7]), 2)[0].tolist() == [2, 0]


def test_no_two_samples_of_one_class(tmp_path):
    x, _ = data(3)
    pictures = validate(tmp_path, ManifoldSheets(), batches=preloaded([(x, torch.arange(3))]))
    assert sorted(pictures) == ["reconstructions", "samples"]


def test_what_stays_fixed_in_a_code(tmp_path):
    """It goes with the sample: in `samples` the first of the class, in `interpolations` the first end."""
    callback = ManifoldSheets(num_reconstructions=4, num_samples=3, num_interpolations=3, steps=4, num_classes=4)
    pictures = validate(tmp_path, callback, Sums(fixed=True))
    corner = data()[0][:, 0, 0, 0]
    for i in range(4):
        pair = cell(pictures["reconstructions"], 0, i, width=2 * SIDE + 1, gap=4)
        assert close(pair[:, SIDE + 1 :], corner[i].expand(SIDE, SIDE))
    for k in range(4):
        first = 0 if k == 3 else k  # there is no sample of class 3
        assert all(close(cell(pictures["samples"], k, i), corner[first].expand(SIDE, SIDE)) for i in range(3))
    for row in range(3):
        assert all(close(cell(pictures["interpolations"], row, i), corner[row].expand(SIDE, SIDE)) for i in range(4))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_vaegan(tmp_path, num_classes):
    shape = (3, 8, 8)
    vaegan = VAEGAN(shape, latent=4, width=1 / 16, num_classes=num_classes, init_std=None)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, *shape, generator=generator), torch.randint(3, (40,), generator=generator)
    batches = preloaded(list(zip(x.split(8), y.split(8), strict=True)))
    t = trainer(ManifoldSheets(num_samples=2), default_root_dir=tmp_path, max_epochs=1)
    t.fit(vaegan, batches, batches)
    written = files(tmp_path)
    assert sorted(written) == [f"{name}/epoch=0-step=15.png" for name in NAMES]  # three optimisers count
    assert written["samples/epoch=0-step=15.png"].shape == (3, 2 * (num_classes * 10 + 2), 2 * 22)
    with torch.no_grad():
        again = vaegan.reconstruct(x[:1], y[:1])[0]
    picture = written["reconstructions/epoch=0-step=15.png"][:, ::2, ::2].float() / 255
    assert (picture[:, 4:12, 13:21] - again).abs().max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("bf16-mixed", "users"), ("bf16-true", "users"), ("64-true", "users"), ("bf16-true", "vaegan")],
)
def test_precisions(tmp_path, precision, kind):
    module = Sums() if kind == "users" else VAEGAN((1, SIDE, SIDE), latent=2, width=1 / 16)
    given = preloaded([tuple(batch) for batch in user_batches("list")])
    assert sorted(validate(tmp_path, ManifoldSheets(), module, given, precision=precision)) == list(NAMES)
    expected = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    if kind == "users":
        assert {z.dtype for _, z, *_ in module.calls} == {expected}
        assert module._calls.autocast is (precision == "bf16-mixed")


def test_units_of_the_pictures(tmp_path):
    picture = validate(tmp_path, ManifoldSheets(low=-1.0, high=3.0))["reconstructions"]
    assert close(cell(picture, 0, 0, width=2 * SIDE + 1, gap=4)[:, :SIDE], (data()[0][0] + 1) / 4)


class Owner(pl.LightningModule):
    """Its manifold is a part of it; without `encode`, for data that brings codes."""

    def __init__(self):
        super().__init__()
        self.part = Sums()

    def validation_step(self, batch, batch_idx):
        return None


def test_a_manifold_that_is_a_part_of_the_module(tmp_path):
    whole = validate(tmp_path / "whole", ManifoldSheets())
    part = validate(tmp_path / "part", ManifoldSheets(manifold=lambda module: module.part), Owner())
    assert all(torch.equal(whole[name], part[name]) for name in NAMES)


@pytest.mark.parametrize("fixed", [True, False])
def test_data_that_brings_codes(tmp_path, fixed):
    """They are those that `encode` would give: the pictures are the same, and nothing is encoded."""

    class Decodes(pl.LightningModule):
        def decode(self, z, y, *fixed):
            return module.decode(z, y, *fixed)

        def validation_step(self, batch, batch_idx):
            return None

    encoded = validate(tmp_path / "encoded", ManifoldSheets(num_classes=3), Sums(fixed=fixed))
    module = Sums(fixed=fixed)
    batches = [(x, y, module.encode(x, y)) for x, y in loader()]
    module.calls.clear()
    brought = validate(tmp_path / "brought", ManifoldSheets(num_classes=3, code=2), Decodes(), preloaded(batches))
    assert {name for name, *_ in module.calls} == {"decode"}
    assert all(torch.equal(encoded[name], brought[name]) for name in NAMES)


# ------------------------------------------------------------------------------------------------------------- when


def test_when(tmp_path):
    """Every n-th epoch, once a validation, not in the sanity check, not in test, from the first dataloader alone."""
    module = Sums()
    t = trainer(
        ManifoldSheets(num_reconstructions=2, every_n_epochs=2),
        default_root_dir=tmp_path,
        max_epochs=5,
        num_sanity_val_steps=2,
    )
    t.fit(module, loader(), [loader(6), loader(8, seed=1)])
    steps = [(0, 6), (1, 12), (3, 24), (4, 30)]
    assert sorted(files(tmp_path)) == [f"{name}/epoch={e}-step={s}.png" for name in NAMES for e, s in steps]
    drawn = [x for name, x, *_ in module.calls if name == "encode" and len(x) == 2]
    assert len(drawn) == 5  # once in the sanity check, without a trace
    assert all(torch.equal(x, data(2)[0]) for x in drawn)
    # The first dataloader has two samples of each of three classes.
    assert files(tmp_path)["interpolations/epoch=0-step=6.png"].shape[1] == 2 * (3 * (SIDE + 2) + 2)
    module.test_step = module.validation_step
    t.test(module, loader(), verbose=False)
    assert len(files(tmp_path)) == 12


def test_without_validation_there_are_no_pictures(tmp_path):
    trainer(ManifoldSheets(), default_root_dir=tmp_path, limit_val_batches=0).fit(Sums(), loader(), loader())
    assert not files(tmp_path)


def test_only_the_first_process_draws(tmp_path, monkeypatch):
    """But every process asks for the folder, which is a broadcast."""
    asked, module = [], Sums()
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    monkeypatch.setattr(pl.Trainer, "log_dir", property(lambda self: asked.append(1)))
    trainer(default_root_dir=tmp_path).fit(module, loader(), loader())
    without = len(asked)
    trainer(ManifoldSheets(), default_root_dir=tmp_path).fit(module, loader(), loader())
    assert not files(tmp_path)
    assert not module.calls
    assert len(asked) == 2 * without + 2


# ------------------------------------------------------------------------------------------------------------ inert


def test_the_training_of_a_vaegan_is_as_without(tmp_path):
    states = []
    for i, callbacks in enumerate([(), (ManifoldSheets(),)]):
        torch.manual_seed(7)
        module = VAEGAN((1, SIDE, SIDE), latent=2, width=1 / 16, num_classes=3)
        trainer(*callbacks, default_root_dir=tmp_path / str(i)).fit(module, loader(), loader())
        states.append({**state(module), "stream": torch.get_rng_state()})
    assert same(*states)
    assert len(files(tmp_path)) == 6


@pytest.mark.parametrize("inference_mode", [True, False])
def test_inert(tmp_path, inference_mode):
    class Watched(ManifoldSheets):
        def _draw(self, trainer, pl_module):
            pl_module.net[1].train()  # the user's choice: dropout while validating
            before = fingerprint(pl_module)
            with unchanged(pl_module):
                super()._draw(trainer, pl_module)
            assert fingerprint(pl_module) == before

    module = Sums()
    validate(tmp_path, Watched(), module, inference_mode=inference_mode)
    assert len(module.calls) == 7
    for _, z, y, training, grad, _ in module.calls:
        assert not training
        assert not grad
        assert not z.is_inference()
        assert not y.is_inference()
    draws = [call[-1] for call in module.calls]
    validate(tmp_path, ManifoldSheets(), again := Sums())
    assert draws == [call[-1] for call in again.calls], "what the module draws itself is seeded"


class Broken(Exception):
    """What goes wrong below."""


def test_every_way_out(tmp_path):
    class Breaks(Sums):
        def decode(self, z, y):
            raise Broken

    module = Breaks()
    module.net[1].eval()
    with pytest.raises(Broken), unchanged(module):
        validate(tmp_path, ManifoldSheets(), module)
    t = trainer(ManifoldSheets(), default_root_dir=tmp_path, num_sanity_val_steps=1)
    with pytest.raises(Broken):
        t.fit(module, loader(), loader())
    assert t.global_step == 0


@pytest.mark.parametrize("what", ["manifold", "images"])
def test_no_training_ends_because_of_a_picture(tmp_path, what):
    """Where the sanity check is left out. One warning for all epochs, and the training is as without."""

    class Breaks(Sums):
        def decode(self, z, y):
            raise Broken("what was wrong")

    states, x = [], torch.rand(4, 2, 6, 6)
    data = loader() if what == "manifold" else preloaded([(x, torch.arange(4))])
    for callbacks in ([], [ManifoldSheets()]):
        torch.manual_seed(0)
        module = Breaks()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(*callbacks, default_root_dir=tmp_path, max_epochs=2).fit(module, loader(), data)
        states.append(state(module))
        said = [str(w.message) for w in caught if "picture" in str(w.message)]
        assert len(said) == len(callbacks)
    assert same(*states)
    assert "ManifoldSheets makes no picture, and training goes on" in said[0]
    assert ("Broken: what was wrong" if what == "manifold" else "(4, 2, 6, 6)") in said[0]
    assert not files(tmp_path)


def test_what_the_module_logs_is_as_without(tmp_path):
    t = trainer(ManifoldSheets(), default_root_dir=tmp_path)
    t.validate(Sums(), loader(), verbose=False)
    assert "encoded" not in t.callback_metrics


# ---------------------------------------------------------------------------------------------------------- loggers


def test_tensorboard_has_the_pictures(tmp_path):
    """The files are beside its events."""
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    trainer(ManifoldSheets(), logger=logger, max_epochs=1).fit(Sums(), loader(), loader())
    logger.experiment.flush()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    stored = files(tmp_path)
    for name in NAMES:
        (image,) = events.Images(name)
        assert image.step == 6
        shown = decode_image(torch.frombuffer(bytearray(image.encoded_image_string), dtype=torch.uint8))
        assert torch.equal(shown[:3], stored[f"lightning_logs/version_0/{name}/epoch=0-step=6.png"])


# ----------------------------------------------------------------------------------------------------------- errors


def test_what_is_refused_at_construction():
    """All other arguments: `tests/test_arguments.py`."""
    with pytest.raises(ValueError, match=r"`low` .*`high`.*high=1.0"):
        ManifoldSheets(low=1.0, high=1.0)
    with pytest.raises(TypeError, match=r"`target` .*None"):
        ManifoldSheets(target=None)


def test_a_module_that_is_no_manifold_is_refused(tmp_path):
    class Classifier(pl.LightningModule):
        def encode(self, x, y):
            return x

        def validation_step(self, batch, batch_idx):
            return None

    with pytest.raises(TypeError, match=r"method `decode`, but Classifier has none. Define encode\(self, x, y\)"):
        validate(tmp_path, ManifoldSheets(), Classifier())
    with pytest.raises(TypeError, match="method `encode`, but Linear has none"):
        validate(tmp_path, ManifoldSheets(manifold=lambda module: module.net[-1]))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(4, 2, 6, 6), torch.zeros(4).long(), r"C = 1 or 3, but got \(4, 2, 6, 6\)"),
        (torch.rand(4, 6), torch.zeros(4).long(), r"C = 1 or 3, but got \(4, 6\)"),
        (torch.rand(4, 1, 6, 6), torch.zeros(4), r"integer labels of shape \(4,\), but got torch.float32 \(4,\)"),
        (torch.rand(4, 1, 6, 6), torch.zeros(4, 2).long(), r"integer labels of shape \(4,\), .* \(4, 2\)"),
    ],
)
def test_wrong_data_is_refused(tmp_path, x, y, message):
    with pytest.raises(ValueError, match=message):
        validate(tmp_path, ManifoldSheets(), batches=preloaded([(x, y)]))
