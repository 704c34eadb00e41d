import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, multinomial

from lightning_robust.metrics import clustered_interval, mcnemar_test, paired_interval, wilson_interval


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(
    ("successes", "total"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (457, 1000), (99_999, 100_000)]
)
def test_wilson_agrees_with_scipy(successes, total, confidence):
    low, high = wilson_interval(successes, total, confidence)
    reference = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert low.dtype == high.dtype == torch.float64
    assert low.item() == pytest.approx(reference.low, abs=1e-12)
    assert high.item() == pytest.approx(reference.high, abs=1e-12)


def test_wilson_ends_solve_the_score_equation():
    """The ends are where |s - n q| equals z sqrt(n q (1 - q)), with z = 1.959963984540054 for 95 %."""
    s, n = torch.tensor([1.0, 50.0, 998.0]), 1000
    for q in wilson_interval(s, n):
        torch.testing.assert_close((s - n * q).abs(), 1.959963984540054 * (n * q * (1 - q)).sqrt(), rtol=1e-9, atol=0)


def test_wilson_broadcasts_and_is_exact_at_the_edges():
    low, high = wilson_interval(torch.tensor([0, 7, 7]), torch.tensor([[7], [9]]))
    assert low.shape == high.shape == (2, 3)
    assert low[0, 0] == 0
    assert high[0, 1] == 1
    assert ((low >= 0) & (low < high) & (high <= 1)).all()


def test_wilson_of_nothing_is_everything():
    assert [end.item() for end in wilson_interval(0, 0)] == [0, 1]


def test_wilson_mirrors():
    low, high = wilson_interval(torch.arange(31), 30 + torch.zeros(31))
    torch.testing.assert_close(low, 1 - high.flip(0), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2), "`successes` to be from 0 to `total`, but got 3 of 2"),
        ((-1, 2), "`successes` to be at least 0, but got -1"),
        ((math.nan, 2), "`successes`"),
        ((0, -1), "`total` to be at least 0, but got -1"),
    ],
)
def test_wilson_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments)


def sums(k):
    """The three sums over clusters (the last axis of k) that `clustered_interval` takes."""
    k = torch.as_tensor(k)
    return k.sum(-1), k.square().sum(-1), torch.full(k.shape[:-1], k.shape[-1])


def test_clustered_with_one_trial_is_wilson():
    k = torch.tensor([1, 0, 0, 1, 0, 0, 0])
    assert clustered_interval(*sums(k), 1) == wilson_interval(2, 7)


def test_clustered_where_trials_agree_is_wilson_over_clusters():
    k = 5 * torch.tensor([1, 0, 0, 1, 0, 0, 0])
    torch.testing.assert_close(clustered_interval(*sums(k), 5), wilson_interval(2, 7), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("k", "successes"), [([0, 0, 0], 0), ([4, 4, 4], 3)])
def test_clustered_where_all_agree_counts_clusters(k, successes):
    assert clustered_interval(*sums(k), 4) == wilson_interval(successes, 3)


def test_clustered_never_counts_more_than_the_trials():
    assert clustered_interval(*sums([2, 2, 2]), 4) == wilson_interval(6, 12)


def test_clustered_trusts_a_single_cluster_no_further_than_one_sample():
    assert clustered_interval(*sums([2]), 4) == wilson_interval(0.5, 1)


def test_clustered_of_nothing_is_everything():
    assert [end.item() for end in clustered_interval(0, 0, 0, 5)] == [0, 1]


def test_clustered_approaches_the_normal_interval_of_the_cluster_means():
    rng = np.random.default_rng(0)
    k = rng.binomial(5, rng.beta(1, 2, 200_000))
    mean, error = (k / 5).mean(), (k / 5).std() / math.sqrt(len(k))
    low, high = clustered_interval(*sums(k), 5)
    assert low.item() == pytest.approx(mean - 1.96 * error, abs=0.01 * error)
    assert high.item() == pytest.approx(mean + 1.96 * error, abs=0.01 * error)


def test_clustered_covers_where_independent_trials_would_not():
    """4000 experiments, each of 100 samples of different difficulty with 10 attempts each; the true rate is 0.25."""
    rng = np.random.default_rng(1)
    k = rng.binomial(10, rng.beta(0.25, 0.75, (4000, 100)))
    hits, squares, clusters = sums(k)
    low, high = clustered_interval(hits, squares, clusters, 10)
    naive_low, naive_high = wilson_interval(hits, 10 * clusters)
    covered = ((low <= 0.25) & (high >= 0.25)).double().mean().item()
    naive = ((naive_low <= 0.25) & (naive_high >= 0.25)).double().mean().item()
    assert 0.935 < covered < 0.965
    assert naive < 0.7


