import warnings

import pytest
import torch
from callbacks_fakes import (
    EPS,
    SIDE,
    TEXTBOOK,
    ImageLogger,
    Module,
    data,
    loader,
    network,
    preloaded,
    same,
    state,
    textbook_pgd,
    trainer,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.io import decode_image, read_image

from lightning_robust import PGD, AdversarialExamples, Linf
from lightning_robust._lightning import pl
from lightning_robust.plots.grid import image_grid


def expected(module, n):
    """The picture of the first samples, from an attack by hand on the module as it is."""
    x, y = data(n)
    module.eval()
    return image_grid(x, textbook_pgd(module, x, y), zoom=2)


def pictures(path):
    return {file.name: read_image(str(file)) for file in sorted(path.rglob("*.png"))}


def attack(n=8, **kwargs):
    """`thorough` keeps the best iterate; the last one is it here, for a model that is linear in the pixels."""
    return AdversarialExamples(TEXTBOOK, num_samples=n, **kwargs)


class Linear(Module):
    """Differences of sums of pixels: every step raises the gain, so the best iterate is the last."""

    def forward(self, x):
        return torch.stack([x[:, :, 2 * k : 2 * k + 2].flatten(1).sum(1) for k in range(3)], 1)

    def training_step(self, batch, batch_idx):
        return sum(p.sum() for p in self.parameters())


def height(n):
    rows = -(-n // 4)
    return 2 * SIDE * rows + 8 * (rows + 1)


def width(n):
    columns = min(n, 4)
    return 2 * (3 * SIDE + 2) * columns + 8 * (columns + 1)


@pytest.mark.parametrize("n", [1, 4])
def test_a_file_per_validation(tmp_path, n):
    """TensorBoard has the same pictures, and the files are beside its events."""
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    module = Linear()
    trainer(attack(n), logger=logger).fit(module, loader(), loader())
    stored = pictures(tmp_path / "lightning_logs" / "version_0" / "adversarial_examples")
    assert list(stored) == ["epoch=0-step=6.png", "epoch=1-step=12.png"]
    for picture in stored.values():
        assert picture.shape == (3, height(n), width(n))
        assert torch.equal(picture, expected(module, n))
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    images = events.Images("adversarial_examples")
    assert [image.step for image in images] == [6, 12]
    for image in images:
        shown = decode_image(torch.frombuffer(bytearray(image.encoded_image_string), dtype=torch.uint8))
        assert torch.equal(shown[:3], expected(module, n))


def test_more_samples_than_the_batch_has(tmp_path):
    trainer(attack(100), default_root_dir=tmp_path).validate(Linear(), loader(batch_size=6), verbose=False)
    (picture,) = pictures(tmp_path).values()
    assert picture.shape == (3, height(6), width(6))


def test_when(tmp_path):
    """Every n-th epoch, once a validation, not in the sanity check, not in test, from the first dataloader alone."""

    class Counts(PGD):
        def run(self, model, x, y, context):
            shown.append(x)
            return super().run(model, x, y, context)

    shown = []
    callback = AdversarialExamples(Counts(Linf(EPS), 1, keep="best"), num_samples=2, every_n_epochs=2)
    t = trainer(callback, default_root_dir=tmp_path, max_epochs=5, num_sanity_val_steps=2)
    t.fit(Linear(), loader(), [loader(), loader(8, seed=1)])
    assert sorted(pictures(tmp_path)) == [f"epoch={e}-step={6 * (e + 1)}.png" for e in (0, 1, 3, 4)]
    t.test(Linear(), loader(), verbose=False)
    assert len(shown) == 5  # once in the sanity check, without a trace
    assert all(torch.equal(x, data(2)[0]) for x in shown)


class Fails(ImageLogger):
    """A logger that cannot be reached."""

    def log_image(self, **kwargs):
        raise ConnectionError("what was wrong")


def test_loggers_with_log_image_and_without(tmp_path):
    logger = ImageLogger()
    t = trainer(attack(2, to_disk=False), logger=[logger, pl.loggers.CSVLogger(tmp_path)], default_root_dir=tmp_path)
    t.fit(Linear(), loader(), loader())
    shapes = [(key, [image.shape for image in images], step) for key, images, step in logger.images]
    assert shapes == [("adversarial_examples", [(height(2), width(2), 3)], step) for step in (6, 12)]
    assert not pictures(tmp_path)


@pytest.mark.parametrize(("precision", "channels"), [("bf16-mixed", 1), ("bf16-true", 3), ("64-true", 3)])
def test_channels_and_precisions(tmp_path, precision, channels):
    class Mean(Linear):
        def forward(self, x):
            return super().forward(x.mean(1, keepdim=True))

    x, y = data()
    given = preloaded([(x.expand(-1, channels, -1, -1), y)])
    t = trainer(attack(2), default_root_dir=tmp_path, precision=precision)
    t.validate(Mean(), given, verbose=False)
    (picture,) = pictures(tmp_path).values()
    assert picture.shape == (3, height(2), width(2))


def test_units_of_the_picture(tmp_path):
    """`low` and `high` are what is shown black and white; `scale` is the difference that has full colour."""
    callback = AdversarialExamples(lambda model, x, y: x - 0.5, num_samples=1, scale=1.0, low=-1, high=3)
    given = preloaded([(torch.full((2, 1, 6, 6), 1.0), torch.zeros(2, dtype=torch.long))])
    trainer(callback, default_root_dir=tmp_path).validate(Linear(), given, verbose=False)
    (picture,) = pictures(tmp_path).values()
    inside = picture[:, 8:20, 8:-8]
    assert torch.unique(inside[:, :, :12]).tolist() == [round(255 * 2 / 4)]
    assert torch.unique(inside[:, :, 14:26]).tolist() == [round(255 * 1.5 / 4)]
    x = torch.full((1, 1, 6, 6), 1.0)
    assert torch.equal(picture, image_grid(x, x - 0.5, scale=1.0, low=-1, high=3, zoom=2))


def breaks(model, x, y):
    raise ZeroDivisionError("what was wrong")


def shaped(*shape):
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    return preloaded([(x, torch.arange(4) % 3)])


class Flat(Linear):
    """Takes inputs of any shape."""

    def forward(self, x):
        return x.flatten(1)[:, :3]


SHAPES = [(4, 6, 6), (2, 6, 6), (1, 16), (16,), (1, 3, 6, 6)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_cannot_be_shown_is_refused_before_training(tmp_path, shape):
    module = Flat()
    t = trainer(attack(), default_root_dir=tmp_path, num_sanity_val_steps=1)
    with pytest.raises(ValueError, match=r"Expected images of shape \(N, C, H, W\) .*: leave the callback out"):
        t.fit(module, shaped(*shape), shaped(*shape))
    assert t.global_step == 0


@pytest.mark.parametrize(
    ("make", "data", "logger", "text"),
    [
        pytest.param(attack, lambda: shaped(4, 6, 6), False, "images", id="images"),
        pytest.param(
            lambda: AdversarialExamples(breaks), loader, False, "ZeroDivisionError: what was wrong", id="attack"
        ),
        pytest.param(lambda: attack(target=2), loader, False, "`target`", id="field"),
        pytest.param(attack, loader, Fails(), "ConnectionError: what was wrong", id="logger"),
    ],
)
def test_no_training_ends_because_of_a_picture(tmp_path, make, data, logger, text):
    """Where the sanity check is left out. One warning for all epochs, and the training is as without."""
    states = []
    for callbacks in ([], [make()]):
        module = Flat(net=network(dropout=0))
        t = trainer(*callbacks, default_root_dir=tmp_path, max_epochs=2, logger=logger)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t.fit(module, data(), data())
        states.append(state(module))
        said = [str(w.message) for w in caught if "picture" in str(w.message)]
        assert len(said) == len(callbacks)
    assert same(*states)
    assert "AdversarialExamples makes no picture" in said[0]
    assert text in said[0]


def test_several_with_names_of_their_own(tmp_path):
    """Each has its folder, its key and its state."""
    logger = ImageLogger()
    ours = [attack(2, name="weak", every_n_epochs=2), attack(1, name="all/strong")]
    keeps = pl.callbacks.ModelCheckpoint(tmp_path)
    t = trainer(*ours, keeps, default_root_dir=tmp_path, logger=logger, max_epochs=4, enable_checkpointing=True)
    t.fit(Linear(), loader(), loader())
    steps = {"weak": [0, 1, 3], "all/strong": [0, 1, 2, 3]}
    for name, epochs in steps.items():
        assert list(pictures(tmp_path / name)) == [f"epoch={e}-step={6 * (e + 1)}.png" for e in epochs]
        assert [step for key, _, step in logger.images if key == name] == [6 * (e + 1) for e in epochs]
    states = torch.load(keeps.best_model_path, weights_only=False)["callbacks"]
    assert states["AdversarialExamples[weak]"] == states["AdversarialExamples[all/strong]"] == {"epoch": 3}


def test_a_step_that_is_not_ours_is_told(tmp_path):
    class Kept(pl.strategies.SingleDeviceStrategy):
        def validation_step(self, *args):
            return None

    t = trainer(attack(), default_root_dir=tmp_path, strategy=Kept("cpu"))
    with pytest.warns(UserWarning, match=r"shows nothing: .* another `validation_step` than that of Linear"):
        t.validate(Linear(), loader(), verbose=False)
    assert not pictures(tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "error", "parts"),
    [
        ({"name": ""}, TypeError, ("`name`", "not empty", "''")),
        ({"name": "/tmp"}, ValueError, ("`name`", "within the log directory", "'/tmp'")),
        ({"name": "a/../../b"}, ValueError, ("`name`", "within the log directory", "'a/../../b'")),
        ({"low": 1.0, "high": 1.0}, ValueError, ("`low`", "`high`", "1.0")),
    ],
)
def test_what_is_refused_at_construction(kwargs, error, parts):
    """All other arguments: `tests/test_arguments.py`."""
    with pytest.raises(error) as caught:
        AdversarialExamples(TEXTBOOK, **kwargs)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
