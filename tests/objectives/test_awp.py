"""Adversarial weight perturbation, beside the textbook version that changes the weights and puts them back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_robust.objectives import awp, mart, standard, trades
from lightning_robust.objectives.awp import weight_perturbation


def _network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    ).double()


def _batch(step, n=8):
    generator = torch.Generator().manual_seed(step)
    x = torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    x_adv = (x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    return x, x_adv, torch.randint(3, (n,), generator=generator)


def textbook_step(model, optimizer, objective, batch, gamma):
    """The form of the authors: a proxy ascends, its difference is added to the model, and subtracted after the step."""
    proxy = copy.deepcopy(model)
    ascent = torch.optim.SGD(proxy.parameters(), lr=0.01)
    ascent.zero_grad()
    (-objective(proxy, *batch)).backward()
    ascent.step()
    difference = {}
    moved = dict(proxy.named_parameters())
    for name, p in model.named_parameters():
        if p.ndim > 1:
            d = moved[name].detach() - p.detach()
            difference[name] = gamma * p.detach().norm() / (d.norm() + 1e-20) * d
    with torch.no_grad():
        for name, d in difference.items():
            model.get_parameter(name).add_(d)
    optimizer.zero_grad()
    objective(model, *batch).backward()
    optimizer.step()
    with torch.no_grad():
        for name, d in difference.items():
            model.get_parameter(name).sub_(d)


OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01, betas=(0.5, 0.9)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "objective",
    [standard, trades(6.0), trades(6.0, forward="separate"), mart(5.0)],
    ids=["standard", "trades", "trades, separate", "mart"],
)
def test_steps_like_the_textbook(objective, optimizer):
    gamma = 0.05
    ours, theirs = _network(), _network()
    our_optimizer, their_optimizer = (OPTIMIZERS[optimizer](m.parameters()) for m in (ours, theirs))
    for step in range(20):
        batch = _batch(step)
        our_optimizer.zero_grad()
        awp(objective, gamma)(ours, *batch).backward()
        our_optimizer.step()
        textbook_step(theirs, their_optimizer, objective, batch, gamma)
        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(
                a, b, rtol=1e-7, atol=1e-9, msg=lambda m, name=name, step=step: f"{name}, step {step}: {m}"
            )


def test_changes_nothing_but_the_statistics_of_the_descent_forward():
    model, plain = _network(), _network()
    model[4].weight.requires_grad_(False)
    batch = _batch(0)
    before = copy.deepcopy(model.state_dict())
    identities = [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
    weight_perturbation(standard, model, *batch, gamma=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    awp(standard, 0.1)(model, *batch)
    plain(batch[1])
    assert int(model[1].num_batches_tracked) == int(plain[1].num_batches_tracked) == 1
    assert identities == [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [k != 4 for k in (0, 0, 1, 1, 4)] + [True] * 3
    assert model.training


def test_hooks_on_a_weight_see_the_descent_alone():
    model = _network().eval()
    seen = []
    model[4].weight.register_hook(seen.append)
    awp(standard, 0.1)(model, *_batch(0)).backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], model[4].weight.grad)


def test_perturbation_is_relative_to_each_weight_and_points_uphill():
    model = _network().eval()
    model[0].weight.requires_grad_(False)
    batch = _batch(0)
    v = weight_perturbation(standard, model, *batch, gamma=0.02)
    assert set(v) == {"4.weight", "6.weight"}  # no bias, no scale of BatchNorm, nothing frozen
    standard(model, *batch).backward()
    for name, d in v.items():
        w = model.get_parameter(name)
        torch.testing.assert_close(d.norm(), 0.02 * w.detach().norm())
        torch.testing.assert_close(torch.cosine_similarity(d.flatten(), w.grad.flatten(), dim=0).item(), 1.0)
        assert not d.requires_grad


def test_loss_is_the_objective_at_the_moved_weights():
    model = _network().eval()
    batch = _batch(0)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, d in weight_perturbation(trades(), model, *batch, gamma=0.05).items():
            moved.get_parameter(name).add_(d)
    loss, expected = awp(trades(), 0.05)(model, *batch), trades()(moved, *batch)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for p, q in zip(model.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_gamma_zero_is_the_objective():
    batch = _batch(0)
    ours, plain = _network(), _network()
    assert torch.equal(awp(trades(), gamma=0.0)(ours, *batch), trades()(plain, *batch))
    assert torch.equal(ours[1].running_mean, plain[1].running_mean)


def test_objective_sees_the_module_itself():
    def features_only(model, x, x_adv, y):  # not only `model(x)`: a part of it
        return model[4](model[:4](x_adv)).square().sum()

    model = _network().eval()
    batch = _batch(0)
    perturbed = awp(features_only, 0.1)(model, *batch)
    assert perturbed > features_only(model, *batch)


def test_nests():
    batch = _batch(0)
    model = _network().eval()
    outer = awp(awp(standard, 0.01), 0.01)(model, *batch)
    assert outer > awp(standard, 0.01)(model, *batch)


def test_tied_weights_move_together():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(16, 16, bias=False).double()
            self.b = nn.Linear(16, 16, bias=False).double()
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x.flatten(1)).tanh())

    torch.manual_seed(0)
    model, twin = Tied(), Tied()
    twin.load_state_dict(model.state_dict())
    batch = _batch(0)
    v = weight_perturbation(standard, model, *batch, gamma=0.1)
    assert list(v) == ["a.weight"]
    with torch.no_grad():
        twin.a.weight.add_(v["a.weight"])
    torch.testing.assert_close(awp(standard, 0.1)(model, *batch), standard(twin, *batch))


def test_a_weight_without_gradient_stays():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 800.0, 0.0]))
    x, x_adv, _ = _batch(0)
    v = weight_perturbation(standard, model, x, x_adv, torch.ones(len(x), dtype=torch.int64), gamma=0.1)
    assert torch.equal(v["1.weight"], torch.zeros(3, 16, dtype=torch.float64))


def test_an_unused_weight_is_left_out_and_infinite_gradients_do_not_spread():
    model = _network().eval()
    model.append(nn.Linear(3, 3).double())

    def overflowing(model, x, x_adv, y):
        return model[:7](x_adv).sum() + 1e306 * model[6].weight.sum()  # times the scale of the ascent: infinite

    v = weight_perturbation(overflowing, model, *_batch(0), gamma=0.1)
    assert set(v) == {"0.weight", "4.weight", "6.weight"}
    assert torch.equal(v["6.weight"], torch.zeros_like(v["6.weight"]))
    assert v["4.weight"].abs().sum() > 0


def test_works_where_gradients_are_off():
    model = _network().eval()
    batch = _batch(0)
    with torch.no_grad():
        loss = awp(standard, 0.05)(model, *batch)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, awp(standard, 0.05)(model, *batch).detach())


def test_a_small_float16_gradient_is_not_lost():
    torch.manual_seed(0)
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[19.0, 0, 0, 0], [0, 0, 0, 0]]))
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    y = torch.tensor([0])  # 1 - p_y = 6e-9: zero in float16
    with torch.autocast("cpu", dtype=torch.float16):
        v = weight_perturbation(standard, model, x, x, y, gamma=0.1)["weight"]
    torch.testing.assert_close(v.norm(), torch.tensor(1.9))


@pytest.mark.parametrize("static_graph", [False, True])
def test_inside_a_ddp_forward(tmp_path, static_graph):
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = _network()

        def forward(self, x):
            return self.network(x)

        def training_step(self, *batch):
            return awp(trades(), 0.05)(self, *batch)

    class Redirected(nn.Module):  # what Lightning does: the wrapper's forward calls the step
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *batch):
            return self.inner.training_step(*batch)

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        single, inner = Step(), Step()
        parallel = DistributedDataParallel(Redirected(inner), static_graph=static_graph)
        optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (single, inner)]
        for step in range(3):
            batch = _batch(step)
            for optimizer, loss in zip(optimizers, (single.training_step, parallel), strict=True):
                optimizer.zero_grad()
                loss(*batch).backward()
                optimizer.step()
        for a, b in zip(single.state_dict().values(), inner.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b)
    finally:
        torch.distributed.destroy_process_group()


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="`gamma` to be a finite number >= 0, but got -1"):
        awp(standard, gamma=-1)
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)).double()
    with pytest.raises(ValueError, match="two or more dimensions"):
        awp(standard)(flat, *_batch(0))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_trains_under_autocast(dtype, device):
    model = _network().float().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    x, x_adv, y = (t.to(device) for t in _batch(0, n=64))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=dtype):
            loss = awp(trades(), 0.01)(model, x.float(), x_adv.float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.isfinite().all() for p in model.parameters())
