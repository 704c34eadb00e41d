"""Two models on the same images: which one is better, and what is known of it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from lightning_robust.evaluation import Report
from lightning_robust.evaluation.comparison import AS_USUAL, Comparison
from lightning_robust.evaluation.images import Images
from lightning_robust.evaluation.indicators import Indicator
from lightning_robust.metrics import paired_interval


def report(robust, keys=None, labels=None, **fields):
    robust = torch.as_tensor(robust)
    n, none = len(robust), torch.full((len(robust),), -1)
    images = Images(
        key=[f"{key:016x}" for key in (range(n) if keys is None else keys)],
        label=torch.zeros(n, dtype=torch.int64) if labels is None else torch.as_tensor(labels),
        clean=torch.ones(n, dtype=torch.bool),
        attack=["" if right else "pgd" for right in robust],
        target=none,
        restart=none,
        step=none,
        gain=torch.full((n,), math.nan),
        radius=torch.full((n,), math.inf),
        passes=torch.ones(n, dtype=torch.int64),
    )
    return Report({"clean": images.clean}, images=images, **fields)


def test_images_are_paired_by_content_in_any_order():
    rng = np.random.default_rng(0)
    first, second = rng.random(60) < 0.6, rng.random(60) < 0.5
    order = rng.permutation(60)
    found = report(first).compare(report(second[order], keys=order))
    counts = [(first & second).sum(), (first & ~second).sum(), (~first & second).sum(), (~first & ~second).sum()]
    assert [found.both, found.only_first, found.only_second, found.neither] == counts
    assert found.first.value == pytest.approx(first.mean())
    assert found.second.value == pytest.approx(second.mean())
    assert found.difference.value == pytest.approx(first.mean() - second.mean())
    low, high = paired_interval(int(counts[1]), int(counts[2]), 60)
    assert (found.difference.low, found.difference.high) == (low, high)
    assert found.p == pytest.approx(binomtest(int(counts[1]), int(counts[1] + counts[2])).pvalue)
    mirrored = report(second).compare(report(first))
    assert mirrored.difference.value == -found.difference.value
    assert mirrored.p == found.p


def test_a_pair_tells_more_than_two_accuracies():
    """Of 400 images one model is robust on 200, the other on 210 of which 198 are the same."""
    first, second = torch.zeros(400).bool(), torch.zeros(400).bool()
    first[:200], second[2:212] = True, True
    found = report(second).compare(report(first))
    assert (found.only_first, found.only_second) == (12, 2)
    assert found.p < 0.05
    assert found.difference.low >= 0
    assert found.first.low < found.second.high  # their own intervals overlap


def test_equal_images_are_pairs_too():
    found = report([True, False, True], keys=[7, 7, 8]).compare(report([False, True, False], keys=[7, 7, 8]))
    assert (found.both, found.only_first, found.neither) == (1, 1, 1)


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (report([True] * 4, keys=[0, 1, 2, 9]), "4 and 4 images 3 are shared"),
        (report([True] * 3), "4 and 3 images 3 are shared"),
        (report([True] * 5, keys=[0, 1, 2, 3, 3]), "4 and 5 images 4 are shared"),
        (report([True] * 4, labels=[0, 0, 0, 1]), "4 and 4 images 3 are shared"),
    ],
)
def test_other_images_are_refused(other, shared):
    with pytest.raises(ValueError, match=f"`other` .* of the {shared}"):
        report([True] * 4).compare(other)


def test_reports_without_images_are_refused():
    bare = Report({"clean": torch.tensor([True])})
    with pytest.raises(ValueError, match="`other` to be a report with `images`"):
        report([True]).compare(bare)
    with pytest.raises(ValueError, match="`self` to be a report with `images`"):
        bare.compare(report([True]))
    with pytest.raises(TypeError, match="`other` to be a Report"):
        report([True]).compare(0.5)


def test_other_settings_are_said():
    assert report([True], eps=0.1).compare(report([True], eps=0.1)).notes == ()
    (note,) = report([True], eps=0.1).compare(report([True], eps=0.2, attacks={"<b>": "PGD"})).notes
    assert "differ in: eps, attacks" in note


def test_attacks_of_which_the_names_alone_are_known_are_not_said_to_differ():
    known, unknown = report([True], attacks={"pgd": "PGD"}), report([True], attacks={"pgd": ""})
    assert known.compare(unknown).notes == unknown.compare(known).notes == ()
    (note,) = known.compare(report([True], attacks={"search": ""})).notes
    assert "differ in: attacks" in note


def test_what_is_read_of_a_batch_is_a_setting():
    usual, other = ({"reads": text} for text in (AS_USUAL, "(0, 1, None, <function crop>, None)"))
    assert report([True], about=usual).compare(report([True])).notes == ()
    (note,) = report([True]).compare(report([True], about=other)).notes
    assert "`forward`" in note


def test_the_doubts_of_each_are_named():
    raised = Indicator("zero_gradient", 1.0, 0.5, True, "Look.", "nobody")
    doubted = report([True], indicators=(raised,), warnings=("Too high. zero_gradient: Look.", "Cut short. Go on."))
    found = doubted.compare(report([True]))
    assert found.notes == ("The first robust accuracy may be too high, or not be meant: Cut short; zero_gradient.",)
    assert str(found).endswith("p = 1, 1 note")
    assert found.table().endswith(found.notes[0])
    assert report([True]).compare(doubted).notes[0].startswith("The second robust accuracy")
    assert str(report([True]).compare(report([False]))).endswith("p = 1")


def test_how_it_is_shown():
    found = dataclasses.replace(Comparison(500, 62, 38, 400), notes=("<b>bold</b>",))
    assert found.table().splitlines()[2].split("  ")[-1].strip() == "2.4 points [0.1, 4.7]"
    assert "<b>" not in found._repr_html_()
    assert "2.4 points [0.1, 4.7]" in found._repr_html_()
    content = found.to_dict()
    assert (content["n"], content["difference"]["value"], content["first"]["count"]) == (1000, 0.024, 1000)
    with pytest.raises(ValueError, match="at least one image"):
        Comparison(0, 0, 0, 0)
