from dataclasses import replace

import pytest
import torch

from lightning_robust import PGD, Linf
from lightning_robust._lightning import pl
from lightning_robust.cells import load_artifact
from lightning_robust_studies.schmidt2018.experiments.attacks import Transferred, passing
from lightning_robust_studies.schmidt2018.experiments.cells import TrainModel
from tests.studies.schmidt2018.experiments.tiny import OPTIONS, TINY, behind, blobs, linear

CELL = {"data": "tiny", "n": 40, "model": "linear", "eps_train": 0.1, "seed": 0}


def _work(**changes):
    return TrainModel(options=replace(OPTIONS, **changes), problem=TINY, grid=OPTIONS.of("tiny", TINY))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    return folder, _work()(CELL, folder)


def test_rows_are_the_product_of_checkpoints_parts_and_radii(trained):
    _, rows = trained
    found = [(r["checkpoint"], r["split"], r["eps_test"]) for r in rows if r["metric"] == "accuracy"]
    assert sorted(found) == sorted(
        (c, s, e) for c in ("best", "last") for s in ("train", "val", "test") for e in (0.0, 0.1)
    )
    assert all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in rows if r["metric"] == "accuracy")
    assert {r["count"] for r in rows if r["metric"] == "accuracy"} == {30, 40}  # 30 validation images
    gaps = [(r["step"], r["split"]) for r in rows if r["metric"] == "gap"]
    assert gaps == [(10, "train"), (10, "val"), (20, "train"), (20, "val")]


def test_the_rows_are_those_of_the_kept_weights(trained):
    folder, rows = trained
    for checkpoint in ("best", "last"):
        module = linear(0.1, 20)
        module.load_state_dict(load_artifact(folder / f"{checkpoint}.pt"))
        x, y = blobs(40, 0).tensors("test", limit=40)
        x_adv = PGD(Linf(0.1), 3, keep="best")(module.eval(), x, y)
        right = (module(x).argmax(1) == y) & (module(x_adv).argmax(1) == y)
        (row,) = [r for r in rows if (r["checkpoint"], r["split"], r["eps_test"]) == (checkpoint, "test", 0.1)]
        # Another key draws other starts, but on a linear model every start ends at the same margin.
        assert row["value"] == pytest.approx(right.double().mean().item(), abs=0.03)


def test_a_cell_that_was_killed_goes_on_to_the_same_weights(trained, tmp_path, monkeypatch):
    folder, rows = trained
    validated = []
    real = pl.callbacks.ModelCheckpoint.on_validation_end

    def stopping(self, trainer, module):
        real(self, trainer, module)
        validated.append(trainer.global_step)
        if len(validated) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(pl.callbacks.ModelCheckpoint, "on_validation_end", stopping)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _work()(CELL, tmp_path)
    assert len(list(tmp_path.glob("checkpoints-*/last.ckpt"))) == 1
    again = _work()(CELL, tmp_path)
    assert validated == [10, 20]
    for name in ("best.pt", "last.pt"):
        for key, value in load_artifact(folder / name).items():
            assert torch.equal(value, load_artifact(tmp_path / name)[key])
    # The gap on training images is that of other ones: those that come first after the interruption.
    for part in ("accuracy", "gap"):
        kept = [[r for r in found if r["metric"] == part and r["split"] != "train"] for found in (rows, again)]
        assert kept[0] == kept[1]
    assert [r for r in again if r["metric"] == "accuracy"] == [r for r in rows if r["metric"] == "accuracy"]
    assert not list(tmp_path.glob("checkpoints-*"))


def test_what_a_training_with_other_settings_left_is_not_resumed(trained, tmp_path):
    _, rows = trained
    left = tmp_path / "checkpoints-of-another"
    left.mkdir()
    (left / "last.ckpt").write_bytes(b"something else")
    assert _work()(CELL, tmp_path) == rows
    assert not left.exists()


def test_the_worst_of_several_attacks_is_no_better_than_pgd(trained, tmp_path):
    _, rows = trained
    worst = _work(attacks="worst")(CELL, tmp_path)
    for before, after in zip(rows, worst, strict=True):
        assert after["value"] <= before["value"] + 1e-9


def test_threshold_filters_are_attacked_through():
    torch.manual_seed(0)
    module, work = behind(0.1, 1).eval(), _work()
    x, y = blobs(40, 0).tensors("test")
    on = work.on(module, 0.1)
    through = Transferred(PGD(work.threat(0.1), 3, keep="best"), passing(module))
    plain = (module(work.attack(0.1)(module, x, y)).argmax(1) == y) & (module(through(module, x, y)).argmax(1) == y)
    assert int((module(on(module, x, y)).argmax(1) == y).sum()) <= int(plain.sum()) + 1
    assert work.on(linear(0, 1), 0.1) == work.attack(0.1)
