"""The VAE-GAN: its training against a plain version, the Lightning side, and what it is as a manifold."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_robust._lightning import pl
from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat
from lightning_robust.datamodules import Fonts, TensorDataModule
from lightning_robust.manifolds.vaegan import VAEGAN
from lightning_robust.models import RobustClassifier
from tests.manifolds.reference import assert_same, conditional_gradients, noise_of, references
from tests.processes import run_alone

SHAPE = (1, 8, 8)
OPTIONS = {"image_shape": SHAPE, "latent": 3, "width": 1 / 16, "init_std": None}


def data(n: int = 24, classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *SHAPE, generator=generator), torch.randint(classes, (n,), generator=generator)


def loader(x: Tensor, y: Tensor, size: int = 8) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch_size=size)


def trainer(path: Path, **options) -> pl.Trainer:
    defaults = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return pl.Trainer(default_root_dir=path, **{**defaults, **quiet, **options})


def model(seed: int = 0, **options) -> VAEGAN:
    torch.manual_seed(seed)
    return VAEGAN(**{**OPTIONS, **options})


@pytest.mark.parametrize(
    "options",
    [{}, {"eta": 0.3, "gamma": 0.5, "beta": [2.0, 4.0]}, {"clip": 5.0}],
    ids=["paper", "weights", "clipped"],
)
def test_training_is_that_of_separate_networks(tmp_path, options):
    clip, beta = options.pop("clip", None), options.get("beta", 3.0)
    vaegan = model(num_classes=2, gradient_clip_val=clip, lr_decay=0.9, **options).double()
    betas = beta if isinstance(beta, list) else [beta, beta]
    plain = references(vaegan, clip=clip, **{k: v for k, v in options.items() if k != "beta"})
    for reference, own in zip(plain, betas, strict=True):
        reference.beta = own
    x, y = data()
    x = x.double()
    trainer(tmp_path, precision="64-true").fit(vaegan, loader(x, y))
    for epoch in range(2):
        for i in range(3):
            part = slice(8 * i, 8 * i + 8)
            for k, reference in enumerate(plain):
                own = x[part][y[part] == k]
                for adam in reference.adams:
                    adam.param_groups[0]["lr"] = 0.005 * 0.9 ** (epoch + i / 3)
                reference.step((own, noise_of(vaegan, own, epoch)))
    assert_same(vaegan, plain, rtol=1e-6, atol=1e-8)


def test_a_class_in_company_is_the_class_alone(tmp_path):
    x, y = data(32, classes=2)
    y[8:16] = 1  # a batch without class 0
    bank = model(num_classes=2, lr_decay=1.0, gradient_clip_val=10.0).double()
    alone = model(num_classes=1, lr_decay=1.0, gradient_clip_val=10.0).double()
    own = [copy.deepcopy(part.members[0]) for part in (bank.encoder, bank.decoder, bank.discriminator)]
    for part, network in zip((alone.encoder, alone.decoder, alone.discriminator), own, strict=True):
        part.members[0] = network
    trainer(tmp_path, precision="64-true").fit(bank, loader(x.double(), y))
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8)]
    own = [(a[b == 0].double(), b[b == 0]) for a, b in batches if (b == 0).any()]
    assert len(own) == 3
    trainer(tmp_path, precision="64-true").fit(alone, DataLoader(own, batch_size=None))
    for name, value in alone.state_dict().items():
        if "members" in name:
            torch.testing.assert_close(bank.state_dict()[name], value)


@pytest.mark.parametrize("clip", [None, 5.0])
def test_a_conditional_model_is_trained_by_the_losses_of_its_networks(tmp_path, clip):
    options = {"num_classes": 3, "conditional": True, "confusion": 2.0, "gamma": 0.5}
    vaegan = model(**options, gradient_clip_val=clip, lr_decay=0.9).double()
    plain = copy.deepcopy(vaegan)
    names = ("encoder", "decoder", "discriminator", "adversary")
    adams = {
        name: torch.optim.Adam(getattr(plain, name).parameters(), lr=0.005, betas=(0.5, 0.9), weight_decay=1e-4)
        for name in names
    }
    x, y = data(classes=3)
    trainer(tmp_path, precision="64-true").fit(vaegan, loader(x.double(), y))
    for epoch in range(2):
        for i in range(3):
            part = slice(8 * i, 8 * i + 8)
            own = x[part].double()
            gradients = conditional_gradients(plain, own, y[part], noise_of(plain, own, epoch))
            for name, adam in adams.items():
                for p, gradient in zip(getattr(plain, name).parameters(), gradients[name], strict=True):
                    p.grad = gradient
                if clip is not None:
                    nn.utils.clip_grad_norm_(getattr(plain, name).parameters(), clip)
                adam.param_groups[0]["lr"] = 0.005 * 0.9 ** (epoch + i / 3)
                adam.step()
    for name in names:
        for p, want in zip(getattr(vaegan, name).parameters(), getattr(plain, name).parameters(), strict=True):
            torch.testing.assert_close(p, want, rtol=1e-6, atol=1e-8)


def test_a_conditional_model_draws_the_class_by_the_label_and_the_rest_by_the_code(tmp_path):
    generator, y = torch.Generator().manual_seed(0), torch.arange(200) % 2
    style = torch.rand(200, 1, 1, 1, generator=generator).expand(200, 1, 4, 8)  # how bright the lower half is
    upper = (0.2 + 0.6 * y).view(-1, 1, 1, 1).expand(200, 1, 4, 8)
    x = torch.cat([upper, style], dim=2)
    vaegan = model(num_classes=2, conditional=True, confusion=5.0, gamma=0.0, beta=0.3, width=1 / 8, latent=2)
    trainer(tmp_path, max_epochs=15).fit(vaegan, loader(x, y, 40))
    with torch.no_grad():
        drawn = vaegan.decode(vaegan.encode(x, y), 1 - y)
    assert float((drawn[:, :, :3] - (1 - upper[:, :, :3])).abs().mean()) < 0.05
    assert float((drawn[:, :, 5:] - x[:, :, 5:]).abs().mean()) < 0.12  # 0.25 where it is not known


def test_the_encoder_of_a_conditional_model_is_not_told_the_class():
    x, y = data(6)
    vaegan = model(num_classes=2, conditional=True)
    z = vaegan.encode(x, y)
    assert torch.equal(z, vaegan.encode(x, 1 - y))
    assert not torch.allclose(vaegan.decode(z, y), vaegan.decode(z, 1 - y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditional": True}, "`num_classes` to be at least 2"),
        ({"num_classes": 2, "confusion": 1.0}, "`confusion` to be 0 unless `conditional`"),
    ],
)
def test_options_of_conditional_models_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"Expected argument {message}"):
        model(**options)


def test_training_draws_nothing_from_the_global_generator(tmp_path):
    results = []
    for seed in (1, 2):
        vaegan = model(num_classes=2)
        torch.manual_seed(seed)
        trainer(tmp_path, max_epochs=1).fit(vaegan, loader(*data()))
        results.append(vaegan.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(model(num_classes=2).state_dict()["code_low"], results[0]["code_low"])


@pytest.mark.parametrize("stop", [2, 3, 4], ids=["inside an epoch", "between epochs", "in the second epoch"])
def test_resuming_gives_the_same_weights(tmp_path, stop):
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 3 * stop:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    def shuffled() -> TensorDataModule:
        return TensorDataModule(data(), data(8), val_size=0, batch_size=8)

    whole, resumed = model(num_classes=2), model(seed=1, num_classes=2)
    trainer(tmp_path, callbacks=[Save()]).fit(whole, shuffled())
    trainer(tmp_path).fit(resumed, shuffled(), ckpt_path=tmp_path / "middle.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["noise", "black", "white", "equal"])
def test_nothing_is_ever_nan(tmp_path, precision, kind):
    x, y = data(48, classes=3)
    x = {"noise": x, "black": 0 * x, "white": 0 * x + 1, "equal": x[:1].expand_as(x).clone()}[kind]
    vaegan = model(num_classes=3, lr=0.1, lr_decay=1.0)
    run = trainer(tmp_path, precision=precision, max_epochs=6)
    run.fit(vaegan, loader(x, y, 16), loader(x, y, 48))
    assert all(value.isfinite() for value in run.callback_metrics.values()), run.callback_metrics
    assert all(value.isfinite().all() for value in vaegan.state_dict().values())


def test_bfloat16_learns_as_float32_does(tmp_path):
    errors = {}
    for precision in ("32-true", "bf16-mixed"):
        run = trainer(tmp_path, precision=precision, max_epochs=12)
        x = 0.5 + 0.5 * data(64)[0][:, :, :1, :1].expand(64, 1, 8, 8).clone()  # one number decides the image
        run.fit(model(gamma=0.0), loader(x, data(64)[1], 16), loader(x, data(64)[1], 64))
        errors[precision] = float(run.callback_metrics["val/rec_mse"])
    assert errors["32-true"] < 0.01
    assert errors["bf16-mixed"] < 0.01


def test_plain_vae(tmp_path):
    vaegan = model(num_classes=2, gamma=0.0)
    assert vaegan.discriminator is None
    run = trainer(tmp_path)
    run.fit(vaegan, loader(*data()))
    assert {"train/rec", "train/kl"} == {name for name in run.callback_metrics if name.startswith("train/")}
    assert run.global_step == 2 * 2 * 3


def test_half_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bf16-mixed"):
        trainer(tmp_path, precision="16-true").fit(model(), loader(*data()))


_LABELS = [0, 1, 0, 0, 0, 0, 0, 1, *[0] * 8]  # only the second process sees class 1, and in the first batch only


def shards(rank: int) -> list[tuple[Tensor, Tensor]]:
    """Every second sample of two batches."""
    x, y = data(16)[0].double(), torch.tensor(_LABELS)
    return [(x[i : i + 8][rank::2], y[i : i + 8][rank::2]) for i in (0, 8)]


class Own(torch.utils.data.Dataset):
    """The batches of the process that asks."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return shards(torch.distributed.get_rank())[i]


