from dataclasses import replace

import pytest
import torch

from lightning_robust import AdversarialTraining, AffineSpace, LatentSpace, Linf, PixelSpace, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomPerturbation
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold, PCAManifold, Residual
from lightning_robust.models import RobustClassifier
from lightning_robust_studies.stutz2019.kinds import KINDS, along
from lightning_robust_studies.stutz2019.schemes import SCHEMES, Threats


def known(**learned):
    """What letters are trained against; learned manifolds by name, with _ for -."""
    manifold = FontsManifold("hard")
    spaces = {"pixels": PixelSpace(), "on_true": LatentSpace(manifold), "transformations": AffineSpace()}
    along = {name.replace("_", "-"): Threat(Linf(0.1), space) for name, space in learned.items()}
    return Threats(**{name: Threat(Linf(0.1), space) for name, space in spaces.items()}, learned=along)


@pytest.fixture(scope="module")
def threats():
    torch.manual_seed(0)
    banks = [VAEGAN(num_classes=k, latent=4, width=1 / 16, bound=2.0).requires_grad_(False) for k in (10, 1)]
    x, y = torch.rand(100, 1, 28, 28), torch.arange(100) % 10
    spaces = {
        name: LatentSpace(around(kind.around, manifold))
        for name, kind in KINDS.items()
        for manifold in ((banks if kind.learner == "vaegan" else pcas(x, y))[0 if kind.per_class else 1],)
    }
    return known(**{name.replace("-", "_"): space for name, space in spaces.items()})


def pcas(x, y):
    """Principal components of each class, and of all: in place of flows too, which are slow."""
    return [PCAManifold((1, 28, 28), 4, classes).fit(x, y) for classes in (10, 1)]


def around(name, manifold):
    """The manifold, or the one around it."""
    return manifold if name is None else Residual(manifold)


class Seen(pl.Callback):
    """Keeps the inputs that the module's step is given."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.clean = batch[0].clone()
        forward = type(module).forward

        def spy(x):
            if module.training:
                self.trained_on = x.detach().clone()
            return forward(module, x)

        module.forward = spy


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.objective is None])
def test_each_scheme_trains_on_its_share_of_each_batch(name, threats):
    scheme, seen = SCHEMES[name], Seen()
    torch.manual_seed(0)
    module = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    pl.Trainer(
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[seen, *scheme.callbacks(threats, steps=2)],
    ).fit(module, Fonts("hard", train_size=20, batch_size=20))
    moved = (seen.trained_on != seen.clean).flatten(1).any(1)
    share = 0.0 if scheme.attack is None else 1.0 if name.endswith("-100") else 0.5
    assert moved.tolist() == [False] * round(20 * (1 - share)) + [True] * round(20 * share)


def test_names_say_the_share():
    whole = ("-100", "-both")
    assert all(scheme.fraction == (1.0 if name.endswith(whole) else 0.5) for name, scheme in SCHEMES.items())


def test_every_learned_manifold_has_its_schemes():
    for name in KINDS:
        for ending in ("", "-100", "-both"):
            assert SCHEMES[f"{along(name)}{ending}"].manifold == name


def test_an_image_and_its_own_example_stand_in_one_batch(threats):
    (callback,) = SCHEMES["on-learned-class-both"].callbacks(threats, 2)
    seen = []

    def model(x):
        seen.append(x)
        return torch.zeros(len(x), 10)

    x, x_adv = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    loss = callback.objective(model, x, x_adv, torch.arange(4))
    torch.testing.assert_close(torch.cat(seen), torch.cat([x, x_adv]))
    torch.testing.assert_close(loss, torch.tensor(10.0).log())


def test_the_learning_rate_of_residual_networks_lasts_for_all_their_passes():
    decays = {scheme.decay for scheme in SCHEMES.values() if scheme.network == "resnet"}
    assert decays == {0.95}
    assert {scheme.decay for scheme in SCHEMES.values() if scheme.network == "standard"} == {None}


def test_residual_networks_make_four_times_the_passes():
    for name, scheme in SCHEMES.items():
        assert (scheme.network, scheme.passes) == (("resnet", 4) if name.endswith("-resnet") else ("standard", 1))


@pytest.mark.parametrize("name", ["on-learned-class", "random-on-learned-class", "off-and-on-learned-class"])
def test_a_scheme_without_its_learned_manifold_says_so(name):
    with pytest.raises(ValueError, match="class"):
        SCHEMES[name].callbacks(known(), steps=2)


@pytest.mark.parametrize("name", ["on-true", "random-on-true", "off-and-on-true-100"])
def test_a_scheme_without_a_true_manifold_says_so(name):
    with pytest.raises(ValueError, match="on_true"):
        SCHEMES[name].callbacks(replace(known(), on_true=None), steps=2)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("off-and-on-true", "on_true"),
        ("off-and-on-learned-class", "class"),
        ("off-and-transformations", "transformations"),
    ],
)
def test_combined_schemes_give_a_half_to_each_attack(name, second, threats):
    (callback,) = SCHEMES[name].callbacks(threats, 2)
    assert [attack.threat for attack in callback.attack.attacks] == [threats.pixels, threats.known(second)]


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        ("augmentation", "transformations"),
        ("random-on-true", "on_true"),
        ("random-on-learned-class", "class"),
        ("random-pixels", "pixels"),
    ],
)
def test_augmentation_is_a_random_perturbation_within_the_threat(name, threat, threats):
    for share in ("", "-100"):
        (callback,) = SCHEMES[name + share].callbacks(threats, 2)
        assert callback.attack == RandomPerturbation(threats.known(threat))


def test_learned_schemes_keep_the_true_codes_from_the_attack(threats):
    for name, scheme in SCHEMES.items():
        for callback in scheme.callbacks(threats, 2):
            assert isinstance(callback, AdversarialTraining)
            assert callback.reader.code == (2 if "true" in name else None)
