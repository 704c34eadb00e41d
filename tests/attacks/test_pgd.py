import copy
import pickle
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_robust.attacks import (
    L2,
    PGD,
    Adam,
    AffineSpace,
    Context,
    LatentSpace,
    Linf,
    PixelSpace,
    Steepest,
    Threat,
    cross_entropy,
    divergence,
    dlr,
    log_odds,
    margin,
    normalized,
    rs_fgsm,
    stutz,
    targeted,
    targeted_dlr,
    targeted_margin,
)
from tests.helpers import ATTACKS, BALLS, SHAPE, Linear, Plane, batch, class_scores, images, net, threat_of


def labelled(n=64):
    """Images with the labels that the model gives them: every success is the attack's."""
    x = images(n)
    return x, class_scores(x).argmax(1)


def test_is_the_textbook_loop():
    """Madry's PGD as it is usually written, on a network, against ours without random start."""
    x, y, eps, alpha = images(8), torch.arange(8) % 5, 0.1, 0.03
    model = net().eval()
    x_adv = x.clone()
    for _ in range(7):
        x_adv = x_adv.detach().requires_grad_()
        (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(x_adv), y, reduction="sum"), x_adv)
        x_adv = x_adv + alpha * grad.sign()
        x_adv = (x + (x_adv - x).clamp(-eps, eps)).clamp(0, 1)
    for gain in (cross_entropy, margin):
        ours = PGD(Linf(eps), 7, rel_step_size=alpha / eps, random_start=False, gain=gain)(model, x, y)
        if gain is cross_entropy:
            torch.testing.assert_close(ours, x_adv, rtol=0, atol=1e-6)
    default = PGD(Linf(eps), 7, rel_step_size=alpha / eps, random_start=False)(model, x, y)
    assert ((default - x_adv).abs() < 1e-6).float().mean() > 0.99, "log-odds rise in the same direction"


def test_steps_fall_by_default():
    assert PGD(Linf(0.1), steps=4).sizes() == pytest.approx([2, 2 * 9 / 16, 0.5, 2 / 16])
    assert PGD(Linf(0.1), steps=1).sizes() == [1]
    assert PGD(Linf(0.1), steps=3, rel_step_size=0.7).sizes() == [0.7] * 3


@pytest.mark.parametrize(("name", "least"), [("Linf", 1), ("L2", 0.999), ("L1", 0.99), ("Box", 1)])
def test_falling_steps_reach_the_optimum_of_a_linear_model(name, least):
    x, y, w = images(8), torch.zeros(8).long(), torch.randn(SHAPE)
    threat, model = threat_of(name, "pixels"), Linear(w)
    reached, optimum = (
        PGD(threat, steps=steps, gain=margin, keep="best").run(model, x, y).gain - margin(model(x), y)
        for steps in (20, 600)
    )
    assert (reached >= (least - 1e-5) * optimum).all()
    constant = PGD(threat, steps=20, rel_step_size=2.5 / 20, gain=margin, keep="best").run(model, x, y).gain
    assert (reached >= constant - margin(model(x), y) - 1e-5).all()


def test_the_step_size_is_relative_to_the_radius():
    x, y, w = torch.full((1, *SHAPE), 0.5), torch.zeros(1).long(), torch.randn(SHAPE)
    attack = PGD(Linf(0.1), steps=100, rel_step_size=0.025, random_start=False)
    lengths = []

    class Spy(Linear):
        def forward(self, z):
            lengths.append((z.detach() - x).abs().max().item())
            return super().forward(z)

    attack(Spy(w), x, y)
    assert lengths[:4] == pytest.approx([0, 0.0025, 0.005, 0.0075], abs=1e-6)
    assert lengths[60] == pytest.approx(0.1, abs=1e-6)


