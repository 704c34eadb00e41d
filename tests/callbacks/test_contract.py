"""The contract of docs/contract.md, through a Trainer: batches, labels, modules and keys of users of many kinds."""

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from callbacks_fakes import Module, data, fit, loader, preloaded, same, state, trainer
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation, WarmUp, evaluate
from lightning_robust._lightning import pl
from lightning_robust.attacks import (
    as_attack,
    binary_correct,
    binary_margin,
    dense,
    dense_correct,
    divergence,
    in_turn,
    margin,
    on_fraction,
)
from lightning_robust.objectives import trades

ATTACK = PGD(Linf(2.0**-3), 3, random_start=False)
X, Y = data()


class Spy(Module):
    """Keeps the inputs that its training step sees, read in the way that a kind of batch is read."""

    def __init__(self, read):
        super().__init__()
        self.read, self.seen = read, []

    def training_step(self, batch, batch_idx):
        x, y = self.read(batch)
        self.seen.append(x.clone())
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = self.read(batch)
        self.log("own", F.cross_entropy(self(x), y), batch_size=len(x))


# Batches


class AttrDict(dict):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Cloud:
    """A plain object, as users collate point clouds."""

    def __init__(self, image, label, mask):
        self.image, self.label, self.mask = image, label, mask

    def to(self, *args, **kwargs):
        return self


KINDS = {
    "attribute dictionary, by attribute": (lambda x, y: AttrDict(image=x, label=y), lambda b: (b.image, b.label)),
    "attribute dictionary, by item": (lambda x, y: AttrDict(image=x, label=y), lambda b: (b["image"], b["label"])),
    "namespace": (lambda x, y: SimpleNamespace(image=x, label=y), lambda b: (b.image, b.label)),
    "plain object": (lambda x, y: Cloud(x, y, torch.ones(len(x), 1, 1, 1)), lambda b: (b.image * b.mask, b.label)),
}
NAMED = {"input": "image", "target": "label"}
MASK = {"plain object": ("mask",)}  # (N, 1, 1, 1) could be a weight for each of N classes: it is named


