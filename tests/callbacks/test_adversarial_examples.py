import pickle
import warnings

import pytest
import torch
from callbacks_fakes import (
    BATCH,
    EPS,
    MAKERS,
    SIDE,
    TEXTBOOK,
    Module,
    batches,
    data,
    fields,
    fingerprint,
    loader,
    network,
    preloaded,
    same,
    state,
    textbook_pgd,
    trainer,
    unpack,
)
from torch.utils.data import DataLoader
from torchvision.io import read_image

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


@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_file_per_validation(tmp_path, n):
    module = Linear()
    t = trainer(attack(n), default_root_dir=tmp_path)
    t.fit(module, loader(), loader())
    found = pictures(tmp_path / "adversarial_examples")
    assert list(found) == ["epoch=0-step=6.png", "epoch=1-step=12.png"]
    for picture in found.values():
        assert picture.shape == (3, height(n), width(n))
        assert torch.equal(picture, expected(module, n))


def test_more_samples_than_the_batch_has(tmp_path):
    trainer(attack(100), default_root_dir=tmp_path).validate(Linear(), loader(batch_size=6), verbose=False)
    (picture,) = pictures(tmp_path).values()
    assert picture.shape == (3, height(6), width(6))


@pytest.mark.parametrize("kind", MAKERS)
def test_batches_of_all_kinds(tmp_path, kind):
    """And the user's batch is not written to, nor the module changed."""
    given, module = batches(kind), Linear()
    before = fingerprint(module)
    t = trainer(attack(3, **fields(kind)), default_root_dir=tmp_path)
    t.validate(module, preloaded(given), verbose=False)
    assert fingerprint(module) == before
    (picture,) = pictures(tmp_path).values()
    assert torch.equal(picture, expected(module, 3))
    x, y = data()
    for batch, *clean in zip(given, x.split(BATCH), y.split(BATCH), strict=True):
        assert all(map(torch.equal, unpack(batch), clean))


@pytest.mark.parametrize("inference_mode", [True, False])
def test_forward_of_another_signature(tmp_path, inference_mode):
    """Under inference mode the other entries are inference tensors, which autograd refuses to save."""

    class Masked(Linear):
        def forward(self, x, mask):
            return super().forward(x) * mask

        def validation_step(self, batch, batch_idx):
            return None

    x, y = data()
    samples = [{"image": x[i], "label": y[i], "mask": torch.ones(3)} for i in range(len(x))]
    callback = attack(3, **fields("dict"), forward=lambda module, batch: module(batch["image"], batch["mask"]))
    t = trainer(callback, default_root_dir=tmp_path, inference_mode=inference_mode)
    t.validate(Masked(), DataLoader(samples, batch_size=BATCH), verbose=False)
    (picture,) = pictures(tmp_path).values()
    assert torch.equal(picture, expected(Linear(), 3))


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
    assert sorted(pictures(tmp_path)) == ["epoch=0-step=6.png", "epoch=2-step=18.png", "epoch=4-step=30.png"]
    t.test(Linear(), loader(), verbose=False)
    assert len(shown) == 4  # once in the sanity check, without a trace
    assert all(torch.equal(x, data(2)[0]) for x in shown)


def test_every_n_epochs_where_not_every_epoch_validates(tmp_path):
    t = trainer(attack(1, every_n_epochs=2), default_root_dir=tmp_path, max_epochs=4, check_val_every_n_epoch=2)
    t.fit(Linear(), loader(), loader())
    assert sorted(pictures(tmp_path)) == ["epoch=1-step=12.png", "epoch=3-step=24.png"]


def test_training_is_as_without(tmp_path):
    states = []
    for callbacks in ((), (AdversarialExamples(PGD(Linf(EPS), 2)),)):
        module = Module()
        torch.manual_seed(7)
        trainer(*callbacks, default_root_dir=tmp_path).fit(module, loader(), loader())
        states.append(state(module))
    assert same(*states)
    assert len(pictures(tmp_path)) == 2


def test_tensorboard_has_the_picture(tmp_path):
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    module = Linear()
    trainer(attack(4), logger=logger).fit(module, loader(), loader())
    logger.experiment.flush()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    images = events.Images("adversarial_examples")
    assert [image.step for image in images] == [6, 12]
    assert [(image.height, image.width) for image in images] == [(height(4), width(4))] * 2
    from torchvision.io import decode_image

    stored = decode_image(torch.frombuffer(bytearray(images[0].encoded_image_string), dtype=torch.uint8))
    assert torch.equal(stored[:3], expected(module, 4))
    # The files are beside the events.
    assert len(list((tmp_path / "lightning_logs" / "version_0" / "adversarial_examples").glob("*.png"))) == 2