class TestOutcome:
    """`first`, `fooled` and `stuck` mean what they say: compared with a look at every iterate."""

    def iterates(self, attack, x, y, key=0):
        seen = []

        def spy(z):
            logits = class_scores(z)
            seen.append((z.detach().clone(), logits.detach().argmax(1) != y))
            return logits

        return attack.run(spy, x, y, Context(key=key)), seen

    def test_first_and_fooled(self):
        x, y = labelled()
        outcome, seen = self.iterates(PGD(Linf(0.05), steps=8, keep="best"), x, y)
        hits = torch.stack([hit for _, hit in seen])
        assert len(seen) == 9
        assert torch.equal(outcome.fooled[0], hits.any(0))
        expected = torch.where(hits.any(0), hits.int().argmax(0), -1)
        assert torch.equal(outcome.first[0], expected)
        assert (expected > 0).any()
        assert (expected < 0).any()

    def test_one_row_for_each_restart(self):
        x, y = labelled()
        for keep in ("best", "last"):
            outcome, seen = self.iterates(PGD(Linf(0.03), steps=4, restarts=3, keep=keep), x, y)
            hits = torch.stack([hit for _, hit in seen]).reshape(3, 5, -1)
            assert torch.equal(outcome.fooled, hits.any(1) if keep == "best" else hits[:, -1])
            assert outcome.fooled.shape == outcome.first.shape == (3, 64)
            assert torch.equal(outcome.first >= 0, outcome.fooled)
            assert torch.equal(class_scores(outcome.x_adv).argmax(1) != y, outcome.fooled.any(0))

    def test_last_keeps_the_last_and_best_the_best(self):
        x, y = labelled()
        last, seen = self.iterates(PGD(Linf(0.05), steps=5, rel_step_size=0.7, gain=margin), x, y)
        best, _ = self.iterates(PGD(Linf(0.05), steps=5, rel_step_size=0.7, gain=margin, keep="best"), x, y)
        assert last.fooled is None
        assert last.first is None
        assert len(seen) == 5, "no forward that is not needed"
        values = torch.stack([margin(class_scores(z), y) for z, _ in seen] + [margin(class_scores(last.x_adv), y)])
        reached = margin(class_scores(best.x_adv), y)
        torch.testing.assert_close(reached, values.amax(0))
        assert (reached >= margin(class_scores(last.x_adv), y) - 1e-6).all()

    def test_best_prefers_a_misclassified_iterate_to_a_higher_gain(self):
        x, y = labelled()
        gain = targeted(margin, to=4)  # may be high where the label still wins
        outcome, seen = self.iterates(PGD(Linf(0.05), steps=5, gain=gain, keep="best"), x, y)
        hits = torch.stack([hit for _, hit in seen[1:]]).any(0)  # the first look is that of the anchor
        assert torch.equal(class_scores(outcome.x_adv).argmax(1) != y, hits)

    def test_early_stop_leaves_the_first_misclassified_iterate(self):
        x, y = labelled()
        for keep in ("last", "best"):
            attack = PGD(Linf(0.06), steps=8, keep=keep, early_stop=True)
            _, seen = self.iterates(PGD(Linf(0.06), steps=8, keep="best"), x, y)
            hits = torch.stack([hit for _, hit in seen])
            points = torch.stack([z for z, _ in seen])
            first = torch.where(hits.any(0), hits.int().argmax(0), 8)
            expected = points[first, torch.arange(64)]
            x_adv = attack(class_scores, x, y)
            where = hits.any(0) if keep == "best" else torch.ones_like(hits[0])
            torch.testing.assert_close(x_adv[where], expected[where], rtol=0, atol=1e-6)

    def test_early_stop_leaves_what_is_wrong_from_the_start_and_spares_the_rest_of_the_steps(self):
        x, y = labelled()
        outcome, seen = self.iterates(PGD(Linf(0.1), steps=9, random_start=False, early_stop=True), x, (y + 1) % 5)
        assert torch.equal(outcome.x_adv, x)
        assert len(seen) == 1

    def test_stuck_counts_what_has_no_gradient(self):
        x, y, slope = images(6), torch.zeros(6).long(), torch.tensor([0.0, 1, 0, 1, 1, 0]).reshape(-1, 1, 1, 1)

        def model(z):
            score = (slope[: len(z)] * z).flatten(1).sum(1)
            return torch.stack([0 * score, score], 1)

        for attack in (PGD(Linf(0.1)), PGD(Linf(0.1), restarts=2, keep="best")):
            assert attack.run(model, x, y).stuck.tolist() == [True, False, True, False, False, True]


def test_infinite_and_missing_gradients_do_not_spoil_the_neighbours():
    x, y = images(4), torch.zeros(4).long()

    def model(z):
        score = (2 * z).flatten(1).sum(1)
        root = (score[:1] - score[:1].detach()).sqrt()  # an infinite slope
        score = torch.cat([root, score[1:]])
        return torch.stack([0 * score, score], 1)

    x_adv = PGD(Linf(0.1), random_start=False)(model, x, y)
    assert x_adv.isfinite().all()
    torch.testing.assert_close(x_adv[1:], (x[1:] + 0.1).clamp(max=1))