def collated(kind, n=24):
    """Made in the loop, so that it is of inference mode where the loop is."""
    x, y = data(n)
    make = KINDS[kind][0]
    return DataLoader(
        list(zip(x, y, strict=True)), 4, collate_fn=lambda rows: make(*map(torch.stack, zip(*rows, strict=True)))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_sees_the_adversarial_input_of_batches_of_any_class(kind):
    module = Spy(KINDS[kind][1])
    callback = AdversarialTraining(ATTACK, fraction=0.5, per_sample=MASK.get(kind), **NAMED)
    pl.seed_everything(0, verbose=False)
    trainer(callback, max_epochs=1).fit(module, collated(kind))
    moved = [(x - clean).abs().flatten(1).amax(1) for x, clean in zip(module.seen, X.split(4), strict=True)]
    assert all((m[:2] == 0).all() and (m[2:] > 0).all() for m in moved)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_samples", [None, 10])
def test_evaluation_of_batches_of_any_class_under_inference_mode(kind, max_samples):
    read = KINDS[kind][1]
    where = {"max_samples": max_samples, "forward": lambda m, b: m(read(b)[0]), "per_sample": MASK.get(kind), **NAMED}
    evaluation = RobustEvaluation({"a": ATTACK}, **where)
    trainer(evaluation).validate(Spy(read), collated(kind), verbose=False)
    expected = RobustEvaluation({"a": ATTACK}, max_samples=max_samples)
    trainer(expected).validate(Module(), loader(), verbose=False)
    assert evaluation.results == expected.results


def test_a_training_step_that_takes_labels_out_of_the_batch():
    """The batch is read before the step can change it. Validation: `test_all.py`."""

    class Pops(Module):
        def training_step(self, batch, batch_idx):
            y = batch.pop("label")
            return F.cross_entropy(self(batch["image"]), y)

    given = DataLoader([{"image": x, "label": y} for x, y in zip(X, Y, strict=True)], 4)
    assert same(fit(Pops(), AdversarialTraining(ATTACK, **NAMED), loader=given), fit(Module(ATTACK.__call__)))


def test_a_forward_that_writes_to_its_input():
    class InPlace(Module):
        def forward(self, x):
            return super().forward(x.mul_(0.5))

        def validation_step(self, batch, batch_idx):
            self(batch[0])

    class Outside(InPlace):
        def forward(self, x):
            return Module.forward(self, x * 0.5)

    results = []
    for make in (InPlace, Outside):
        callback = RobustEvaluation({"a": ATTACK})
        trainer(callback).validate(make(), loader(), verbose=False)
        results.append(callback.results)
    assert results[0] == results[1]


def test_a_part_that_is_none_goes_to_the_step_as_it_is():
    """CombinedLoader("max_size") gives None for a loader that is over."""
    seen = []

    class Both(Module):
        def training_step(self, batch, batch_idx):
            seen.append(None if batch["a"] is None else float((batch["a"][0] - X[:4]).abs().max()))
            return self(batch["b"][0]).square().mean()

    loaders = pl.utilities.CombinedLoader({"a": loader(4), "b": loader(12)}, "max_size")
    callback = AdversarialTraining(ATTACK, input=("a", 0), target=("a", 1))
    trainer(callback, max_epochs=1).fit(Both(), loaders)
    assert seen == [2.0**-3, None, None]


def test_a_batch_that_is_the_input_and_no_labels():
    """Self-supervised: a gain that needs no labels, and a bare tensor."""
    seen = []

    class Bare(Module):
        def training_step(self, batch, batch_idx):
            seen.append(batch.clone())
            return self(batch).square().mean()

    attack = PGD(Linf(2.0**-3), 2, gain=divergence)
    trainer(AdversarialTraining(attack, input=(), target=None), max_epochs=1).fit(Bare(), DataLoader(X, 4))
    assert all(0 < float((x - clean).abs().max()) <= 2.0**-3 for x, clean in zip(seen, X.split(4), strict=True))


@pytest.mark.parametrize("combine", [lambda a: on_fraction(a, 0.5), lambda a: in_turn(as_attack(lambda m, x, y: x), a)])
def test_attacks_on_a_part_of_the_batch_have_the_forward_read_that_part(combine):
    """A weight for each sample, beside it in the batch: the second half is attacked, with its own weights."""
    weight = torch.arange(4.0)[:, None, None, None] + 1
    seen = []

    class Weighted(Module):
        def forward(self, x, w):
            return super().forward(x * w / 4)

        def training_step(self, batch, batch_idx):
            seen.append(batch[0].clone())
            return F.cross_entropy(self(batch[0], batch[2]), batch[1])

    where = {"forward": lambda m, b: m(b[0], b[2]), "per_sample": (2,)}
    module = Weighted()
    expected = ATTACK(lambda x: module.eval()(x, weight[2:]), X[2:4], Y[2:4])
    module.train()
    trainer(AdversarialTraining(combine(ATTACK), **where), max_epochs=1).fit(
        module, preloaded([(X[:4], Y[:4], weight)])
    )
    assert torch.equal(seen[0][:2], X[:2])
    torch.testing.assert_close(seen[0][2:], expected)


def test_a_batch_without_samples_goes_to_the_step_as_it_is():
    class Copes(Module):
        def training_step(self, batch, batch_idx):
            return self(batch[0]).sum() if len(batch[0]) else None

        def validation_step(self, batch, batch_idx):
            return None

    given = preloaded([(X[:4], Y[:4]), (X[:0], Y[:0])])
    callback = RobustEvaluation(ATTACK)
    trainer(AdversarialTraining(ATTACK), callback, max_epochs=1).fit(Copes(), given, given)
    assert callback.results["val/n"] == 4


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (lambda x, y: (x, y), {"fraction": 0.1}, "fraction=0.1 of a batch of 4 samples is none"),
        (lambda x, y: {"x": x, "alias": x, "y": y}, {"input": "x", "target": "y"}, "holds the input 'x' a second time"),
    ],
)
def test_training_on_clean_inputs_is_told(make, kwargs, message):
    class Trains(Module):
        def training_step(self, batch, batch_idx):
            return self(X[:4]).sum()

    with pytest.warns(UserWarning, match=message):
        trainer(AdversarialTraining(ATTACK, **kwargs), max_epochs=1).fit(Trains(), preloaded([make(X[:4], Y[:4])]))


