"""Every example runs, from an empty folder, in a process of its own.

`make docs` runs them too, in one process, but those of `ALONE`: so here they are slow tests, for `make test-oldest`.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from lightning_robust.cli import main
from tests.clothes import write_clothes

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
CONFIGS = sorted((ROOT / "examples" / "configs").glob("*.yaml"))


@pytest.fixture
def run(fresh, tmp_path):
    """Runs a program with these words in an empty folder; what it prints."""

    def run(program: str | Path, *words: str) -> str:
        done = fresh.run(program, *words, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_each_example_has_a_number_of_its_own():
    assert len({path.name[:2] for path in EXAMPLES}) == len(EXAMPLES)


NEEDS = {"14_timm_model": "timm", "15_functions_of_adv_lib": "adv_lib"}
"""Packages that users do not get with the extras, by the example that shows them."""


ALONE = {"16_many_processes"}
"""Examples that `make docs` does not run."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in ALONE else pytest.mark.slow, id=p.stem) for p in EXAMPLES],
)
def test_runs(path, run, tmp_path):
    pytest.importorskip(NEEDS.get(path.stem, "torch"))
    if "FashionMNIST" in path.read_text("utf-8"):  # which may not be installed here
        write_clothes(tmp_path / "data", train=8000, test=200)
    assert run(path)


def test_the_program_of_the_record_runs(run, tmp_path):
    write_clothes(tmp_path / "data", train=300, test=20)
    options = ["--train", "300", "--epochs", "1", "--images", "10"]
    said = run(ROOT / "examples" / "speedrun.py", *options)
    assert "600 images forward and backward, in 3 steps" in said
    assert "10 samples under Linf(eps=0.1)" in said


class Settings(NamedTuple):
    """What a configuration for data on disk says."""

    data: str
    parameters: int
    eps: float
    steps: int
    batch_size: int
    max_steps: int
    optimizer: type[torch.optim.Optimizer]
    rates: dict[int, float]
    augment: Any = None


