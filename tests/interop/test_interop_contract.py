# ruff: noqa: NPY002 - the legacy generator of numpy is what the other packages draw from
"""Laws that every attack of another package obeys once it is an `Attack`, over one list of them."""

import random
import re

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
import torchmetrics
from torch import nn

from lightning_robust.attacks import L2, PGD, Attack, Context, Linf, PixelSpace, Threat, worst_of
from lightning_robust.interop import from_foolbox, from_torchattacks
from lightning_robust.interop.foolbox import FoolboxAttack

EPS = 0.1
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def torch_attack(kind, **arguments):
    return lambda **options: from_torchattacks(kind, arguments, **options)


def box_attack(attack, eps):
    return lambda **options: from_foolbox(attack, eps, **options)


# name: (the attack for data of this mean and std, the ball it stays in, does it draw at random?)
ATTACKS = {
    "torchattacks.PGD": (torch_attack(torchattacks.PGD, eps=EPS, steps=3), Linf(EPS), True),
    "torchattacks.PGDL2": (torch_attack(torchattacks.PGDL2, eps=1.0, steps=3), L2(1.0), True),
    "torchattacks.FGSM": (torch_attack(torchattacks.FGSM, eps=EPS), Linf(EPS), False),
    "torchattacks.APGD": (torch_attack(torchattacks.APGD, eps=EPS, steps=3), Linf(EPS), True),
    "torchattacks.Square": (torch_attack(torchattacks.Square, eps=EPS, n_queries=50), Linf(EPS), True),
    "torchattacks.function": (torch_attack(lambda m: torchattacks.PGD(m, eps=EPS, steps=3)), Linf(EPS), True),
    "foolbox.LinfPGD": (box_attack(foolbox.attacks.LinfPGD(steps=3), EPS), Linf(EPS), True),
    "foolbox.L2PGD": (box_attack(foolbox.attacks.L2PGD(steps=3), 1.0), L2(1.0), True),
    "foolbox.FGSM": (box_attack(foolbox.attacks.FGSM(), EPS), Linf(EPS), False),
    "foolbox.repeated": (box_attack(foolbox.attacks.LinfPGD(steps=2).repeat(2), EPS), Linf(EPS), True),
    "foolbox.L2DeepFool": (box_attack(foolbox.attacks.L2DeepFoolAttack(steps=3), 1.0), L2(1.0), False),
}


@pytest.fixture(params=ATTACKS)
def case(request):
    return ATTACKS[request.param]


