import os
import sys
import time

import pytest

from tests.processes import METHOD, run_alone, run_two_ranks


def fail():
    print("some words")
    if os.environ["LOCAL_RANK"] == "1":
        raise ValueError("on one rank")


def sleep():
    time.sleep(60)


def look(folder):
    (folder / "imported").write_text(str("tests.compatibility.work" in sys.modules))


def test_a_failure_is_told_with_its_process_and_where_it_was():
    with pytest.raises(AssertionError, match="process 0 ended with exit code 0: some words\n") as caught:
        run_two_ranks(fail, timeout=60)
    text = str(caught.value).partition("process 1 ended with exit code 1: some words\n")[2]
    assert "in fail" in text
    assert "ValueError: on one rank" in text
    assert [code for code, _ in run_two_ranks(fail, timeout=60, check=False)] == [0, 1]


def test_a_process_that_does_not_end_is_killed():
    with pytest.raises(AssertionError, match="process 0 ran out of its time"):
        run_alone(sleep, timeout=0.2)


@pytest.mark.skipif(METHOD != "forkserver", reason="needs processes that can be forked")
def test_a_process_begins_with_everything_imported(tmp_path):
    run_alone(look, tmp_path, timeout=60)
    assert (tmp_path / "imported").read_text() == "True"