class Save(pl.Callback):
    def on_train_end(self, trainer, module):
        torch.save(module.state_dict(), f"{trainer.default_root_dir}/rank{trainer.global_rank}.pt")


def together(folder):
    options = {"devices": 2, "strategy": "ddp_fork", "precision": "64-true", "use_distributed_sampler": False}
    run = trainer(folder, callbacks=[Save()], **options)
    run.fit(model(num_classes=2).double(), DataLoader(Own(), batch_size=None))


def test_two_processes(tmp_path):
    run_alone(together, tmp_path, timeout=300)
    states = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    vaegan = model(num_classes=2).double()
    for name, _ in vaegan.named_parameters():
        assert torch.equal(states[0][name], states[1][name]), name
    for name in ("code_low", "code_high"):
        assert torch.equal(states[0][name], states[1][name]), name
    assert (states[0]["code_low"] < states[0]["code_high"]).all()

    plain = references(vaegan)
    for epoch in range(2):
        for i in range(2):
            pair = [shards(rank)[i] for rank in range(2)]
            for k, reference in enumerate(plain):
                for adam in reference.adams:
                    adam.param_groups[0]["lr"] = 0.005 * 0.9 ** (epoch + i / 2)
                own = [x[y == k] for x, y in pair if (y == k).any()]
                if own:
                    reference.step(*[(x, noise_of(vaegan, x, epoch)) for x in own])
    vaegan.load_state_dict({**vaegan.state_dict(), **states[0]})
    assert_same(vaegan, plain, rtol=1e-6, atol=1e-8)