class Minimal(pl.loggers.logger.Logger):
    """The least that Lightning asks of a logger."""

    name, version = "minimal", 0

    def log_metrics(self, metrics, step=None):
        return None

    def log_hyperparams(self, params, *args, **kwargs):
        return None


class Pictures(Minimal):
    """A logger that takes images as Weights & Biases does."""

    def __init__(self):
        super().__init__()
        self.images = []

    @property
    def experiment(self):
        return object()

    def log_image(self, key, images, step=None):
        self.images.append((key, [image.shape for image in images], step))


def test_loggers_that_take_no_images(tmp_path):
    loggers = [pl.loggers.CSVLogger(tmp_path), Minimal()]
    trainer(attack(2), logger=loggers, default_root_dir=tmp_path).fit(Linear(), loader(), loader())
    assert len(pictures(tmp_path)) == 2


def test_loggers_with_log_image(tmp_path):
    logger = Pictures()
    trainer(attack(2, to_disk=False), logger=logger, default_root_dir=tmp_path).fit(Linear(), loader(), loader())
    assert logger.images == [("adversarial_examples", [(height(2), width(2), 3)], step) for step in (6, 12)]
    assert not pictures(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
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


class Broken(Exception):
    """What goes wrong in the tests below."""


@pytest.mark.parametrize("where", ["step", "attack"])
def test_every_way_out(tmp_path, where):
    class Breaks(Linear):
        def validation_step(self, batch, batch_idx):
            raise Broken

    module = Breaks() if where == "step" else Linear()
    before = fingerprint(module)
    callback = AdversarialExamples(breaks if where == "attack" else TEXTBOOK)
    with pytest.raises(Broken):
        trainer(callback, default_root_dir=tmp_path).validate(module, loader(), verbose=False)
    assert fingerprint(module)[0] == before[0]
    assert fingerprint(module)[2:] == before[2:]


def breaks(model, x, y):
    raise Broken("what was wrong")


class Fails(pl.loggers.logger.Logger):
    """A logger that cannot be reached."""

    name, version = "fails", 0

    def log_metrics(self, metrics, step=None):
        return None

    def log_hyperparams(self, params, *args, **kwargs):
        return None

    def log_image(self, **kwargs):
        raise ConnectionError("what was wrong")


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
    with pytest.raises(ValueError, match=r"Expected images"):
        trainer(attack(), default_root_dir=tmp_path).validate(module, shaped(*shape), verbose=False)


@pytest.mark.parametrize(
    ("make", "data", "logger", "text"),
    [
        *(pytest.param(attack, lambda shape=shape: shaped(*shape), False, "images", id=str(shape)) for shape in SHAPES),
        pytest.param(lambda: AdversarialExamples(breaks), loader, False, "Broken: what was wrong", id="attack"),
        pytest.param(lambda: attack(target=2), loader, False, "`target`", id="field"),
        pytest.param(attack, loader, Fails(), "ConnectionError: what was wrong", id="logger"),
    ],
)
def test_no_training_ends_because_of_a_picture(tmp_path, make, data, logger, text):
    """Where the sanity check is left out. One warning for all epochs, and the training is as without."""
    states = []
    for callbacks in ([], [make()]):
        module = Flat(net=network(dropout=0))
        t = trainer(*callbacks, default_root_dir=tmp_path, max_epochs=3, logger=logger)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t.fit(module, data(), data())
        states.append(state(module))
        said = [str(w.message) for w in caught if "picture" in str(w.message)]
        assert len(said) == len(callbacks)
    assert same(*states)
    assert "AdversarialExamples makes no picture" in said[0]
    assert text in said[0]


def test_the_batch_is_read_before_the_step(tmp_path):
    """A step may take fields out of its batch, rename them, and write to the input in place."""

    class Spends(Linear):
        def validation_step(self, batch, batch_idx):
            batch.pop("label")
            batch["renamed"] = batch.pop("image").zero_()

    given = preloaded(batches("dict"))
    trainer(attack(3, **fields("dict")), default_root_dir=tmp_path).validate(Spends(), given, verbose=False)
    (picture,) = pictures(tmp_path).values()
    assert torch.equal(picture, expected(Linear(), 3))


def test_what_the_module_logs_is_as_without(tmp_path):
    class Logs(Linear):
        def forward(self, x):
            self.log("brightness", x.mean(), on_step=False, on_epoch=True, batch_size=len(x))
            return super().forward(x)

    logged = []
    for callbacks in ([], [attack()]):
        t = trainer(*callbacks, default_root_dir=tmp_path)
        t.validate(Logs(), loader(), verbose=False)
        logged.append({name: float(value) for name, value in t.callback_metrics.items()})
    assert logged[0] == logged[1]


def test_several_with_names_of_their_own(tmp_path):
    """Each has its folder, its key and its state."""
    logger = Pictures()
    ours = [attack(2, name="weak", every_n_epochs=2), attack(1, name="all/strong")]
    keeps = pl.callbacks.ModelCheckpoint(tmp_path)
    t = trainer(*ours, keeps, default_root_dir=tmp_path, logger=logger, max_epochs=4, enable_checkpointing=True)
    t.fit(Linear(), loader(), loader())
    steps = {"weak": [0, 2, 3], "all/strong": [0, 1, 2, 3]}
    for name, epochs in steps.items():
        assert list(pictures(tmp_path / name)) == [f"epoch={e}-step={6 * (e + 1)}.png" for e in epochs]
        assert [step for key, _, step in logger.images if key == name] == [6 * (e + 1) for e in epochs]
    states = torch.load(keeps.best_model_path, weights_only=False)["callbacks"]
    assert states["AdversarialExamples[weak]"] == states["AdversarialExamples[all/strong]"] == {"epoch": 3}


def test_equal_names_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"`AdversarialExamples`.*`callback.state_key` must be unique"):
        trainer(attack(), attack(), default_root_dir=tmp_path)
    t = trainer(attack(), default_root_dir=tmp_path)
    t.callbacks.append(attack())  # Lightning looks at those alone that it is given at first
    with pytest.raises(ValueError, match=r"different names.*'adversarial_examples' several times\. Say name="):
        t.validate(Linear(), loader(), verbose=False)


