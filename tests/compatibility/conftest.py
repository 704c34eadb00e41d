"""All jobs for two processes are done at once, whichever tests ask for them, and once for all workers of a run."""

import json
import os

import pytest
from filelock import FileLock

from tests.compatibility.pair import together


@pytest.fixture(scope="session")
def of_both_ranks(request, tmp_path_factory):
    """`(job) -> [what rank 0 found, what rank 1 found]`, for the parameter `job` of any selected test."""
    of_tests = (getattr(item, "callspec", None) for item in request.session.items)
    jobs = {json.dumps(one.params["job"]) for one in of_tests if one is not None and "job" in one.params}
    # What is refused comes last, in the order of the table: an error can leave the two out of step.
    jobs = sorted(jobs, key=lambda job: ("refused" in job, len(job), job))
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "two_processes"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            results = together(map(json.loads, jobs), folder, timeout=300 + 20 * len(jobs))
            (folder / "results.json").write_text(json.dumps(dict(zip(jobs, results, strict=True))))
    found = json.loads((folder / "results.json").read_text())
    return lambda job: found[json.dumps(job)]
