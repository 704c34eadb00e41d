"""The page is that of the table, and names tests that exist."""

import ast
import sys

import pytest

if sys.version_info < (3, 11):
    pytest.importorskip("tomli")

from tests.compatibility.page import BESIDES, MEANINGS, PAGE, ROOT, text
from tests.compatibility.table import AXES, FEATURES, STRATEGIES


@pytest.mark.skipif(
    len(FEATURES) + len(STRATEGIES) < len(AXES["feature"]) + len(AXES["strategy"]), reason="needs the newest releases"
)
def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == text(), "run `make compatibility`"


def test_every_value_is_explained():
    assert MEANINGS.keys() == {value for values in AXES.values() for value in values}


@pytest.mark.parametrize("test", [test for _, test in BESIDES])
def test_tests_that_are_named_exist(test):
    file, _, name = test.partition("::")
    functions = {
        n.name for n in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(n, ast.FunctionDef)
    }
    assert not name or name in functions
