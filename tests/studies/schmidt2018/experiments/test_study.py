import csv
from dataclasses import replace
from functools import partial

import pytest
import torch

from lightning_robust._lightning import pl
from lightning_robust.cells import StudyArgumentError
from lightning_robust.datamodules import TensorDataModule
from lightning_robust_studies.schmidt2018.experiments import study
from lightning_robust_studies.schmidt2018.experiments.cells import TrainModel
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.masking import trusted
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings
from lightning_robust_studies.schmidt2018.experiments.study import run_sample_complexity
from tests.studies.schmidt2018.experiments.tiny import OPTIONS, TINY

OWN = {"tiny": TINY}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A study that was stopped in its third model and then run again; what was computed in all."""
    out, computed = tmp_path_factory.mktemp("study"), []
    options = replace(OPTIONS, out=str(out))
    train = TrainModel.__call__

    def counted(self, cell, folder):
        computed.append((cell["n"], cell["model"], cell["eps_train"]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return train(self, cell, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainModel, "__call__", counted)
        with pytest.raises(KeyboardInterrupt):
            run_sample_complexity(options, OWN)
        assert not (out / "report.html").exists()
        tables = run_sample_complexity(options, OWN)
    return options, out, tables, computed


def test_a_stopped_study_continues_and_computes_nothing_twice(interrupted):
    _, _, _, computed = interrupted
    assert len(computed) == 3 * 2 * 2 + 1
    assert computed[2] == computed[3]
    assert len(set(computed)) == 12


def test_tables_figures_and_report_are_written(interrupted):
    _, out, tables, _ = interrupted
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [row["value"] for row in tables.models]
    assert len(rows) == 12 * 2 * 3 * 2
    names = ("accuracy", "power_law", "radii_tiny", "networks_tiny", "gap_tiny")
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in names)
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(names)
    assert str(out) not in page


def test_the_command_tells_the_claims_and_where_the_report_is(interrupted, capsys, monkeypatch):
    options, out, tables, _ = interrupted
    monkeypatch.setattr(study, "run_sample_complexity", lambda options: tables)
    study._run_and_tell(options)
    said = capsys.readouterr().out
    for claim in claims(trusted(tables.models, tables.masking), targets=options.targets):
        assert f"{claim.title} {claim.verdict.value.capitalize()}.\n  {claim.text}\n" in said
    assert said.endswith(f"Report: {out / 'report.html'}\n")


def test_data_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", (tmp_path / "nowhere").as_uri())
    with pytest.raises(SystemExit) as stopped:
        study.main(["--data", "cifar10", "--root", str(tmp_path / "mine"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("lightning-robust study sample-complexity: CIFAR10 is not in ")
    assert said.count("\n") == 1


def test_masking_is_asked_of_every_model_of_the_largest_size(interrupted):
    _, _, tables, _ = interrupted
    found = {(row["model"], row["eps_train"]) for row in tables.masking}
    assert found == {(model, eps) for model in TINY.models for eps in TINY.eps_train}
    assert {row["n"] for row in tables.masking} == {100}
    for model, eps in found:
        rows = [row for row in tables.masking if (row["model"], row["eps_train"]) == (model, eps)]
        accuracy = {row["attack"]: row["value"] for row in rows if row["metric"] == "accuracy"}
        (excess,) = [row["value"] for row in rows if row["metric"] == "too optimistic by"]
        assert ("substitute gradients" in accuracy) == ("transfer" in accuracy) == (model == "linear+threshold")
        assert accuracy["all"] <= min(accuracy.values()) + 1e-9
        assert excess == pytest.approx(accuracy["pgd"] - accuracy["all"])


def test_a_larger_grid_keeps_finished_cells(interrupted):
    options, out, tables, _ = interrupted
    before = {path: path.stat().st_mtime_ns for path in out.glob("tiny-models/*/*")}
    more = run_sample_complexity(replace(options, sizes=(10, 40, 60, 100), models=("linear",), masked_images=0), OWN)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["n"] for row in more.models} == {10, 40, 60, 100}
    kept = [row for row in more.models if row["n"] != 60]
    assert kept == [row for row in tables.models if row["model"] == "linear"]


def test_other_settings_in_the_same_folder_are_refused(interrupted):
    options, *_ = interrupted
    with pytest.raises(StudyArgumentError, match=r"`test_steps` was 3 and is 4\. Results of different settings do not"):
        run_sample_complexity(replace(options, test_steps=4), OWN)


@pytest.mark.parametrize(
    ("sizes", "message"), [((10, 500), "to be at most 120"), ((11,), "multiple of the number of classes")]
)
def test_sizes_that_the_data_does_not_have_are_refused_before_anything_runs(sizes, message, tmp_path):
    with pytest.raises(StudyArgumentError, match=message) as error:
        run_sample_complexity(replace(OPTIONS, out=str(tmp_path), sizes=sizes), OWN)
    assert "Expected argument `sizes`" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_problem_is_refused(tmp_path):
    with pytest.raises(StudyArgumentError, match="Did you mean 'digits'"):
        run_sample_complexity(replace(OPTIONS, data=("digit",), out=str(tmp_path)))


def test_models_that_one_problem_does_not_have_are_left_out_with_a_word(tmp_path, capsys):
    plain = replace(TINY, models={"linear": TINY.models["linear"]})
    options = replace(
        OPTIONS, out=str(tmp_path), data=("tiny", "plain"), sizes=(10,), models=("linear+threshold", "linear"), steps=1
    )
    tables = run_sample_complexity(replace(options, masked_images=0), OWN | {"plain": plain})
    found = {(row["data"], row["model"]) for row in tables.models}
    assert found == {("tiny", "linear"), ("tiny", "linear+threshold"), ("plain", "linear")}
    said = "Left out: linear+threshold of plain, since there is no such model."
    assert capsys.readouterr().err.splitlines()[0] == said
    assert said in (tmp_path / "report.html").read_text()


def test_a_model_that_no_problem_has_is_refused(tmp_path):
    options = replace(OPTIONS, out=str(tmp_path), models=("linear", "linaer"))
    with pytest.raises(StudyArgumentError, match=r"`models` to be among .* but got 'linaer'\. Did you mean 'linear'"):
        run_sample_complexity(options, OWN)


def test_data_without_validation_images_is_refused(tmp_path):
    problem = replace(TINY, data=_without_validation)
    with pytest.raises(StudyArgumentError, match="to have validation images"):
        run_sample_complexity(replace(OPTIONS, out=str(tmp_path), sizes=(10,)), {"tiny": problem})
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(
    ("labels", "n", "message"),
    [
        ([0, 1] * 5, 12, "12, for which its data module has 10 training images"),
        ([0, 1] * 5, 2, "has 2 training images in 0 batches"),
        ([0] * 8 + [1] * 8, 10, "5 of each of 2 classes, but class 0 has"),
        ([0, 1] * 8 + [2], 12, "4 of each of 3 classes, but class 0 has 6"),
    ],
)
def test_data_of_ones_own_that_is_less_or_not_balanced_is_refused(labels, n, message, tmp_path):
    problem = replace(TINY, data=partial(_Own, labels))
    with pytest.raises(StudyArgumentError, match=message):
        run_sample_complexity(replace(OPTIONS, out=str(tmp_path), sizes=(n,)), {"tiny": problem})
    assert list(tmp_path.iterdir()) == []


def test_balanced_data_of_ones_own_passes():
    problem = replace(TINY, data=partial(_Own, [0, 1] * 8))
    study._check_data(problem, OPTIONS.of("tiny", replace(problem, sizes=(4, 10))))


def _without_validation(n, seed):
    part = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    return TensorDataModule(part, part, val_size=0, train_size=n, batch_size=10, seed=seed)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_starts_from_a_preset(preset, monkeypatch):
    given = []
    monkeypatch.setattr(study, "_run_and_tell", given.append)
    study.main(["--preset", preset, "--seeds", "4", "--eps_train", "0", "0.1", "--out", "here"])
    assert given == [
        SampleComplexitySettings(**{**PRESETS[preset], "seeds": 4, "eps_train": [0.0, 0.1], "out": "here"})
    ]
