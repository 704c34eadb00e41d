"""`from_torchattacks`: arguments, AutoAttack, and what is refused."""

import functools

import pytest
import torch
import torchattacks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust import RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.attacks import PGD, Attack, Linf, cross_entropy
from lightning_robust.interop import from_torchattacks
from lightning_robust.models import RobustClassifier
from tests.interop.test_ours_and_theirs import images, loss_of, smooth_network


def test_is_an_attack_with_its_arguments():
    attack = from_torchattacks(torchattacks.PGD, {"eps": 0.2, "steps": 3}, seed=4)
    assert isinstance(attack, Attack)
    assert dict(attack.arguments) == {"eps": 0.2, "steps": 3}
    assert attack.seed == 4


def test_scaled_scales_radius_and_step_given_or_default():
    scaled = from_torchattacks(torchattacks.PGD, {"eps": 0.2, "steps": 3}).scaled(0.5)
    assert dict(scaled.arguments) == {"eps": 0.1, "alpha": 1 / 255, "steps": 3}
    with pytest.raises(TypeError, match="cannot be scaled"):
        from_torchattacks(torchattacks.CW).scaled(0.5)


def test_scaled_moves_less():
    net, (x, y) = smooth_network(torch.float32), images(0.4, 0.6)
    attack = from_torchattacks(torchattacks.PGD, {"eps": 0.1, "alpha": 0.05, "steps": 4})
    assert (attack.scaled(0.5)(net, x.float(), y) - x).abs().max() == pytest.approx(0.05, abs=1e-6)


def test_autoattack_does_not_depend_on_the_clock(monkeypatch):
    import time

    net, (x, y) = smooth_network(torch.float32), images(0.0, 1.0, 4)
    attack = from_torchattacks(
        lambda model, seed: torchattacks.MultiAttack(
            [
                torchattacks.APGD(model, eps=0.05, steps=2, seed=seed),
                torchattacks.Square(model, eps=0.05, n_queries=3, seed=seed),
            ]
        )
    )
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert torch.equal(attack(net, x.float(), y), attack(net, x.float(), y))
    whole = from_torchattacks(torchattacks.AutoAttack, {"eps": 0.05, "n_classes": 6, "version": "rand"})
    assert torch.equal(whole(net, x[:1].float(), y[:1]), whole(net, x[:1].float(), y[:1]))


def test_targets_by_a_function_that_builds_the_attack():
    net, (x, y) = smooth_network(torch.float32), images(0.4, 0.6)
    x = x.float()

    def towards_the_next(model, **kwargs):
        attack = torchattacks.PGD(model, **kwargs)
        attack.set_mode_targeted_by_function(lambda images, labels: (labels + 1) % 6, quiet=True)
        return attack

    x_adv = from_torchattacks(towards_the_next, {"eps": 0.2, "alpha": 0.05, "steps": 8})(net, x, y)
    target = (y + 1) % 6
    assert bool((loss_of(net, x_adv, target) < loss_of(net, x, target)).all())


def test_prints_nothing(capsys):
    net, (x, y) = smooth_network(torch.float32), images(0.4, 0.6)
    from_torchattacks(torchattacks.PGD, {"steps": 2})(net, x.float(), y)
    assert capsys.readouterr().out == ""


def test_refuses_an_attack_that_is_bound_to_a_model():
    with pytest.raises(TypeError, match="bound to its model"):
        from_torchattacks(torchattacks.PGD(smooth_network()))


def test_refuses_what_builds_nothing():
    with pytest.raises(TypeError, match=r"Expected argument `factory`.*but got 'PGD'"):
        from_torchattacks("PGD")


@pytest.mark.parametrize(
    "make",
    [
        lambda: from_torchattacks(torchattacks.GN, {"std": 0.02}),
        lambda: from_torchattacks(lambda model: torchattacks.GN(model, std=0.02)),
        lambda: from_torchattacks(functools.partial(torchattacks.GN, std=0.02)),
    ],
)
def test_arguments_are_those_of_the_attack_whatever_their_name(make):
    """Gaussian noise has a deviation, and so has the normalisation of the data."""
    net, (x, y) = smooth_network(torch.float32), images(0.4, 0.6, 30)
    delta = make()(net, x.float(), y) - x
    assert float(delta.std()) == pytest.approx(0.02, rel=0.05)


