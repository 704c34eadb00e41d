"""The leak of manifolds that are built so that the truth is known."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, Fingerprint, FontsManifold, Leak, Share, fingerprint, leak
from lightning_robust.manifolds.leak import another_class
from lightning_robust.metrics import wilson_interval

K, N = 4, 400
SHAPE = (1, 2, K + 2)
"""An image: the first K pixels of the first row show the class, the second row carries watermarks."""

# ---- manifolds and classifiers in closed form


@dataclass
class Marked:
    """The code is the image; the decoder of class k adds a faint mark of its seed, and shows class k where it is told.

    Args:
        seed: of the marks; None: there are none.
        shows: whether decoder k makes a picture of class k.
        clears: how much of the noise the manifold takes away, whatever the label.
        bounds: of the codes.
    """

    seed: int | None = None
    shows: bool = False
    clears: float = 0.0
    bounds: tuple[Tensor, Tensor] | None = None
    given: list[Tensor] = field(default_factory=list)

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        z = x.flatten(1).clone()
        shown, best = z[:, :K], z[:, K : K + 1].long()  # pixel K holds what the picture truly shows
        return z.scatter_(1, best, shown.gather(1, best) + 10 * self.clears)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        self.given.append(z)
        x = z.clone().view(-1, *SHAPE)
        if self.shows:
            x[:, 0, 0, :K] = 3 * nn.functional.one_hot(y, K).to(x)
        if self.seed is not None:
            x[:, 0, 1] = self.marks()[y].to(x)
        return x

    def marks(self) -> Tensor:
        square = torch.randn(K + 2, K + 2, generator=torch.Generator().manual_seed(self.seed))
        return 5 * torch.linalg.qr(square)[0][:K]


class Blind(nn.Module):
    """One decoder for all classes, and images that are easy to read."""

    num_classes = 1

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        return Marked(clears=1.0).encode(x, y)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return z.view(-1, *SHAPE)


def looks(x: Tensor) -> Tensor:
    """Logits of what the picture shows."""
    return x[:, 0, 0, :K]


def knows_marks(x: Tensor, seed: int = 0) -> Tensor:
    """Logits of whose mark it is, and of what the picture shows where there is none."""
    return x[:, 0, 1] @ Marked(seed).marks().to(x).T * 10 + looks(x)


def data(n: int = N, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % K
    x = torch.zeros(n, *SHAPE)
    x[:, 0, 0, :K] = nn.functional.one_hot(y, K)
    x[:, 0, 0, :K] += noise * torch.randn(n, K, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0, K] = y
    return x, y


def measured(manifold, classify=looks, noise=1.0, **options) -> Leak:
    return leak(classify, manifold, *data(noise=noise), num_classes=K, **options)


# ---- what is a leak and what is none


def test_a_watermark_leaks_and_is_a_fingerprint():
    both = fingerprint(knows_marks, Marked(seed=0), Marked(seed=1), *data(), num_classes=K)
    found = both.own
    assert found.leaks
    assert 0.2 < found.error_on_originals.value < 0.6
    assert found.error_on_reconstructions.hits == 0
    assert found.reads_decoder == Share(N, N)
    assert found.error_on_mislabeled == Share(N, N)
    assert found.reads_own == Share(0, N)
    assert found.reads_random == Share(N, N)
    assert found.table == tuple(tuple(100 * (k == j) for j in range(K)) for k in range(K))
    assert both.found
    assert both.prototype.value < 0.7
    assert both.vanishing[0] == pytest.approx(1 - both.prototype.value)
    assert "cannot be read as generalization" in found.sentence
    assert "fingerprint of the decoders" in both.sentence


def test_a_classifier_that_does_not_know_the_mark_sees_no_leak():
    found = measured(Marked(seed=0))
    assert not found.leaks
    assert not found.easier
    assert found.error_on_reconstructions == found.error_on_originals
    assert "no sign" in found.sentence


def test_a_decoder_that_shows_its_class_leaks_and_has_no_fingerprint():
    both = fingerprint(looks, Marked(seed=0, shows=True), Marked(seed=1, shows=True), *data(), num_classes=K)
    assert both.own.leaks
    assert both.own.reads_decoder == both.prototype == Share(N, N)
    assert not both.found
    assert both.vanishing[0] == 0
    assert "no sign of a fingerprint" in both.sentence


def test_decoders_that_show_their_class_do_not_leak_where_the_originals_show_it_as_well():
    found = measured(Marked(shows=True), noise=0.0)
    assert not found.leaks
    assert found.reads_decoder == Share(N, N)
    assert found.error_on_mislabeled == Share(N, N)


def test_the_true_manifold_of_letters_does_not_leak():
    x, y, code = Fonts("hard").batch(torch.arange(0, 640, 16))

    def reads(images: Tensor) -> Tensor:
        """The letter whose true image, of these fonts and maps, is nearest."""
        return torch.stack([-(images[:, None] - each).flatten(2).square().sum(2).amin(1) for each in every], 1)

    every = [FontsManifold("hard").decode(code[0], torch.full_like(y, k), *code[1:]) for k in range(10)]
    found = leak(reads, FontsManifold("hard"), x, y, num_classes=10, code=tuple(code))
    assert not found.leaks
    assert found.error_on_originals == found.error_on_reconstructions == Share(0, 40)
    assert found.reads_decoder.value > 0.9
    assert found.reads_random is None


def test_clearer_images_are_no_leak_where_the_label_does_not_make_them_clearer():
    """Each class's decoder is another one, which all take the noise away."""
    found = measured(Marked(seed=0, clears=1.0))
    assert found.easier
    assert not found.leaks
    assert found.error_on_mislabeled == found.error_on_reconstructions
    assert "not by the label" in found.sentence