def test_logs(tmp_path):
    x, y = data()
    vaegan = model(num_classes=2)
    run = trainer(tmp_path)
    run.fit(vaegan, loader(x, y), loader(x, y))
    names = {"rec", "kl", "gan", "disc"}
    assert not {"train/confusion", "train/code_class"} & set(run.callback_metrics)
    assert {f"train/{name}" for name in names} <= set(run.callback_metrics)
    z, x_rec = vaegan.encode(x, y).detach(), vaegan.reconstruct(x, y).detach()
    expected = {
        "val/rec_mse": (x - x_rec).square().mean(),
        "val/code_mean": z.mean(),
        "val/code_var": z.var(correction=0),
        "val/code_within_2": (z.abs().amax(1) <= 2).float().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(run.callback_metrics[name], value, rtol=1e-4, atol=1e-5)
    tested = run.test(vaegan, loader(x, y), verbose=False)[0]
    assert tested["test/rec_mse"] == pytest.approx(float(expected["val/rec_mse"]), rel=1e-4)


def test_bounds_are_those_of_the_training_codes_and_travel_with_checkpoints(tmp_path):
    x, y = data()
    vaegan = model(num_classes=2)
    assert vaegan.bounds is None
    save = pl.callbacks.ModelCheckpoint(tmp_path, filename="last", monitor="val/rec_mse", save_top_k=1)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[save], max_epochs=1)
    run.fit(vaegan, loader(x, y), loader(x[:8], y[:8]))
    z = vaegan.encode(x, y)
    for fitted in (vaegan, VAEGAN.load_from_checkpoint(save.best_model_path, weights_only=True)):
        low, high = fitted.bounds
        torch.testing.assert_close(low, z.amin(0))
        torch.testing.assert_close(high, z.amax(0))
    low, high = vaegan.fit_bounds([(x[:5], y[:5]), (x[5:8], y[5:8])])
    torch.testing.assert_close(low, vaegan.encode(x[:8], y[:8]).detach().amin(0))


