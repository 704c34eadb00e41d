import os
import platform
import sys
from importlib.metadata import PackageNotFoundError

import torch
import torchmetrics
import torchvision

import lightning_robust
from lightning_robust._versions import versions


def test_versions_are_those_of_the_imported_packages():
    shown = versions()
    assert shown["lightning_robust"] == lightning_robust.__version__
    assert shown["python"] == platform.python_version()
    for module in (torch, torchvision, torchmetrics):
        assert shown[module.__name__].split("+")[0] == module.__version__.split("+")[0]
    assert shown["cpu count"] == os.cpu_count()
    assert shown["torch threads"] == torch.get_num_threads()
    assert shown["processor"]
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert shown["device"] == "cpu"


def test_an_absent_package_is_said_to_be_absent(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sys.modules[versions.__module__], "version", absent)
    assert versions()["lightning"] == "not installed"
