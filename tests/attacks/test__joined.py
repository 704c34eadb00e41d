"""The network and the map of a space before it as one graph: for any space, the same examples, or the network alone."""

import functools
import gc
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Chart, LatentSpace, Linf, MinimumNorm, Space, Threat, fast
from lightning_robust.attacks._graphs import graphs_of
from lightning_robust.attacks._joined import joined, kind_of
from lightning_robust.attacks._layout import ChannelsLast
from lightning_robust.manifolds import VAEGAN, PCAManifold, Residual
from tests.helpers import SHAPE, SPACES, C, H, K, Plane, W, Z, batch, images, net, unchanged

BACKEND = "aot_eager"
OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7)
"""torch 2.6 cannot trace the context in which the VAE-GAN decodes."""


def scores(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, 8), nn.Tanh(), nn.Linear(8, K)).to(dtype)


def kept(model, backend=BACKEND):
    """For each graph of a network: does it begin at the perturbation?"""
    return [kind[-1] is not None for kind, sizes in graphs_of(model, backend)._kinds.items() for _ in sizes.graphs]


def attack_of(space, **kwargs):
    return PGD(Threat(Linf(0.2), space), steps=3, **kwargs)


def vaegan(**kwargs):
    torch.manual_seed(1)
    return VAEGAN(SHAPE, latent=Z, width=1 / 64, init_std=None, bound=2.0, **kwargs).double()


MANIFOLDS = {
    "vaegan": vaegan,
    "conditional": lambda: vaegan(num_classes=K, conditional=True),
    "pca": lambda: PCAManifold(SHAPE, Z, K).double().fit(images(60, dtype=torch.float64), torch.arange(60) % K),
    "residual": lambda: Residual(Plane().double()),
}
SPACES_OF = {name: lambda name=name: SPACES[name].space for name in ("normalized", "affine", "directions", "line")} | {
    name: lambda make=make: LatentSpace(make()) for name, make in MANIFOLDS.items()
}


@pytest.mark.parametrize("name", SPACES_OF)
def test_one_graph_for_all_batches_and_the_textbook_examples(name):
    model, space = scores(), SPACES_OF[name]()
    attack, manifold = attack_of(space), getattr(space, "manifold", None)
    whole = not (OLD and isinstance(manifold, VAEGAN))
    for seed in range(3):
        x, y, _ = batch(name if name in SPACES else "pixels", seed=seed, dtype=torch.float64)
        with unchanged(model, manifold if isinstance(manifold, nn.Module) else None), warnings.catch_warnings():
            warnings.simplefilter("error" if whole else "ignore")
            ours = fast(attack, compile=BACKEND).run(model, x, y.roll(seed))
        plain = attack.run(model, x, y.roll(seed))
        torch.testing.assert_close(ours.delta, plain.delta, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.x_adv, plain.x_adv, rtol=1e-9, atol=1e-9)
    assert kept(model) == [whole]


def test_the_graph_has_no_gradient_but_that_of_the_code():
    seen = []

    def watching(graph, inputs):
        seen.extend(value for value in inputs if isinstance(value, torch.Tensor) and value.requires_grad)
        return graph

    torch._dynamo.register_backend(watching, name="watching_gradients")
    model, manifold, (x, y, _) = scores(), Plane().double(), batch(dtype=torch.float64)
    fast(attack_of(LatentSpace(manifold)), compile="watching_gradients")(model, x, y)
    assert [value.shape for value in seen] == [(len(x), Z)]


def test_what_training_makes_of_both_is_seen():
    model, manifold, (x, y, _) = scores(), Plane().double(), batch(dtype=torch.float64)
    attack = attack_of(LatentSpace(manifold))
    for _ in range(2):
        ours, plain = fast(attack, compile=BACKEND)(model, x, y), attack(model, x, y)
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            model[1].weight.mul_(-1)
            manifold.weight.mul_(0.5)
    assert kept(model) == [True]


