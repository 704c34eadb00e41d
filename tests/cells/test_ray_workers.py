import os
import sys

import pytest

from lightning_robust.cells import CellsFailedError, run_grid
from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.cells.ray_workers import Ray
from tests.cells.cellwork import Trouble, draw, marks


@pytest.mark.parametrize("options", [{"workers": 0}, {"threads": 0}, {"gpus": -1}])
def test_arguments_are_checked(options):
    with pytest.raises(StudyArgumentError, match=f"`{next(iter(options))}`"):
        Ray(**options)


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyArgumentError, match=r"lightning-robust\[ray\]"):
        run_grid([{"n": 1}], draw, tmp_path, launcher="ray")


@pytest.mark.slow
def test_a_local_cluster_gives_what_inline_gives_with_retries_and_resume(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        cells = [{"do": "work", "n": n} for n in range(3)]
        trouble = [{"do": what, "n": 9} for what in ("die once", "fail once", "fail", "exit", "threads")]
        with pytest.raises(CellsFailedError) as failed:
            run_grid(trouble + cells, Trouble(), tmp_path / "a", launcher=Ray())
        inline = run_grid(cells, Trouble(), tmp_path / "b", launcher="inline")
        assert [row for row in failed.value.rows if row["do"] == "work"] == inline
        assert len(failed.value.failures) == 2
        runs = {
            folder.name.split("_")[0]: marks(folder, "runs")
            for folder in (tmp_path / "a" / "models").iterdir()
            if folder.is_dir()
        }
        assert runs == {"do=work": 1, "do=die-once": 2, "do=fail-once": 2, "do=fail": 2, "do=exit": 2, "do=threads": 1}
        assert [row["threads"] for row in failed.value.rows if row["do"] == "threads"] == [1]

        with pytest.raises(CellsFailedError):
            run_grid(trouble + cells, Trouble(), tmp_path / "a", launcher="ray", workers=2, retries=0)
        again = {
            folder.name.split("_")[0]: marks(folder, "runs")
            for folder in (tmp_path / "a" / "models").iterdir()
            if folder.is_dir()
        }
        assert again == {**runs, "do=fail": 3, "do=exit": 3}
        assert run_grid([{"n": 1}], draw, tmp_path / "c", launcher="ray") == run_grid(
            [{"n": 1}], draw, tmp_path / "d", launcher="inline"
        )
        assert ray.is_initialized()  # a cluster that was there before is left as it is
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_cluster_of_its_own_is_started_and_ended(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    rows = run_grid([{"n": 1}], draw, tmp_path, launcher=Ray(address="local"))
    assert len(rows) == 3
    assert not ray.is_initialized()