def network() -> nn.Sequential:
    """In training mode, with statistics of its own, dropout, and one BatchNorm that the user froze."""
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Softplus()]
    second = [nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Softplus()]
    net = nn.Sequential(*first, *second, nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 5))
    net.train()
    net[4].eval()
    net[0].bias.requires_grad_(False)
    net(torch.randn(16, 3, 8, 8))
    return net


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and what the network says of them: some attacks leave alone what is misclassified already."""
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, network().eval()(x).argmax(1)


def state_of_everything(net: nn.Module) -> dict[str, object]:
    return {
        "flags": [m.training for m in net.modules()],
        "needs": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "state": [v.clone() for v in net.state_dict().values()],
        "objects": [id(v) for v in [*net.parameters(), *net.buffers()]],
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.random.get_state()[1].astype(np.int64)),
        "place": np.random.get_state()[2],
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "hooks": [len(m._forward_hooks) for m in net.modules()],
    }


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    for name, value in before.items():
        for a, b in zip(value, after[name], strict=True) if isinstance(value, list) else [(value, after[name])]:
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name


@pytest.mark.parametrize("gradients", ["absent", "present"])
def test_is_inert(case, gradients):
    net, (x, y) = network(), batch()
    if gradients == "present":
        net(x).square().sum().backward()
    x_before, y_before, before = x.clone(), y.clone(), state_of_everything(net)
    attack = case[0]()
    x_adv = attack(net, x, y)
    assert_same(before, state_of_everything(net))
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert not x_adv.requires_grad
    assert not torch.equal(x_adv, x)


def test_is_inert_after_an_exception(case):
    class Stop(Exception):
        pass

    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            random.random()
            np.random.rand()
            torch.rand(1)
            raise Stop

    net, (x, y) = Fragile(), batch()
    before = state_of_everything(net)
    with pytest.raises(Stop):
        case[0]()(net, x, y)
    assert_same(before, state_of_everything(net))


def test_same_key_same_result_different_key_differs(case):
    make, _, random_start = case
    net, (x, y) = network(), batch()
    first = make()(net, x, y, key=3)
    torch.manual_seed(123), np.random.seed(5), random.seed(6)
    assert torch.equal(make()(net, x, y, key=3), first)
    assert torch.equal(make()(net, x, y, key=4), first) != random_start
    assert torch.equal(make(seed=1)(net, x, y, key=3), first) != random_start


def noise(package: str, **options) -> Attack:
    if package == "torchattacks":
        return from_torchattacks(torchattacks.GN, {"std": 0.02}, **options)
    return from_foolbox(foolbox.attacks.LinfAdditiveUniformNoiseAttack(), 0.02, **options)


@pytest.mark.parametrize("package", ["torchattacks", "foolbox"])
def test_every_batch_draws_numbers_of_its_own(package):
    net, (x, y) = network().eval(), batch(12)
    x = 0.4 + 0.2 * x  # no noise is clipped
    (one, two), labels = x.chunk(2), y[:6]

    def drawn(x: torch.Tensor, key: int = 0, seed: int = 0) -> torch.Tensor:
        # What foolbox finds to be misclassified is left alone: labels that are wrong would show nothing.
        return noise(package, seed=seed)(lambda v: net(v) * 0 + torch.eye(5)[labels], x, labels, key=key) - x

    first = drawn(one)
    assert float(first.std()) > 0.005
    assert torch.equal(drawn(one), first)
    for other in (drawn(two), drawn(one, key=1), drawn(one, seed=1)):
        assert float((other - first).abs().mean()) > 0.005


@pytest.mark.parametrize("package", ["torchattacks", "foolbox"])
def test_images_of_bytes_draw_the_same_numbers_however_they_are_normalised(package):
    y = torch.arange(6) % 5
    x = torch.randint(50, 200, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))

    def right(v: torch.Tensor) -> torch.Tensor:
        return torch.eye(5)[y]

    plain = noise(package)(right, x, y)
    normalised = noise(package, mean=MEAN, std=STD)(right, (x - mean) / std, y) * std + mean
    assert float((plain - x).std()) > 0.005
    assert torch.allclose(normalised, plain, atol=1e-6)
    if package == "foolbox":
        attack = from_foolbox(foolbox.attacks.LinfAdditiveUniformNoiseAttack(), 0.02 * 255, bounds=(0, 255))
        assert torch.allclose(attack(right, x * 255, y) / 255, plain, atol=1e-6)


class Stateful(nn.Module):
    """A hidden state, a counter, a cache and a metric that every forward updates; the state moves the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.metric = torchmetrics.MeanMetric()
        self.hidden = torch.zeros(5)
        self.calls, self.cache = 0, {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.net(x) + self.hidden
        self.hidden = self.hidden + 0.5 * logits.detach().mean(0)
        self.calls += 1
        self.cache["last"] = logits
        self.metric.update(logits.detach())
        return logits


def test_leaves_what_a_module_carries_besides_weights(case):
    net, (x, y) = Stateful(), batch()
    net(x).sum().backward()
    last, hidden, count = net.cache["last"], net.hidden, net.metric.weight.clone()
    before = state_of_everything(net)
    attack = case[0]()
    x_adv = attack(net, x, y)
    assert_same(before, state_of_everything(net))
    assert (net.calls, net.hidden is hidden, net.cache["last"] is last) == (1, True, True)
    assert len(net.cache) == 1
    assert torch.equal(net.metric.weight, count)
    assert net.metric.update_count == 1
    # Every forward starts from the state in which the attack found the module.
    assert torch.equal(attack(lambda v: net.net(v) + hidden, x, y), x_adv)


def test_networks_inside_the_attack_are_left_as_they_were():
    """A transfer attack: found on a network of its own, in evaluation mode and without statistics of its batches."""
    surrogate, net, (x, y) = network(), network(), batch()
    before = state_of_everything(surrogate)
    attack = from_torchattacks(lambda model: torchattacks.PGD(surrogate, eps=EPS, steps=3))
    x_adv = attack(net, x, y)
    assert_same(before, state_of_everything(surrogate))
    assert torch.equal(attack(net, x, y), x_adv)
    assert not torch.equal(x_adv, x)


def test_a_forward_may_write_to_its_input(case):
    net, (x, y) = network(), batch()
    before = x.clone()
    expected = case[0]()(lambda v: net(v.mul(2)), x, y)
    assert torch.equal(case[0]()(lambda v: net(v.mul_(2)), x, y), expected)
    assert torch.equal(x, before)


def test_what_counts_as_success_is_told_only_where_it_is_known(case):
    net, (x, y) = network(), batch()
    outcome = case[0]().run(net, x, y, Context(correct=lambda logits, y: logits.argmax(1) == y))
    assert outcome.fooled is None


def test_within_the_ball_and_the_range(case):
    make, ball, _ = case
    net, (x, y) = network(), batch()
    x[0] = 0.0
    x[1] = 1.0
    outcome = make().run(net, x, y)
    x_adv = outcome.x_adv
    assert outcome.delta.dtype == x.dtype
    assert torch.allclose(x + outcome.delta, x_adv, atol=1e-7)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    # torchattacks is free to leave the ball by a rounding error.
    assert bool(ball.contains(x_adv - x, rtol=2e-6 / float(ball.radius)).all())
    threat = Threat(ball, PixelSpace())
    threat = threat if isinstance(make(), FoolboxAttack) else threat.scaled(1 + 1e-5)
    assert bool(threat.contains(x, x_adv).all())


def test_normalised_data_give_the_same_images(case):
    """A network on images, and the same network on normalised data that undoes the normalisation itself."""
    make, ball, _ = case
    net, (x, y) = network(), batch()
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    normalised = (x - mean) / std

    class Undo(nn.Module):
        def forward(self, v):
            return v * std + mean

    plain = make()(net, x, y)
    images = make(mean=MEAN, std=STD)(nn.Sequential(Undo(), net), normalised, y) * std + mean
    assert bool(ball.contains(images - x, rtol=1e-5 / float(ball.radius)).all())
    assert images.min() >= -1e-6
    assert images.max() <= 1 + 1e-6
    same = (images - plain).abs().flatten(1).amax(1) < 1e-4
    assert same.float().mean() >= 0.5  # a sign may turn where a gradient is zero up to rounding


def test_a_normalised_sample_that_does_not_move_stays_bit_for_bit():
    x, y = batch()
    normalised = (x - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(STD).reshape(1, 3, 1, 1)
    for attack in (
        from_torchattacks(torchattacks.FGSM, {"eps": 0.0}, mean=MEAN, std=STD),
        from_foolbox(foolbox.attacks.FGSM(), 0.0, mean=MEAN, std=STD),
    ):
        assert torch.equal(attack(network(), normalised, y), normalised)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.arange(6), "less than the number of classes, 5, but got 5"),
        (torch.full((6,), -1), "at least 0, but got -1"),
        (torch.zeros(5, dtype=torch.long), r"one label per input \(N=6\)"),
        (torch.zeros(6), r"class labels for an attack of another package.*y.long\(\)"),
        (torch.zeros(6, 5, dtype=torch.long), r"y.argmax\(1\)"),
        (torch.full((6, 5), 0.2), r"one class per sample, .* probabilities of shape \(6, 5\).*y.argmax\(1\)"),
        ([0] * 6, "labels of type list"),
    ],
)
def test_refuses_labels_that_are_no_classes(case, y, message):
    with pytest.raises(ValueError, match=message):
        case[0]()(network(), batch()[0], y)


