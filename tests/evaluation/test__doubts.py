"""Alarms where there is a cause, and none where there is none: whole evaluations of masked and ordinary networks."""

import functools
import math
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import Report, RobustEvaluation
from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    AffineSpace,
    Attack,
    Linf,
    MinimumNorm,
    RandomSearch,
    Square,
    Threat,
    cross_entropy,
    finite_differences,
    targeted_margin,
)
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import NO_CONTEXT, Outcome
from lightning_robust.evaluation import Plan, evaluate, indicators, standard
from lightning_robust.evaluation._answers import _of_each_kind, _worst_of_each
from lightning_robust.evaluation._indicator import KINDS, REFUSED, indicator
from tests.evaluation import zoo

OF_THE_MODEL = {"random", "constant", "one_class", "company", "few_draws", "broken_logits"}
"""What is wrong with a model whatever its robust accuracy is; all others say that it is too high."""


@functools.cache
def networks():
    return zoo.seeded(0, zoo.network), zoo.seeded(1, zoo.network)


def blank(model, x, y):
    """Breaks all images that are not in the class of an image without ink."""
    return torch.zeros_like(x)


def exchanged(model, x, y):
    """Breaks all images of a model that knows two images of different classes: each becomes one of another class."""
    _, _, images, labels = zoo.digits()
    known = (model(images).argmax(1) == labels).nonzero()[:, 0]
    first = known[0]
    second = next(n for n in known if labels[n] != labels[first])
    return torch.where((y == labels[first]).reshape(-1, 1, 1, 1), images[second], images[first])


@functools.cache
def breakable():
    """Images that no model of the zoo keeps apart from a blank one by its label, and their labels."""
    _, _, x, y = zoo.digits()
    nets = (*networks(), zoo.winners(*networks()))
    outputs = [net(torch.zeros(1, 1, 8, 8)) for net in nets]
    empty = {int(z.argmax()) for output in outputs for z in (output, output.round())}
    rows = torch.tensor([label not in empty for label in y.tolist()]).nonzero()[:20, 0]
    return x[rows], y[rows]


# ------------------------------------------------------------------------------ nothing withstood: nothing is too high


@pytest.mark.parametrize("name", KINDS)
def test_without_a_robust_sample_only_doubts_of_the_model_stay(name):
    kind = KINDS[name]
    bad = indicator(name, kind.threshold - 1 if kind.below else kind.threshold + 1, agreed=0.0, more="")
    assert bad.flagged
    assert indicators.standing([bad], 1) == [bad]
    (silent,) = indicators.standing([bad], 0)
    stays = {"model": "The model may not be", "data": "The samples may not stand"}
    assert (kind.of == "model") == (name in OF_THE_MODEL)
    assert (kind.of == "data") == (name == "sorted_cut")
    assert silent.flagged == (kind.of in stays)
    assert silent.value == bad.value
    text = indicators.warning([bad])
    assert text.startswith(stays.get(kind.of, "Robust accuracy may be too high"))
    assert (indicators.warning([silent]) is None) == (kind.of not in stays)
    assert set(REFUSED) <= OF_THE_MODEL


DETERMINISTIC = [
    name for name, mask in zoo.MASKS.items() if not {"random", "refused", "constant"} & {*mask.meant.split()}
]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_mask_is_not_called_too_robust_where_nothing_is_robust(name):
    mask, (x, y) = zoo.MASKS[name], breakable()
    ball = Linf(1.0)
    breaking = exchanged if name == "detector" else blank  # a blank image may be rejected, which counts as right
    plan = Plan({"pgd": PGD(ball, 3, gain=mask.gain), "breaking": breaking})  # no attack speaks for itself
    report = evaluate(mask.make(*networks()), (x, y), plan, progress=False, correct=mask.correct)
    assert report.robust_acc.value == 0
    assert not [text for text in report.warnings if "too high" in text]
    assert {one.name for one in report.flagged} <= OF_THE_MODEL
    assert "not raised" in report.page().html() or not report.indicators