@pytest.mark.parametrize("gain", [margin, divergence], ids=["margin", "divergence"])
def test_a_model_that_begins_with_a_sum(gain):
    """The gradient of a sum is one number seen as many, which must not be written to."""
    x, y = images(4), torch.zeros(4).long()

    def model(z):
        total = z.sum((1, 2, 3))
        return torch.stack([0 * total, total], 1)

    x_adv = PGD(Linf(0.1), gain=gain)(model, x, y)
    if gain is margin:
        torch.testing.assert_close(x_adv, (x + 0.1).clamp(max=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_other_shapes_and_types(dtype):
    x, y = torch.rand(5, 7).to(dtype), torch.zeros(5).long()
    x_adv = PGD(L2(0.3), steps=3)(lambda z: torch.stack([0 * z[:, 0], z.sum(1)], 1), x, y)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == dtype
    assert (x_adv.sum(1) > x.sum(1)).all()


def test_dense_labels_and_probabilities():
    x = images(3)
    dense = (x[:, 0] > 0.5).long()

    def segment(z):
        return torch.stack([z[:, 0], z[:, 1]], 1)

    attack = PGD(Linf(0.1), random_start=False, gain=cross_entropy)
    x_adv = attack(segment, x, dense)
    assert (cross_entropy(segment(x_adv), dense) > cross_entropy(segment(x), dense)).all()
    soft = torch.rand(3, 5).softmax(1)
    x_adv = attack(class_scores, x, soft)
    assert (cross_entropy(class_scores(x_adv), soft) > cross_entropy(class_scores(x), soft)).all()


def test_the_labels_and_codes_of_inference_mode_are_taken_too():
    model = net()
    with torch.inference_mode():
        x, y, code = batch("latent_tuple")
        assert x.is_inference()
        x_adv = ATTACKS["latent_tuple-L2"].attack(model, x, y, code=code)
    assert not x_adv.is_inference()


def test_an_input_that_wants_a_gradient_is_left_alone():
    x, y, _ = batch()
    x.requires_grad_()
    for name in ("pixels-Linf", "affine-L2", "latent-Linf"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            x_adv = ATTACKS[name].attack(net(), x, y)
        assert not x_adv.requires_grad
    assert x.grad is None
    assert x.requires_grad


def test_the_model_may_be_a_function():
    x, y = labelled()
    model = net().eval()
    assert torch.equal(PGD(Linf(0.1))(lambda z: model(z), x, y), PGD(Linf(0.1))(model, x, y))


def test_train_mode_uses_the_statistics_of_the_batch():
    model, (x, y, _) = net(), batch(n=32)
    evaluation, training = (PGD(Linf(0.1), random_start=False, mode=mode)(model, x, y) for mode in ("eval", "train"))
    assert not torch.equal(evaluation, training)
    model.eval()
    assert torch.equal(PGD(Linf(0.1), random_start=False, mode="train")(model, x, y), evaluation)


PICKLED = {
    "default": PGD(Linf(0.1)),
    "per sample": PGD(L2(torch.rand(6) + 0.1), steps=3),
    "stutz": stutz(Linf(0.1), steps=2),
    "divergence": PGD(Linf(0.1), gain=divergence),
    "targeted": PGD(Linf(0.1), gain=targeted_dlr(2), rule=Steepest(0.9)),
    "affine": PGD(threat_of("Box", "affine"), rule=Adam(0.1)),
    "latent": PGD(threat_of("Box", "latent")),
    "normalized": PGD(threat_of("L1", "normalized")),
    "worst_of": ATTACKS["worst_of"].attack,
    "on_fraction": ATTACKS["on_fraction"].attack,
    "foreign": ATTACKS["foreign"].attack,
}


@pytest.mark.parametrize("way", [lambda a: pickle.loads(pickle.dumps(a)), copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("name", PICKLED)
def test_attacks_pickle_and_copy(name, way):
    attack, again = PICKLED[name], way(PICKLED[name])
    x, y, _ = batch("normalized" if name == "normalized" else "pixels")
    if name == "foreign":
        assert again.function is attack.function
    else:
        assert torch.equal(again(net(), x, y), attack(net(), x, y))


def test_equal_settings_are_equal_attacks():
    assert PGD(Linf(0.1), 5) == PGD(Threat(Linf(0.1), PixelSpace()), steps=5)
    assert hash(PGD(Linf(0.1), 5)) == hash(PGD(Linf(0.1), 5))
    assert PGD(Linf(0.1), 5) != PGD(Linf(0.2), 5)
    assert PGD(L2(0.1)) != PGD(Linf(0.1))
    assert "Linf(eps=0.1)" in repr(PGD(Linf(0.1)))


def test_radii_per_sample_can_be_compared():
    one, two = (PGD(L2(torch.tensor([0.1, eps]))) for eps in (0.2, 0.3))
    assert one != two
    assert isinstance(one == copy.deepcopy(one), bool)


def test_thorough_and_scaled():
    attack = PGD(Linf(0.2), steps=3, seed=4)
    assert attack.thorough() == PGD(Linf(0.2), steps=3, seed=4, gain=margin, keep="best")
    assert attack.thorough().thorough() is attack.thorough() or attack.thorough().keep == "best"
    assert attack.scaled(0.5) == PGD(Linf(0.1), steps=3, seed=4)
    x, y = labelled(4)
    for name in BALLS:
        assert torch.equal(PGD(threat_of(name, "pixels")).scaled(0.0)(class_scores, x, y), x)


def test_thorough_raises_margins_of_targets_in_its_restarts():
    gains = (margin, *(targeted_margin(rank) for rank in (1, 2, 3)), normalized(log_odds))
    for restarts in (2, 3, 4, 5, 8):
        expected = PGD(Linf(0.1), restarts=restarts, gain=gains[:restarts], keep="best")
        assert PGD(Linf(0.1), restarts=restarts).thorough() == expected
    assert PGD(Linf(0.1), restarts=5, gain=dlr).thorough().gain is dlr, "what somebody chose stays"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_thorough_breaks_what_the_margin_of_one_target_breaks_alone(rank):
    """Away from the clean input another class leads the wrong ones. It never wins, and leads away from the one that
    does, the `rank`th at the clean input."""
    x, y, eps = torch.full((8, 256), 0.5), torch.zeros(8).long(), 0.1

    def model(z):
        delta = (z - 0.5) / eps
        along, far = delta.mean(1), delta.abs().mean(1)
        leads = 3.4 * (3 * far).clamp(max=1) - 4.1 - 0.25 * along
        others = [torch.full_like(far, -3.9 if one < rank else -5.0) for one in (1, 2)]
        return torch.stack([0 * far, leads, 8 * along - far - 4, *others], 1)

    assert model(x)[0].argsort(descending=True)[rank] == 2
    attack = PGD(Linf(eps), restarts=5)
    for gain in (margin, normalized(log_odds)):
        assert not replace(attack, gain=gain, keep="best").run(model, x, y).fooled.any()
    fooled = attack.thorough().run(model, x, y).fooled
    assert fooled.double().mean(1).tolist() == [one == rank for one in range(5)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rel_step_size": 0}, r"`rel_step_size` to be a number greater than 0.*, but got 0"),
        ({"random_start": False, "restarts": 2}, r"`random_start` with 2 restarts"),
        ({"random_start": False, "gain": divergence}, r"`random_start` with a gain such as `divergence`"),
        ({"first_clean": True, "gain": divergence}, r"`divergence`, and no `first_clean`"),
        ({"gain": ()}, "`gain` to be a gain or several"),
        ({"gain": (log_odds, "margin")}, "`gain`"),
    ],
)
def test_wrong_arguments_fail_at_construction(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        PGD(Linf(0.1), **wrong)


def test_a_manifold_and_a_space_are_no_threats():
    for wrong in (AffineSpace(), LatentSpace(Plane()), nn.Linear(2, 2)):
        with pytest.raises(TypeError, match="Expected argument `threat` to be a Ball"):
            PGD(wrong)


def test_single_step_attacks_need_one_forward():
    calls = []
    x, y = labelled(4)

    def spy(z):
        calls.append(len(z))
        return class_scores(z)

    rs_fgsm(Linf(0.1)).run(spy, x, y)
    assert calls == [4]


def test_the_least_work_tries_every_gain():
    """What one of several gains refuses, the sanity check finds."""
    attack = PGD(Linf(0.1), steps=5, restarts=4, gain=(margin, dlr)).brief()
    assert (attack.steps, attack.restarts) == (1, 2)
    with pytest.raises(ValueError, match="at least 3 classes for the gain `dlr`"):
        attack(nn.Linear(4, 2), torch.rand(3, 4), torch.tensor([0, 1, 0]))


def test_restarts_of_several_gains_are_compared_by_the_first():
    """Their units differ: of samples that withstand all, the best is the one with the highest first gain."""
    x, y = images(12), class_scores(images(12)).argmax(1)
    both = PGD(Linf(0.01), steps=3, restarts=2, gain=(log_odds, margin), keep="best")
    x_adv = both(class_scores, x, y)
    value = log_odds(class_scores(x_adv), y)
    for gain in (log_odds, margin):
        for restarts in (1, 2):
            alone = PGD(Linf(0.01), steps=3, restarts=restarts, gain=gain, keep="best").run(class_scores, x, y)
            assert alone.fooled.shape == (restarts, 12)
    first = PGD(Linf(0.01), steps=3, gain=log_odds, keep="best")(class_scores, x, y)
    withstood = (class_scores(x_adv).argmax(1) == y) & (class_scores(first).argmax(1) == y)
    assert withstood.any()
    assert (value >= log_odds(class_scores(first), y) - 1e-5)[withstood].all()
    assert (x_adv != first).flatten(1).any(1)[withstood].any(), "the second restart wins where it is higher"
