"""What labels mean: one meaning for gains, attacks and correctness."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_robust.attacks import (
    PGD,
    Context,
    Linf,
    binary_correct,
    binary_cross_entropy,
    binary_margin,
    classified,
    cross_entropy,
    dense,
    dense_correct,
    dlr,
    log_odds,
    margin,
    targeted,
    targeted_binary,
    worst_of,
)
from lightning_robust.attacks.labels import check_class_labels, judge_of, judged

N, CLASSES = 6, 5
LOGITS = 4 * torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % CLASSES
GAINS = [log_odds, margin, dlr, cross_entropy]


def probabilities(seed=1):
    q = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return q / q.sum(1, keepdim=True)


# Class labels


INTEGERS = (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("gain", GAINS)
def test_integers_of_any_type_and_a_column_are_the_same(gain, column, dtype):
    y = Y.to(dtype)[:, None] if column else Y.to(dtype)
    assert torch.equal(gain(LOGITS, y), gain(LOGITS, Y))
    assert torch.equal(classified(LOGITS, y), LOGITS.argmax(1) == Y)


@pytest.mark.parametrize("gain", GAINS)
def test_a_gain_of_probabilities_is_the_expected_gain(gain):
    """And so is its gradient; certain probabilities are labels."""
    z, q = LOGITS.clone().requires_grad_(), probabilities()
    expected = sum(q[:, k] * gain(z, torch.full_like(Y, k)) for k in range(CLASSES))
    torch.testing.assert_close(gain(z, q), expected)
    (gradient,) = torch.autograd.grad(gain(z, q).sum(), z)
    (wanted,) = torch.autograd.grad(expected.sum(), z)
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(gain(z, F.one_hot(Y, CLASSES).double()), gain(z, Y))


def test_cross_entropy_of_probabilities_is_torchs():
    torch.testing.assert_close(
        cross_entropy(LOGITS, probabilities()), F.cross_entropy(LOGITS, probabilities(), reduction="none")
    )


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_the_log_odds_of_probabilities_stay_finite_where_the_model_is_sure(scale):
    z = (scale * LOGITS).requires_grad_()
    value = log_odds(z, probabilities())
    (grad,) = torch.autograd.grad(value.sum(), z)
    assert value.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("logits", "y", "advice"),
    [
        (LOGITS[:, :1], torch.ones(N, 1), "gain=binary_margin"),
        (LOGITS[:, :1], torch.ones(N), "correct=binary_correct"),
        (LOGITS[:, :1], torch.zeros(N).long(), "one logit"),
        (LOGITS[:, 0], torch.zeros(N).long(), "one logit"),
        (LOGITS, torch.ones(N), r"y\.long\(\)"),
        (LOGITS, torch.ones(N, dtype=torch.bool), r"y\.long\(\)"),
        (LOGITS, F.one_hot(Y, CLASSES), r"y\.argmax\(1\)"),
        (LOGITS, torch.rand(N, 2), "write a gain"),
        (LOGITS, Y[:-1], "one label per input"),
        (LOGITS, Y.tolist(), "labels of type list"),
        (LOGITS, None, "labels of type NoneType"),
        (torch.rand(N, CLASSES, 3, 3), torch.zeros(N, 3, 3).long(), r"dense\(log_odds\)"),
        (torch.rand(N, 4, CLASSES), torch.zeros(N, 4).long(), "class_dim=-1"),
    ],
)
@pytest.mark.parametrize("what", [log_odds, margin, classified, targeted(margin).anchor])
def test_other_labels_are_refused_with_what_to_do(what, logits, y, advice):
    with pytest.raises(ValueError, match=rf"Expected .*{advice}"):
        what(logits, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y - 1, "at least 0, but got -1"),
        (Y + 1, "less than the number of classes, 5, but got 5"),
        (Y.masked_fill(Y == 2, -100), "at least 0, but got -100"),
        (torch.tensor([[1.0, 0, 1, 0, 0]]).expand(N, -1), r"probabilities.*\[1.0, 0.0, 1.0, 0.0, 0.0\].*binary_margin"),
        (torch.full((N, CLASSES), 0.3), "sum to 1"),
        (torch.tensor([[1.5, -0.5, 0, 0, 0]]).expand(N, -1), "not negative"),
    ],
)
def test_values_that_are_no_classes_or_probabilities_are_refused(y, message):
    for check in (check_class_labels, log_odds.check, margin.check, cross_entropy.check):
        with pytest.raises(ValueError, match=message):
            check(LOGITS, y)


# The advice leads somewhere: what the errors name does work


class Yes(nn.Module):
    """Logits that are linear, so that the best attack is known: each label has its own weights."""

    def __init__(self, labels, d=4):
        super().__init__()
        self.linear = nn.Linear(d, labels)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_one_logit(shape, dtype):
    """The log-odds of being wrong; PGD reaches the optimum of a linear model."""
    torch.manual_seed(0)
    model, x, y = Yes(1), 0.3 + 0.4 * torch.rand(N, 4), (torch.arange(N) % 2).reshape(shape).to(dtype)
    two = torch.cat([torch.zeros(N, 1), model(x)], 1)
    torch.testing.assert_close(binary_margin(model(x), y), log_odds(two, y.reshape(-1).long()))
    torch.testing.assert_close(
        binary_cross_entropy(model(x), y), F.cross_entropy(two, y.reshape(-1).long(), reduction="none")
    )
    x_adv = PGD(Linf(0.1), steps=3, random_start=False, gain=binary_margin)(model, x, y)
    sign = 1 - 2 * y.reshape(-1, 1).float()
    torch.testing.assert_close(x_adv, x + 0.1 * sign * model.linear.weight.sign())
    assert torch.equal(binary_correct(model(x), y), (model(x)[:, 0] > 0) == (y.reshape(-1) == 1))


def test_several_yes_no_labels():
    """The attacker breaks the label that is easiest to break; right means that all are."""
    z = torch.tensor([[2.0, -0.5, -3.0], [2.0, 1.0, -3.0]])
    y = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert binary_margin(z, y).tolist() == [-0.5, 1.0]
    assert binary_correct(z, y).tolist() == [True, False]
    assert torch.equal(binary_margin(z, y) > 0, ~binary_correct(z, y))
    expected = F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1)
    torch.testing.assert_close(binary_cross_entropy(z, y), expected)


def test_the_margin_of_one_yes_no_label():
    """By rank: those that are known to be near, then those whose clean logit is the least right."""
    z, y = torch.tensor([[2.0, -0.5, -3.0, 9.0], [2.0, 1.0, -3.0, 9.0]]), torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]])
    targets = torch.tensor([[2], [0]])
    plain, informed = [[1, 0, 2, 3], [3, 1, 0, 2]], [[2, 1, 0, 3], [0, 3, 1, 2]]
    for rank in range(1, 5):
        gain = targeted_binary(rank)
        assert gain.fits(z, y)
        assert gain.anchor(z, y)[0].tolist() == [row[rank - 1] for row in plain]
        anchor = gain.of_context(z, y, Context(targets=targets))
        assert anchor[0].tolist() == [row[rank - 1] for row in informed]
        moved = torch.tensor([[-1.0, 2.0, 3.0, -4.0], [1.0, 2.0, 3.0, 4.0]])
        raised = [moved[n, label] * (1 - 2 * y[n, label]) for n, label in enumerate(anchor[0])]
        assert gain(moved, anchor).tolist() == raised
    assert not targeted_binary(5).fits(z, y)
    with pytest.raises(ValueError, match="`rank` to be at most the number of labels, 4, but got 5"):
        targeted_binary(5).anchor(z, y)
    assert [targeted_binary(rank).fits(torch.zeros(3), torch.zeros(3)) for rank in (1, 2)] == [True, False]


@pytest.mark.parametrize("y", [torch.tensor([[0.5, 1.0]]), torch.tensor([[2, 0]])])
def test_yes_no_labels_are_0_or_1(y):
    for check in (binary_margin.check, binary_correct, targeted_binary().anchor):
        with pytest.raises(ValueError, match="Expected labels to be 0 or 1"):
            check(torch.zeros(1, 2), y)


@pytest.mark.parametrize("class_dim", [1, -1])
@pytest.mark.parametrize("gain", [log_odds, margin, cross_entropy])
def test_dense_labels(gain, class_dim):
    """The mean over the positions that count of the gain at each."""
    z = torch.randn(2, CLASSES, 3, 4)
    y = torch.randint(0, CLASSES, (2, 3, 4))
    y[0, 0], y[1, 2, 3] = 255, 255
    value = dense(gain, class_dim=class_dim, ignore_index=255)(z.movedim(1, class_dim), y)
    for n in range(2):
        values = [
            float(gain(z[n : n + 1, :, i, j], y[n : n + 1, i, j]))
            for i in range(3)
            for j in range(4)
            if y[n, i, j] < 255
        ]
        assert float(value[n]) == pytest.approx(sum(values) / len(values), rel=1e-5)


@pytest.mark.parametrize("class_dim", [1, 2, -1])
def test_dense_labels_may_have_a_dimension_of_one_in_place_of_the_classes(class_dim):
    z, y = torch.randn(2, CLASSES, 3, 4).movedim(1, class_dim), torch.randint(0, CLASSES, (2, 3, 4))
    mask = y.unsqueeze(class_dim)
    for gain in (dense(margin, class_dim=class_dim), *([cross_entropy] if class_dim == 1 else [])):
        gain.check(z, mask)
        assert torch.equal(gain(z, mask), gain(z, y))
    right = dense_correct(0.3, class_dim=class_dim)
    assert torch.equal(right(z, mask), right(z, y))
    with pytest.raises(ValueError, match="or with 1 there"):
        right(z, torch.stack([y, y], class_dim))
    with pytest.raises(ValueError, match="or with 1 there"):
        right(z, y[..., None, None])
    with pytest.raises(ValueError, match=r"Convert class indices with y.long\(\)"):
        right(z, mask.float())


def test_where_a_sample_counts_nowhere_nothing_is_raised():
    z = torch.randn(1, CLASSES, 3).requires_grad_()
    value = dense(cross_entropy)(z, torch.full((1, 3), -100))
    (grad,) = torch.autograd.grad(value.sum(), z)
    assert value.item() == 0
    assert not grad.any()


def test_dense_cross_entropy_leaves_void_positions_out_of_the_mean():
    z, y = torch.randn(2, CLASSES, 6), torch.randint(0, CLASSES, (2, 6))
    y[:, 0] = -100
    torch.testing.assert_close(cross_entropy(z, y), cross_entropy(z[:, :, 1:], y[:, 1:]))


def test_dense_correct_counts_positions():
    z = torch.tensor([[[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]])  # (N, T, K): class 0 four times
    y = torch.tensor([[0, 0, 1, 255]])
    right = [bool(dense_correct(s, class_dim=-1, ignore_index=255)(z, y)) for s in (0.6, 2 / 3, 0.7, 1.0)]
    assert right == [True, True, False, False]


def test_labels_beyond_the_classes_are_void_if_it_is_said():
    z, y = torch.randn(1, CLASSES, 3), torch.tensor([[0, 1, 255]])
    with pytest.raises(ValueError, match="ignore_index=255"):
        dense(margin).check(z, y)
    dense(margin, ignore_index=255).check(z, y)


@pytest.mark.parametrize(
    "what", [cross_entropy.check, lambda z, y: PGD(Linf(0.1), gain=cross_entropy)(lambda x: z, y, y)]
)
def test_classes_that_may_be_in_two_places_are_refused(what):
    """(N, 6, 6) with labels (N, 6) is read along time as easily as along classes."""
    z, y = torch.randn(2, 6, 6).requires_grad_(), torch.rand(2, 6).round().long()
    with pytest.raises((ValueError, TypeError), match=r"class_dim=-1|float tensor"):
        what(z, y)


@pytest.mark.parametrize("class_dim", [1, -1])
def test_segmentation_and_token_classification_are_attacked_along_the_classes(class_dim):
    torch.manual_seed(0)
    head = nn.Linear(3, 6)

    def model(x):  # (N, T, 3) -> (N, T, 6) with T = 6: the shapes alone do not say where the classes are
        z = head(x)
        return z if class_dim == -1 else z.transpose(1, 2)

    x, y = 0.3 + 0.4 * torch.rand(2, 6, 3), torch.randint(0, 6, (2, 6))
    gain = dense(margin, class_dim=class_dim)
    attack = PGD(Linf(0.05), steps=5, gain=gain, keep="best")
    outcome = attack.run(model, x, y, Context(correct=dense_correct(0.5, class_dim=class_dim)))
    assert (gain(model(outcome.x_adv), y) > gain(model(x), y)).all()
    assert torch.equal(outcome.fooled[0], ~dense_correct(0.5, class_dim=class_dim)(model(outcome.x_adv), y))


# What attacks know of success


def test_any_gain_goes_with_any_labels_where_success_is_not_asked_for():
    """Regression: targets (N,) of floats are the gain's affair."""
    torch.manual_seed(0)
    model, x, y = Yes(1), 0.3 + 0.4 * torch.rand(N, 4), torch.randn(N)

    def error(output, y):
        return (output[:, 0] - y).square()

    attack = PGD(Linf(0.1), steps=5, gain=error, restarts=2, keep="best")
    outcome = attack.run(model, x, y)
    assert (error(model(outcome.x_adv), y) >= error(model(x), y)).all()
    assert outcome.fooled is None
    assert outcome.first is None
    with pytest.raises(ValueError, match=r"`early_stop` to be False .*correct=\(output, y\)"):
        PGD(Linf(0.1), gain=error, early_stop=True)(model, x, y)

    def close(output, y):
        return (output[:, 0] - y).abs() < 0.5

    known = attack.run(model, x, y, Context(correct=close))
    assert torch.equal(known.fooled.any(0), ~close(model(known.x_adv), y))
    PGD(Linf(0.1), gain=error, early_stop=True)(model, x, y, correct=close)