def test_bounds_without_validation_and_with_rows_that_become_images_later(tmp_path):
    fonts = Fonts(train_size=40, val_size=0, batch_size=20)
    vaegan = model(image_shape=(1, 28, 28), num_classes=10)
    trainer(tmp_path, max_epochs=1).fit(vaegan, fonts)
    x, y, _ = fonts.tensors("train")
    z = vaegan.encode(x, y)
    torch.testing.assert_close(vaegan.bounds[0], z.amin(0))
    torch.testing.assert_close(vaegan.bounds[1], z.amax(0))


def test_fixed_bounds(tmp_path):
    vaegan = model(bound=2.0)
    trainer(tmp_path, max_epochs=1).fit(vaegan, loader(*data()))
    low, high = vaegan.bounds
    assert torch.equal(low, torch.full((3,), -2.0))
    assert torch.equal(high, torch.full((3,), 2.0))


def test_encode_and_decode_leave_the_model_as_it_is(tmp_path):
    vaegan = model(num_classes=2)
    trainer(tmp_path, max_epochs=1).fit(vaegan, loader(*data()))
    vaegan.train()
    vaegan.encoder.members[0][1].eval()
    modes = [module.training for module in vaegan.modules()]
    before = copy.deepcopy(vaegan.state_dict())
    x, y = data(5)
    z = vaegan.encode(x, y)
    out = vaegan.decode(z, y)
    assert [module.training for module in vaegan.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in vaegan.state_dict().items())
    vaegan.eval()
    assert torch.equal(vaegan.encode(x, y), z)
    assert torch.equal(vaegan.decode(z, y), out)
    assert out.min() >= 0
    assert out.max() <= 1


def test_labels_choose_the_networks_of_a_bank_and_nothing_else():
    x, y = data(6)
    agnostic, bank = model(), model(num_classes=2)
    assert torch.equal(agnostic.encode(x, y), agnostic.encode(x, 1 - y))
    assert not torch.allclose(bank.encode(x, y), bank.encode(x, 1 - y))


def test_samples_and_interpolations():
    bank = model(num_classes=2)
    x, y, z = bank.sample(7, seed=4)
    assert x.shape == (7, *SHAPE)
    assert y.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert z.abs().max() <= 2
    assert torch.equal(x, bank.decode(z, y))
    assert torch.equal(bank.sample(7, torch.ones(7, dtype=torch.int64), seed=4).z, z)
    line = bank.interpolate(z[:2], z[2:4], y[:2], steps=5)
    assert line.shape == (2, 5, *SHAPE)
    torch.testing.assert_close(line[:, 0], bank.decode(z[:2], y[:2]))
    torch.testing.assert_close(line[:, 4], bank.decode(z[2:4], y[:2]))
    torch.testing.assert_close(line[1, 2], bank.decode((z[1:2] + z[3:4]) / 2, y[1:2])[0])


def test_on_learned_manifold_attack():
    bank = model(num_classes=2, bound=1.0)
    x, y = data(6)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    attack = PGD(Threat(Linf(0.3), LatentSpace(bank)), steps=5)
    z = bank.encode(x, y).detach()
    delta = attack.run(classifier, x, y).delta
    assert (delta.abs() <= 0.3 + 1e-6).all()
    inside = ((z + delta).abs() <= 1 + 1e-6) | (delta.abs() <= 1e-6)
    assert inside.all()
    torch.testing.assert_close(attack(classifier, x, y), bank.decode(z + delta, y).detach())
    start = nn.functional.cross_entropy(classifier(bank.decode(z, y)), y)
    assert nn.functional.cross_entropy(classifier(attack(classifier, x, y)), y) > start


@pytest.mark.parametrize("beta", [[1.0, 2.0, 3.0], []])
def test_wrong_weights_of_the_reconstruction(beta):
    with pytest.raises(ValueError, match="argument `beta` to "):
        model(num_classes=2, beta=beta)


@pytest.mark.parametrize("num_classes", [None, 10])
def test_checkpoints_of_another_module_are_refused(tmp_path, num_classes):
    classifier = RobustClassifier(torch.nn.Linear(2, 2), num_classes=num_classes)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_model_summary=False, default_root_dir=tmp_path)
    trainer.strategy.connect(classifier)
    trainer.save_checkpoint(tmp_path / "classifier.ckpt")
    with pytest.raises(ValueError, match=r"to be a checkpoint of a VAEGAN, but .*classifier.ckpt' cannot"):
        VAEGAN.load_from_checkpoint(tmp_path / "classifier.ckpt", weights_only=True)
