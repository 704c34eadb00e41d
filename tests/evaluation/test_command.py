"""`lightning-robust evaluate` as a user types it, with classes of the working folder."""

import sys
from pathlib import Path

import pytest
import torch

from lightning_robust import evaluate
from lightning_robust._lightning import pl
from lightning_robust.attacks import L2, PGD, Linf, PixelSpace, Threat
from lightning_robust.cli import main
from lightning_robust.evaluation.plan import Plan, standard
from lightning_robust.evaluation.report import Report

SOURCE = f"""
import torch
import {pl.__name__} as pl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Plain(nn.Module):
    def __init__(self, width: int, classes: int = 3, names: list[str] = []):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.net(x)

class Net(Plain, pl.LightningModule):
    pass

class Data(pl.LightningDataModule):
    def __init__(self, n: int = 12, seed: int = 0, shift: float = 0.0, scale: float = 1.0):
        super().__init__()
        if seed < 0:
            raise ValueError(f"Expected argument `seed` to be at least 0, but got {{seed}}.")
        x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        self.data = TensorDataset(x * scale + shift, (x.mean((1, 2, 3)) * 30).long() % 3)

    def test_dataloader(self):
        return DataLoader(self.data, 5)
"""
SAVED = {"width": 7, "names": ["a b", "c=d"], "unknown": 3}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working folder with a module of the user and two files of its weights."""
    monkeypatch.chdir(tmp_path)
    Path("own_module_of_a_user.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    sys.modules.pop("own_module_of_a_user", None)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import own_module_of_a_user as module
    torch.manual_seed(0)
    net = module.Net(7)
    torch.save({"state_dict": net.state_dict(), "hyper_parameters": SAVED}, "net.ckpt")
    torch.save(net.state_dict(), "bare.pt")
    yield module, net
    sys.modules.pop("own_module_of_a_user", None)


BASE = "--data own_module_of_a_user.Data --threat linf --eps 1/2"
NET = f"{BASE} --model own_module_of_a_user.Net --ckpt net.ckpt"


def run(text):
    main(["evaluate", *text.split()])


def refused(text, capsys):
    """The one line that says why."""
    with pytest.raises(SystemExit) as error:
        run(text)
    assert error.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0, said
    assert said.startswith("lightning-robust evaluate: ")
    assert len(said) < 700
    return said


def test_a_threat_means_its_standard_and_a_checkpoint_brings_the_arguments_of_its_class(own, capsys):
    module, net = own
    run(f"{NET} --out out --batch_size 4 --seed 3 --max_samples 10")
    out = capsys.readouterr().out
    plan = standard(Linf(0.5))
    report = evaluate(net, module.Data(), plan, max_samples=10, seed=3, progress=False)
    assert f"{report}" in out
    assert "Report: out/report.html" in out
    assert {path.name for path in Path("out").iterdir()} >= {"report.html", "report.json", "samples.csv"}
    assert torch.equal(Report.load("out").robust, report.robust)


def test_a_bare_state_dict_with_a_class_that_is_no_lightning_module(own, capsys):
    module, net = own
    words = f"{BASE} --model own_module_of_a_user.Plain --model.width 7 --ckpt bare.pt"
    run(words.replace("--threat linf --eps 1/2", "--threat L2 --eps 3/2 --mean 0 --std 1/1"))
    threat = Threat(L2(1.5), PixelSpace(mean=0.0, std=1.0))
    expected = evaluate(net, module.Data(), standard(threat), progress=False)
    said = capsys.readouterr()
    assert expected.robust_acc.text() in said.out
    assert "site-packages" not in said.err  # warnings say what to do, and not where they were raised


def test_shards_are_joined(own, capsys):
    module, net = own
    run(f"{NET} --out out --shard 0/2")
    run(f"{NET} --out out --shard 1/2")
    path = Path("out/ledger-1-of-2.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"".join(line for line in whole.splitlines(keepends=True) if b'"stage":"end"' not in line))
    assert "Expected --join to hold evaluations that have come to their ends, but in out shard 1 " in refused(
        "--join out", capsys
    )
    path.write_bytes(whole)
    assert not Path("out/report.json").exists()
    capsys.readouterr()
    run("--join out")
    assert Path("out/report.html").exists()
    whole = evaluate(net, module.Data(), standard(Linf(0.5)), progress=False)
    assert torch.equal(Report.load("out").robust, whole.robust)
    assert str(whole) in capsys.readouterr().out
    assert "Expected --join to be a folder without a report" in refused("--join out", capsys)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{NET} --model.width 5", "Expected --ckpt to hold the weights of Net"),
        (NET.replace("net.ckpt", "none.ckpt"), "none.ckpt"),
        (NET.replace("net.ckpt", "own_module_of_a_user.py"), "read safely"),
        (NET.replace("user.Net", "user.Nett"), "Expected --model to be the import path"),
        (NET.replace("own_module_of_a_user.Net", "no_such_module.Net"), "No module named"),
        (NET.replace("own_module_of_a_user.Net", "Nett"), "no class of lightning_robust"),
        (NET.replace("user.Data", "user.Net"), "--data to be the import path of a LightningDataModule"),
        (NET.replace("linf", "linff"), "Expected --threat to be"),
        (NET.replace("1/2", "8/0"), "--eps to be a number such as 8/255"),
        (NET.replace("--eps 1/2", ""), "--eps to be the radius"),
        (NET.replace("--threat linf --eps 1/2", ""), "one of --threat"),
        (f"{NET} --attacks PGD --attacks.threat Linf --attacks.threat.eps 0.1", "one of --threat"),
        (f"{NET} --shard 2/2 --out out", "--shard to be"),
        (f"{NET} --shard 0/2", "--out to be"),
        (f"{NET} --batch_size 0", "--batch_size to be"),
        (f"{NET} --mean 0.5", "Expected --mean and --std to come together"),
        (f"{NET} --data.seed -1", "Expected argument `seed`"),  # of the data, and not --seed
        ("--join nowhere", "Expected --join to hold a report or a ledger"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(text, said, capsys):
    assert said in refused(text, capsys)
    assert not Path("out").exists()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("--data.shift -0.5", "--data.shift -0.5 --mean 0.5 --std 1", "give its --mean and --std."),
        ("--data.scale 255", "--data.scale 1", "If images are in [0, 255], divide by 255. If"),
        ("--mean 0.9 --std 0.5", "--mean 0 --std 1", "normalized by this --mean and --std, and"),
        ("--mean 0,0 --std 1", "--mean 0 --std 1", "Expected --mean to be a number or one per channel"),
    ],
)
def test_after_a_refusal_the_corrected_command_goes_into_the_same_folder(wrong, right, said, capsys, monkeypatch):
    def short(threat, *, radii):
        return Plan({"pgd": PGD(threat, 1)})

    monkeypatch.setattr("lightning_robust.evaluation.command.standard", short)
    words = f"{NET} --max_samples 9 --out out"
    text = refused(f"{words} {wrong}", capsys)
    assert said in text
    assert "Threat(" not in text  # options, and no calls of Python
    run(f"{words} {right}")
    assert Path("out/report.html").exists()


@pytest.mark.usefixtures("own")
def test_the_folder_of_another_evaluation_is_left_as_it_is(capsys):
    words = f"{NET} --max_samples 4 --out out"
    run(words)
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    for other, said in (
        (words.replace("1/2", "1/3"), "--eps was 0.5 and is 0.33"),
        (f"{words} --seed 1", "--seed was"),
    ):
        text = refused(other, capsys)
        assert "Expected --out to hold a ledger of these settings" in text
        assert said in text
        assert "give another --out" in text
        assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    Path("foreign").mkdir()
    Path("foreign/report.json").write_text("{}")
    assert "Expected --out to be a folder without a report" in refused(f"{NET} --out foreign", capsys)
    assert Path("foreign/report.json").read_text() == "{}"


@pytest.mark.usefixtures("own")
def test_without_a_checkpoint_it_says_so_and_without_words_it_helps(capsys):
    run(f"{BASE} --model own_module_of_a_user.Net --model.width 4 --max_samples 3")
    assert "Warning: No --ckpt was given" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["evaluate"])
    assert error.value.code == 0
    assert "--threat linf --eps 8/255" in capsys.readouterr().out


@pytest.mark.usefixtures("own")
def test_what_the_keyboard_stops_says_how_to_go_on(monkeypatch, capsys):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_robust.evaluation.command.evaluate", stopped)
    with pytest.raises(SystemExit) as error:
        run(f"{NET} --out out")
    assert error.value.code == 130
    assert "kept in out" in capsys.readouterr().err