def test_clustered_names_the_wrong_argument():
    for wrong in ({"hits": 11}, {"hits": -1}, {"squares": math.nan}, {"clusters": -1}, {"size": 0}):
        with pytest.raises(ValueError, match=f"argument `{next(iter(wrong))}`"):
            clustered_interval(**{"hits": 5, "squares": 25, "clusters": 2, "size": 5, **wrong})


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (3, 3), (3, 4), (2, 9), (40, 90), (600, 400)])
def test_mcnemar_agrees_with_scipy(b, c):
    reference = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_test(b, c).item() == pytest.approx(reference, rel=1e-9)
    assert mcnemar_test(b, c) == mcnemar_test(c, b)


def test_paired_covers_at_least_as_often_as_it_says():
    """All results of 9 samples, with their probabilities: no chance of coverage is left to chance."""
    n = 9
    results = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    ends = {result: [end.item() for end in paired_interval(*result, n, 0.8)] for result in results}
    for first in (0.0, 0.02, 0.1, 0.3, 0.5, 0.9):
        for second in (0.0, 0.05, 0.1, 0.4):
            if first + second <= 1:
                chances = multinomial(n, [first, second, round(1 - first - second, 9)])
                covered = [r for r in results if ends[r][0] - 1e-8 <= first - second <= ends[r][1] + 1e-8]
                assert sum(chances.pmf([b, c, n - b - c]) for b, c in covered) >= 0.8


def test_paired_covers_where_the_tail_has_its_maximum_between_the_ends():
    """Nearly all of 12 samples differ, so that D is odd or even: with five psi 94.69 % were covered."""
    n, psi, delta = 12, Fraction(9666, 10_000), Fraction(451, 1000)
    up, down = (psi + delta) / 2, (psi - delta) / 2
    covered = Fraction(0)
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = math.comb(n, b) * math.comb(n - b, c) * up**b * down**c * (1 - psi) ** (n - b - c)
            if chance > 1e-5:
                low, high = paired_interval(b, c, n)
                covered += chance * bool(low <= float(delta) <= high)
    assert covered >= Fraction(95, 100)


def test_paired_covers_where_the_conditional_interval_does_not():
    """Of two models one is right alone on a share of 0.04, the other never; 300 draws of 200 samples.

    Clopper-Pearson's interval given the number of discordant samples has that number over 200 as its upper end.
    """
    draws = np.random.default_rng(0).binomial(200, 0.04, 300)
    ends = {b: [end.item() for end in paired_interval(int(b), 0, 200)] for b in set(draws)}
    assert np.mean([ends[b][0] <= 0.04 <= ends[b][1] for b in draws]) > 0.94
    assert np.mean([b / 200 >= 0.04 for b in draws]) < 0.7


def test_paired_ends_are_those_of_the_exact_distribution():
    """With psi known to be 1, the lower end solves P(D >= d) = alpha / 2 - beta: a binomial that scipy inverts."""
    low, high = paired_interval(7, 3, 10)
    reference = binomtest(7, 10).proportion_ci(1 - 2 * (0.025 - 0.001))
    assert low.item() == pytest.approx(2 * reference.low - 1, abs=1e-6)
    assert high.item() == pytest.approx(2 * reference.high - 1, abs=1e-6)


def test_paired_is_close_to_the_normal_interval_of_many_samples():
    low, high = paired_interval(3100, 3000, 10_000)
    error = math.sqrt((0.61 - 0.01**2) / 10_000)
    assert low.item() == pytest.approx(0.01 - 1.96 * error, abs=0.06 * error)
    assert high.item() == pytest.approx(0.01 + 1.96 * error, abs=0.06 * error)


@pytest.mark.parametrize("total", [5, 60, 2000])
def test_paired_and_mcnemar_agree(total):
    for b, c in [(5, 0), (6, 0), (12, 2), (11, 4), (15, 5), (60, 40), (61, 39), (538, 462), (530, 470)]:
        if b + c <= total:
            low, high = paired_interval(b, c, total)
            assert (low.item() >= 0) == (mcnemar_test(b, c).item() <= 0.05), (b, c)
            assert low < (b - c) / total <= high


def test_paired_mirrors():
    assert paired_interval(9, 4, 50)[0] == -paired_interval(4, 9, 50)[1]
    low, high = paired_interval(0, 0, 1000)  # no difference was seen, but there may be a small one
    assert -0.01 < low == -high < 0


def test_paired_names_the_wrong_argument():
    with pytest.raises(ValueError, match="`total` to be at least `only_first` plus `only_second`, 5, but got 4"):
        paired_interval(3, 2, 4)
