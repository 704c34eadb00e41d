import sys

import pytest

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


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("matplotlib", lambda: bar_chart(ROWS)),
        ("jinja2", lambda: Page("Title", "", ["Text."]).html()),
    ],
)
def test_figures_and_pages_say_what_to_install(package, use, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=rf'`{package}`. Run: pip install "lightning-robust\[report\]"'):
        use()
