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

BARE = """
import sys
import torchmetrics  # loads matplotlib where it is installed

extras = "matplotlib pandas scipy jinja2 joblib sklearn foolbox torchattacks pyarrow lightning_robust_studies"
for name in list(sys.modules) + extras.split():
    if name.partition(".")[0] in extras.split():
        sys.modules[name] = None  # as if it were not installed
import lightning_robust
import pytorch_lightning as pl
from lightning_robust import PGD, Fonts, Linf, RobustClassifier, RobustEvaluation, cli, evaluate, recipes
from lightning_robust.models import standard_net

for part in lightning_robust._SUBPACKAGES:
    getattr(lightning_robust, part)
module, data = RobustClassifier(standard_net()), Fonts(train_size=20, val_size=20, test_size=20)
attack = PGD(Linf(0.1), 1)
callbacks = [*recipes.trades(Linf(0.1), steps=1), RobustEvaluation(attack)]
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
trainer = pl.Trainer(max_steps=1, callbacks=callbacks, **quiet)
trainer.fit(module, data)
report = evaluate(module, data, attack)
print(report.n, sorted(trainer.callback_metrics))
try:
    report.write("out")
except ModuleNotFoundError as error:
    print(error)
try:
    cli.main(["study"])
except SystemExit as error:
    print(error.code)
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
        "lightning_robust/plots/page.html.jinja",
        "lightning_robust/plots/report.mplstyle",
        f"{data}fonts.npz",
        f"{data}fonts_notice.tsv",
        f"{data}LICENSES/OFL-1.1.txt",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "docs/", "studies/"))]
    assert {name.partition("/")[0] for name in names} == {"lightning_robust", names[-1].partition("/")[0]}
    assert any(name.endswith("plots/page.html.jinja") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5_000_000


@pytest.fixture
def outside(fresh, wheel, tmp_path):
    """Runs a program that has the wheel, its folder in `sys.argv[1]`, and not the checkout."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    return lambda code: fresh.run(code, site, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)})


def test_imports_from_outside_the_checkout(outside):
    done = outside(CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(20, 1, 28, 28) True"


def test_it_trains_and_evaluates_without_what_the_extras_install(outside, tmp_path):
    done = outside(BARE)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-3] == "20 ['train/loss', 'val/clean_acc', 'val/loss', 'val/robust_acc', 'val/suspicious']"
    assert 'pip install "lightning-robust[report]"' in said[-2]
    assert said[-1] == "2"
    assert not (tmp_path / "out").exists()
