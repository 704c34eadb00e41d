"""`tools/gpu_check.sh` with a program in place of Python: its report on parts that pass, fail or are missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "gpu_check.sh"
INTERPRETER = r"""#!/usr/bin/env bash
case "$*" in
  *get_device_name*) ;;
  -) cat >/dev/null; echo "versions" ;;
  *find_spec*) case " $* " in *" $MISSING "*) exit 1 ;; esac ;;
  *speedrun*) echo "GPU available: False"; echo "robust, $*" ;;
  *pytest*) echo "29 passed" ;;
  *sharded*) echo "no weights"; exit "$SHARDED" ;;
  *attack_step*) printf 'of torch\n\n| a | b |\n| - | - |\n| 1 | 2 |\n' ;;
esac
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("bash") or not shutil.which("timeout"), reason="needs bash and timeout of the GNU tools"
)


def check(folder, missing="none", sharded=0, arguments=("some data", "report.md")):
    interpreter = folder / "python"
    interpreter.write_text(INTERPRETER, "utf-8")
    interpreter.chmod(0o755)
    own = {"PYTHON": str(interpreter), "MISSING": missing, "SHARDED": str(sharded)}
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )
    text = (folder / "report.md").read_text("utf-8")
    return done.returncode, dict(re.findall(r"^\| (.+?) \| (.+?) \| \d* \|$", text, re.MULTILINE)), text


def test_all_parts_pass(tmp_path):
    status, ended, text = check(tmp_path)
    assert status == 0
    assert set(ended.values()) == {"passed"}
    assert "versions" in text
    assert "In all: nothing failed" in text
    assert "29 passed" in text
    assert f"--data {tmp_path / 'some data'}" in text  # paths are those of the caller
    assert "GPU available" not in text
    assert "```\nof torch\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n" in text  # a table outside the block of text


def test_a_part_that_fails(tmp_path):
    status, ended, text = check(tmp_path, sharded=3)
    assert status == 1
    assert sorted(set(ended.values())) == ["FAILED: exit status 3", "passed"]
    assert "In all: something FAILED" in text
    assert "no weights" in text


@pytest.mark.parametrize("missing", ["pytest", "torchvision"])
def test_what_is_missing_is_named(tmp_path, missing):
    status, ended, _ = check(tmp_path, missing)
    assert status == 0
    assert [how for how in ended.values() if how != "passed"] == [f"skipped: {missing} is missing"]


def test_without_data(tmp_path):
    _, ended, _ = check(tmp_path, arguments=("", "report.md"))
    assert ended["Speed run"] == "skipped: no folder with the files of Fashion-MNIST was given"
