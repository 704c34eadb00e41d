"""Functions of adv-lib as attacks: a partial of one is an `Attack`, inert and seeded like all others."""

import sys
import types
from functools import partial

import pytest
import torch
from torch import nn

from lightning_robust.attacks import as_attack, worst_of
from tests.helpers import batch, net, unchanged

if "visdom" not in sys.modules:
    try:
        import visdom  # noqa: F401
    except ImportError:
        sys.modules["visdom"] = types.ModuleType("visdom")  # a plot server; no attack needs it

attacks = pytest.importorskip("adv_lib.attacks")
ATTACKS = {
    "pgd_linf": partial(attacks.pgd_linf, ε=0.1, steps=5),
    "apgd": partial(attacks.apgd, eps=0.1, norm=float("inf"), n_iter=5),
    "ddn": partial(attacks.ddn, steps=5),
    "fmn": partial(attacks.fmn, norm=2, steps=5),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_partial_is_an_attack_and_leaves_no_trace(name):
    model, (x, y, _) = net(), batch()
    attack = as_attack(ATTACKS[name])
    with unchanged(model):
        x_adv = attack(model, x, y, key=1)
    assert x_adv.shape == x.shape
    assert x_adv.isfinite().all()
    torch.testing.assert_close(attack(model, x, y, key=1), x_adv)


def test_it_fools_exactly_those_samples_of_a_linear_model_that_can_be_fooled():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), 0.4 + 0.2 * torch.rand(64, 1, 4, 4)
    y = model(x).argmax(1)
    w = model[1].weight.detach()
    logits = model(x).detach()
    needed = (logits[:, 0] - logits[:, 1]).abs() / (w[0] - w[1]).abs().sum()  # the least radius that fools a sample
    eps = needed.median().item() * 1.01
    attack = as_attack(partial(attacks.pgd_linf, ε=eps, steps=40, relative_step_size=0.1))
    assert 0 < int((needed < eps).sum()) < 64
    assert torch.equal(model(attack(model, x, y)).argmax(1) != y, needed < eps)


def test_it_joins_others():
    model, (x, y, _) = net(), batch()
    both = worst_of(*(as_attack(attack) for attack in ATTACKS.values()))
    assert both(model, x, y).shape == x.shape