def test_probabilities_of_yes_or_no_are_told():
    class Sigmoid(Head):
        def forward(self, x):
            return super().forward(x).sigmoid()

    attack = PGD(Linf(0.1), 1, gain=binary_margin)
    given = DataLoader(TensorDataset(X, (Y % 2)[:, None]), 4)
    with pytest.warns(UserWarning, match="without the softmax or sigmoid"):
        trainer(RobustEvaluation(attack, correct=binary_correct)).validate(Sigmoid(1), given, verbose=False)


# Labels


class Head(pl.LightningModule):
    """Outputs (N, `outputs`), or (N,) where `outputs` is None."""

    def __init__(self, outputs, dense_output=False):
        super().__init__()
        torch.manual_seed(0)
        self.flat, outputs = outputs is None, outputs or 1
        self.net = (
            nn.Conv2d(1, outputs, 3, padding=1) if dense_output else nn.Sequential(nn.Flatten(), nn.Linear(36, outputs))
        )

    def forward(self, x):
        z = self.net(x)
        return z[:, 0] if self.flat else z

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def apart(output, y):
    return (output - y).reshape(len(y), -1).square().sum(1)


def close(output, y):
    return apart(output, y) < 0.09


def drawn(high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(0))


LABELS = {
    "one logit": (1, (Y % 2)[:, None].float(), binary_margin, binary_correct),
    "one logit, labels (N,)": (1, Y % 2, binary_margin, binary_correct),
    "one logit (N,)": (None, Y % 2, binary_margin, binary_correct),
    "one logit (N,), labels (N, 1)": (None, (Y % 2)[:, None].bool(), binary_margin, binary_correct),
    "multi-label": (4, drawn(2, 24, 4).float(), binary_margin, binary_correct),
    "regression": (1, X.flatten(1).mean(1, keepdim=True), apart, close),
    "regression (N,)": (None, X.flatten(1).mean(1), apart, close),
    "segmentation": (3, drawn(3, 24, 6, 6), dense(margin), dense_correct(0.3)),
    "segmentation, masks (N, 1, H, W)": (3, drawn(3, 24, 1, 6, 6), dense(margin), dense_correct(0.3)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_other_kinds_are_counted_by_their_own_rule(kind):
    outputs, y, gain, correct = LABELS[kind]
    module = Head(outputs, kind.startswith("segmentation"))
    attack = PGD(Linf(2.0**-3), 3, random_start=False, gain=gain)
    callback = RobustEvaluation({"a": attack}, correct=correct)
    (metrics,) = trainer(callback).validate(module, DataLoader(TensorDataset(X, y), 4), verbose=False)
    clean = correct(module(X), y)
    robust = clean.clone()
    for part, labels, rows in zip(X.split(4), y.split(4), torch.arange(24).split(4), strict=True):
        x_adv = attack.thorough()(module, part, labels, correct=correct)
        robust[rows] &= correct(module(x_adv), labels)
    assert metrics["val/clean_acc"] == pytest.approx(float(clean.float().mean()))
    assert metrics["val/robust_acc"] == pytest.approx(float(robust.float().mean()))
    trainer(AdversarialTraining(attack), max_epochs=1).fit(module, DataLoader(TensorDataset(X, y), 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.int32])
def test_class_labels_are_integers_of_any_type(dtype):
    results, weights = [], []
    for labels in (Y, Y.to(dtype)):
        module, given, callback = Head(3), preloaded([(X, labels)]), RobustEvaluation(ATTACK)
        trainer(callback, AdversarialTraining(ATTACK), max_epochs=1).fit(module, given, given)
        report = evaluate(module, given, ATTACK, progress=False)
        results.append((callback.results, report.clean_acc, report.robust_acc, report.labels.tolist()))
        weights.append(state(module))
    assert results[0] == results[1]
    assert same(*weights)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_other_kinds_are_never_counted_as_classes(kind):
    """Refused where nobody says what is right: `RobustEvaluation` with all defaults but the gain."""
    outputs, y, gain, _ = LABELS[kind]
    callback = RobustEvaluation(PGD(Linf(0.1), 1, gain=gain))
    with pytest.raises(ValueError, match=r"Expected (class labels|float labels).*correct="):
        trainer(callback).validate(
            Head(outputs, kind.startswith("segmentation")), DataLoader(TensorDataset(X, y), 4), verbose=False
        )


def test_soft_labels_of_mixup():
    """As probabilities, in training, in every objective, and in evaluation."""
    q = 0.7 * F.one_hot(Y, 3) + 0.3 * F.one_hot((Y + 1) % 3, 3)
    soft = DataLoader(TensorDataset(X, q.float()), 4)

    class Soft(Module):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            return None

    for objective in (None, trades()):
        trainer(AdversarialTraining(ATTACK, objective), max_epochs=1).fit(Soft(), soft)
    callback = RobustEvaluation(ATTACK)
    trainer(callback).validate(Soft(), soft, verbose=False)
    plain = RobustEvaluation(ATTACK)
    trainer(plain).validate(Soft(), loader(), verbose=False)
    assert callback.results["val/clean_acc"] == plain.results["val/clean_acc"]


# Every batch of every loader is checked, and as early as can be


BLACK = (torch.zeros(4, 1, 6, 6), torch.zeros(4).long())
WRONG = {
    "range": ((255 * X[:4], Y[:4]), ValueError, "Expected images in"),
    "label": ((X[:4], Y[:4] + 7), ValueError, "less than the number of classes"),
    "nan": ((X[:4] * float("nan"), Y[:4]), ValueError, "finite"),
    "rows": ((X[:4], Y[:3]), ValueError, "one label per input|as many labels as inputs"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_later_batch_is_checked_too(wrong):
    batch, error, message = WRONG[wrong]
    given = preloaded([BLACK, (X[:4], Y[:4]), batch])
    with pytest.raises(error, match=message):
        trainer(AdversarialTraining(ATTACK), max_epochs=1).fit(Module(), given)
    with pytest.raises(error, match=message):
        trainer(RobustEvaluation(ATTACK)).validate(Module(), given, verbose=False)


class Crops(Module):
    """One output of three crops, which stand below each other in the batch."""

    def forward(self, x):
        return super().forward(x).unflatten(0, (-1, 3)).mean(1)

    def training_step(self, batch, batch_idx):
        return self(batch[0].reshape(-1, 1, 6, 6)).square().mean()

    def validation_step(self, batch, batch_idx):
        return None


@pytest.mark.parametrize("labels", [Y[:4], Y[:4].repeat_interleave(3)], ids=len)
def test_rows_that_a_model_joins_are_refused_with_what_to_do(labels):
    given = preloaded([(X[:12], labels)])
    for callback in (AdversarialTraining(ATTACK), RobustEvaluation(ATTACK)):
        with pytest.raises(ValueError, match=r"(as many labels as inputs|N=12, but got \(4, 3\)).*flatten\(0, 1\)"):
            trainer(callback, max_epochs=1).fit(Crops(), given, given)
    for attacks in (ATTACK, {"a": ATTACK}):
        with pytest.raises(ValueError, match=r"as many labels as inputs|N=3"):
            evaluate(Crops(), given, attacks, max_samples=3, progress=False)


def test_rows_that_a_model_joins_are_attacked_as_the_error_says():
    x, asked = X[:12].unflatten(0, (-1, 3)), {"forward": lambda module, batch: module(batch[0].flatten(0, 1))}
    given = preloaded([(x, Y[:4])])

    callbacks = AdversarialTraining(ATTACK, **asked), RobustEvaluation(ATTACK, **asked)
    trainer(*callbacks, max_epochs=1).fit(Crops(), given, given)
    report = evaluate(Crops(), given, ATTACK, progress=False, **asked)
    assert report.n == 4
    assert torch.equal(report.right["clean"], Crops().eval()(X[:12]).argmax(1) == Y[:4])


def test_a_second_loader_is_checked_too():
    """A clean and a corrupted set, of which the second comes in other units."""
    batch, error, message = WRONG["range"]
    with pytest.raises(error, match=message):
        trainer(RobustEvaluation(ATTACK)).validate(Head(3), [loader(), preloaded([batch])], verbose=False)


@pytest.mark.parametrize(
    ("kwargs", "scale", "forward"),
    [
        ({"target": "labels"}, 1, None),
        ({}, 255, None),
        ({}, 1, lambda module, batch: {"logits": module(batch[0])}),
        ({"correct": binary_correct}, 1, None),
    ],
    ids=["field", "range", "output", "correct"],
)
def test_what_is_wrong_is_found_before_training(kwargs, scale, forward):
    """By the sanity check, not after an epoch."""
    steps = []

    class Counts(Module):
        def training_step(self, batch, batch_idx):
            steps.append(1)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            return None

    x, y = data()
    given = DataLoader(TensorDataset(scale * x, y), 4)
    callback = RobustEvaluation(ATTACK, forward=forward, **kwargs)
    with pytest.raises((KeyError, TypeError, ValueError)):
        trainer(callback, max_epochs=1, num_sanity_val_steps=2).fit(Counts(), given, given)
    assert not steps


def test_the_rehearsal_tries_gains_too():
    """Dense outputs with a gain of classes: right is said, the gain is not."""
    y = torch.zeros(24, 6, 6).long()
    callback = RobustEvaluation(ATTACK, correct=dense_correct(0.5))
    given = DataLoader(TensorDataset(X, y), 4)
    with pytest.raises(ValueError, match=r"gain=dense\(log_odds\)"):
        trainer(callback, max_epochs=1, num_sanity_val_steps=2).fit(Head(3, True), given, given)


@pytest.mark.parametrize(
    ("attack", "scale", "message"),
    [
        (PGD(Linf(8.0), 1), 1, "covers the whole range"),
        (PGD(Linf(0.1), 1), 1 / 255, "divided by 255 twice"),
        (PGD(Linf(1e-4), 1), 1, "less than a thousandth"),
    ],
)
def test_radii_and_ranges_that_cannot_be_meant_are_told(attack, scale, message):
    given = DataLoader(TensorDataset(X * scale, Y), 4)
    with pytest.warns(UserWarning, match=message):
        trainer(RobustEvaluation(attack)).validate(Module(), given, verbose=False)
    with pytest.warns(UserWarning, match=message):
        trainer(AdversarialTraining(attack), max_epochs=1).fit(Module(), given)


def test_probabilities_in_place_of_logits_are_told():
    class Probabilities(Module):
        def forward(self, x):
            return super().forward(x).softmax(1)

    with pytest.warns(UserWarning, match="outputs are probabilities"):
        trainer(RobustEvaluation(ATTACK)).validate(Probabilities(), loader(), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*probabilities.*")
        trainer(RobustEvaluation(ATTACK)).validate(Module(), loader(), verbose=False)


def test_outputs_that_are_not_finite_count_as_wrong_and_are_told():
    class Masks(Module):
        def forward(self, x):
            z = super().forward(x)
            return torch.cat([z, torch.full_like(z[:, :1], -torch.inf)], 1)

    with pytest.warns(UserWarning, match="24 of 24 samples have outputs that are NaN or infinite"):
        (metrics,) = trainer(RobustEvaluation(ATTACK)).validate(Masks(), loader(), verbose=False)
    assert metrics["val/robust_acc"] == metrics["val/clean_acc"] == 0


def test_a_fit_without_validation_says_that_nothing_was_measured():
    with pytest.warns(UserWarning, match="RobustEvaluation has measured nothing"):
        trainer(RobustEvaluation(ATTACK), max_epochs=1).fit(Module(), loader())


# Modules


def test_lazy_layers_train_to_the_weights_of_a_loop_by_hand():
    """They are drawn from the user's stream at the first forward, with an attack as without one."""

    class Lazy(Module):
        def __init__(self, attack=None):
            super().__init__(attack)
            self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))

    def run(*callbacks, by_hand=None):
        module = Lazy(by_hand)
        torch.manual_seed(5)
        trainer(*callbacks).fit(module, loader())
        return state(module)

    fitted = run(AdversarialTraining(ATTACK))
    assert same(fitted, run(by_hand=lambda module, x, y: ATTACK(module, x, y)))


def test_a_state_between_forwards_is_not_the_attacks():
    class Recurrent(Module):
        def __init__(self):
            super().__init__()
            self.v, self.starts = 0.0, []

        def forward(self, x):
            self.v = 0.5 * self.v + super().forward(x)
            return self.v

        def training_step(self, batch, batch_idx):
            self.starts.append(self.v)
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.v = 0.0
            return loss

    module = Recurrent()
    trainer(AdversarialTraining(ATTACK), max_epochs=1).fit(module, loader())
    assert module.starts == [0.0] * 6


def test_a_cache_that_inference_mode_has_made():
    class Caches(Module):
        def __init__(self):
            super().__init__()
            self.cache = None

        def forward(self, x):
            if self.cache is None:
                self.cache = torch.linspace(0.5, 1.5, 6)
            return super().forward(x * self.cache)

    class Whole(Module):
        def forward(self, x):
            return super().forward(x * torch.linspace(0.5, 1.5, 6))

    results = []
    for make in (Caches, Whole):
        callback = RobustEvaluation(ATTACK)
        trainer(callback).validate(make(), loader(), verbose=False)
        results.append(callback.results)
    assert results[0] == results[1]


# The Trainer


def test_keys_are_the_same_whether_other_loaders_are_empty_or_not():
    keys = []
    for limit in ([loader(), loader(8, seed=1)], [loader(), preloaded([])]):
        callback = RobustEvaluation(ATTACK)
        trainer(callback).validate(Head(3), limit, verbose=False)
        keys.append({key for key in callback.results if key.endswith("idx_0")})
    assert keys[0] == keys[1]
    assert "val/robust_acc/dataloader_idx_0" in keys[0]


def test_loaders_that_are_visited_together_are_one():
    together = pl.utilities.CombinedLoader([loader(), loader(12, seed=1)], "max_size_cycle")

    callback = RobustEvaluation(ATTACK, input=(1, 0), target=(1, 1))
    trainer(callback).validate(Head(3), together, verbose=False)
    assert callback.results["val/n"] == 24


def test_what_is_logged_are_plain_tensors(tmp_path):
    """Also where the data are of a subclass: else a checkpoint could not be loaded safely."""

    class Tagged(torch.Tensor):
        pass

    given = DataLoader(
        [(x.as_subclass(Tagged), y) for x, y in zip(X, Y, strict=True)],
        4,
        collate_fn=lambda rows: (
            torch.stack([x for x, _ in rows]).as_subclass(Tagged),
            torch.stack([y for _, y in rows]),
        ),
    )
    saver = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/robust_acc", mode="max")

    class Quiet(Module):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1]).as_subclass(torch.Tensor)

        def validation_step(self, batch, batch_idx):
            return None

    module = Quiet()
    t = trainer(AdversarialTraining(ATTACK), RobustEvaluation({"a": ATTACK}), saver, enable_checkpointing=True)
    t.fit(module, given, given)
    assert all(type(value) is torch.Tensor for value in t.callback_metrics.values())
    saved = torch.load(saver.best_model_path, weights_only=True)
    assert any("RobustEvaluation" in key for key in saved["callbacks"])


class Stream(IterableDataset):
    """Endless, without a length: one and the same image."""

    def __iter__(self):
        while True:
            yield X[0], Y[0]


def test_a_loader_without_length_has_other_starts_in_every_batch_and_warms_up_by_steps():
    module = Spy(lambda batch: batch)
    callback = AdversarialTraining(PGD(Linf(2.0**-3), 1), schedule=WarmUp(steps=4))
    trainer(callback, max_epochs=-1, max_steps=8).fit(module, DataLoader(Stream(), 2))
    moves = [float((x - X[0]).abs().max()) for x in module.seen]
    assert moves[:5] == pytest.approx([2.0**-3 * min(1, i / 4) for i in range(5)], abs=1e-6)
    assert len({x.sum().item() for x in module.seen[4:]}) == 4
    t = trainer(AdversarialTraining(PGD(Linf(0.1), 1), schedule=WarmUp(epochs=1)), max_epochs=-1, max_steps=2)
    with pytest.raises(ValueError, match="steps="):
        t.fit(Module(), DataLoader(Stream(), 2))


def test_starts_and_schedules_go_on_from_trainer_to_trainer():
    """As in one fit of as many epochs: federated rounds, one Trainer for each."""

    def seen(rounds, epochs):
        module = Spy(lambda batch: batch)
        for _ in range(rounds):
            callback = AdversarialTraining(PGD(Linf(2.0**-3), 1), schedule=WarmUp(epochs=2))
            trainer(callback, max_epochs=epochs).fit(module, loader())
        return [float((x - clean).abs().max()) for x, clean in zip(module.seen, (*X.split(4),) * 3, strict=True)]

    assert seen(3, 1)[:12] == pytest.approx(seen(1, 3)[:12], abs=1e-6)


def test_a_resumed_fit_goes_on_with_starts_and_schedule(tmp_path):
    """Also where the module had been trained before by another Trainer."""

    def run(module, epochs, before=(), **kwargs):
        seen = []

        def schedule(attack, progress):
            seen.append((progress.epoch, progress.step))
            return attack

        t = trainer(AdversarialTraining(ATTACK, schedule=schedule), max_epochs=epochs)
        t.fit(module, loader(), **kwargs)
        return seen, t

    module = Module()
    whole = run(module, 1)[0] + run(module, 4)[0]
    module = Module()
    first, t = run(module, 1)
    part, t = run(module, 2)
    t.save_checkpoint(tmp_path / "two.ckpt")
    rest, _ = run(Module(), 4, ckpt_path=tmp_path / "two.ckpt")
    assert first + part + rest == whole


def test_results_of_one_key_do_not_depend_on_a_resume(tmp_path):
    """`every_n_epochs` counts on: the values of the epoch before are logged again."""
    callback = RobustEvaluation(ATTACK, every_n_epochs=10)
    t = trainer(callback, max_epochs=1)
    t.fit(Module(), loader(), loader(8, seed=1))
    t.save_checkpoint(tmp_path / "one.ckpt")
    again = RobustEvaluation(ATTACK, every_n_epochs=10)
    resumed = trainer(again, max_epochs=3)
    values = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            values.append(float(trainer.callback_metrics["val/robust_acc"]))

    resumed.callbacks.append(Watch())
    resumed.fit(Module(), loader(), loader(8, seed=1), ckpt_path=tmp_path / "one.ckpt")
    assert values[0] == pytest.approx(callback.results["val/robust_acc"])


def test_tuner_with_the_attack_attached():
    """`Tuner` takes all callbacks away; within `attached` the module is attacked all the same."""
    module = Spy(lambda batch: batch)
    with AdversarialTraining(ATTACK).attached(module):
        trainer(max_epochs=1).fit(module, loader())
    assert all(float((x - clean).abs().max()) == 2.0**-3 for x, clean in zip(module.seen, X.split(4), strict=True))
    assert "training_step" not in vars(module)


def test_a_step_that_is_not_ours_is_told():
    """It was cached before the fit, by a callback say: nobody trains on clean inputs in silence."""

    class Cached(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            vars(pl_module)["training_step"] = self.step

    module, cached = Module(), Cached()
    cached.step = module.training_step
    with pytest.raises(RuntimeError, match="`training_step` of Module that the attack was put around"):
        trainer(AdversarialTraining(ATTACK), cached, max_epochs=1).fit(module, loader())


def test_an_objective_and_an_attack_that_do_not_belong_together_are_told():
    with pytest.warns(UserWarning, match="gain=divergence"):
        fit(Module(), AdversarialTraining(ATTACK, trades()), max_epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*belongs to an attack.*")
        fit(Module(), AdversarialTraining(PGD(Linf(0.1), 2, gain=divergence), trades()), max_epochs=1)
