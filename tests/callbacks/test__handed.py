"""Metrics of a user, wrapped ones too, are fed with what `update` names, and refused early where they cannot be."""

import pytest
import torch
import torchmetrics
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import Running

from lightning_robust.callbacks._handed import Handed, check_metrics
from lightning_robust.metrics import AttackSuccessRate, RobustAccuracy

N, K = 12, 3
NOISE = torch.Generator().manual_seed(0)
MASK = torch.arange(N) < 9
Y, PREDS = torch.arange(N) % K, torch.randn(N, K, generator=NOISE)
X, X_ADV = torch.rand(N, 4, generator=NOISE), torch.rand(N, 4, generator=NOISE)
KNOWN = {"x": X, "x_adv": X_ADV, "y": Y, "target": Y, "preds": PREDS}
KNOWN |= {"correct": torch.rand(2, N, generator=NOISE) < 0.5, "correct_clean": Y > 0}
KNOWN |= {"fooled": torch.rand(1, N, generator=NOISE) < 0.5}


class Open(torchmetrics.Metric):
    """Takes anything, and hands on what it was given without a name."""

    def __init__(self, inside=None):
        super().__init__()
        self.inside = inside

    def update(self, *args):
        self.inside.update(*args)

    def compute(self):
        return self.inside.compute()


class Opposite(Open):
    """Turns what it was given first and without a name, as the transformers of torchmetrics do."""

    def update(self, *args, **kwargs):
        self.inside.update(*(-z for z in args[:1]), *args[1:], **kwargs)


class Share(torchmetrics.Metric):
    """One value, of a tensor with the samples in the second dimension."""

    def update(self, correct):
        self.share = correct.float().mean()

    def compute(self):
        return self.share


def accuracy(average="micro"):
    return MulticlassAccuracy(K, average=average)


def values(metric):
    """Of a metric that is fed with two batches."""
    handed = Handed(check_metrics({"m": metric}), torch.device("cpu"))
    for rows in (slice(0, 8), slice(8, None)):
        known = {k: v[:, rows] if k in ("correct", "fooled") else v[rows] for k, v in KNOWN.items()}
        handed.update(MASK[rows], known)
    return handed.values()


def right(z, y):
    return float((z.argmax(1) == y).float().mean())


def test_a_wrapper_takes_what_the_metric_inside_takes():
    z, y = PREDS[MASK], Y[MASK]
    assert values(accuracy())["m"] == pytest.approx(right(z, y))
    assert values(1 - accuracy())["m"] == pytest.approx(1 - right(z, y))
    assert values(Open(accuracy()))["m"] == pytest.approx(right(z, y))
    assert values(Open(Open(accuracy())))["m"] == pytest.approx(right(z, y))
    assert values(Opposite(accuracy()))["m"] == pytest.approx(right(-z, y))
    assert values(Running(accuracy(), 1))["m"] == pytest.approx(right(z[8:], y[8:]))
    found = values(torchmetrics.ClasswiseWrapper(accuracy(None)))
    assert list(found.values()) == pytest.approx([right(z[y == k], y[y == k]) for k in range(K)])


def test_what_a_wrapper_draws_is_of_the_samples_that_count():
    torch.manual_seed(0)
    assert 0 <= values(torchmetrics.BootStrapper(accuracy(), 4))["m_mean"] <= 1
    assert values(torchmetrics.BootStrapper(accuracy(), 1, raw=True, sampling_strategy="multinomial"))["m_raw_0"] >= 0


def test_a_sum_of_metrics_that_take_different_things():
    """Those that take no mask are given the samples that count alone, and so are all others beside them."""

    class Far(torchmetrics.Metric):
        def __init__(self):
            super().__init__()
            self.add_state("far", torch.tensor(0.0), dist_reduce_fx="max")

        def update(self, x, x_adv, mask=None):
            assert mask is None
            self.far = torch.maximum(self.far, (x_adv - x).abs().max())

        def compute(self):
            return self.far

    wanted = right(PREDS[MASK], Y[MASK]) + float((X_ADV - X)[MASK].abs().max())
    assert values(accuracy() + Far())["m"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Open(), r"`metrics\['m'\]` .*names what it takes .*`preds`.* but that of Open takes anything"),
        (torchmetrics.MinMaxMetric(accuracy()), "metric of one evaluation, but MinMaxMetric .*Give the metric inside"),
        (torchmetrics.ClasswiseWrapper(torchmetrics.MinMaxMetric(accuracy(None))), "MinMaxMetric"),
        (torchmetrics.BootStrapper(RobustAccuracy(["a"])), "BootStrapper would cut `correct` .*Give the metric inside"),
        (torchmetrics.ClasswiseWrapper(torchmetrics.BootStrapper(Share())), "BootStrapper would cut"),
        (torchmetrics.MultioutputWrapper(AttackSuccessRate(1), 2), "MultioutputWrapper would cut"),
        (torchmetrics.ClasswiseWrapper(torchmetrics.retrieval.RetrievalMRR()), "ClasswiseWrapper needs `indexes`"),
    ],
)
def test_a_wrapper_that_cannot_be_fed_is_refused_when_it_is_given(metric, text):
    with pytest.raises(ValueError, match=text):
        check_metrics({"m": metric})
