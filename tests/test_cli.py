import json
import os
import pickle
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import yaml

from lightning_robust import __version__, attacks, cli, evaluate
from lightning_robust._command import Terminated
from lightning_robust._lightning import pl
from lightning_robust.callbacks import AdversarialTraining, RobustEvaluation
from lightning_robust.cli import main
from lightning_robust.datamodules import Fonts
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.objectives import trades

STANDARD = "lightning_robust.evaluation.standard"
PGD = {"class_path": "PGD", "init_args": {"threat": {"class_path": "Linf", "init_args": {"eps": 0.1}}, "steps": 2}}


def test_help_and_version(capsys):
    main([])
    assert "demo" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"lightning_robust {__version__}\n"


def test_an_unknown_command_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as error:
        main(["trian"])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert "no command 'trian'" in text
    assert "fit" in text


@pytest.mark.parametrize("option", ["--epochs", "--train_size", "--eps", "--restarts", "--seeds", "--workers", "--out"])
def test_demo_tells_its_options(option, capsys):
    with pytest.raises(SystemExit) as error:
        main(["demo", "--help"])
    assert error.value.code == 0
    assert option in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ["--epochs", "0"],
        ["--epochs", "many"],
        ["--speed", "1"],
        ["--epoch", "1"],
        ["--eps", "-1"],
        ["--train_size", "999999999"],
    ],
)
def test_demo_refuses_wrong_options(args, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        main(["demo", "--out", str(tmp_path / "out"), *args])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert args[0].strip("-") in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


QUICK = """
import sys
from contextlib import suppress
from lightning_robust.cli import main
main(["--help"]), main(["study", "--help"]), main(["--version"])
assert not {"jsonargparse", "torch", "numpy"} & set(sys.modules)
names = ("manifold", "sample-complexity", "theory")
helps = [["demo", "--help"], ["evaluate", "--help"], *(["study", name, "--help"] for name in names)]
for words in (*helps, ["study", "manifold", "--no_such", "1"], ["demo", "--epochs", "0"], ["studies"]):
    with suppress(SystemExit):
        main(words)
slow = {"torch", "pytorch_lightning", "lightning", "torchmetrics", "torchvision", "matplotlib", "pandas", "scipy"}
assert not slow & set(sys.modules), slow & set(sys.modules)
"""


def test_help_and_refusals_are_quick():
    """They load neither torch nor Lightning, which take seconds."""
    done = subprocess.run([sys.executable, "-c", QUICK], check=True, timeout=60, capture_output=True, text=True)
    for option in ("--seeds", "--ckpt", "--eta_flow", "--eps_train", "--sigma_scale"):
        assert option in done.stdout


@pytest.mark.parametrize("args", [[], ["manifolds"]])
def test_an_unknown_study_says_what_there_is(args, capsys):
    with pytest.raises(SystemExit) as error:
        main(["study", *args])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert all(study in text for study in ("manifold", "sample-complexity", "theory"))


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_study_lists_the_studies(word, capsys):
    main(["study", word])
    lines = capsys.readouterr().out.splitlines()
    for study in ("manifold", "sample-complexity", "theory"):
        (line,) = [line for line in lines if line.split()[:1] == [study]]
        assert line.endswith(".")  # it says what it is
        assert len(line) <= 120


def test_a_study_whose_source_is_not_found_has_no_line():
    for module in ("no_such_package.study", "lightning_robust.no_such", "math"):
        assert cli._about(EntryPoint(name="x", value=f"{module}:main", group="")) == ""
    assert cli._about(EntryPoint(name="x", value="lightning_robust.plots:main", group="")).startswith("Figures")


def test_the_manifold_study_tells_its_options(capsys):
    with pytest.raises(SystemExit) as error:
        main(["study", "manifold", "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--sizes", "--schemes", "--seeds", "--preset", "--out"))


@pytest.mark.parametrize("command", ["demo", "study", "evaluate", "lightning"])
@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_what_is_stopped_ends_as_shells_expect(command, stop, code, monkeypatch):
    def stopped(args):
        raise stop

    monkeypatch.setattr(cli, command, stopped)
    with pytest.raises(SystemExit) as error:
        main(["fit" if command == "lightning" else command])
    assert error.value.code == code


def own_gain(logits, y):
    return logits.logsumexp(1)


def own_attack(model, x, y):
    return x


def own_correct(output, y):
    return output.argmax(1) == y


def configuration(*callbacks, **trainer):
    """One step on few letters."""
    quiet = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return {
        "model": {
            "class_path": "RobustClassifier",
            "init_args": {"network": {"class_path": "lightning_robust.models.standard_net"}},
        },
        "data": {"class_path": "Fonts", "init_args": {"train_size": 8, "val_size": 4, "test_size": 4}},
        "trainer": {**quiet, "max_epochs": 1, "callbacks": list(callbacks), **trainer},
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, *words):
    """As the console script does: without arguments, the words in `sys.argv`."""
    monkeypatch.setattr(sys, "argv", ["lightning-robust", *words])
    main()


@pytest.mark.parametrize("name", ["config.yaml", "config.resolved.yaml"])
def test_a_run_leaves_the_configurations_of_the_user_as_they_are(name, folder, monkeypatch):
    text = "# what I thought of it\n" + yaml.safe_dump(configuration(default_root_dir=".", enable_checkpointing=False))
    Path(name).write_text(text)
    Path("config.resolved-v1.yaml").symlink_to("nowhere")
    run(monkeypatch, "fit", "--config", name)
    assert Path(name).read_text() == text
    assert not Path("nowhere").exists()
    expected = "config.resolved.yaml" if name == "config.yaml" else "config.resolved-v2.yaml"
    assert sorted(path.name for path in folder.iterdir()) == sorted({name, "config.resolved-v1.yaml", expected})


def test_the_kept_configuration_repeats_the_run_and_another_run_has_its_own(folder, monkeypatch, capsys):
    trainer = {"default_root_dir": "runs", "enable_checkpointing": False}
    Path("config.yaml").write_text(yaml.safe_dump(configuration(**trainer)))
    run(monkeypatch, "fit", "--config", "config.yaml")
    assert [path.name for path in Path("runs").iterdir()] == ["config.resolved.yaml"]
    first = Path("runs/config.resolved.yaml").read_text()
    assert yaml.safe_load(first)["data"]["init_args"]["difficulty"] == "hard"
    run(monkeypatch, "fit", "--config", "runs/config.resolved.yaml")
    assert [path.name for path in Path("runs").iterdir()] == ["config.resolved.yaml"]
    run(monkeypatch, "validate", "--config", "config.yaml", "--data.init_args.batch_size=3")
    assert Path("runs/config.resolved.yaml").read_text() == first
    assert yaml.safe_load(Path("runs/config.resolved-v1.yaml").read_text())["data"]["init_args"]["batch_size"] == 3


def test_fit_says_nothing_that_is_not_of_the_run(folder, fresh):
    Path("config.yaml").write_text(yaml.safe_dump(configuration()))
    program = "import runpy; runpy.run_module('lightning_robust.cli', run_name='__main__')"  # python -m
    done = fresh.run(program, "fit", "--config", "config.yaml")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "stopped: `max_epochs=1` reached" in said
    for noise in ("args parameter", "Tip:", "LeafSpec", "No seed found"):
        assert noise not in said


class Stop(pl.Callback):
    """Sends this process a signal in the first step."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_start(self, *args):
        os.kill(os.getpid(), self.number)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_fit_that_is_stopped_says_where_its_results_are(number, code, monkeypatch, capsys):
    stop = {"class_path": f"{__name__}.Stop", "init_args": {"number": int(number)}}
    Path("config.yaml").write_text(yaml.safe_dump(configuration(stop, default_root_dir="runs", max_epochs=2)))
    # What a shell starts in the background ignores SIGINT, and so would the tests in it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as error:
            run(monkeypatch, "fit", "--config", "config.yaml")
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning switches it off
    assert error.value.code == code
    weights = "Checkpoint: runs/checkpoints/epoch=0-step=1.ckpt"
    kept = "No checkpoint was written" if number == signal.SIGINT else weights
    assert f"stopped. Results: runs. {kept}." in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--config", "config.yaml", "--trainer.no_such", "3"], "no_such"),
        (["--config", "config.yaml", "--trainer.max_epochs", "many"], "max_epochs"),
        ([], "required"),  # of the model and the data jsonargparse 4.42 names either
    ],
)
def test_a_wrong_option_of_fit_is_one_line(args, text, monkeypatch, capsys):
    Path("config.yaml").write_text(yaml.safe_dump(configuration(default_root_dir="runs")))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "fit", *args)
    assert error.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("lightning-robust: ")
    assert text in said


@pytest.mark.usefixtures("folder")
def test_a_fit_ends_by_saying_where_its_results_are(monkeypatch, capsys):
    Path("config.yaml").write_text(yaml.safe_dump(configuration(default_root_dir="runs")))
    run(monkeypatch, "fit", "--config", "config.yaml")
    last = capsys.readouterr().out.strip().splitlines()[-1]
    (weights,) = Path("runs").rglob("*.ckpt")
    assert last == f"lightning-robust: Results: runs. Checkpoint: {weights}."


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("attack", "training"),
    [
        ({"gain": "lightning_robust.attacks.margin"}, {}),
        ({"gain": f"{__name__}.own_gain"}, {}),
        (
            {"gain": "lightning_robust.attacks.divergence"},
            {"objective": {"class_path": "lightning_robust.objectives.trades"}},
        ),
        ({"random_start": "lightning_robust.attacks.starts.norm_uniform"}, {"objective": "Mart"}),
        ({"rule": {"class_path": "Adam"}}, {"objective": "lightning_robust.objectives.adversarial_loss"}),
        ({}, {"objective": {"class_path": "Awp", "init_args": {"objective": {"class_path": "Trades"}}}}),
        ({}, {"schedule": {"class_path": "WarmUp", "init_args": {"epochs": 0.5}}}),
        ({}, {"schedule": {"class_path": "lightning_robust.WarmUp", "init_args": {"steps": 2}}}),
    ],
)
def test_a_configuration_says_all_parts_by_their_names(attack, training, monkeypatch, capsys):
    attack = {"class_path": "PGD", "init_args": PGD["init_args"] | attack}
    callback = {"class_path": "AdversarialTraining", "init_args": {"attack": attack, **training}}
    Path("config.yaml").write_text(yaml.safe_dump(configuration(callback, fast_dev_run=True)))
    run(monkeypatch, "fit", "--config", "config.yaml")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("attacks", "keys"),
    [
        (PGD, {"robust_acc"}),
        (
            {"class_path": "RandomSearch", "init_args": {"threat": PGD["init_args"]["threat"], "queries": 3}},
            {"robust_acc"},
        ),
        (f"{__name__}.own_attack", {"robust_acc"}),
        ({"pgd": PGD, "own": f"{__name__}.own_attack"}, {"robust_acc", "robust_acc_pgd", "robust_acc_own"}),
        ({"class_path": STANDARD, "init_args": {"threat": PGD["init_args"]["threat"]}}, {"robust_acc", "suspicious"}),
    ],
)
def test_a_configuration_names_the_attacks_of_an_evaluation(attacks, keys, monkeypatch, capsys):
    callback = {
        "class_path": "RobustEvaluation",
        "init_args": {"attacks": attacks, "correct": f"{__name__}.own_correct"},
    }
    Path("config.yaml").write_text(yaml.safe_dump(configuration(callback)))
    run(monkeypatch, "validate", "--config", "config.yaml")
    assert keys <= set(re.findall(r"val/(robust_acc\w*|suspicious)", capsys.readouterr().out))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("AdversarialTraining", ("PGD", "Trades", "Awp", "WarmUp")), ("RobustEvaluation", ("PGD", "RandomSearch"))],
)
def test_help_lists_what_is_ours_and_no_tensors(name, wanted, monkeypatch, capsys):
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "fit", f"--trainer.callbacks.help={name}")
    assert error.value.code == 0
    text = re.sub(r"\s+", "", capsys.readouterr().out)
    assert all(f"{one}," in text or f"{one})" in text for one in wanted)
    assert "SparseSemiStructured" not in text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("field", [2, -1, "pixel_values", ["image", "data"], ["labelled", 0]])
def test_a_configuration_says_where_the_input_is(field, monkeypatch, capsys):
    callback = {"class_path": "AdversarialTraining", "init_args": {"attack": PGD, "input": field}}
    Path("config.yaml").write_text(yaml.safe_dump(configuration(callback)))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "fit", "--config", "config.yaml", "--print_config")
    assert error.value.code == 0
    (parsed,) = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert parsed["init_args"]["input"] == field


def test_a_recipe_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-robust"])
    path = tmp_path / "config.yaml"
    recipe = {
        "class_path": "lightning_robust.recipes.trades",
        "init_args": {"threat": PGD["init_args"]["threat"], "beta": 3.0, "steps": 1},
    }
    network = {"class_path": "lightning_robust.models.standard_net"}
    trainer = {"max_steps": 1, "limit_val_batches": 0, "logger": False, "enable_progress_bar": False}
    config = {
        "model": {"class_path": "RobustClassifier", "init_args": {"network": network}},
        "data": {"class_path": "Fonts", "init_args": {"train_size": 20, "test_size": 20}},
        "trainer": {**trainer, "callbacks": [{"class_path": "RobustEvaluation", "init_args": {"attacks": PGD}}]},
        "recipe": recipe,
    }
    path.write_text(yaml.safe_dump(config))
    seen = []
    fit = pl.Trainer.fit
    monkeypatch.setattr(pl.Trainer, "fit", lambda self, *a, **k: (seen.append(self.callbacks), fit(self, *a, **k)))
    main(["fit", "--config", str(path)])
    (callbacks,) = seen
    (training,) = [c for c in callbacks if isinstance(c, AdversarialTraining)]
    assert training.objective == trades(3.0)
    assert any(isinstance(c, RobustEvaluation) for c in callbacks)


EVALUATE = [
    "evaluate",
    *("--model", "RobustClassifier", "--model.network", "lightning_robust.models.standard_net"),
    *("--data", "Fonts", "--data.train_size", "20", "--data.test_size", "30"),
    *("--attacks", "PGD", "--attacks.threat", "Linf", "--attacks.threat.eps", "0.1", "--attacks.steps", "2"),
]


@pytest.mark.parametrize("kind", ["checkpoint", "state dict"])
def test_a_checkpoint_is_evaluated(kind, tmp_path, capsys):
    torch.manual_seed(1)
    module, data = RobustClassifier(standard_net()), Fonts(train_size=20, test_size=30)
    path = tmp_path / "model.ckpt"
    torch.save(module.state_dict() if kind == "state dict" else {"state_dict": module.state_dict(), "epoch": 3}, path)
    main([*EVALUATE, "--ckpt", str(path), "--max_samples", "20", "--out", str(tmp_path / "out")])
    report = evaluate(module, data, attacks.PGD(attacks.Linf(0.1), steps=2), max_samples=20, progress=False)
    assert report.table() in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["accuracy"] == report.to_dict()["accuracy"]
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--ckpt", "missing.ckpt"], "--ckpt to be a file of weights, but got 'missing.ckpt': No such file"),
        (["--ckpt", "pickle.ckpt"], "pickle.ckpt cannot: "),
        (["--ckpt", "object.ckpt"], "whose reading runs code: lightning_robust.attacks.balls.Linf. Where you"),
        (["--ckpt", "other.ckpt"], "weights of RobustClassifier"),
        (["--attacks.threat.eps", "-1"], "`eps`"),
        (["--no_such", "1"], "no_such"),
        (["--max_samples", "0"], "--max_samples to be"),
    ],
)
def test_a_wrong_evaluation_is_one_line(args, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": {"ball": attacks.Linf(0.1)}}, tmp_path / "object.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Path))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit) as error:
        main([*EVALUATE, *args])
    assert error.value.code == 2
    said = capsys.readouterr().err.strip()
    assert text in said
    assert said.count("lightning-robust evaluate:") == 1
    assert "Traceback" not in said
