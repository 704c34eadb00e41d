from dataclasses import replace

import pytest
import torch

from lightning_robust import AdversarialTraining, AffineSpace, LatentSpace, Linf, PixelSpace, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomPerturbation
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.models import RobustClassifier
from lightning_robust_studies.stutz2019.schemes import SCHEMES, Threats


def known(**learned):
    """What letters are trained against; learned manifolds by name."""
    manifold = FontsManifold("hard")
    spaces = {"pixels": PixelSpace(), "on_true": LatentSpace(manifold), "transformations": AffineSpace()}
    return Threats(**{name: Threat(Linf(0.1), space) for name, space in {**spaces, **learned}.items()})


@pytest.fixture(scope="module")
def threats():
    torch.manual_seed(0)
    learned = [VAEGAN(num_classes=k, latent=4, width=1 / 16, bound=2.0).requires_grad_(False) for k in (10, 1)]
    return known(on_class=LatentSpace(learned[0]), on_data=LatentSpace(learned[1]))


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


@pytest.mark.parametrize("name", SCHEMES)
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
    assert all(scheme.fraction == (1.0 if name.endswith("-100") else 0.5) for name, scheme in SCHEMES.items())


@pytest.mark.parametrize("name", ["on-learned-class", "random-on-learned-class", "off-and-on-learned-class"])
def test_a_scheme_without_its_learned_manifold_says_so(name):
    with pytest.raises(ValueError, match="on_class"):
        SCHEMES[name].callbacks(known(), steps=2)


@pytest.mark.parametrize("name", ["on-true", "random-on-true", "off-and-on-true-100"])
def test_a_scheme_without_a_true_manifold_says_so(name):
    with pytest.raises(ValueError, match="on_true"):
        SCHEMES[name].callbacks(replace(known(), on_true=None), steps=2)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("off-and-on-true", "on_true"),
        ("off-and-on-learned-class", "on_class"),
        ("off-and-transformations", "transformations"),
    ],
)
def test_combined_schemes_give_a_half_to_each_attack(name, second, threats):
    (callback,) = SCHEMES[name].callbacks(threats, 2)
    assert [attack.threat for attack in callback.attack.attacks] == [threats.pixels, getattr(threats, second)]


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        ("augmentation", "transformations"),
        ("random-on-true", "on_true"),
        ("random-on-learned-class", "on_class"),
        ("random-pixels", "pixels"),
    ],
)
def test_augmentation_is_a_random_perturbation_within_the_threat(name, threat, threats):
    for share in ("", "-100"):
        (callback,) = SCHEMES[name + share].callbacks(threats, 2)
        assert callback.attack == RandomPerturbation(getattr(threats, threat))


def test_learned_schemes_keep_the_true_codes_from_the_attack(threats):
    for name, scheme in SCHEMES.items():
        for callback in scheme.callbacks(threats, 2):
            assert isinstance(callback, AdversarialTraining)
            assert callback.reader.code == (2 if "true" in name else None)
