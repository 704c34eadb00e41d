import math
from functools import partial

import pandas as pd
import pytest
import torch

from lightning_robust import PGD, Linf
from lightning_robust._lightning import pl
from lightning_robust.cells import CellsError, Inline, load_artifact
from lightning_robust.learning_curves import LearningCurves, learning_curve
from lightning_robust.learning_curves.study import linf_pgd
from tests.learning_curves.helpers import blobs, linear

TINY = {
    "sizes": (100, 10),
    "eps_train": (0.0, 0.1),
    "seeds": 1,
    "steps": 20,
    "train_attack": partial(linf_pgd, steps=2),
    "test_attack": partial(linf_pgd, steps=3, keep="best"),
    "images": 40,
    "checks": 2,
    "masked_images": 20,
    "executor": Inline(),
    "progress": False,
}


def closed_form():
    """Errors 4 n^-1/2 without an attack and 8 n^-1/2 under it, each best where it is trained for; three seeds."""
    return [
        {"n": n, "seed": s, "eps_train": e, "eps_test": t, "checkpoint": "best", "split": split, "value": value,
         "low": value - 0.01, "high": value + 0.01, "count": 10_000}
        for n in (100, 400, 1600, 6400) for s in range(3) for e in (0.0, 0.1) for t in (0.0, 0.1)
        for split in ("val", "test") for value in (1 - (4 + 4 * (t > 0)) / n**0.5 - 0.1 * (e != t),)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return out, learning_curve(blobs, linear, out=out, **TINY)


def test_rows_are_the_product_of_sizes_radii_checkpoints_splits(study):
    _, learned = study
    table = learned.to_pandas()
    names = ["n", "eps_train", "checkpoint", "split", "eps_test"]
    assert len(table) == 2 * 2 * 2 * 3 * 2
    assert not table.duplicated(names).any()
    assert table[["low", "value", "high"]].apply(lambda row: 0 <= row.low <= row.value <= row.high <= 1, axis=1).all()
    assert {(row["step"], row["split"]) for row in learned.gaps} == {(s, p) for s in (10, 20) for p in ("train", "val")}
    assert {row["n"] for row in learned.masking} == {100}


def test_the_rows_are_those_of_the_kept_weights(study):
    out, learned = study
    (folder,) = (path for path in (out / "models").glob("*") if "100" in path.name and "0.1" in path.name)
    x, y = blobs(100, 0).tensors("test", limit=40)
    for checkpoint in ("best", "last"):
        module = linear()
        module.load_state_dict(load_artifact(folder / f"{checkpoint}.pt"))
        x_adv = PGD(Linf(0.1), 3, keep="best")(module.eval(), x, y)
        right = (module(x).argmax(1) == y) & (module(x_adv).argmax(1) == y)
        place = {"n": 100, "eps_train": 0.1, "eps_test": 0.1, "checkpoint": checkpoint, "split": "test"}
        (row,) = (row for row in learned.rows if all(row[name] == value for name, value in place.items()))
        # Another key draws other starts, but on a linear model every start ends at the same margin.
        assert row["value"] == pytest.approx(right.double().mean().item(), abs=0.03)


def test_the_same_call_computes_nothing_and_more_sizes_keep_finished_cells(study):
    out, learned = study
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")}
    more = learning_curve(blobs, linear, out=out, **{**TINY, "sizes": (10, 40, 100)})
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row for row in more.rows if row["n"] != 40] == list(learned.rows)
    with pytest.raises(CellsError, match=r"`images` was 40 and is 30\. Results of different settings do not mix"):
        learning_curve(blobs, linear, out=out, **{**TINY, "images": 30})


class Own(pl.LightningDataModule):
    """As a user may write it: the first samples, as many as there are."""

    def __init__(self, n, seed, val=True):
        super().__init__()
        x, y = blobs(100, 0).tensors("train")
        self.part, self.val = list(zip(x[:n], y[:n], strict=True)), val

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.part, 10, drop_last=True)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.part, 10) if self.val else []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": blobs, "sizes": (500,)}, "to be at most 120"),
        ({"data": Own, "sizes": (120,)}, "for 120 its data module has 100 training samples"),
        ({"data": Own, "sizes": (5,)}, "has 5 training samples in 0 batches"),
        ({"data": partial(Own, val=False)}, "to have validation samples"),
        ({"sizes": ()}, "`sizes"),
        ({"seeds": 0}, "`seeds` to be an integer of at least 1"),
        ({"eps_train": (-0.1,)}, r"`eps_train\[0\]`"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        learning_curve(**{"data": blobs, "module": linear, "out": tmp_path, **TINY, **changes})
    assert list(tmp_path.iterdir()) == []


def test_what_rows_say_is_their_closed_form():
    learned = LearningCurves(closed_form())
    assert learned.best()["value"].tolist() == [
        1 - a / n**0.5 for n in (100, 400, 1600, 6400) for _ in range(3) for a in (4, 8)
    ]
    assert set(learned.best(eps_train=0.1)["eps_train"]) == {0.1}
    assert learned.samples_needed(0.8, 0).amount.value == pytest.approx(400)
    assert learned.samples_needed(0.8).amount.value == pytest.approx(1600)
    assert learned.ratio_needed(0.8).amount.value == pytest.approx(4)
    assert (learned.fit().law.a, learned.fit().law.b) == pytest.approx((8, 0.5))
    assert [line.get_label() for line in learned.figure().axes[0].lines][:2] == ["no attack", "radius 0.1"]
    with pytest.raises(ValueError, match=r"`eps_test` to be one of \[0.0, 0.1\], but got 0.2"):
        learned.curves(0.2)


def _masked(model, low, metric="too optimistic by"):
    return {"model": model, "metric": metric, "low": low}


def test_models_that_mislead_pgd_are_left_out_if_there_are_others():
    rows = [{"model": model, "eps_test": 0.0} for model in ("plain", "masked")]
    masking = [
        _masked("plain", 0.0),
        _masked("masked", 0.0),
        _masked("masked", 0.05),
        _masked("plain", 0.9, "accuracy"),
    ]
    assert LearningCurves(rows, (), masking).misled() == {"masked"}
    assert LearningCurves(rows, (), masking).trusted().rows == rows[:1]
    assert LearningCurves(rows[1:], (), masking).trusted().rows == rows[1:]
    assert not math.isnan(pd.DataFrame(closed_form())["value"].sum())