def _validated(module, attacks, x, y, **given):
    """A callback after a validation, and all that it warned of."""
    evaluation = RobustEvaluation(attacks, **given)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[evaluation]
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.validate(module, DataLoader(TensorDataset(x, y), batch_size=20), verbose=False)
    return evaluation, " ".join(str(one.message) for one in caught)


class Softmax(pl.LightningModule):
    """Probabilities; of images that are rounded, if it says so."""

    def __init__(self, rounded):
        super().__init__()
        self.net, self.rounded = networks()[0], rounded

    def forward(self, x):
        return (30 * self.net(((x * 4).round() / 4 + 0 * x) if self.rounded else x)).softmax(1)

    def validation_step(self, batch, batch_idx):
        self(batch[0])


@pytest.mark.parametrize(("rounded", "eps", "suspicious"), [(True, 0.1, True), (False, 1.0, False), (True, 1.0, False)])
def test_the_callback_agrees(rounded, eps, suspicious):
    """Probabilities of rounded images, under an attack that finds nothing and one that breaks all."""
    x, y = breakable()
    attacks = {"pgd": PGD(Linf(eps), 2)} | ({} if eps < 1 else {"blank": blank})
    evaluation, texts = _validated(Softmax(rounded), Plan(attacks), x, y)
    assert (evaluation.results["val/robust_acc"] > 0) == suspicious
    assert ("Robust accuracy may be too high" in texts) == suspicious
    assert (evaluation.results["val/suspicious"] > 0) == suspicious


def _of_three(output, y):
    """Three groups of digits that count as one class each."""
    group = torch.tensor([0, 1, 0, 2, 1, 2, 0, 1, 2, 2])
    return group[output.argmax(1)] == group[y]


@pytest.mark.filterwarnings("ignore")
def test_a_verdict_laxer_than_the_gain_is_doubted(tmp_path):
    """A sample that is driven into a class of its own group was not attacked towards another group."""
    net, (_, _, x, y) = networks()[0], zoo.digits()
    x, y, attack = x[:40], y[:40], PGD(Linf(0.15), 10, early_stop=True)

    class Module(Softmax):
        def forward(self, x):
            return self.net(x)

    def named(indicators):
        return {one.name: one for one in indicators if one.name == "gain_won"}["gain_won"]

    report = evaluate(net, (x, y), attack, correct=_of_three, out=tmp_path, progress=False)
    won = named(report.indicators)
    assert won.flagged
    (tmp_path / "report.json").unlink()
    for again in (
        Report.load(tmp_path),
        evaluate(net, (x, y), attack, correct=_of_three, out=tmp_path, progress=False),
    ):
        assert named(again.indicators) == won
    evaluation, texts = _validated(Module(False), attack, x, y, correct=_of_three)
    assert "gain_won: " in texts  # from other starts
    assert evaluation.results["val/suspicious"] > 0

    usual = lambda output, y: output.argmax(1) == y  # noqa: E731
    for attacks, correct in ((attack, usual), (PGD(Linf(0.15), 10, gain=targeted_margin(9)), usual)):
        assert named(evaluate(net, (x, y), attacks, correct=correct, progress=False).indicators).value == 0
    targets = {str(rank): PGD(Linf(0.15), 10, gain=targeted_margin(rank)) for rank in range(1, 10)}
    looked = evaluate(net, (x, y), Plan({"pgd": attack, **targets}), correct=_of_three, progress=False)
    assert looked.robust_acc.value < report.robust_acc.value
    assert not named(looked.indicators).flagged


