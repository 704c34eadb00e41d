import sys
from collections import namedtuple
from typing import ClassVar

import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Linf, scope
from lightning_robust.attacks._compiled import Compiled
from lightning_robust.attacks.scope import ordinary
from tests.helpers import Recurrent, batch, net, unchanged


def test_inside_it_is_as_an_attack_needs_it():
    model = net()
    with torch.inference_mode(), scope(model):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
    with scope(model, mode="train"):
        assert model.training
        assert not model[4][1].training, "what the user froze stays frozen"
        assert not any(p.requires_grad for p in model.parameters())


def test_recurrent_layers_are_in_training_mode_without_dropout_and_compute_what_evaluation_computes():
    model, (x, _, _) = Recurrent(), batch()
    expected = model.eval()(x)
    for prepare in (model.train, model.eval):
        prepare()
        with unchanged(model), scope(model):
            assert model.lstm.training
            assert model.dropped.training
            torch.testing.assert_close(model(x), expected)
        assert model.dropped.dropout == 0.5


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_forwards_inside_leave_no_trace(mode):
    model, (x, _, _) = net(), batch()
    with unchanged(model), scope(model, mode=mode, seed=3):
        model(x)
        torch.rand(4)


def test_flags_that_are_changed_inside_are_put_back():
    model = net()
    with unchanged(model), scope(model):
        model.train()
        for p in model[0].parameters():
            p.requires_grad_(True)


def test_nested_scopes():
    model = net()
    with unchanged(model), scope(model, mode="train", seed=1):
        with scope(model, seed=2):
            torch.rand(2)
            assert not model.training
        assert model.training


def test_shared_parameters_and_modules():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer, nn.Linear(3, 3))
    model[2].weight = layer.weight
    with unchanged(model), scope(model):
        assert not layer.weight.requires_grad
    assert layer.weight.requires_grad


def test_the_stream_inside_depends_on_the_seed_alone():
    draws = []
    for seed in (1, 1, 2, -5, 2**40):
        torch.rand(3)
        with scope(nn.Identity(), seed=seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(d.tolist()) for d in draws}) == 4


def test_batch_normalization_with_frozen_statistics_normalizes_by_the_batch_only_in_train_mode():
    model = nn.Sequential(nn.BatchNorm1d(2))
    x = torch.randn(50, 2) * 3 + 1
    with unchanged(model):
        with scope(model):
            torch.testing.assert_close(model(x), x, rtol=1e-4, atol=1e-4)
        with scope(model, mode="train"):
            assert model(x).mean().abs() < 1e-5


def test_spectral_normalization_is_left_alone():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))
    with unchanged(model), scope(model, mode="train"):
        model(torch.randn(2, 4))


def test_functions_have_no_flags_but_streams():
    with unchanged(), scope(lambda x: x):
        torch.rand(3)


def test_plain_copies_inference_tensors_and_nothing_else():
    pair = namedtuple("pair", "a b")
    usual = torch.rand(2)
    with torch.inference_mode():
        odd = torch.rand(2)
        nested = {"t": (odd, [odd, usual], pair(odd, 3)), "s": "text"}
    with scope(nn.Identity()):
        plain = ordinary(nested)
    (one, (two, three), named), text = plain["t"], plain["s"]
    for tensor in (one, two, named.a):
        assert not tensor.is_inference()
        assert torch.equal(tensor, odd)
    assert three is usual
    assert isinstance(named, pair)
    assert (named.b, text) == (3, "text")
    assert ordinary(usual) is usual


class _Encoder(nn.Module):
    """A layer of a transformer, of torch, with batches first, and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


@pytest.mark.parametrize("half", [False, True])
def test_attention_multiplies_all_samples_at_once_though_parameters_are_frozen(half):
    """With a frozen projection torch multiplies row by row, by `bmm`: an attack then takes a tenth longer."""
    model, x = _Encoder(), torch.rand(4, 6, 8)

    def products() -> int:
        leaf = x.clone().requires_grad_()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            torch.autograd.grad(model(leaf).sum(), leaf)
        return sum(event.count for event in profile.key_averages() if event.key == "aten::bmm")

    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        usual = products()
    with torch.autocast("cpu", torch.bfloat16, enabled=half), scope(model, own_loop=True):
        assert products() == usual
        assert [name for name, p in model.named_parameters() if p.requires_grad] == ["layer.self_attn.in_proj_weight"]
    assert all(p.requires_grad for p in model.parameters())


def test_attention_is_frozen_where_its_weights_would_cost_more(monkeypatch):
    """A graph computes the gradients of weights that need them."""
    model = _Encoder()

    def free(network, **options):
        with scope(network, **options):
            return [name for name, p in network.named_parameters() if p.requires_grad]

    assert free(model, own_loop=True) == ["layer.self_attn.in_proj_weight"]
    assert free(model) == [], "what is run inside may call `backward`"
    assert free(Compiled(model, "eager"), own_loop=True) == []
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[scope.__module__], "is_sharded", lambda modules: True)
        assert free(model, own_loop=True) == []
    model.layer.self_attn.in_proj_weight.requires_grad_(False)
    assert free(model, own_loop=True) == [], "what the user froze stays frozen"


def test_a_step_in_the_same_autocast_has_the_gradients_that_it_has_without_an_attack():
    """Autocast keeps what it casts of weights that need gradients, without their graph where there was none."""
    model, x, y = _Encoder(), torch.rand(4, 6, 8), torch.tensor([0, 1, 0, 1])
    gradients = []
    for attacked in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            if attacked:
                with scope(model, own_loop=True) as ready:
                    with torch.no_grad():
                        ready(x)
                    leaf = x.clone().requires_grad_()
                    torch.autograd.grad(ready(leaf).sum(), leaf)
            model(x).flatten(1)[:, :2].logsumexp(1).sub(y).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 4
    assert all(map(torch.equal, *gradients))


class _Counts(nn.Module):
    """A model that keeps a state of the size of its batch. Its class notes in which state each forward begins."""

    begun: ClassVar[list[bool]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.before = nn.Linear(4, 3), None

    def forward(self, x):
        self.begun.append(self.before is None)
        logits = self.layer(x)
        self.before = logits if self.before is None else logits + self.before
        return logits


@pytest.mark.parametrize("options", [{"restarts": 3, "keep": "best"}, {"early_stop": True}, {"restarts": 2}])
def test_every_forward_begins_in_the_state_that_was_found(options):
    """Also behind the map of a space, in each restart, and where samples have left the batch."""
    _Counts.begun.clear()
    model, x = _Counts(), torch.rand(32, 4)
    PGD(Linf(0.2), steps=6, **options)(model, x, model.layer(x).argmax(1))
    assert len(_Counts.begun) > 4
    assert all(_Counts.begun)
