"""Laws that every objective obeys: one list, all tests."""

import pickle

import jsonargparse
import pytest
import torch
from torch import nn

from lightning_robust.attacks import divergence
from lightning_robust.objectives import Awp, Objective, adversarial_loss, alp, awp, mart, mixed, trades
from tests.objectives.reference import linear, two_views

OBJECTIVES = [
    adversarial_loss,
    mixed(0.25),
    mixed(0.25, forward="separate"),
    trades(beta=6.0),
    trades(beta=6.0, forward="separate"),
    mart(beta=5.0),
    mart(beta=5.0, forward="separate"),
    alp(0.5),
    alp(0.5, forward="separate"),
    awp(adversarial_loss, gamma=0.01),
    awp(trades(beta=6.0), gamma=0.005),
]


def _name(objective):  # without the address of `adversarial_loss`, which differs from process to process
    return repr(objective).replace(repr(adversarial_loss), "adversarial_loss")


every = pytest.mark.parametrize("objective", OBJECTIVES, ids=_name)


@every
def test_is_a_scalar_with_a_gradient_and_leaves_the_batch_alone(objective):
    x, x_adv, y = two_views()
    before = [t.clone() for t in (x, x_adv, y)]
    model = linear()
    loss = objective(model, x, x_adv, y)
    loss.backward()
    assert (loss.shape, loss.dtype) == ((), torch.float64)
    assert model.weight.grad.abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(before, (x, x_adv, y), strict=True))
    assert not x_adv.requires_grad


@every
def test_pickles(objective):
    again = pickle.loads(pickle.dumps(objective))
    x, x_adv, y = two_views()
    assert again == objective
    assert objective is adversarial_loss or repr(objective).startswith(f"{type(objective).__name__}(")
    assert torch.equal(again(linear(), x, x_adv, y), objective(linear(), x, x_adv, y))


@every
def test_order_of_the_samples_does_not_matter(objective):
    x, x_adv, y = two_views()
    permutation = torch.tensor([3, 1, 5, 0, 4, 2])
    forward = objective(linear(), x, x_adv, y)
    shuffled = objective(linear(), x[permutation], x_adv[permutation], y[permutation])
    torch.testing.assert_close(shuffled, forward)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_finite_in_half_precision(objective, dtype, scale):
    x, x_adv, y = two_views(dtype=dtype)
    model = linear(dtype=dtype, scale=scale)  # scale 30: confident and often wrong
    loss = objective(model, x, x_adv, y)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert model.weight.grad.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_is_close_to_float32(objective, dtype):
    x, x_adv, y = two_views(dtype=torch.float32)
    exact = objective(linear(dtype=torch.float32), x, x_adv, y)
    with torch.autocast("cpu", dtype=dtype):
        loss = objective(linear(dtype=torch.float32), x, x_adv, y)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.03, atol=0.03)


@every
def test_gradient_agrees_with_finite_differences(objective):
    if isinstance(objective, Awp):
        pytest.skip("the perturbation is held constant on purpose: see test_awp.py")
    x, x_adv, y = two_views(n=3)
    model = linear()

    def loss(weight):
        return objective(lambda x: x @ weight.T + model.bias, x, x_adv, y)

    assert torch.autograd.gradcheck(loss, model.weight.detach().clone().requires_grad_())


@every
def test_trains(objective):
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = torch.randn(64, 2) * 0.1 + y[:, None]
    x_adv = x + 0.1 * (1 - 2 * y[:, None])
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        objective(model, x, x_adv, y).backward()
        optimizer.step()
    model.eval()
    assert (model(x_adv).argmax(1) == y).float().mean() > 0.95