def test_the_worst_of_attacks_on_labels_of_ones_own():
    torch.manual_seed(0)
    model, x, y = Yes(1), 0.3 + 0.4 * torch.rand(N, 4), (torch.arange(N) % 2)[:, None].float()
    attack = worst_of(PGD(Linf(0.1), gain=binary_margin), PGD(Linf(0.3), gain=binary_margin))
    with pytest.raises(ValueError, match="correct=binary_correct"):
        attack(model, x, y)
    x_adv = attack(model, x, y, correct=binary_correct)
    alone = attack.attacks[1](model, x, y)
    assert (~binary_correct(model(x_adv), y) >= ~binary_correct(model(alone), y)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("correct", "output", "y"),
    [
        (None, torch.tensor([[9.0, 0.0, 0.0]] * 2), torch.tensor([0, 0])),
        (None, torch.tensor([[9.0, 0.0, 0.0]] * 2), torch.tensor([[0.8, 0.1, 0.1]] * 2)),
        (binary_correct, torch.tensor([[9.0, 9.0, 9.0]] * 2), torch.ones(2, 3)),
        (dense_correct(0.0), torch.zeros(2, 3, 4), torch.zeros(2, 4).long()),
        (lambda output, y: torch.ones(2, dtype=torch.bool), torch.zeros(2, 1), None),
    ],
    ids=["classes", "probabilities", "yes or no", "dense", "own"],
)
def test_a_model_that_breaks_has_lost_whatever_the_labels(correct, output, y, bad):
    assert judged(correct, output, y).all()
    broken = output.clone()
    broken[1].view(-1)[-1] = bad
    assert judged(correct, broken, y).tolist() == [True, False]
    if correct is not None or y is not None:
        assert judge_of(correct, broken, y)(broken).tolist() == [False, True]