def test_refuses_data_and_models_that_cannot_be_meant(case):
    x, y = batch()
    with pytest.raises(ValueError, match=r"Expected images in \[0, 1\]"):
        case[0]()(network(), (x - 0.5) / 0.2, y)
    with pytest.raises(TypeError, match="Expected the model to return logits"):
        case[0]()(lambda v: {"logits": v.flatten(1)}, x, y)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_all_kinds_give_the_same_images(case, kind):
    net, (x, y) = network(), batch()
    expected = case[0]()(net, x, y)
    assert torch.equal(case[0]()(net, x, y.to(kind)), expected)
    assert torch.equal(case[0]()(net, x, y[:, None].to(kind)), expected)


def test_in_inference_mode_and_under_no_grad(case):
    make, _, _ = case
    net, (x, y) = network(), batch()
    expected = make()(net, x, y)
    with torch.no_grad():
        assert torch.equal(make()(net, x, y), expected)
    before = state_of_everything(net)
    with torch.inference_mode():
        x_adv = make()(net, x.clone(), y.clone())
        assert torch.is_inference_mode_enabled()
        # The logits stay usable by inference code around it.
        assert net(x_adv).shape == (6, 5)
    assert torch.equal(x_adv, expected)
    kept = {name: before[name] for name in ("flags", "needs", "grads")}
    assert_same(kept, state_of_everything(net))