KINDS = {
    "int32": lambda y: y.int(),
    "uint8": lambda y: y.byte(),
    "a column": lambda y: y[:, None],
    "probabilities": lambda y: nn.functional.one_hot(y, 4).float(),
    "probabilities in double": lambda y: nn.functional.one_hot(y, 4).double(),
}


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_class_labels_of_every_kind_are_the_same(objective, dtype):
    x, x_adv, y = two_views(dtype=dtype)
    plain = linear(dtype=dtype)
    expected = objective(plain, x, x_adv, y)
    expected.backward()
    for kind in KINDS:
        ours = linear(dtype=dtype)
        loss = objective(ours, x, x_adv, KINDS[kind](y))
        loss.backward()
        same = {"rtol": 0, "atol": 0}
        if "probabilities" in kind:  # torch sums them in another order
            same = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 1e-6, "atol": 1e-7}
        torch.testing.assert_close(loss, expected, **same)
        torch.testing.assert_close(ours.weight.grad, plain.weight.grad, **same)


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not isinstance(o, Awp)], ids=_name)
def test_probabilities_give_the_expectation_over_the_labels(objective):
    x, x_adv, _ = two_views()
    q = torch.rand(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    q = q / q.sum(1, keepdim=True)
    expected = 0.0
    for n in range(6):  # sample by sample, since each has probabilities of its own
        view = x[n : n + 1], x_adv[n : n + 1]
        expected += sum(q[n, k] * objective(linear(), *view, torch.tensor([k])) for k in range(4)) / 6
    torch.testing.assert_close(objective(linear(), x, x_adv, q), expected)


@every
def test_refuses_labels_that_are_no_classes(objective):
    inner = getattr(objective, "objective", objective)
    name = getattr(inner, "__name__", type(inner).__name__).lower()
    x, x_adv, y = two_views()
    own = r"write the loss: objective=\(model, x, x_adv, y\) -> scalar"
    multi_hot = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 6)
    for wrong in (y.float(), multi_hot, multi_hot.int(), y[:5], None, torch.zeros(6, 2, 2)):
        with pytest.raises(ValueError, match=own):
            objective(linear(), x, x_adv, wrong)
    with pytest.raises(ValueError, match=rf"the objective `{name}`.*one logit.*{own}"):
        objective(linear(classes=1), x, x_adv, y.float()[:, None])

    class Dense(nn.Linear):
        def forward(self, x):
            return super().forward(x)[:, :, None].expand(-1, -1, 3)

    with pytest.raises(ValueError, match=rf"For dense labels .*{own}"):
        objective(Dense(5, 4).double(), x, x_adv, y[:, None].expand(-1, 3))
    for wrong, said in ((y - 9, "at least 0"), (y + 9, "less than the number of classes, 4")):
        with pytest.raises(ValueError, match=said) as error:
            objective(linear(), x, x_adv, wrong)
        assert "write the loss" not in str(error.value)


@every
def test_refuses_an_output_that_is_no_tensor(objective):
    class Tuple(nn.Linear):
        def forward(self, x):
            return (super().forward(x),)

    with pytest.raises(TypeError, match=r"to return logits, a tensor \(N, K\), but got tuple"):
        objective(Tuple(5, 4).double(), *two_views())


def test_an_objective_tells_which_gain_belongs_to_it():
    def own(model, x, x_adv, y):
        raise NotImplementedError

    assert trades(beta=2).gain == pickle.loads(pickle.dumps(trades(beta=2))).gain == divergence
    assert awp(awp(trades())).gain == divergence
    assert [o.gain for o in (mixed(), alp(), mart(), awp(), awp(own))] == [None] * 5


two_view = pytest.mark.parametrize("make", [mixed, trades, mart, alp])


@two_view
def test_number_of_forwards(make):
    x, x_adv, y = two_views(n=6)
    losses = []
    for forward, expected in (("joint", [12]), ("separate", [6, 6])):
        model, sizes = linear(), []
        model.register_forward_pre_hook(lambda module, args, sizes=sizes: sizes.append(len(args[0])))
        losses.append(make(forward=forward)(model, x, x_adv, y))
        assert sizes == expected
    torch.testing.assert_close(*losses)  # no layer mixes the batch


@two_view
def test_batch_norm_sees_one_mixture_or_two_views(make):
    x, x_adv, y = two_views()
    for forward, last, count in (("joint", torch.cat([x, x_adv]), 1), ("separate", x_adv, 2)):
        model = nn.Sequential(nn.BatchNorm1d(5, momentum=1.0), nn.Linear(5, 4)).double()
        make(forward=forward)(model, x, x_adv, y)
        torch.testing.assert_close(model[0].running_mean, last.mean(0))
        assert int(model[0].num_batches_tracked) == count


@two_view
def test_refuses_views_of_two_shapes(make):
    x, x_adv, y = two_views()
    with pytest.raises(ValueError, match=r"shape of `x`, \(6, 5\), but got \(5, 5\)"):
        make()(linear(), x, x_adv[:5], y)


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o is not adversarial_loss], ids=_name)
@pytest.mark.parametrize("named", ["class", "function"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_comes_from_a_command_line(objective, named):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective, default=adversarial_loss)
    name = type(objective).__name__
    path = f"lightning_robust.objectives.{name if named == 'class' else name.lower()}"
    init = dict(vars(objective))
    if name == "Awp":
        inner = {"class_path": "lightning_robust.objectives.trades", "init_args": {"beta": 6.0}}
        wraps_trades = objective.objective is not adversarial_loss
        init["objective"] = inner if wraps_trades else "lightning_robust.objectives.adversarial_loss"
    config = parser.parse_object({"objective": {"class_path": path, "init_args": init}})
    assert parser.instantiate_classes(config).objective == objective
    assert path in parser.dump(config)