def test_a_resumed_fit_goes_on(tmp_path):
    file = tmp_path / "two epochs.ckpt"
    t = trainer(attack(1, every_n_epochs=3), default_root_dir=tmp_path / "a", max_epochs=2)
    t.fit(Linear(), loader(), loader())
    t.save_checkpoint(file)
    t = trainer(attack(1, every_n_epochs=3), default_root_dir=tmp_path / "b", max_epochs=6)
    t.fit(Linear(), loader(), loader(), ckpt_path=file)
    assert list(pictures(tmp_path / "b")) == ["epoch=4-step=30.png", "epoch=5-step=36.png"]


def test_it_pickles_after_a_run(tmp_path):
    callback = attack(2)
    trainer(callback, default_root_dir=tmp_path).validate(Module(), loader(4), verbose=False)
    assert pickle.loads(pickle.dumps(callback)).attack == callback.attack


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
        ({"attack": 3}, TypeError, ("callable (model, x, y) -> x_adv", "3")),
        ({"num_samples": 0}, ValueError, ("`num_samples`", "at least 1", "0")),
        ({"every_n_epochs": 1.5}, TypeError, ("`every_n_epochs`", "integer", "1.5")),
        ({"input": 1.5}, TypeError, ("`input`", "1.5")),
        ({"target": 1.5}, TypeError, ("`target`", "1.5")),
        ({"name": ""}, TypeError, ("`name`", "not empty", "''")),
        ({"name": "/tmp"}, ValueError, ("`name`", "within the log directory", "'/tmp'")),
        ({"name": "a/../../b"}, ValueError, ("`name`", "within the log directory", "'a/../../b'")),
        ({"to_disk": "no"}, TypeError, ("`to_disk`", "True or False", "'no'")),
        ({"low": "0"}, TypeError, ("`low`", "'0'")),
        ({"scale": float("nan")}, ValueError, ("`scale`", "nan")),
        ({"code": 1.5}, TypeError, ("`code`", "1.5")),
        ({"forward": 3}, TypeError, ("`forward`", "3")),
        ({"scale": 0.0}, ValueError, ("`scale`", "greater than 0", "0.0")),
        ({"low": 1.0, "high": 1.0}, ValueError, ("`low`", "`high`", "1.0")),
    ],
    ids=lambda value: None,
)
def test_wrong_arguments_fail_at_construction(kwargs, error, parts):
    with pytest.raises(error) as caught:
        AdversarialExamples(**({"attack": TEXTBOOK} | kwargs))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


class NoForward(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()

    def validation_step(self, batch, batch_idx):
        return None


def test_a_module_without_forward_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"NoForward defines no `forward`"):
        trainer(attack(), default_root_dir=tmp_path).validate(NoForward(), loader(), verbose=False)


def test_wrong_data_is_refused(tmp_path):
    x, y = data(4)
    with pytest.raises(ValueError, match=r"Expected images in \[0, 1\]"):
        trainer(attack(), default_root_dir=tmp_path).validate(Linear(), preloaded([(2 * x, y)]), verbose=False)
