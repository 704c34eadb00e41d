"""Programs of `fresh` are what a new interpreter makes of them."""

import os
import signal

import pytest

from tests.fresh import FORKS

ASKED = """
import json, os, sys
loaded = {"lightning_robust", "pytorch_lightning", "lightning", "tests"} & set(sys.modules)
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("OWN"), __name__, sys.path[:2], sorted(loaded)]))
print("an error", file=sys.stderr)
"""


def test_a_program_has_its_own_words_folder_environment_and_output(fresh, tmp_path):
    script, site = tmp_path / "script.py", str(tmp_path / "site")
    script.write_text(ASKED)
    environment = os.environ | {"PYTHONPATH": site, "OWN": "1"}
    for program, first, path in ((ASKED, "-c", ""), (script, str(script), str(tmp_path))):
        done = fresh.run(program, "a b", 3, cwd=tmp_path, env=environment)
        said = [[first, "a b", "3"], str(tmp_path), "1", "__main__", [path, site], []]
        assert (done.returncode, eval(done.stdout), done.stderr) == (0, said, "an error\n")
    assert "OWN" not in os.environ


@pytest.mark.skipif(not FORKS, reason="needs forks")
def test_programs_end_as_they_do_alone(fresh):
    left = "import atexit; atexit.register(print, 'over')\n"
    done = fresh.run(f"{left}raise SystemExit(3)")
    assert (done.returncode, done.stdout) == (3, "over\n")
    done = fresh.run(f"{left}1 / 0")
    assert (done.returncode, done.stdout) == (1, "over\n")
    assert "ZeroDivisionError" in done.stderr  # packages that are loaded may print it in their own way
    assert fresh.run("import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL
    assert fresh.run("import time; time.sleep(60)", timeout=1).returncode == -signal.SIGALRM
