from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
import yaml

from lightning_robust._command import SettingsError
from lightning_robust._lightning import pl
from lightning_robust.cells import CellsError
from lightning_robust.datamodules import TensorDataModule
from lightning_robust.learning_curves import TrainAndEvaluate
from lightning_robust_studies.schmidt2018.experiments import command, study
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.problems import problems
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings
from lightning_robust_studies.schmidt2018.experiments.study import run_sample_complexity
from tests.studies.schmidt2018.experiments.tiny import OPTIONS, TINY

OWN = {"tiny": TINY}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A study that was stopped in its third model and then run again; what was computed in all."""
    out, computed = tmp_path_factory.mktemp("study"), []
    options = replace(OPTIONS, out=str(out))
    train = TrainAndEvaluate.__call__

    def counted(self, cell, folder):
        computed.append((cell["n"], cell["model"], cell["eps_train"]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return train(self, cell, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainAndEvaluate, "__call__", counted)
        with pytest.raises(KeyboardInterrupt):
            run_sample_complexity(options, OWN)
        assert not (out / "report.html").exists()
        curves = run_sample_complexity(options, OWN)
    return options, out, curves, computed


def test_a_stopped_study_continues_and_computes_nothing_twice(interrupted):
    _, _, _, computed = interrupted
    assert len(computed) == 3 * 2 * 2 + 1
    assert computed[2] == computed[3]
    assert len(set(computed)) == 12


def test_tables_figures_and_report_are_written(interrupted):
    _, out, curves, _ = interrupted
    table = pd.read_csv(out / "results.csv")
    assert table["value"].tolist() == [row["value"] for row in curves["tiny"].rows]
    assert len(table) == 12 * 2 * 3 * 2
    names = {"accuracy", "power_law", "radii_tiny", "networks_tiny", "gap_tiny"}
    assert {path.stem for path in out.glob("*.png")} == names
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in names)
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(names)
    assert str(out) not in page
    assert len(pd.read_csv(out / "least_errors.csv")) == 3
    assert pd.read_csv(out / "verdicts.csv")["attack"].tolist() == ["no attack", "no attack", "PGD", "standard"]


def test_the_models_that_validation_chose_are_judged_on_the_same_images(interrupted):
    _, out, curves, _ = interrupted
    table = pd.read_csv(out / "verdicts.csv").set_index(["eps_test", "attack"])
    best = curves["tiny"].trusted().best()
    best = best[best["n"] == 100].set_index("eps_test")
    for eps in (0.0, 0.1):
        for name in ("model", "eps_train", "checkpoint"):
            assert set(table.loc[eps][name]) == {best.loc[eps, name]}
    assert table["count"].tolist() == [50, 20, 20, 20]  # without an attack it is all test images
    accuracy = table["value"]
    assert accuracy[0.1, "standard"] <= accuracy[0.1, "PGD"] <= accuracy[0.1, "no attack"]


def test_the_command_prints_the_claims_and_where_the_report_is(interrupted, capsys, monkeypatch):
    options, out, curves, _ = interrupted
    monkeypatch.setattr(study, "run_sample_complexity", lambda options: curves)
    study.run_and_print(options)
    said = capsys.readouterr().out
    for claim in claims({"tiny": curves["tiny"].trusted()}, targets=options.targets):
        assert f"{claim.title} {claim.verdict.value.capitalize()}.\n  {claim.text}\n" in said
    assert said.endswith(f"Report: {out / 'report.html'}\n")


def test_data_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", (tmp_path / "nowhere").as_uri())
    with pytest.raises(SystemExit) as stopped:
        command.main(["--data", "cifar10", "--root", str(tmp_path / "mine"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("lightning-robust study sample-complexity: CIFAR10 is not in ")
    assert said.count("\n") == 1


def test_masking_is_asked_of_every_model_of_the_largest_size(interrupted):
    _, _, curves, _ = interrupted
    table = pd.DataFrame(curves["tiny"].masking)
    assert set(table["n"]) == {100}
    assert set(zip(table["model"], table["eps_train"], strict=True)) == {
        (m, e) for m in TINY.models for e in TINY.eps_train
    }
    for (model, _), rows in table.groupby(["model", "eps_train"]):
        accuracy = rows[rows["metric"] == "accuracy"].set_index("attack")["value"]
        excess = rows[rows["metric"] == "too optimistic by"]["value"].item()
        assert ("substitute gradients" in accuracy) == ("transfer" in accuracy) == (model == "linear+threshold")
        assert accuracy["all"] <= accuracy.min() + 1e-9
        assert excess == pytest.approx(accuracy["pgd"] - accuracy["all"])


@pytest.mark.usefixtures("undrawn")
def test_a_larger_grid_keeps_finished_cells(interrupted):
    options, out, curves, _ = interrupted
    before = {path: path.stat().st_mtime_ns for path in out.glob("tiny-models/*/*")}
    larger = replace(options, sizes=(10, 40, 60, 100), models=("linear",), masked_images=0, verdict_images=0)
    more = run_sample_complexity(larger, OWN)["tiny"].rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["n"] for row in more} == {10, 40, 60, 100}
    assert [row for row in more if row["n"] != 60] == [row for row in curves["tiny"].rows if row["model"] == "linear"]


def test_other_settings_in_the_same_folder_are_refused(interrupted):
    options, *_ = interrupted
    with pytest.raises(CellsError, match=r"test_steps` was 3 and is 4\. Results of different settings do not"):
        run_sample_complexity(replace(options, test_steps=4), OWN)


@pytest.mark.usefixtures("undrawn")
def test_models_that_one_problem_does_not_have_are_left_out_with_a_word(tmp_path, capsys):
    plain = replace(TINY, models={"linear": TINY.models["linear"]})
    options = replace(
        OPTIONS, out=str(tmp_path), data=("tiny", "plain"), sizes=(10,), models=("linear+threshold", "linear"),
        eps_train=(0.0,), steps=1,
    )  # fmt: skip
    curves = run_sample_complexity(
        replace(options, masked_images=0, verdict_images=0, bound_images=0), OWN | {"plain": plain}
    )
    models = {data: {row["model"] for row in each.rows} for data, each in curves.items()}
    assert models == {"tiny": {"linear", "linear+threshold"}, "plain": {"linear"}}
    said = "Left out: linear+threshold of plain, since there is no such model."
    assert capsys.readouterr().err.splitlines()[0] == said
    assert said in (tmp_path / "report.html").read_text()


class _Own(pl.LightningDataModule):
    """As a user may write it: it takes the first images, as many as there are, whatever is asked for."""

    def __init__(self, labels, n, seed):
        super().__init__()
        x, y = torch.rand(len(labels), 1, 4, 4), torch.tensor(labels)
        self.train = torch.utils.data.TensorDataset(x[:n], y[:n])
        self.val = torch.utils.data.TensorDataset(x, y)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.train, 4, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.val, 4)


def _without_validation(n, seed):
    part = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    return TensorDataModule(part, part, val_size=0, train_size=n, batch_size=10, seed=seed)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"data": ("tinny",)}, "`data` to be"),
        ({}, {"models": ("linear", "linaer")}, "`models` to be .*linaer"),
        ({}, {"sizes": (10, 500)}, "`sizes` .*to be at most 120"),
        ({}, {"sizes": (11,)}, "`sizes` .*multiple of the number of classes"),
        ({"data": _without_validation}, {"sizes": (10,)}, "to have validation samples"),
        ({"data": partial(_Own, [0, 1] * 5)}, {"sizes": (12,)}, "12 its data module has 10 training samples"),
        ({"data": partial(_Own, [0, 1] * 5)}, {"sizes": (2,)}, "has 2 training samples in 0 batches"),
        (
            {"data": partial(_Own, [0] * 8 + [1] * 8)},
            {"sizes": (10,)},
            "5 of each of 2 classes are needed, but class 0",
        ),
        ({"data": partial(_Own, [0, 1] * 8 + [2])}, {"sizes": (12,)}, "4 of each of 3 classes .* class 0 has 6"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(change, options, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        run_sample_complexity(replace(OPTIONS, out=str(tmp_path), **options), {"tiny": replace(TINY, **change)})
    assert list(tmp_path.iterdir()) == []


def test_balanced_data_of_ones_own_passes():
    problem = replace(TINY, data=partial(_Own, [0, 1] * 8))
    study._check_data(problem, OPTIONS.of("tiny", replace(problem, sizes=(4, 10))))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_starts_from_a_preset(preset, monkeypatch):
    given = []
    monkeypatch.setattr(study, "run_and_print", given.append)
    command.main(["--preset", preset, "--seeds", "4", "--eps_train", "0", "0.1", "--out", "here"])
    options = yaml.safe_load(PRESETS[preset].read_text())
    assert set(options["data"]) <= set(problems())
    assert given == [SampleComplexitySettings(**{**options, "seeds": 4, "eps_train": [0.0, 0.1], "out": "here"})]
