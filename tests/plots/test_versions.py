import os
import platform
import sys
from importlib.metadata import PackageNotFoundError

import torch
import torchmetrics
import torchvision

import lightning_robust
from lightning_robust.plots import versions


def test_versions_are_those_of_the_imported_packages():
    found = versions()
    assert found["lightning_robust"] == lightning_robust.__version__
    assert found["python"] == platform.python_version()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["torchvision"].split("+")[0] == torchvision.__version__.split("+")[0]
    assert found["torchmetrics"] == torchmetrics.__version__
    assert found["cpu count"] == os.cpu_count()
    assert found["torch threads"] == torch.get_num_threads()
    assert "not installed" not in (found["torch"], found["torchmetrics"])
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert found["device"] == "cpu"


def test_an_absent_package_is_said_to_be_absent(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sys.modules[versions.__module__], "version", absent)
    assert versions()["lightning"] == "not installed"
