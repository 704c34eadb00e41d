"""The wheel holds what it needs, and is imported from outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import lightning_robust, pathlib, sys
from lightning_robust.datamodules import Fonts
assert pathlib.Path(lightning_robust.__file__).is_relative_to(sys.argv[1]), lightning_robust.__file__
x, y, code = Fonts().tensors("test", limit=20)
print(tuple(x.shape), float(x.mean()) > 0)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    data = "lightning_robust/datamodules/data/"
    for name in (
        "lightning_robust/py.typed",
        f"{data}fonts.npz",
        f"{data}fonts_notice.tsv",
        f"{data}LICENSES/OFL-1.1.txt",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "docs/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5_000_000


def test_imports_from_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(site)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(20, 1, 28, 28) True"
