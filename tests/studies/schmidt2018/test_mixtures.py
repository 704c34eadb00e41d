import math

import pytest
import torch

from lightning_robust.attacks import L2, PGD, Linf, PixelSpace, Threat
from lightning_robust_studies.schmidt2018 import mixtures
from lightning_robust_studies.schmidt2018.mixtures import BernoulliMixture, GaussianMixture
from lightning_robust_studies.schmidt2018.theory import bernoulli_error, gaussian_error
from tests.datamodules.helpers import Recorder, trainer

LINE = PixelSpace(-math.inf, math.inf)


class Signs(torch.nn.Module):
    """The linear classifier sgn <w, x> as logits (-<w, x>, <w, x>) / 2."""

    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, x):
        score = x @ self.w / 2
        return torch.stack([-score, score], 1)


def standard_error(p, n):
    return math.sqrt(max(p * (1 - p), 1e-6) / n)


@pytest.mark.parametrize("theta_seed", [None, 3])
def test_gaussian_errors_are_those_of_the_theory(theta_seed):
    n, d, sigma, eps = 20_000, 40, 3.5, 0.3
    data = GaussianMixture(d, sigma, theta_seed=theta_seed, test_size=n)
    w = data.theta + 0.5 * torch.sin(torch.arange(d)).double()
    x, y = data.tensors("test")
    sign = 2.0 * y - 1
    for radius in (0.0, eps):
        exact = float(gaussian_error(w, data.theta, sigma, radius))
        measured = float((sign * (x.double() @ w) <= radius * w.abs().sum()).double().mean())
        assert 0.005 < exact < 0.8
        assert abs(measured - exact) < 4 * standard_error(exact, n)
    for ball, p in ((Linf(eps), math.inf), (L2(1.0), 2)):
        x_adv = PGD(Threat(ball, LINE), steps=5, random_start=False)(Signs(w.float()), x, y)
        exact = float(gaussian_error(w, data.theta, sigma, float(ball.eps), p=p))
        error = float((Signs(w.float())(x_adv).argmax(1) != y).double().mean())
        assert abs(error - exact) < 4 * standard_error(exact, n)


def test_bernoulli_errors_are_those_of_the_theory():
    n, d, tau, eps = 20_000, 60, 0.15, 0.1
    data = BernoulliMixture(d, tau, theta_seed=1, test_size=n)
    w = data.theta * (1 + torch.arange(d) % 3)
    x, y = data.tensors("test")
    sign = 2.0 * y - 1
    for radius in (0.0, eps):
        exact = float(bernoulli_error(w, data.theta, tau, radius))
        margin = sign * (x.double() @ w) - radius * w.abs().sum()
        wrong = (margin < 0) | ((margin <= 1e-9) & (y == 0))
        assert 0.005 < exact < 0.8
        assert abs(float(wrong.double().mean()) - exact) < 4 * standard_error(exact, n)


def test_moments_and_independence():
    n, d, sigma = 40_000, 6, 1.7
    theta = torch.linspace(-1, 2, d)
    x, y = GaussianMixture(d, sigma, theta=theta, test_size=n).tensors("test")
    z = (2.0 * y - 1)[:, None] * x
    assert abs(y.double().mean() - 0.5) < 4 * standard_error(0.5, n)
    assert (z.mean(0) - theta).abs().max() < 4.5 * sigma / math.sqrt(n)
    covariance = torch.cov(z.double().T) / sigma**2
    assert (covariance - torch.eye(d)).abs().max() < 5 * math.sqrt(2 / n)
    assert abs(torch.corrcoef(torch.stack([z[:, 0].double(), y.double()]))[0, 1]) < 4.5 / math.sqrt(n)
    kurtosis = ((z - theta) / sigma).pow(4).double().mean()
    assert abs(kurtosis - 3) < 5 * math.sqrt(96 / (n * d))

    x, y = BernoulliMixture(d, 0.2, test_size=n).tensors("test")
    z = (2.0 * y - 1)[:, None] * x
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert (z.mean(0) - 0.4).abs().max() < 4.5 / math.sqrt(n)
    assert (torch.cov(z.double().T) - (1 - 0.16) * torch.eye(d)).abs().max() < 5 / math.sqrt(n)


def test_uniform_numbers_are_never_zero_or_one(monkeypatch):
    for word in (-(1 << 63), (1 << 63) - 1, 0, -1):
        monkeypatch.setattr(mixtures, "bits", lambda seed, *words, word=word: torch.tensor([word]))
        u = mixtures._uniform(0)
        assert 0 < u < 1
        assert torch.special.ndtri(u).isfinite()


@pytest.mark.parametrize("make", [GaussianMixture, BernoulliMixture])
def test_a_sample_belongs_to_its_row_alone(make):
    x, y = make(8, 0.4, train_size=50).tensors("train")
    small = make(8, 0.4, train_size=20, seed=9, val_size=3, batch_size=2).tensors("train")
    assert torch.equal(small[0], x[:20])
    assert torch.equal(small[1], y[:20])
    narrow = make(5, 0.4, train_size=50).tensors("train")
    assert torch.equal(narrow[0], x[:, :5])
    assert torch.equal(narrow[1], y)
    others = [
        make(8, 0.4, train_size=50, data_seed=1).tensors("train"),
        make(8, 0.4, val_size=50).tensors("val"),
        make(8, 0.4, test_size=50).tensors("test"),
    ]
    for other_x, other_y in others:
        # Not only the labels differ.
        assert not torch.equal((2 * other_y - 1)[:, None] * other_x, (2 * y - 1)[:, None] * x)
        assert not torch.equal(other_y, y)


def test_defaults():
    data = GaussianMixture(256)
    assert (data.sigma, data.num_classes, data.image_shape) == (2.0, 2, (256,))
    assert data.value_range == (-math.inf, math.inf)
    assert torch.equal(data.theta, torch.ones(256).double())
    assert (BernoulliMixture(256).tau, BernoulliMixture(2).tau) == (0.25, 0.5)
    assert BernoulliMixture(256).value_range == (-1, 1)
    prior = GaussianMixture(10_000, theta_seed=0).theta
    assert abs(float(prior.square().mean()) - 1) < 5 * math.sqrt(2 / 10_000)
    assert not torch.equal(prior, GaussianMixture(10_000, theta_seed=1).theta)


@pytest.mark.parametrize("make", [GaussianMixture, BernoulliMixture])
def test_a_trainer_draws_every_sample_once(make):
    data = make(6, 0.3, train_size=40, val_size=10, test_size=15, batch_size=8)
    model, lightning = Recorder(6, 2), trainer(max_epochs=1)
    state = torch.get_rng_state()
    drawn = torch.cat([x for x, _ in data.train_dataloader()])
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, data.tensors("train")[0].tolist()))
    lightning.fit(model, data)
    lightning.test(model, data, verbose=False)
    for part in ("val", "test"):
        assert torch.equal(torch.cat([x for x, _ in model.seen[part]]), data.tensors(part)[0])
    assert len(torch.cat([x for x, _ in model.seen["train"]])) == 40


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (GaussianMixture, {"d": 4, "theta": [1.0]}, r"`theta` to be a finite vector of shape \(4,\), .* \(1,\)"),
        (GaussianMixture, {"d": 1, "theta": torch.tensor([math.inf])}, r"`theta` to be a finite vector"),
        (BernoulliMixture, {"d": 2, "theta": [1.0, 0.5]}, r"`theta` to have the entries -1 and \+1 only"),
        (GaussianMixture, {"d": 1, "theta": [1.0], "theta_seed": 0}, r"one of the arguments .* theta_seed=0"),
    ],
)
def test_wrong_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
