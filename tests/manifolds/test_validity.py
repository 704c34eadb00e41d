"""Which class explains an image, against the closed form for linear decoders."""

import pytest
import torch
from torch import Tensor, nn

from lightning_robust.manifolds import VAEGAN, Residual, explain, still_valid

K, Z = 3, 2


class Lines(nn.Module):
    """Class k: the images center_k + z A_k; rows of A_k are unit vectors, each moves one pixel alone.

    So the maximum of the likelihood is known for each pixel: soft, since z is paid for as well.
    """

    bounds = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centers", 4 * torch.rand(K, 12, generator=torch.Generator().manual_seed(0)))

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.flatten(1) - self.centers[y]).gather(1, self.moved(y)) * 0.5  # half of the way

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return self.centers[y].scatter_add(1, self.moved(y), z).view(-1, 1, 3, 4)

    def moved(self, y: Tensor) -> Tensor:
        return torch.stack((2 * y, 2 * y + 1), 1)

    def nearest(self, x: Tensor, k: int, beta: float, low: float = -torch.inf, high: float = torch.inf) -> Tensor:
        """The likelihood at the code that is nearest in the Euclidean norm, and nearer where z is paid for."""
        gap = x.flatten(1) - self.centers[k]
        z = gap[:, 2 * k : 2 * k + 2].clamp(low, high)
        left = gap.abs().sum(1) - gap[:, 2 * k : 2 * k + 2].abs().sum(1) + (gap[:, 2 * k : 2 * k + 2] - z).abs().sum(1)
        return -(beta * left + z.square().sum(1) / 2)


def images(n: int = 12) -> tuple[Lines, Tensor, Tensor]:
    """Images near those of a class, with a little noise."""
    g, lines, y = torch.Generator().manual_seed(1), Lines(), torch.arange(n) % K
    x = lines.decode(torch.randn(n, Z, generator=g), y)
    return lines, x + 0.1 * torch.randn(x.shape, generator=g), y


@pytest.mark.parametrize("beta", [3.0, 10.0])
def test_the_likelihood_is_that_of_the_closed_form(beta):
    """At beta >= 3 a code below 3 is worth more than it costs, so that the nearest code is the likeliest as well."""
    lines, x, _ = images()
    options = {"num_classes": K, "beta": beta, "candidates": None, "steps": 400, "lr": 0.1}
    found = explain(lines, x, **options)
    want = torch.stack([lines.nearest(x, k, beta) for k in range(K)], 1)
    torch.testing.assert_close(found.likelihood, want, atol=beta * 0.01, rtol=0)
    assert torch.equal(found.best, want.argmax(1))


def test_codes_are_within_the_bounds():
    lines, x, _ = images()
    lines.bounds = (torch.full((Z,), -0.3), torch.full((Z,), 0.4))
    found = explain(lines, x, num_classes=K, candidates=None, steps=400)
    want = torch.stack([lines.nearest(x, k, 3.0, -0.3, 0.4) for k in range(K)], 1)
    torch.testing.assert_close(found.likelihood, want, atol=0.03, rtol=0)


def test_images_of_another_class_are_no_longer_valid():
    lines, x, y = images()
    assert still_valid(lines, x, y, num_classes=K).all()
    shown = torch.where(torch.arange(len(y)) < 5, (y + 1) % K, y)
    moved = lines.decode(torch.zeros(len(y), Z), shown)
    assert torch.equal(still_valid(lines, moved, y, num_classes=K), shown == y)
    assert torch.equal(explain(lines, moved, y, num_classes=K).best, shown)


def test_of_classes_that_explain_an_image_alike_each_is_valid():
    lines = Lines()
    x = lines.centers.mean(0).view(1, 1, 3, 4)
    lines.centers.copy_(x.flatten().expand(K, -1))
    for k in range(K):
        assert still_valid(lines, x, torch.tensor([k]), num_classes=K)


def test_more_candidates_and_steps_never_lower_a_likelihood_and_the_true_class_is_one():
    lines, x, y = images()
    start = explain(lines, x, num_classes=K, steps=0).likelihood
    one = explain(lines, x, num_classes=K, candidates=1).likelihood
    true = explain(lines, x, (y + 1) % K, num_classes=K, candidates=1).likelihood
    every = explain(lines, x, num_classes=K, candidates=None).likelihood
    assert (one > start).sum(1).le(1).all()
    assert ((one > start).nonzero()[:, 1] == start.argmax(1)).all()
    assert ((true > start).nonzero()[:, 1] == (y + 1) % K).all()
    assert (every >= one).all()
    assert (every >= true).all()


def test_a_code_that_is_nearer_but_less_likely_is_not_taken():
    """At a tiny beta the code costs more than the residual, so that the encoder's is better than the nearest."""
    lines, x, _ = images()
    start = explain(lines, x, num_classes=K, beta=0.01, steps=0).likelihood
    assert torch.equal(explain(lines, x, num_classes=K, beta=0.01, steps=50).likelihood, start)


def test_neither_batches_nor_the_order_nor_modes_matter():
    judge = VAEGAN((1, 4, 4), latent=3, num_classes=K, width=1 / 16, init_std=None, bound=2.0).train()
    x, y = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % K
    state = torch.random.get_rng_state()
    once = explain(judge, x, y, num_classes=K, candidates=2, steps=5)
    order = torch.tensor([3, 1, 8, 0, 2, 7, 6, 5, 4])
    parts = explain(judge, x[order], y[order], num_classes=K, candidates=2, steps=5, batch_size=2)
    torch.testing.assert_close(parts.likelihood, once.likelihood[order], rtol=1e-4, atol=1e-4)
    assert all(module.training for module in judge.modules())
    assert all(p.grad is None for p in judge.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert torch.equal(explain(judge, x, y, num_classes=K, candidates=2, steps=5).best, once.best)


def test_a_manifold_with_fixed_parts_judges_as_well():
    class Shifted(Lines):
        def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(x - 1, y), torch.ones(len(x), 1, 1, 1)

        def decode(self, z: Tensor, y: Tensor, shift: Tensor) -> Tensor:
            return super().decode(z, y) + shift

    lines, x, y = images()
    ours, theirs = (explain(judge, each, y, num_classes=K) for judge, each in ((Shifted(), x + 1), (lines, x)))
    torch.testing.assert_close(ours.likelihood, theirs.likelihood, atol=1e-4, rtol=0)


def test_wrong_judges_and_labels_are_refused():
    _, x, y = images()
    with pytest.raises(ValueError, match="argument `judge` to have a decoder for each class"):
        explain(VAEGAN((1, 4, 4), latent=3, width=1 / 16), x, num_classes=K)
    for verdict in (explain, still_valid):
        with pytest.raises(TypeError, match="argument `judge` to be no Residual"):
            verdict(Residual(Lines()), x, y, num_classes=K)
    with pytest.raises(ValueError, match="argument `y` to hold labels from 0 to 1"):
        still_valid(Lines(), x, y, num_classes=2)
    with pytest.raises(ValueError, match="argument `x_adv` to hold at least one"):
        still_valid(Lines(), x[:0], y[:0], num_classes=K)
