import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_robust.attacks import FMN, L1, L2, PGD, Boundary, Linf, PixelSpace, Threat, _gain, margin

BALLS = {"Linf": (Linf, 1), "L2": (L2, 2), "L1": (L1, float("inf"))}


def linear(name, n=6):
    """Two classes of a linear model far from the bounds of pixels, and the distance of each sample."""
    ball, dual = BALLS[name]
    weight = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.rand(n, 1, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = x.flatten(1) @ weight.T
    distance = (z[:, 0] - z[:, 1]).abs() / torch.linalg.vector_norm(weight[0] - weight[1], ord=dual)
    return (lambda v: v.flatten(1) @ weight.T), x, z.argmax(1), ball, distance


@pytest.mark.parametrize("name", BALLS)
def test_boundary_gives_up_what_is_far(name):
    """Known norms at shares of the exact distance: 4 times as far is seen at once, twice after a sixth of the steps."""
    classify, x, y, ball, distance = linear(name)
    share = torch.tensor([1 / 4, 1 / 3.1, 1 / 2.9, 1 / 1.6, 1 / 1.4, 2.0], dtype=torch.float64)
    threat = Threat(ball(4 * float(distance.max())), PixelSpace(-99, 99))
    attack = PGD(threat, 12, gain=margin, rule=Boundary(below=share * distance), random_start=False, keep="best")
    asked, outcomes = [], []

    class Model(torch.nn.Module):
        def forward(self, v):
            asked.append(len(v))
            return classify(v)

    for whole, sizes in [(False, [6] + [4] * 2 + [2] * 10), (True, [6] * 13)]:
        model = Model()
        model.whole_batches = whole
        outcomes.append(attack.run(model, x, y))
        assert asked == sizes
        asked.clear()
    for outcome in outcomes:
        assert outcome.radius.isfinite().tolist() == [False] * 5 + [True]
        torch.testing.assert_close(outcome.radius[5], distance[5], rtol=0.02, atol=0)
    torch.testing.assert_close(outcomes[0].delta, outcomes[1].delta)


def test_boundary_gives_up_nothing_without_a_known_norm():
    classify, x, y, ball, distance = linear("L2")
    threat = Threat(ball(4 * float(distance.max())), PixelSpace(-99, 99))
    for rule in (Boundary(), Boundary(far=None, below=0.1 * distance)):
        asked = []
        attack = PGD(threat, 12, gain=margin, rule=rule, random_start=False, keep="best")
        attack.run(lambda v, asked=asked: asked.append(len(v)) or classify(v), x, y)
        assert asked == [6] * 13


class Waits(TorchDispatchMode):
    """Counts what reads a number off a tensor: on an accelerator each waits until all work is done."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", BALLS)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("rule", [Boundary, FMN])
def test_steps_do_not_wait_for_the_device(name, rule, known, monkeypatch):
    monkeypatch.setattr(_gain, "_known_finite", lambda logits: False)  # it looks at logits on a CPU alone
    classify, x, y, ball, distance = linear(name)
    rule = rule(below=2 * distance) if known else rule()
    counts = []
    for steps in (6, 12):
        attack = PGD(ball(0.5), steps, gain=margin, rule=rule, random_start=False, keep="best")
        with Waits() as waits:
            attack.run(classify, x, y)
        counts.append(waits.count)
    assert counts[0] == counts[1]