def test_scaled_keeps_the_rest_and_reads_the_defaults_of_a_function():
    def build(model, eps=0.2, alpha=None):
        return torchattacks.PGD(model, eps=eps, alpha=alpha or eps / 4)

    assert dict(from_torchattacks(build).scaled(0.5).arguments) == {"eps": 0.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.1}, "unexpected keyword argument 'epsilon'"),
        ([("eps", 0.1)], "but got "),
        (0.1, "but got 0.1"),
    ],
)
def test_refuses_arguments_that_the_attack_does_not_take(arguments, message):
    with pytest.raises(
        TypeError, match=r"Expected argument `arguments` to be .*such as dict\(eps=8 / 255\).*" + message
    ):
        from_torchattacks(torchattacks.PGD, arguments)


@pytest.mark.parametrize(
    ("name", "value"), [("mean", "0.5"), ("std", 0.0), ("seed", 0.5), ("mean", [0.5, None]), ("std", -1)]
)
def test_refuses_options_that_cannot_be_meant(name, value):
    options = {"mean": 0.5, "std": 0.2, name: value}
    with pytest.raises((TypeError, ValueError), match=rf"Expected argument `{name}(\[1\])?` to be"):
        from_torchattacks(torchattacks.PGD, **options)


def ten_classes(eps: float) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A linear network, and images whose nearest image of another class is 0.7 to 0.99 times eps away in Linf.

    The class k is met at (z_y - z_k) / |w_y - w_k|_1. All images can be fooled, which spares AutoAttack its 5,000
    queries for those that withstand.
    """
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False)).requires_grad_(False)
    x = torch.rand(300, 1, 4, 4) * 0.2 + 0.4
    z, w = net(x), net[1].weight
    y = z.argmax(1)
    distance = (z.gather(1, y[:, None]) - z) / (w[y][:, None] - w).abs().sum(2)
    nearest = distance.scatter(1, y[:, None], torch.inf).amin(1)
    chosen = (nearest > 0.7 * eps) & (nearest < 0.99 * eps)
    return net, x[chosen], y[chosen]


def autoattack(eps: float) -> Attack:
    return from_torchattacks(torchattacks.AutoAttack, arguments={"eps": eps, "n_classes": 10, "version": "standard"})


def test_autoattack_fools_all_that_can_be_fooled():
    """Cross entropy, which pulls towards all wrong classes at once, does not."""
    eps = 8 / 255
    net, x, y = ten_classes(eps)
    x_adv = autoattack(eps)(net, x, y)
    assert len(x) > 20
    assert bool(((x_adv - x).abs() <= eps + 1e-6).all())
    assert bool((net(x_adv).argmax(1) != y).all())
    by_pgd = PGD(Linf(eps), steps=40, keep="best", gain=cross_entropy)(net, x, y)
    assert int((net(by_pgd).argmax(1) != y).sum()) < len(x)


def test_autoattack_in_robust_evaluation(tmp_path):
    eps = 8 / 255
    net, x, y = ten_classes(eps)
    evaluation = RobustEvaluation(
        {"autoattack": autoattack(eps), "pgd": PGD(Linf(eps), steps=40, gain=cross_entropy, restarts=2)}
    )
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[evaluation]
    )
    trainer.test(RobustClassifier(net), DataLoader(TensorDataset(x, y), batch_size=32), verbose=False)
    assert evaluation.results["test/clean_acc"] == 1
    assert evaluation.results["test/robust_acc"] == evaluation.results["test/robust_acc_autoattack"] == 0
    assert evaluation.results["test/success_autoattack"] == 1
    assert evaluation.results["test/robust_acc_pgd"] > 0.5