_FALLING = {0: 0.1, 39_999: 0.1, 40_000: 0.01, 59_999: 0.01, 60_000: 0.001, 79_999: 0.001}
ON_DISK = {
    "madry_mnist": Settings("MNIST", 3_274_634, 0.3, 20, 50, 100_000, torch.optim.Adam, {0: 1e-4}),
    "madry_cifar10": Settings(
        "CIFAR10", 464_154, 8 / 255, 10, 128, 80_000, torch.optim.SGD, _FALLING, {"padding": 4, "flip": True}
    ),
    "madry_svhn": Settings(
        "SVHNExtra", 464_154, 4 / 255, 10, 128, 80_000, torch.optim.SGD, _FALLING, {"padding": 4, "flip": False}
    ),
}


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem not in ON_DISK], ids=lambda path: path.stem)
def test_configuration_runs(path, run, tmp_path):
    options = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2"]
    options += [f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false"]
    options += ["--data.init_args.batch_size=16"]
    program = "import runpy; runpy.run_module('lightning_robust.cli', run_name='__main__')"  # python -m
    run(program, "fit", "--config", str(path), *options)
    assert list(tmp_path.rglob("*.ckpt"))


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An empty folder, and the command line of nobody."""
    monkeypatch.setattr(sys, "argv", ["lightning-robust"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ON_DISK)
def test_configuration_parses_without_data(name, tmp_path, capsys):
    path = ROOT / "examples" / "configs" / f"{name}.yaml"
    with pytest.raises(SystemExit) as error:
        main(["fit", "--config", str(path), "--print_config"])
    assert error.value.code == 0
    assert f"class_path: lightning_robust.datamodules.{ON_DISK[name].data}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def _cli(name, tmp_path, *options):
    """The objects of a configuration, made as the command line makes them."""
    import lightning_robust.datamodules
    import lightning_robust.models  # noqa: F401
    from lightning_robust._lightning import lightning_cli, pl

    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    return lightning_cli()(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        args=[
            f"--config={ROOT / 'examples' / 'configs' / name}.yaml",
            "--seed_everything=false",
            "--trainer.accelerator=cpu",
            f"--trainer.default_root_dir={tmp_path}",
            *quiet,
            *options,
        ],
    )


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ON_DISK)
def test_configuration_says_what_its_comments_say(name, tmp_path):
    from lightning_robust import AdversarialTraining, RobustEvaluation

    cli, wanted = _cli(name, tmp_path), ON_DISK[name]
    assert type(cli.datamodule).__name__ == wanted.data
    assert cli.datamodule.batch_size == wanted.batch_size
    augment = cli.datamodule.augment
    assert (augment if augment is None else {"padding": augment.padding, "flip": augment.flip}) == wanted.augment
    assert sum(p.numel() for p in cli.model.network.parameters()) == wanted.parameters
    assert cli.trainer.max_steps == wanted.max_steps
    (training,) = [c for c in cli.trainer.callbacks if isinstance(c, AdversarialTraining)]
    (evaluation,) = [c for c in cli.trainer.callbacks if isinstance(c, RobustEvaluation)]
    assert training.attack.threat.ball.eps == evaluation.attacks["pgd"].threat.ball.eps == pytest.approx(wanted.eps)
    assert (training.attack.steps, evaluation.attacks["pgd"].steps) == (wanted.steps, 20)
    assert training.attack.random_start is True
    assert training.attack.rel_step_size is None  # 2.5 / steps
    assert cli.trainer.checkpoint_callback.monitor == "val/robust_acc"
    assert cli.trainer.checkpoint_callback.mode == "max"


@pytest.mark.usefixtures("alone")
def test_configuration_takes_the_options_of_its_comments(tmp_path):
    filters = "--model.init_args.network.init_args.filters"
    assert _cli("madry_mnist", tmp_path, "--data.init_args.train_size=1000").datamodule.train_size == 1000
    wide = _cli("madry_cifar10", tmp_path, f"{filters}=[16,160,320,640]").model
    assert sum(p.numel() for p in wide.parameters()) == 45_901_914
    cli = _cli("madry_svhn", tmp_path, f"{filters}=[16,64,128,256]", "--data=SVHN")
    assert sum(p.numel() for p in cli.model.parameters()) == 7_357_146
    assert type(cli.datamodule).__name__ == "SVHN"
    assert cli.datamodule.augment.flip is False


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ON_DISK)
def test_configuration_sets_the_learning_rate_of_each_step(name, tmp_path):
    cli, wanted = _cli(name, tmp_path), ON_DISK[name]
    made = cli.model.configure_optimizers()
    if len(wanted.rates) == 1:
        assert isinstance(made, wanted.optimizer)
        assert made.param_groups[0]["lr"] == wanted.rates[0]
        return
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, wanted.optimizer)
    assert made["lr_scheduler"]["interval"] == "step"
    assert (optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (0.9, 2e-4)
    optimizer.step()
    seen = {}
    for step in range(wanted.max_steps):  # the rate of step number `step`, from 0
        if step in wanted.rates:
            seen[step] = optimizer.param_groups[0]["lr"]
        scheduler.step()
    assert seen == pytest.approx(wanted.rates)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ON_DISK)
def test_configuration_trains_on_images_of_the_shape_of_its_data(name, tmp_path):
    from lightning_robust.datamodules import TensorDataModule

    limits = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0"]
    limits += ["--trainer.val_check_interval=1"] if name == "madry_svhn" else []
    cli = _cli(name, tmp_path, *limits)
    images, labels = torch.rand(6, *cli.datamodule.image_shape), torch.arange(6)
    data = TensorDataModule(
        train=(images, labels),
        test=(images, labels),
        num_classes=cli.datamodule.num_classes,
        val_size=2,
        batch_size=2,
        augment=cli.datamodule.augment,
    )
    cli.trainer.fit(cli.model, data)
    assert cli.trainer.global_step == 2
    assert 0 <= cli.trainer.callback_metrics["val/robust_acc"] <= cli.trainer.callback_metrics["val/clean_acc"] <= 1
    assert list(tmp_path.rglob("*.ckpt"))
