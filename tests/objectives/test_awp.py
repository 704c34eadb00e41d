"""Adversarial weight perturbation, beside the textbook version that changes the weights and puts them back."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from lightning_robust import PGD, AdversarialTraining, Linf
from lightning_robust._lightning import pl
from lightning_robust.objectives import Trades, adversarial_loss, alp, awp, mart, mixed, trades
from lightning_robust.objectives.awp import weight_perturbation
from tests.objectives import awp_ddp
from tests.processes import run_two_ranks


def _network(seed=0):
    torch.manual_seed(seed)
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)).double()


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
    [adversarial_loss, trades(6.0), trades(6.0, forward="separate"), mart(5.0)],
    ids=["adversarial_loss", "trades", "trades, separate", "mart"],
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
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-7, atol=1e-9)


class Checkpointed(nn.Module):
    """A network, parts of which run again in the backward: none, one, or one inside of another."""

    def __init__(self, depth=0, reentrant=False):
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Sequential(nn.Linear(16, 12), nn.Dropout(0.2), nn.Tanh())
        self.outer = nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU())
        self.last = nn.Linear(12, 3)
        self.depth, self.reentrant = depth, reentrant

    def forward(self, x):
        return self.last(self._again(1, lambda x: self.outer(self._again(2, self.inner, x)), x.flatten(1)))

    def _again(self, depth, part, x):
        return checkpoint(part, x, use_reentrant=self.reentrant) if depth <= self.depth else part(x)


def by_hand(model, objective, batch, gamma, factor=1.0, autocast=None, weights=None):
    """Add v to the weights, go backward, put the weights back. BatchNorm forgets the ascent; gradients accumulate."""
    context = torch.autocast("cpu", dtype=autocast, enabled=autocast is not None)
    weights = [p for p in model.parameters() if p.ndim > 1] if weights is None else weights
    before = [p.detach().clone() for p in weights]
    buffers = [b.clone() for b in model.buffers()]
    with context:
        gradients = torch.autograd.grad(objective(model, *batch) * factor, weights)
    with torch.no_grad():
        for b, value in zip(model.buffers(), buffers, strict=True):
            b.copy_(value)
        for p, g in zip(weights, gradients, strict=True):
            p += g * (gamma * p.norm() / g.norm())
    with context:  # a new one: the casts of the old weights are forgotten
        loss = objective(model, *batch)
    (loss * factor).backward()
    with torch.no_grad():
        for p, value in zip(weights, before, strict=True):
            p.copy_(value)
    return loss.detach()


def _singles(step, n=8):
    return tuple(t.float() if t.is_floating_point() else t for t in _batch(step, n))


def _same(ours, theirs, **tolerance):
    """The same gradients, weights and statistics: bit by bit, or within a tolerance."""
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, **tolerance, msg=lambda m, name=name: f"gradient, {name}: {m}")
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **tolerance)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    "objective",
    [adversarial_loss, trades(6.0), trades(6.0, "separate"), mart(5.0), alp(0.5), mixed(0.25)],
    ids=["adversarial_loss", "trades", "trades, separate", "mart", "alp", "mixed"],
)
def test_gradients_by_hand_bit_by_bit(objective, depth, early_stop):
    ours, theirs = Checkpointed(depth), Checkpointed(depth)
    with set_checkpoint_early_stop(early_stop):
        for step in range(2):  # gradients accumulate
            torch.manual_seed(step)
            loss = awp(objective, 0.1)(ours, *_singles(step))
            loss.backward()
            torch.manual_seed(step)
            assert torch.equal(loss, by_hand(theirs, objective, _singles(step), 0.1))
    _same(ours, theirs)


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_by_hand_under_autocast(dtype, depth):
    factor = 2.0**14 if dtype == torch.float16 else 1.0  # as GradScaler does, which divides by it afterwards
    ours = Checkpointed(depth)
    with torch.autocast("cpu", dtype=dtype):
        loss = awp(trades(6.0), 0.1)(ours, *_singles(0))
    (loss * factor).backward()
    theirs = Checkpointed(depth)
    assert torch.equal(loss, by_hand(theirs, trades(6.0), _singles(0), 0.1, factor, dtype))
    _same(ours, theirs)


def test_gradients_times_what_comes_from_outside():
    ours, theirs = Checkpointed(1), Checkpointed(1)
    for step in range(3):
        torch.manual_seed(step)
        (awp(trades(), 0.1)(ours, *_singles(step)) / 3).backward()
        torch.manual_seed(step)
        by_hand(theirs, trades(), _singles(step), 0.1, 1 / 3)
    _same(ours, theirs, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("depth", [0, 2])
def test_a_loss_beside_it_and_two_backwards(depth):
    ours = Checkpointed(depth).eval()
    batch = _singles(0)
    beside = adversarial_loss(ours, *batch)  # a graph of the weights, made before
    loss = awp(adversarial_loss, 0.1)(ours, *batch)
    (loss + beside).backward(retain_graph=True)
    both = ours.last.weight.grad.clone()
    beside.backward()
    loss.backward()
    torch.testing.assert_close(ours.last.weight.grad, 2 * both)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_reentrant_checkpointing_says_what_torch_says():
    x, x_adv, y = _singles(0)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        awp(adversarial_loss, 0.1)(Checkpointed(1, reentrant=True), x, x_adv.requires_grad_(), y)


def test_refuses_a_weight_that_is_read_from_elsewhere():
    class Elsewhere(nn.Linear):
        def forward(self, x):
            return x.flatten(1) @ kept.T

    model = Elsewhere(16, 3)
    kept = model.weight
    with pytest.raises(ValueError, match=r"uses `weight` from elsewhere"):
        awp(adversarial_loss, 0.1)(model, *_singles(0))


@pytest.mark.parametrize("half", [False, True])
def test_sparse_gradients(half):
    class Sparse(nn.Module):
        def __init__(self, sparse):
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(10, 4, sparse=sparse)
            self.last = nn.Linear(16, 3)

        def forward(self, x):
            x = x.flatten(1)
            with torch.autocast("cpu", dtype=torch.float16, enabled=half):
                return self.last(x + self.table((9 * x[:, :4]).long()).flatten(1)).float()

    ours, theirs = Sparse(True), Sparse(False)
    awp(adversarial_loss, 0.1)(ours, *_singles(0)).backward()
    awp(adversarial_loss, 0.1)(theirs, *_singles(0)).backward()
    assert ours.table.weight.grad.is_sparse
    torch.testing.assert_close(ours.table.weight.grad.to_dense(), theirs.table.weight.grad)


class _Breaks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, left):
        ctx.left = left
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        ctx.left[0] -= 1
        if ctx.left[0] < 0:
            raise ArithmeticError("broken")
        return g, None


@pytest.mark.parametrize("left", [0, 1], ids=["in the ascent", "in the descent"])
def test_weights_are_back_when_a_backward_fails(left):
    model, left = Checkpointed(2), [left]
    before = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}

    def breaks(model, x, x_adv, y):
        return adversarial_loss(model, x, x_adv, y) + _Breaks.apply(model.last.weight, left).sum()

    with pytest.raises(ArithmeticError, match="broken"):
        awp(breaks, 0.1)(model, *_singles(0))
    for name, p in model.named_parameters():
        assert p is before[name][0]
        assert torch.equal(p, before[name][1])
        assert p.grad is None


def test_weights_of_several_types_and_weights_that_are_not_used():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.Linear(16, 8, dtype=torch.bfloat16)
            self.b = nn.Linear(8, 8, dtype=torch.float64)
            self.c = nn.Linear(8, 3)
            self.frozen = nn.Linear(3, 3).requires_grad_(False)
            self.spare = nn.Linear(3, 3)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            a = self.a(x.flatten(1).bfloat16()).tanh()
            return self.frozen(self.c(checkpoint(self.b, a.double(), use_reentrant=False).float())) * self.scale

    ours, theirs = Mixture(), Mixture()
    awp(trades(), 0.1)(ours, *_singles(0)).backward()
    by_hand(theirs, trades(), _singles(0), 0.1, weights=[theirs.a.weight, theirs.b.weight, theirs.c.weight])
    assert ours.spare.weight.grad is None
    assert ours.scale.grad is not None
    # bfloat16 rounds what is added to its weights by another path
    _same(ours, theirs, rtol=0.02, atol=1e-3)


def test_a_weight_that_is_used_twice_and_checkpointed():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            once = checkpoint(self.a, x.flatten(1), use_reentrant=False).tanh()
            return self.last(self.b(once))

    ours, theirs = Twice(), Twice()
    assert list(weight_perturbation(adversarial_loss, ours, *_singles(0), gamma=0.1)) == ["a.weight", "last.weight"]
    awp(adversarial_loss, 0.1)(ours, *_singles(0)).backward()
    by_hand(theirs, adversarial_loss, _singles(0), 0.1)
    _same(ours, theirs)


def test_gradients_reach_all_that_the_objective_depends_on():
    class Centers(nn.Module):  # an objective that learns, too
        def __init__(self):
            super().__init__()
            self.centers = nn.Parameter(torch.arange(9.0).reshape(3, 3))

        def forward(self, model, x, x_adv, y):
            return (model(x_adv) - self.centers[y]).square().mean()

    ours, theirs = (nn.Sequential(nn.Flatten(), Checkpointed(1)).eval() for _ in range(2))
    objectives = Centers(), Centers()
    x, x_adv, y = _singles(0)
    strengths = [torch.ones((), requires_grad=True) for _ in range(2)]
    awp(objectives[0], 0.1)(ours, x, x_adv * strengths[0], y).backward()

    def stretched(model, x, x_adv, y):
        return objectives[1](model, x, x_adv * strengths[1], y)

    by_hand(theirs, stretched, (x, x_adv, y), 0.1, weights=[p for p in theirs.parameters() if p.ndim > 1])
    torch.testing.assert_close(objectives[0].centers.grad, objectives[1].centers.grad)
    torch.testing.assert_close(strengths[0].grad, strengths[1].grad)
    _same(ours, theirs, rtol=1e-5, atol=1e-7)


def test_changes_nothing_but_the_statistics_of_the_descent_forward():
    model, plain = _network(), _network()
    model[4].weight.requires_grad_(False)
    batch = _batch(0)
    before = copy.deepcopy(model.state_dict())
    identities = [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
    weight_perturbation(adversarial_loss, model, *batch, gamma=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    awp(adversarial_loss, 0.1)(model, *batch)
    plain(batch[1])
    assert int(model[1].num_batches_tracked) == int(plain[1].num_batches_tracked) == 1
    assert identities == [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [k != 4 for k in (0, 0, 1, 1, 4)] + [True] * 3
    assert model.training


def test_the_descent_starts_from_the_state_that_the_ascent_found():
    class Spiking(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 3)
            self.state, self.seen = None, []

        def forward(self, x):
            self.state = self.first(x.flatten(1)) + (0.5 * self.state if self.state is not None else 0.0)
            self.seen.append(len(x))
            return self.last(self.state.tanh())

    batch = _singles(0)
    model, moved = Spiking(), Spiking()
    v = weight_perturbation(adversarial_loss, model, *batch, gamma=0.1)
    assert model.state is None
    assert model.seen == []
    loss = awp(adversarial_loss, 0.1)(model, *batch)
    with torch.no_grad():
        for name, d in v.items():
            moved.get_parameter(name).add_(d)
    torch.testing.assert_close(loss, adversarial_loss(moved, *batch))
    assert model.seen == [8]


def test_a_model_that_can_be_quiet_is_quiet_in_the_ascent():
    class Telling(nn.Linear):
        @contextlib.contextmanager
        def quietly(self):
            calls.append("quiet")
            yield
            calls.append("loud")

        def forward(self, x):
            calls.append("forward")
            return super().forward(x.flatten(1))

    calls = []
    awp(adversarial_loss, 0.1)(Telling(16, 3), *_singles(0))
    assert calls == ["quiet", "forward", "loud", "forward"]


def test_what_the_forward_logs_is_of_the_descent():
    logged = []

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(16, 3)

        def forward(self, x):
            self.log("size", float(len(x)))
            return self.net(x.flatten(1))

        def log(self, name, value, **kwargs):
            logged.append(name)
            super().log(name, value, **kwargs)

        def training_step(self, batch, batch_idx):
            raise NotImplementedError

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x, _, y = _singles(0)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    callback = AdversarialTraining(PGD(Linf(0.1), 1), awp(adversarial_loss, 0.1))
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[callback], **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), len(x)))
    assert logged == ["size", "train/loss"]


def test_hooks_on_a_weight_see_the_descent_alone():
    model = _network().eval()
    seen = []
    model[4].weight.register_hook(seen.append)
    awp(adversarial_loss, 0.1)(model, *_batch(0)).backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], model[4].weight.grad)


def test_perturbation_is_relative_to_each_weight_and_points_uphill():
    model = _network().eval()
    model[0].weight.requires_grad_(False)
    batch = _batch(0)
    v = weight_perturbation(adversarial_loss, model, *batch, gamma=0.02)
    assert set(v) == {"4.weight", "6.weight"}  # no bias, no scale of BatchNorm, nothing frozen
    adversarial_loss(model, *batch).backward()
    for name, d in v.items():
        w = model.get_parameter(name)
        torch.testing.assert_close(d.norm(), 0.02 * w.detach().norm())
        torch.testing.assert_close(torch.cosine_similarity(d.flatten(), w.grad.flatten(), dim=0).item(), 1.0)
        assert not d.requires_grad


def test_gamma_zero_is_the_objective():
    batch = _batch(0)
    ours, plain = _network(), _network()
    assert torch.equal(awp(trades(), gamma=0.0)(ours, *batch), trades()(plain, *batch))
    assert torch.equal(ours[1].running_mean, plain[1].running_mean)


def test_objective_sees_the_module_itself_and_may_be_awp():
    def features_only(model, x, x_adv, y):  # not only `model(x)`: a part of it
        return model[4](model[:4](x_adv)).square().sum()

    model = _network().eval()
    batch = _batch(0)
    once = awp(features_only, 0.01)
    assert awp(once, 0.01)(model, *batch) > once(model, *batch) > features_only(model, *batch)


def test_a_weight_without_gradient_stays():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 800.0, 0.0]))
    x, x_adv, _ = _batch(0)
    v = weight_perturbation(adversarial_loss, model, x, x_adv, torch.ones(len(x), dtype=torch.int64), gamma=0.1)
    assert torch.equal(v["1.weight"], torch.zeros(3, 16, dtype=torch.float64))


def test_an_unused_weight_is_left_out_and_infinite_gradients_do_not_spread():
    model = _network().eval()
    model.append(nn.Linear(3, 3).double())

    def overflowing(model, x, x_adv, y):
        return model[:7](x_adv).sum() + 1e306 * model[6].weight.sum()  # its norm is infinite

    v = weight_perturbation(overflowing, model, *_batch(0), gamma=0.1)
    assert set(v) == {"0.weight", "4.weight", "6.weight"}
    assert torch.equal(v["6.weight"], torch.zeros_like(v["6.weight"]))
    assert v["4.weight"].abs().sum() > 0


def test_works_where_gradients_are_off():
    model = _network().eval()
    batch = _batch(0)
    with torch.no_grad():
        loss = awp(adversarial_loss, 0.05)(model, *batch)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, awp(adversarial_loss, 0.05)(model, *batch).detach())


def test_a_small_float16_gradient_is_not_lost():
    torch.manual_seed(0)
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[19.0, 0, 0, 0], [0, 0, 0, 0]]))
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    y = torch.tensor([0])  # 1 - p_y = 6e-9: zero in float16
    with torch.autocast("cpu", dtype=torch.float16):
        v = weight_perturbation(adversarial_loss, model, x, x, y, gamma=0.1)["weight"]
    torch.testing.assert_close(v.norm(), torch.tensor(1.9))


class HalfInside(nn.Module):
    """A network that computes in float16 where nobody outside sees it; BatchNorm lies in a checkpointed part."""

    def __init__(self, half=True):
        super().__init__()
        torch.manual_seed(1)
        self.part = nn.Sequential(nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Tanh())
        self.last = nn.Linear(12, 3)
        self.half = half

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.float16, enabled=self.half):
            return self.last(_Once.apply(checkpoint(self.part, x.flatten(1), use_reentrant=False))).float()


class _Once(torch.autograd.Function):
    """The backward can run only once, as that of compiled and of invertible layers, which free what they have used."""

    @staticmethod
    def forward(ctx, x):
        ctx.used = False
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        assert not ctx.used
        ctx.used = True
        return g


@pytest.mark.parametrize("size", [1e-7, 1.0, 1e4])
def test_float16_gradients_of_every_size(size):
    def sized(model, x, x_adv, y):
        return size * adversarial_loss(model, x, x_adv, y)

    ours, theirs, half = HalfInside(), HalfInside(half=False), HalfInside()
    awp(sized, 0.1)(ours, *_singles(0)).backward()
    by_hand(theirs, sized, _singles(0), 0.1)
    _near(ours, theirs, 0.02)
    by_hand(half, adversarial_loss, _singles(0), 0.1)
    for a, b in zip(ours.buffers(), half.buffers(), strict=True):  # however many backwards were tried
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def _near(ours, theirs, share):
    a, b = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (ours, theirs))
    assert (a - b).norm() < share * b.norm()


def test_infinite_gradients_are_told():
    def infinite(model, x, x_adv, y):
        return adversarial_loss(model, x, x_adv, y) + torch.inf * model.last.bias.sum()

    model = HalfInside()
    awp(infinite, 0.1)(model, *_singles(0)).backward()
    assert not model.last.bias.grad.isfinite().all()
    assert model.part[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("static_graph", [False, True])
def test_inside_a_ddp_forward(tmp_path, static_graph):
    class Step(nn.Module):  # what Lightning does: the wrapper's forward calls the step
        def __init__(self):
            super().__init__()
            self.network = _network()

        def forward(self, *batch):
            return awp(trades(), 0.05)(self.network, *batch)

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        single, inner = Step(), Step()
        parallel = DistributedDataParallel(inner, static_graph=static_graph)
        optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (single, inner)]
        for step in range(3):
            batch = _batch(step)
            for optimizer, loss in zip(optimizers, (single, parallel), strict=True):
                optimizer.zero_grad()
                loss(*batch).backward()
                optimizer.step()
        torch.testing.assert_close(single.state_dict(), inner.state_dict())
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_average_the_gradients_by_hand():
    run_two_ranks(awp_ddp.main, timeout=60)


def test_refuses_what_it_cannot_do():
    with pytest.raises(TypeError, match=r"`objective` .* got trades\(beta.*Did you mean trades\(...\)\?"):
        awp(trades)
    with pytest.raises(TypeError, match=r"`objective` .* the class Trades. Did you mean Trades\(...\)\?"):
        awp(Trades)
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)).double()
    with pytest.raises(ValueError, match="two or more dimensions"):
        awp(adversarial_loss)(flat, *_batch(0))
    for wrong, shown in (lambda model, x, x_adv, y: model(x).sum(1), r"shape \(8,\)"), (lambda *args: {}, "dict"):
        with pytest.raises(TypeError, match=f"`objective` to return a scalar tensor, but got {shown}"):
            awp(wrong)(_network(), *_batch(0))


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
