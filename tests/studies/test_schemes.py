import math

import pytest
import torch

from lightning_robust import PGD, AdversarialTraining, AffineSpace, LatentSpace, Linf, Threat
from lightning_robust._lightning import pl
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.models import RobustClassifier
from lightning_robust.studies.errors import StudyArgumentError
from lightning_robust.studies.schemes import SCHEMES, InTurn, RandomPerturbation, fonts_threats


@pytest.fixture(scope="module")
def threats():
    torch.manual_seed(0)
    learned = [VAEGAN(num_classes=k, latent=4, width=1 / 16, bound=2.0).requires_grad_(False) for k in (10, 1)]
    return fonts_threats(0.1, 0.3, on_class=learned[0], on_data=learned[1])


@pytest.fixture(scope="module")
def batch():
    return Fonts("hard").tensors("test", limit=20)


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


def test_a_scheme_without_its_manifold_says_so():
    with pytest.raises(StudyArgumentError, match="on_class"):
        SCHEMES["on-learned-class"].callbacks(fonts_threats(0.1, 0.3), steps=2)


def test_random_codes_are_uniform_in_the_ball_and_its_box(batch):
    x, y, code = batch
    manifold = FontsManifold("hard")
    threat = Threat(Linf(0.05), LatentSpace(manifold))
    outcomes = [RandomPerturbation(threat).run(None, x, y, code=code, key=key) for key in range(200)]
    delta = torch.stack([outcome.delta for outcome in outcomes])
    low, high = manifold.bounds
    assert bool((delta.abs() <= 0.05).all())
    assert bool(((code.theta + delta <= high + 1e-6) & (code.theta + delta >= low - 1e-6)).all())
    inside = ((code.theta - low).amin(1) > 0.05) & ((high - code.theta).amin(1) > 0.05)
    free = delta[:, inside].flatten()
    assert len(free) > 1000
    # The uniform distribution on [-a, a] has the variance a^2 / 3; its estimate deviates by (4 / 45)^0.5 a^2 / n^0.5.
    assert abs(float(free.var()) - 0.05**2 / 3) < 5 * (4 / 45) ** 0.5 * 0.05**2 / math.sqrt(len(free))
    torch.testing.assert_close(outcomes[0].x_adv, manifold.decode(code.theta + delta[0], y, code.font))


def test_random_maps_are_around_the_identity(batch):
    x, y, _ = batch
    threat = Threat(Linf(0.1), AffineSpace(scale=0.2))
    delta = torch.cat([RandomPerturbation(threat).run(None, x, y, key=key).delta for key in range(100)])
    assert abs(float(delta[:, 4].mean())) < 5 * 0.1 / math.sqrt(3 * len(delta))


def test_random_perturbations_depend_on_the_key_and_the_sample_alone(batch):
    x, y, _ = batch
    attack = RandomPerturbation(Threat(Linf(0.1)))
    whole = attack.run(None, x, y, key=3).x_adv
    assert torch.equal(attack.run(None, x[5:8], y[5:8], key=3).x_adv, whole[5:8])
    assert not torch.equal(attack.run(None, x, y, key=4).x_adv, whole)


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_in_turn_gives_each_half_to_its_attack(n, batch, threats):
    x, y, code = (*(part[:n] for part in batch[:2]), type(batch[2])(*(part[:n] for part in batch[2])))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    off, on = PGD(threats.pixels, 3), PGD(threats.on_true, 3)
    both = InTurn(off, on)(model, x, y, code=code)
    assert torch.equal(both[: n // 2], off(model, x, y)[: n // 2])
    torch.testing.assert_close(both[n // 2 :], on(model, x, y, code=code)[n // 2 :])


def test_learned_schemes_keep_the_true_codes_from_the_attack(threats):
    for name, scheme in SCHEMES.items():
        for callback in scheme.callbacks(threats, 2):
            assert isinstance(callback, AdversarialTraining)
            assert callback.code == (2 if "true" in name else None)