@pytest.mark.parametrize(
    "attack",
    [
        RandomSearch(Linf(0.05), queries=10),
        PGD(Linf(0.05), 10, rule=Square()),
        finite_differences(PGD(Linf(0.05), 2), width=0.05),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_attacks_without_gradients_do_not_refuse_models_without_gradients(attack):
    class Frozen(Softmax):
        @torch.no_grad()
        def forward(self, x):
            return self.net(x)

    (_, _, x, y), module = zoo.digits(), Frozen(False)
    report = evaluate(module, (x[:20], y[:20]), attack, progress=False)
    evaluation, texts = _validated(module, attack, x[:20], y[:20])
    assert evaluation.results["val/suspicious"] == len(report.flagged) > 0
    for text in (" ".join(report.warnings), texts):
        assert "zero_gradient: 100.0% of the samples" in text
        assert "queries alone may miss what gradients would find" in text
    with pytest.raises(RuntimeError, match="carries no gradient"):
        evaluate(module, (x[:20], y[:20]), PGD(Linf(0.05), 2), progress=False)


def test_the_callback_tells_of_a_broken_model_all_the_same():
    class Broken(Softmax):
        def forward(self, x):
            return self.net(x) * torch.nan

    x, y = breakable()
    evaluation, texts = _validated(Broken(False), PGD(Linf(0.1), 2), x, y)
    assert "NaN or infinite" in texts
    assert evaluation.results["val/suspicious"] > 0


def test_the_callback_shows_no_figure_of_one_attack_without_its_doubts():
    """Another attack breaks all that one without a gradient leaves: its own robust accuracy stands beside the worst."""
    x, y = breakable()
    attacks = {"pgd": PGD(Linf(1.0), 2), "blank": blank}
    for given, each in ((attacks, True), (Plan(attacks), False)):
        evaluation, texts = _validated(Softmax(True), given, x, y)
        assert evaluation.results["val/robust_acc"] == 0
        assert (evaluation.results.get("val/robust_acc_pgd", 0) > 0) == each
        assert ("Robust accuracy may be too high" in texts) == each
        assert (evaluation.results["val/suspicious"] > 0) == each


# ---------------------------------------------------------------------------------- ordinary models: no cause, no alarm


def _with_batchnorm_and_dropout():
    layers = [nn.Flatten()]
    for width in (64, 64):
        layers += [nn.Linear(width, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(64, 10))


ORDINARY = {
    "rectified": lambda: networks()[0],
    "linear": lambda: zoo.seeded(1, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
    "adversarially trained": lambda: zoo.seeded(3, zoo.network, eps=0.2),
    "sure of itself": lambda: zoo.seeded(5, zoo.network, epochs=30),
    "batch statistics and dropout": lambda: zoo.seeded(4, _with_batchnorm_and_dropout),
    "float16": lambda: zoo._In(networks()[0], torch.float16),
    "bfloat16": lambda: zoo._In(networks()[0], torch.bfloat16),
    "untrained": lambda: zoo.seeded(7, zoo.network, epochs=0),
}
BALLS = (Linf(0.002), Linf(8 / 255), Linf(0.3), L2(0.5), L2(3.0), L1(2.0), L1(10.0))
GUESSES = "no better than guessing"  # of the untrained network: that is so


@pytest.mark.parametrize("number", [10, 32])
@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_model_raises_no_alarm(name, number):
    _, _, x, y = zoo.digits()
    model = ORDINARY[name]()
    for ball in BALLS[list(ORDINARY).index(name) % 2 :: 2]:
        attacks = {"pgd": PGD(ball, 50), "search": RandomSearch(ball, 50)}
        attacks = attacks if number == 10 else {"pgd": PGD(ball, 10)}
        report = evaluate(model, (x[:number], y[:number]), attacks, progress=False)
        assert not report.flagged, (ball, report.robust_acc)
        assert not [text for text in report.warnings if GUESSES not in text], ball


def test_a_search_that_rises_to_its_end_is_no_attack_that_has_not_ended():
    ended, search = (Signs.none(2, torch.device("cpu")) for _ in range(2))
    ended.steps += 60
    ended.best += 1
    ended.late += 1
    search.best += 5  # by its very last step
    for both in (ended + search, search + ended):
        assert both.late.tolist() == both.best.tolist() == [1, 1]
        assert torch.equal(both.steps, ended.steps)
    assert torch.equal((search + search).best, search.best)


def test_what_is_lost_in_rounding_tells_nothing_of_a_gradient():
    """Cross entropy of a model that is sure is zero in float32 wherever it is asked; its margin is not."""
    x = torch.rand(12, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    weight = torch.linspace(-1, 1, 8)

    def sure(x, change=lambda grad: grad):
        z = zoo.Changed.apply(x, change) @ weight
        return torch.stack([30 + z, -z], 1)

    y = torch.zeros(12, dtype=torch.long)
    found = {one.name: one for one in indicators.probe(sure, x, y, Linf(0.1), gain=cross_entropy)}
    assert found["gradient_rise"].value != found["gradient_rise"].value  # NaN
    assert not found["gradient_rise"].flagged
    for scale, flagged in ((1.0, False), (-1.0, True), (-1e-12, True)):
        found = indicators.probe(functools.partial(sure, change=lambda grad, s=scale: s * grad), x, y, Linf(0.1))
        assert [one.flagged for one in found if one.name == "gradient_rise"] == [flagged]


def test_one_sample_at_the_edge_is_no_masked_gradient():
    assert not indicators.search_beats_gradients(3, 1, 49).flagged
    assert indicators.search_beats_gradients(3, 1, 50).flagged
    assert indicators.search_beats_gradients(3, 2, 10).flagged


class Blank(Attack):
    """The attack `blank`, with the set that it stays in: so the model is asked about its gradients."""

    threat = Threat(Linf(1.0))

    def run(self, model, x, y, context=NO_CONTEXT):
        return Outcome(torch.zeros_like(x))


def test_the_robust_accuracy_of_one_attack_that_is_shown_keeps_its_doubts():
    """Another attack breaks all that one with masked gradients leaves: the worst case is 0, its own figure is not."""
    model, (x, y) = zoo.MASKS["rounded logits"].make(*networks()), breakable()
    attacks = {"pgd": PGD(Linf(1.0), 3), "blank": Blank()}
    named, planned = (evaluate(model, (x, y), given, progress=False) for given in (attacks, Plan(attacks)))
    assert named.robust_acc.value == planned.robust_acc.value == 0
    assert named.right["pgd"].any()
    assert "zero_gradient" in {one.name for one in named.flagged}
    assert {one.name for one in planned.flagged} <= OF_THE_MODEL


@pytest.mark.parametrize("name", ["zero gradient", "NaN gradient", "softmax", "quantized input", "k winners take all"])
def test_a_curve_over_the_radius_keeps_its_doubts_where_nothing_is_robust_at_its_end(name):
    """The attack of least norm finds nothing at smaller radii, and an attack at the greatest breaks all."""
    mask, (x, y) = zoo.MASKS[name], breakable()
    attacks = {"pgd": PGD(Linf(1.0), 3), "minimum norm": MinimumNorm(Linf(1.0), 5), "blank": Blank()}
    with pytest.warns(UserWarning, match="too high"):
        report = evaluate(mask.make(*networks()), (x, y), Plan(attacks), progress=False)
    assert report.robust_acc.value == 0
    assert report.radius_curve([0.9])[0]["value"] > 0.5
    assert {one.name for one in report.flagged} - OF_THE_MODEL


def test_a_search_of_least_norm_on_ordinary_models_is_not_doubted():
    """It stays about the boundary, where the gain rises no further, the longer it goes on."""
    x = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 2))
        y = model(x).argmax(1)
        report = evaluate(model, (x, y), MinimumNorm(Linf(1.0), 300), progress=False)
        assert report.robust_acc.value == 0
        assert not report.flagged


@pytest.mark.parametrize("name", ["rectified", "batch statistics and dropout"])
def test_a_curve_that_falls_to_zero_is_not_doubted(name):
    x, y = breakable()
    report = evaluate(ORDINARY[name](), (x, y), standard(Linf(0.9), radii=True), progress=False)
    assert report.robust_acc.value == 0
    assert not report.flagged
    assert not report.warnings


def test_an_evaluation_of_the_same_samples_again_and_again_says_so():
    _, _, x, y = zoo.digits()
    images, labels, attack = x[:10].repeat(6, 1, 1, 1), y[:10].repeat(6), {"pgd": PGD(Linf(0.1), 2)}
    with pytest.warns(UserWarning, match="Only 10 of 60 samples are distinct"):
        report = evaluate(networks()[0], (images, labels), attack, progress=False)
    assert [text for text in report.warnings if "intervals" in text]
    report = evaluate(networks()[0], (x[:60], y[:60]), attack, progress=False)
    assert not [text for text in report.warnings if "intervals" in text]


# ------------------------------------------------------------------------------------ several sets, and none declared


def untouched(model, x, y):
    """An attack that declares no set."""
    return (x + 0.01).clamp(0, 1)


def _sets():
    near, far, l2 = PGD(Linf(0.05), 3), PGD(Linf(0.1), 3), PGD(L2(0.5), 3)
    each = PGD(Linf(torch.full((24,), 0.1)), 3)
    return {
        "two radii": {"near": near, "far": far},
        "two norms": {"linf": far, "l2": l2},
        "a plan of two norms": Plan({"linf": far, "l2": l2}),
        "a radius for each sample": each,
        "a function beside": Plan({"linf": far, "own": untouched}),
        "functions alone": untouched,
    }


SETS = tuple(_sets())
ASKED = {"foreign gradient": "foreign_gradient", "highest logit alone": "silent_classes"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SETS)
def test_questions_are_put_whatever_sets_the_attacks_declare(name):
    _, _, x, y = zoo.digits()
    x, y, attacks, none = x[:24], y[:24], _sets()[name], name == "functions alone"
    for mask, indicator_of in ASKED.items():
        report = evaluate(zoo.MASKS[mask].make(*networks()), (x, y), attacks, progress=False)
        assert (indicator_of in {one.name for one in report.flagged}) != none, mask
    other = zoo.MASKS["another function under grad mode"].make(*networks())
    assert "grad_mode" in {one.name for one in evaluate(other, (x, y), attacks, progress=False).flagged}
    with pytest.raises(ValueError, match="answers the same input differently"):
        evaluate(zoo.MASKS["noise layer"].make(*networks()), (x, y), attacks, progress=False)
    assert not evaluate(networks()[0], (x, y), attacks, progress=False).flagged


def test_of_one_norm_in_one_space_the_set_of_the_middle_radius_is_asked():
    affine = Threat(Linf(1.0), AffineSpace())
    threats = [*map(Threat, (Linf(0.3), Linf(0.1), L2(1.0), Linf(0.2), L2(0.0))), affine]
    assert _of_each_kind(threats) == [Threat(Linf(0.2)), Threat(L2(1.0)), affine]
    assert _of_each_kind([]) == []


@pytest.mark.parametrize("rotation", [0.05, 0.1])
def test_a_range_of_maps_may_leave_a_model_right(rotation):
    """Turned by little, images stay what they are: no reason to doubt the attack."""
    _, _, x, y = zoo.digits()
    model, threat = (
        networks()[0],
        Threat(Linf(1.0), AffineSpace(translation=0.0, shear=0.0, scale=0.0, rotation=rotation)),
    )
    names = {one.name for one in indicators.unbounded(model, x[:64], y[:64], threat)}
    assert "unbounded" not in names
    assert "unbounded" in {one.name for one in indicators.unbounded(model, x[:64], y[:64], Threat(Linf(0.1)))}


def test_of_several_sets_the_worst_value_is_told():
    kind = KINDS["gradient_rise"]
    values = [0.9, kind.threshold - 0.1, math.nan, kind.threshold - 0.2]
    (worst,) = _worst_of_each([indicator("gradient_rise", value) for value in values])
    assert worst.value == pytest.approx(values[-1])
    (worst,) = _worst_of_each([indicator("random", value) for value in (math.nan, 0.0, 2.0, 1.0)])
    assert worst.value == 2.0


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float32])
def test_inputs_and_outputs_of_any_kind_are_asked_what_needs_no_set(dtype):
    """Such as token ids that a function of the user exchanges, and labels that are no classes."""
    x = torch.arange(48).reshape(12, 4).remainder(7).to(dtype)
    table = torch.rand(7, 2, generator=torch.Generator().manual_seed(0))
    correct = lambda output, y: output[:, 0] > output[:, 1]  # noqa: E731

    def model(x):
        return table[x.long()].sum(1)

    def swap(model, x, y):
        return x.roll(1, 1)

    report = evaluate(model, (x, torch.zeros(12, 3)), swap, correct=correct, progress=False)
    assert {"random", "company", "constant"} <= {one.name for one in report.indicators}
    assert not report.flagged