def test_two_manifolds_in_turn_have_a_graph_each_and_so_have_other_sizes():
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    attacks = [attack_of(LatentSpace(Plane().double())), attack_of(SPACES["line"].space, random_start=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (6, 6, 4, 6):
            for attack in attacks:
                ours, plain = (one(model, x[:n], y[:n]) for one in (fast(attack, compile=BACKEND), attack))
                torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    assert kept(model) == [True, True]


def test_a_class_bank_is_in_no_graph_and_the_network_is():
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    attack = attack_of(LatentSpace(vaegan(num_classes=K)))
    with pytest.warns(UserWarning, match="compile the network alone, and the map of their space"):
        ours = fast(attack, compile=BACKEND)(model, x, y)
    torch.testing.assert_close(ours, attack(model, x, y), rtol=1e-9, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(attack, compile=BACKEND)(model, x.flip(0), y.flip(0))
    assert kept(model) == [False]


class Numbered(Space):
    """A space of somebody whose map holds a number that is another one in each batch."""

    def __init__(self):
        self.count = 0

    def chart(self, x, y, code=None):
        self.count += 1
        scale, zero = 1 + self.count / 100, torch.zeros_like(x)
        return Chart(zero, lambda delta: x + scale * delta, lambda delta: x + scale * delta)


def test_a_map_that_differs_from_batch_to_batch_is_soon_left_alone():
    model, (x, y, _) = scores(), batch(dtype=torch.float64)
    space = Numbered()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for count in range(8):
            space.count = count
            ours = fast(attack_of(space), compile="eager")(model, x, y)
            space.count = count
            torch.testing.assert_close(ours, attack_of(space)(model, x, y), rtol=1e-9, atol=1e-9)
    assert kept(model, "eager") == 4 * [True] + [False]
    assert ["another one in many batches" in str(one.message) for one in told] == [True]


def test_whatever_climbs_is_joined_with_leaving_samples_too():
    model, (x, y, _) = net(dtype=torch.float64), batch("latent_code", dtype=torch.float64)
    space = SPACES["latent_code"].space
    for attack in (
        attack_of(space, early_stop=True, keep="best", restarts=2),
        MinimumNorm(Threat(Linf(0.2), space), steps=3, targets=2),
    ):
        ours, plain = fast(attack, compile="eager").run(model, x, y), attack.run(model, x, y)
        torch.testing.assert_close(ours.delta, plain.delta, rtol=1e-9, atol=1e-9)
    assert kept(model, "eager") == [True]


@pytest.mark.slow
@pytest.mark.skipif(OLD, reason="the VAE-GAN is in no graph")
def test_the_default_backend_reaches_the_same_gain():
    model, manifold, (x, y, _) = net(), vaegan().float(), batch(n=32)
    attack = PGD(Threat(Linf(0.2), LatentSpace(manifold)), steps=4, keep="best")
    ours, plain = fast(attack, compile=True).run(model, x, y), attack.run(model, x, y)
    assert kept(model, True) == [True]
    torch.testing.assert_close(ours.gain, plain.gain, rtol=0, atol=1e-3)


def test_graphs_hold_neither_network_nor_manifold():
    model, manifold, (x, y, _) = scores(), Plane().double(), batch(dtype=torch.float64)
    fast(attack_of(LatentSpace(manifold)), compile=BACKEND)(model, x, y)
    gone = weakref.ref(manifold)
    del manifold
    gc.collect()
    assert gone() is None
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.gpu
@pytest.mark.skipif(OLD, reason="the VAE-GAN is in no graph")
@pytest.mark.parametrize("last", [False, True])
def test_on_a_gpu_one_graph_is_replayed_for_all_batches(last):
    model, manifold = net().cuda(), vaegan().float().cuda()
    attack = PGD(Threat(Linf(0.2), LatentSpace(manifold)), steps=5, keep="best")
    quick = fast(attack, compile=True, channels_last=last)
    for seed in range(3):
        x, y = (value.cuda() for value in batch(n=32, seed=seed)[:2])
        ours, plain = quick.run(model, x, y), attack.run(model, x, y)
        torch.testing.assert_close(ours.gain.mean(), plain.gain.mean(), rtol=0, atol=1e-3)
    assert kept(model, True) == [True]


# ------------------------------------------------------------------------------------------------------ the small parts


def test_a_model_that_knows_nothing_of_it_comes_after_the_map():
    delta = torch.ones(2, 3)
    assert torch.equal(joined(lambda x: x + 1, lambda d: 2 * d)(delta), 3 * delta)
    inner = ChannelsLast(lambda x: x.is_contiguous(memory_format=torch.channels_last))
    assert joined(inner, lambda d: d.reshape(1, 2, 3, 1).expand(1, 2, 3, 4).contiguous())(delta)


@dataclass
class Held:
    scale: float
    net: nn.Module


def _map(tensor, number, held):
    return lambda delta: delta * number + tensor + held.scale


def test_the_kind_of_a_map():
    network, x = nn.Linear(2, 2), torch.zeros(5, 3)
    kind = kind_of(_map(x, 1.0, Held(2.0, network)))
    assert kind == kind_of(_map(torch.ones(7, 3), 1.0, Held(2.0, network)))
    others = [
        _map(x.double(), 1.0, Held(2.0, network)),
        _map(torch.zeros(5, 4), 1.0, Held(2.0, network)),
        _map(x, 1.5, Held(2.0, network)),
        _map(x, 1.0, Held(3.0, network)),
        _map(x, 1.0, Held(2.0, nn.Linear(2, 2))),
        lambda delta: delta,
        functools.partial(_map, x),
        network.forward,
        [x, (1, None)],
    ]
    assert kind not in [kind_of(other) for other in others]
    assert len({kind_of(other) for other in others}) == len(others)
    assert kind_of(_map(x, 1.0, 2), shapes=False) == kind_of(_map(x.double()[:, :1], 1.0, 2), shapes=False)
