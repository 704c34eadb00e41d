"""The names people need are at the top, lazily, and every subpackage is an attribute after a plain import."""

import ast
import pkgutil
from pathlib import Path

import pytest

import lightning_robust

SOURCE = Path(lightning_robust.__file__)


def test_type_checkers_see_the_same_names():
    (block,) = [node for node in ast.parse(SOURCE.read_text("utf-8")).body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module.split(".")[1] for node in block.body for alias in node.names}
    assert seen == lightning_robust._HOME


@pytest.mark.parametrize("name", lightning_robust.__all__)
def test_a_name_is_that_of_its_home(name):
    home = getattr(lightning_robust, lightning_robust._HOME[name])
    assert getattr(lightning_robust, name) is getattr(home, name)
    assert name in home.__all__


def test_every_public_part_is_an_attribute(fresh):
    parts = {m.name for m in pkgutil.iter_modules([str(SOURCE.parent)]) if not m.name.startswith("_")}
    assert parts - {"cli", "demo"} == set(lightning_robust._SUBPACKAGES)
    assert set(lightning_robust._SUBPACKAGES) | set(lightning_robust.__all__) <= set(dir(lightning_robust))
    code = "import lightning_robust\n" + "\n".join(
        f"lightning_robust.{part}" for part in sorted(parts - {"cli", "demo"})
    )
    fresh.run(code).check_returncode()
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        lightning_robust.no_such  # noqa: B018