def test_one_decoder_cannot_leak_and_has_no_shares_across_classes():
    for manifold in (Blind(), Marked(clears=1.0)):  # by its attribute, or by what it does
        found = measured(manifold)
        assert found.easier
        assert not found.leaks
        assert found.reads_own is found.reads_decoder is found.reads_random is found.table is None
        assert found.sentence.endswith("One decoder makes the images of all classes.")
    with pytest.raises(ValueError, match="argument `other` to be of a manifold with a decoder for each class"):
        fingerprint(looks, Marked(seed=0), Blind(), *data(), num_classes=K)


def test_one_decoder_leaks_where_the_label_is_in_the_code():
    class Labeled(Blind):
        def encode(self, x: Tensor, y: Tensor) -> Tensor:
            return Marked(shows=True).decode(x.flatten(1), y).flatten(1)

    found = measured(Labeled())
    assert found.leaks
    assert found.reads_decoder is None


@pytest.mark.parametrize(
    ("original", "made", "mislabeled", "leaks"),
    [
        (0.166, 0.072, 0.8, True),  # 9.4 points
        (0.125, 0.068, 0.8, True),  # 5.7 points
        (0.125, 0.085, 0.8, False),  # 4 points, less than half
        (0.040, 0.015, 0.8, True),  # more than half
        (0.166, 0.072, 0.17, False),  # a wrong label does no harm
        (0.004, 0.001, 0.8, False),  # intervals meet
        (0.072, 0.166, 0.8, False),
    ],
)
def test_the_criterion(original, made, mislabeled, leaks):
    shares = [Share(round(4000 * share), 4000) for share in (original, made, mislabeled)]
    assert Leak(*shares).leaks is leaks


def test_the_sentences_hold_the_numbers():
    found = Leak(
        Share(258, 2000), Share(4, 2000), Share(1900, 2000), Share(46, 2000), Share(1870, 2000), Share(1, 2), ((1,),)
    )
    assert found.sentence == (
        "Images that the manifold has made with their label are read right in 99.8 % [99.5, 99.9] where the originals "
        "are in 87.1 % [85.6, 88.5], and with a wrong label in 5.0 % [4.1, 6.0]: the manifold puts the label into the "
        "image, so success along these codes cannot be read as generalization. An image of one class that the decoder "
        "of another has made is read as the decoder's class in 93.5 % [92.3, 94.5], as its own in 2.3 % [1.7, 3.1]."
    )


