"""CONTRIBUTING.md says where the next thing goes, and the places that it names are there."""

import ast
import re
from pathlib import Path

import pytest

import lightning_robust

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| a")]


def places(text: str) -> list[str]:
    """The files and folders that a text names in backticks, without placeholders such as `<study>`."""
    return re.findall(r"`(\w[\w./]*(?:/|\.py|\.toml|\.txt))`", text)


def exists(place: str) -> bool:
    """Within the repository or within the package."""
    return any((root / place).exists() for root in (ROOT, Path(lightning_robust.__file__).parent))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_table(row):
    assert len(row) == 4, row
    missing = [place for cell in row for place in places(cell) if not exists(place)]
    assert set(missing) <= {"figures.py", "report.py", "test_report.py", "test_study.py"}, row  # of a study
    for name, file in re.findall(r"`([A-Z]+)` of `([\w./]+\.py)`", row[3]):
        assigned = [
            target.id
            for node in ast.parse((ROOT / file).read_text("utf-8")).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        ]
        assert name in assigned, f"{file} has no {name}"


SOURCES = [path.read_text("utf-8") for part in ("lightning_robust", "studies") for path in (ROOT / part).rglob("*.py")]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`@?([A-Za-z_]{4,})`", "".join(row[1] for row in ROWS)))))
def test_a_name_in_the_table_is_one_of_the_sources(name):
    assert any(re.search(rf"\b{name}\b", text) for text in SOURCES)


def test_the_table_is_read():
    assert len(ROWS) >= 20
    assert places("`attacks/balls.py` and `tests/<study>/`, `metrics/`") == ["attacks/balls.py", "metrics/"]


def test_every_part_of_the_package_has_a_row():
    cells = "".join(row[2] for row in ROWS)
    parts = set(lightning_robust._SUBPACKAGES) - {"cells", "evaluation", "learning_curves"}  # nothing is added to these
    assert all(f"`{part}/" in cells or f"`{part}.py`" in cells for part in parts)


@pytest.mark.parametrize("link", re.findall(r"\]\((\w[\w./-]+)\)", TEXT))
def test_links(link):
    assert (ROOT / link).exists()
