import errno
import os
from types import SimpleNamespace

import pytest
import torch

from lightning_robust.cells import Ray, StudyArgumentError, StudyError
from lightning_robust.datamodules import TensorDataModule
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust_studies import stages
from lightning_robust_studies.stages import filled, ready_data, ready_folder, run_stage, share_of


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


def test_a_folder_is_made_ready_and_left_empty(tmp_path):
    folder = ready_folder(tmp_path / "new" / "folder")
    assert folder == tmp_path / "new" / "folder"
    assert list(folder.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "there")  # a link to nothing yet
    assert ready_folder(tmp_path / "link") == tmp_path / "there"
    assert (tmp_path / "there").is_dir()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyArgumentError, match=r"`out` to be a folder that can be written, but got .*file.*: \w+"):
        ready_folder(tmp_path / place)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_no_files_is_refused(error, tmp_path, monkeypatch):
    def refuse(**kwargs):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(StudyArgumentError, match=f"`out` to be a folder .*: {os.strerror(error)}"):
        ready_folder(tmp_path)


def data(n, error=None):
    class Data(TensorDataModule):
        def prepare_data(self):
            if error is not None:
                raise error

    part = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    return Data(part, part, val_size=4, train_size=n)


def test_data_is_looked_at_before_it_is_used():
    assert ready_data(data, "sizes", 10).train_size == 10
    with pytest.raises(
        StudyArgumentError, match=r"`sizes` to be numbers of images that the data has, but got 99\. Exp"
    ):
        ready_data(data, "sizes", 99)
    with pytest.raises(StudyError, match="not there"):
        ready_data(lambda n: data(n, OSError("not there")), "sizes", 10)