def test_with_autocast(case):
    make, ball, _ = case
    net, (x, y) = network(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        x_adv = make()(net, x, y)
        assert torch.is_autocast_enabled("cpu")
    assert x_adv.dtype == torch.float32
    assert bool(ball.contains(x_adv - x, rtol=2e-6 / float(ball.radius)).all())
    assert not torch.equal(x_adv, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keeps_the_type_of_the_data(case, dtype):
    make, ball, _ = case
    net, (x, y) = network().to(dtype), batch()
    x = x.to(dtype)
    x_adv = make()(net, x, y)
    assert x_adv.dtype == dtype
    assert not torch.equal(x_adv, x)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert bool(ball.contains((x_adv.double() - x.double()), rtol=2e-6 / float(ball.radius)).all())


def test_of_a_plain_function(case):
    weights = torch.randn(192, 5, generator=torch.Generator().manual_seed(0))

    def model(v: torch.Tensor) -> torch.Tensor:
        return torch.tanh(v.flatten(1) @ weights)

    x, _ = batch()
    y = model(x).argmax(1)
    x_adv = case[0]()(model, x, y)
    assert x_adv.shape == x.shape
    assert not torch.equal(x_adv, x)


def test_sees_the_model_of_the_moment(case):
    """Nothing of an earlier model or of earlier weights is kept."""
    make, _, _ = case
    attack, net, (x, y) = make(), network(), batch()
    attack(net, x, y)
    with torch.no_grad():
        net[-1].weight.neg_()
    assert torch.equal(attack(net, x, y), make()(net, x, y))


def test_in_worst_of_with_ours(case):
    make, _, _ = case
    net, (x, y) = network(), batch()
    theirs, ours = make(), PGD(Linf(EPS), steps=3)
    union = worst_of(theirs, ours)(net, x, y)
    net.eval()
    ce = nn.CrossEntropyLoss(reduction="none")
    with torch.no_grad():
        fooled = [net(a(net, x, y)).argmax(1) != y for a in (theirs, ours)]
        assert torch.equal(net(union).argmax(1) != y, fooled[0] | fooled[1])
        neither = ~(fooled[0] | fooled[1])
        values = torch.stack([ce(net(a(net, x, y)), y) for a in (theirs, ours)])
        assert torch.allclose(ce(net(union), y)[neither], values.amax(0)[neither])


@pytest.mark.parametrize("package", ["torchattacks", "foolbox"])
def test_says_how_to_install_what_is_missing(package, monkeypatch):
    attack = foolbox.attacks.FGSM()
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=re.escape(f'pip install "lightning-robust[{package}]"')):
        from_torchattacks(torchattacks.PGD) if package == "torchattacks" else from_foolbox(attack, EPS)