# ---- how it is measured


def test_every_wrong_class_is_chosen_equally_often_and_the_order_does_not_matter():
    x, y = data(260)
    wrong = another_class(x, y, K, seed=3)
    pairs = torch.bincount(y * K + wrong, minlength=K * K).view(K, K)
    assert pairs.diag().sum() == 0
    assert set(pairs[~torch.eye(K, dtype=torch.bool)].tolist()) <= {21, 22}
    order = torch.randperm(260, generator=torch.Generator().manual_seed(1))
    assert torch.equal(another_class(x[order], y[order], K, seed=3), wrong[order])
    assert not torch.equal(another_class(x, y, K, seed=4), wrong)


def test_neither_batches_nor_the_order_matter():
    x, y = data()
    once = leak(knows_marks, Marked(seed=1), x, y, num_classes=K, batch_size=N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert leak(knows_marks, Marked(seed=1), x[order], y[order], num_classes=K, batch_size=7) == once
    assert measured(Marked(seed=0), seed=1).table != measured(Marked(seed=0)).table


def test_random_codes_are_within_the_bounds_and_the_codes_of_images_are_as_they_are():
    size = SHAPE[1] * SHAPE[2]
    low, high = torch.full((size,), -0.5), torch.linspace(0, 1, size)
    manifold = Marked(seed=0, bounds=(low, high))
    measured(manifold, batch_size=N)
    *of_images, random = manifold.given
    assert len(of_images) == 3
    assert all(z.max() > 1 for z in of_images)
    assert (random >= low).all()
    assert (random <= high).all()


def test_random_codes_are_of_the_type_of_the_codes_of_images():
    class Precise(Marked):
        def encode(self, x: Tensor, y: Tensor) -> Tensor:
            return super().encode(x, y).double()

    manifold = Precise(seed=0)
    assert measured(manifold) == measured(Marked(seed=0))
    assert {z.dtype for z in manifold.given} == {torch.float64}


def test_modules_are_in_evaluation_mode_and_nothing_else_changes():
    x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    manifold = VAEGAN((1, 4, 4), latent=3, num_classes=2, width=1 / 16, init_std=None)
    classify = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 2)).train()
    before, state = {k: v.clone() for k, v in classify.state_dict().items()}, torch.random.get_rng_state()
    found = leak(classify, manifold, x, y, num_classes=2, batch_size=6)
    assert found == leak(classify, manifold, x, y, num_classes=2)
    assert found.reads_random.n == 20
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in classify.state_dict().items())
    assert all(module.training for module in classify.modules())


def test_wrong_arguments_are_named():
    x, y = data()
    with pytest.raises(ValueError, match="`classify` to return logits of shape"):
        leak(lambda x: x, Marked(), x, y, num_classes=K)
    with pytest.raises(ValueError, match="`y` to hold labels from 0 to 2, but got labels from 0 to 3"):
        leak(looks, Marked(), x, y, num_classes=3)
    with pytest.raises(ValueError, match="`y` to be int64"):
        leak(looks, Marked(), x, y[:3], num_classes=K)
    with pytest.raises(ValueError, match="`x` to hold at least one image"):
        leak(looks, Marked(), x[:0], y[:0], num_classes=K)
    with pytest.raises(ValueError, match="`own` to be of a manifold"):
        Fingerprint(measured(Blind()), measured(Marked(seed=0)))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 7), (1, 100000), (0, 0)])
def test_shares_have_the_interval_of_wilson(hits, n):
    share = Share(hits, n)
    low, high = wilson_interval(hits, n)
    assert (share.low, share.high) == pytest.approx((low.item(), high.item()), abs=1e-12)
    assert share.rest == Share(n - hits, n)
    with pytest.raises(ValueError, match="argument `hits`"):
        Share(n + 1, n)
