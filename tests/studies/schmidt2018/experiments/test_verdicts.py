"""Clothes in the format in which they are published, and what stands beside their curves."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from lightning_robust._lightning import pl
from lightning_robust_studies.schmidt2018.experiments.problems import problems
from lightning_robust_studies.schmidt2018.experiments.study import run_sample_complexity
from lightning_robust_studies.schmidt2018.experiments.verdicts import Least
from tests.clothes import write_clothes
from tests.studies.schmidt2018.experiments.tiny import OPTIONS


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A study of few clothes, with two seeds at the smaller size and one at the larger one."""
    root, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    write_clothes(root)
    problem = problems(root)["fashion"]
    problem = replace(problem, data=replace(problem.data, val_size=20, batch_size=20), train_steps=1)
    options = replace(
        OPTIONS, out=str(out), data=("fashion",), models=("small",), sizes=(20, 60), eps_train=(0.1,), seeds=2,
        largest_seeds=1, steps=2, steps_per_image=0.1, test_steps=1, images=10, masked_images=0,
        verdict_images=5, bound_images=12,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_robust.plots.page.png", lambda figure: b"")  # no test looks at a figure
        return out, run_sample_complexity(options, {"fashion": problem})["fashion"]


def test_the_largest_size_has_seeds_of_its_own(clothes):
    _, curves = clothes
    assert {(row["n"], row["seed"]) for row in curves.rows} == {(20, 0), (20, 1), (60, 0)}


def test_more_images_are_trained_on_for_longer(clothes):
    _, curves = clothes
    last = pd.DataFrame(curves.gaps).groupby("n")["step"].max()
    assert last.to_dict() == {20: 2, 60: 6}


def test_one_seed_at_the_largest_size_is_judged_at_each_radius(clothes):
    out, _ = clothes
    table = pd.read_csv(out / "verdicts.csv")
    assert set(zip(table["n"], table["seed"], strict=True)) == {(60, 0)}
    assert table.groupby("eps_test")["attack"].apply(list).to_dict() == {
        0.0: ["no attack"],
        0.05: ["no attack", "PGD", "standard"],
        0.1: ["no attack", "PGD", "standard"],
    }
    assert table["count"].tolist() == [12, 5, 5, 5, 5, 5, 5]
    assert "The verdict" in (out / "report.html").read_text()


def test_equal_images_with_two_labels_cost_any_classifier_one_of_them(clothes):
    out, _ = clothes
    table = pd.read_csv(out / "least_errors.csv").set_index("eps_test")
    assert table.index.tolist() == pytest.approx([0, 0.05, 0.1, 0.2])  # and twice the largest
    assert table["value"][0.0] == pytest.approx(1 / 12)
    assert table["pairs"][0.0] == 1
    assert (table["count"] == 12).all()
    assert "What no classifier can beat" in (out / "report.html").read_text()


class _Own(pl.LightningDataModule):
    """Two batches of test samples in a dictionary, in units of its own."""

    def test_dataloader(self):
        x = torch.tensor([0.0, 40.0, 200.0, 210.0])[:, None, None, None]
        return [{"image": x[rows], "label": torch.tensor([0, 1, 0, 1])[rows]} for rows in (slice(2), slice(2, 4))]


def _own(n, seed):
    return _Own()


@pytest.mark.parametrize(("images", "pairs"), [(4, [0, 1, 2]), (2, [0, 0, 1])])
def test_data_of_other_kinds_and_units(images, pairs, tmp_path):
    least = partial(Least, data=_own, n=2, fields=("image", "label"), width=255.0)
    rows = least(eps_test=(0.0, 10.0))({"images": images}, tmp_path)
    assert [(row["eps_test"], row["pairs"]) for row in rows] == list(zip((0.0, 10.0, 20.0), pairs, strict=True))
    assert {row["count"] for row in rows} == {images}
    assert [row["eps_test"] for row in least(eps_test=(0.0, 70.0))({"images": 4}, tmp_path)] == [0.0, 70.0]