@pytest.mark.parametrize(
    ("correct", "got"),
    [(lambda z, y: z, "torch.float"), (lambda z, y: torch.tensor(True), r"\(\)"), (lambda z, y: [True], "list")],
)
def test_what_is_right_is_said_by_a_bool_for_each_sample(correct, got):
    with pytest.raises(ValueError, match=rf"`correct` to return a bool tensor of shape \(N,\) .*{got}"):
        judged(correct, LOGITS, Y)


@pytest.mark.parametrize(
    ("gain", "got"),
    [
        (nn.CrossEntropyLoss(), r"shape \(\)"),
        (lambda z, y: z, r"shape \(6, 5\)"),
        (lambda z, y: z[0], r"shape \(5,\)"),
        (lambda z, y: 1.0, "float"),
    ],
)
def test_a_gain_gives_one_number_per_sample(gain, got):
    """A mean over the batch would make samples depend on their neighbours."""
    model, x = Yes(CLASSES), torch.rand(N, 4)
    with pytest.raises(ValueError, match=rf"the gain to give one number per sample, .*{got}.*reduction='none'"):
        PGD(Linf(0.1), gain=gain)(model, x, Y)


def test_a_label_that_is_no_class_is_left_to_a_gain_of_ones_own_sample_by_sample():
    """A label to be ignored does not change what happens to the others."""
    torch.manual_seed(0)
    model, x, y = Yes(CLASSES), torch.rand(N, 4), Y.clone()

    def ignoring(z, y):
        return F.cross_entropy(z, y, ignore_index=-100, reduction="none")

    attack = PGD(Linf(0.1), steps=3, gain=ignoring, keep="best", random_start=False)
    whole = attack.run(model, x, y)
    y[2] = -100
    part = attack.run(model, x, y)
    others = torch.arange(N) != 2
    torch.testing.assert_close(part.x_adv[others], whole.x_adv[others])
    assert torch.equal(part.fooled[:, others], whole.fooled[:, others])
    assert not part.fooled[:, 2].any()


def test_labels_are_the_users():
    """A gain or `correct` that marks void positions in place would change what the step trains on."""
    model, x = Yes(CLASSES), torch.rand(N, 4)

    def writes(z, y):
        y[y == 3] = 0
        return margin(z, y)

    with pytest.raises(ValueError, match="the labels were written to"):
        PGD(Linf(0.1), gain=writes)(model, x, Y.clone())


def test_logits_with_positions_for_labels_without():
    with pytest.raises(ValueError, match=r"Flatten the output: forward=lambda"):
        log_odds(LOGITS[:, :, None, None], Y)
    with pytest.raises(ValueError, match=r"Pool the output"):
        log_odds(LOGITS[:, :, None].expand(-1, -1, 3), Y)
