from types import SimpleNamespace

import pytest
import torch

from lightning_robust._command import SettingsError
from lightning_robust.cells import Inline, Ray
from lightning_robust.datamodules import TensorDataModule
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust_studies import stages
from lightning_robust_studies.settings import choose
from lightning_robust_studies.stages import ready_data, run_stage, share_of


def test_shares_have_the_interval_of_wilson():
    share = share_of(torch.arange(10) < 3)
    low, high = wilson_interval(3, 10)
    assert share == {"value": pytest.approx(0.3), "low": float(low), "high": float(high), "count": 10}


@pytest.mark.parametrize(
    ("launcher", "threads", "executor"), [("processes", 0, type(None)), ("inline", 3, Inline), ("ray", 2, Ray)]
)
def test_a_stage_is_a_folder_of_cells_on_the_executor_that_was_asked_for(launcher, threads, executor, monkeypatch):
    asked = {}
    monkeypatch.setattr(stages, "run_cells", lambda *args, **options: asked.update(options, folder=args[2]) or [])
    options = SimpleNamespace(out="here", workers=4, threads=threads, launcher=launcher, gpus=0.5, progress=False)
    assert run_stage([{"n": 1}, {"n": 2}], print, options, "models") == []
    assert (str(asked["folder"]), asked["workers"], asked["threads"]) == ("here/models", 4, threads or None)
    assert isinstance(asked["executor"], executor)
    if launcher == "ray":
        assert asked["executor"].options == {"max_retries": 0, "num_cpus": 2, "num_gpus": 0.5}


def test_choices_are_known_and_none_is_made_twice():
    assert choose("schemes", ("b", "a"), {"a": 1, "b": 2}) == ["b", "a"]
    for wrong in (["c"], [], ["a", "a"]):
        with pytest.raises(ValueError, match="argument `schemes`"):
            choose("schemes", wrong, ["a", "b"])


def data(n, error=None):
    class Data(TensorDataModule):
        def prepare_data(self):
            if error is not None:
                raise error

    part = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    return Data(part, part, val_size=4, train_size=n)


def test_data_is_looked_at_before_it_is_used():
    assert ready_data(data, "sizes", 10).train_size == 10
    with pytest.raises(SettingsError, match=r"`sizes` to be numbers of images that the data has, but got 99\. Exp"):
        ready_data(data, "sizes", 99)
    with pytest.raises(OSError, match="not there"):
        ready_data(lambda n: data(n, OSError("not there")), "sizes", 10)
