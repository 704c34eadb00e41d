from types import SimpleNamespace

import pytest
import torch

from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.studies import stages
from lightning_robust.studies.grid import Ray
from lightning_robust.studies.stages import filled, run_stage, share_of


def test_shares_have_the_interval_of_wilson():
    found = share_of(torch.arange(10) < 3)
    low, high = wilson_interval(3, 10)
    assert found == {"value": pytest.approx(0.3), "low": float(low), "high": float(high), "count": 10}


def test_lines_get_the_columns_of_all():
    assert filled([{"a": 1}, {"b": 2}]) == [{"a": 1, "b": ""}, {"a": "", "b": 2}]
    assert filled([]) == []


@pytest.mark.parametrize(
    ("launcher", "workers", "threads", "given"),
    [("processes", 4, 0, (2, None)), ("processes", 1, 3, (1, 3)), ("inline", 4, 1, (1, 1))],
)
def test_a_stage_takes_no_more_workers_than_cells_and_one_inline(launcher, workers, threads, given, monkeypatch):
    asked = {}
    monkeypatch.setattr(stages, "run_grid", lambda *args, **options: asked.update(options) or [])
    options = SimpleNamespace(out="here", workers=workers, threads=threads, launcher=launcher, gpus=0.0, progress=False)
    assert run_stage([{"n": 1}, {"n": 2}], print, options, "models") == []
    assert (asked["workers"], asked["threads"]) == given
    assert asked["stage"] == "models"


def test_on_ray_each_cell_has_its_gpus(monkeypatch):
    asked = {}
    monkeypatch.setattr(stages, "run_grid", lambda *args, **options: asked.update(options) or [])
    options = SimpleNamespace(out="here", workers=2, threads=0, launcher="ray", gpus=0.5, progress=False)
    run_stage([{"n": 1}, {"n": 2}], print, options, "models")
    assert asked["launcher"] == Ray(workers=2, threads=1, gpus=0.5)
