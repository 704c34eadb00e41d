import sys

import pytest
import torch

from lightning_robust import PGD, Linf, evaluate
from lightning_robust._optional import optional
from lightning_robust.plots import Page, bar_chart

ROWS = [{"metric": "error", "model": "a", "value": 0.5, "low": 0.4, "high": 0.7}]


def test_a_module_that_is_there_is_imported():
    assert optional("json.decoder", "report") is sys.modules["json.decoder"]


def test_a_module_whose_own_import_fails_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "lame_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        optional("lame_package", "report")


def take_away(package, monkeypatch):
    """As if the package were not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("matplotlib", lambda: bar_chart(ROWS)),
        ("jinja2", lambda: Page("Title", "", ["Text."]).html()),
    ],
)
def test_figures_and_pages_say_what_to_install(package, use, monkeypatch):
    take_away(package, monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=rf'`{package}`. Run: pip install "lightning-robust\[report\]"'):
        use()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib", "pandas"])
def test_an_evaluation_that_ends_with_a_page_says_so_before_it_begins(package, tmp_path, monkeypatch):
    """One without a folder needs none of them, nor does one of several processes that share a folder."""

    def model(x):
        asked.append(len(x))
        return x

    asked: list[int] = []
    data, attack, quiet = (torch.eye(2), torch.arange(2)), PGD(Linf(0.1), steps=1), {"progress": False}
    take_away(package, monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=rf'`{package}`. Run: pip install "lightning-robust\[report\]"'):
        evaluate(model, data, attack, out=tmp_path / "out", **quiet)
    assert not asked
    assert not (tmp_path / "out").exists()
    assert evaluate(model, data, attack, **quiet).n == 2
    assert evaluate(model, data, attack, out=tmp_path / "shared", shard=(0, 2), **quiet).n == 1
