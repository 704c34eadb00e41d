from dataclasses import dataclass, replace

import pytest
import torch

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.cells import load_artifact
from lightning_robust.datamodules import Fonts, TensorDataModule
from lightning_robust.learning_curves import TrainAndEvaluate
from lightning_robust.models import RobustClassifier
from tests.learning_curves.helpers import blobs, linear

CELL = {"n": 40, "eps_train": 0.1, "seed": 0}


@dataclass(frozen=True)
class Attacks:
    steps: int = 3

    def training(self, eps):
        return PGD(Linf(eps), 2)

    def evaluation(self, eps, module):
        return PGD(Linf(eps), self.steps)


def _untrained(cell):
    return linear()


WORK = TrainAndEvaluate(
    data=blobs, module=_untrained, attacks=Attacks(), eps_test=(0.0, 0.1), steps=20, checks=2, images=40, gap_images=10
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    return folder, WORK(CELL, folder)


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
        WORK(CELL, tmp_path)
    assert len(list(tmp_path.glob("checkpoints-*/last.ckpt"))) == 1
    again = WORK(CELL, tmp_path)
    assert validated == [10, 20]
    for name in ("best.pt", "last.pt"):
        for key, value in load_artifact(folder / name).items():
            assert torch.equal(value, load_artifact(tmp_path / name)[key])
    # The gap on training images is that of other ones: those that come first after the interruption.
    kept = [[r for r in some if r["metric"] == "accuracy" or r["split"] == "val"] for some in (rows, again)]
    assert kept[0] == kept[1]
    assert not list(tmp_path.glob("checkpoints-*"))


def test_what_a_training_with_other_settings_left_is_not_resumed(trained, tmp_path):
    _, rows = trained
    left = tmp_path / "checkpoints-of-another"
    left.mkdir()
    (left / "last.ckpt").write_bytes(b"something else")
    assert WORK(CELL, tmp_path) == rows
    assert not left.exists()


def test_the_best_state_is_that_of_the_validation(trained):
    _, rows = trained
    on_val = {r["step"]: r["value"] for r in rows if r["metric"] == "gap" and r["split"] == "val"}
    assert set(on_val) == {10, 20}
    assert {r["count"] for r in rows if r["metric"] == "accuracy"} == {30, 40}  # 30 validation images


def test_training_images_are_evaluated_as_they_come():
    def letters(n, seed):
        return Fonts("easy", train_size=n, batch_size=10)

    module = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    work = replace(WORK, data=letters)
    evaluation = work.test(module, {**CELL, "n": 20}, lambda m, x, y: x, 20, "train")
    assert isinstance(evaluation, RobustEvaluation)
    x, y, _ = letters(20, 0).tensors("train")
    assert evaluation.results["val/n"] == 20
    assert evaluation.results["val/clean_acc"] == pytest.approx((module.eval()(x).argmax(1) == y).float().mean().item())


def loud(n, seed):
    """Inputs in no range of pixels."""
    x, y = 300 * torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 2
    return TensorDataModule((x[:150], y[:150]), (x[150:], y[150:]), val_size=30, train_size=n, value_range=(-1e4, 1e4))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning
@pytest.mark.parametrize("data", [blobs, loud])
def test_at_radius_0_nothing_is_asked_of_an_attack(tmp_path, monkeypatch, data):
    """No doubts, whatever the range of the inputs: robust accuracy is the clean accuracy."""
    told = []
    monkeypatch.setattr(RobustEvaluation, "_tell", lambda self, text, how: told.append(text))
    work = replace(WORK, data=data, eps_test=(0.0,), checks=1, steps=2)
    rows = work({**CELL, "eps_train": 0.0}, tmp_path)
    assert {row["eps_test"] for row in rows} == {0.0}
    assert not told


def _a_step_for_ten(n):
    return n // 10


def test_steps_may_depend_on_the_number_of_samples(tmp_path):
    work = replace(WORK, steps=_a_step_for_ten, checks=1)
    for n in (20, 40):
        rows = work({**CELL, "n": n}, tmp_path / str(n))
        assert {row["step"] for row in rows if row["metric"] == "gap"} == {n // 10}
