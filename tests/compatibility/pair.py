"""Work that two processes over gloo do together: `main` is what each of them runs, with LOCAL_RANK set.

Each writes what it has found so far, job by job, so that a job that hangs loses no other.
"""

import json
import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.processes import run_two_ranks, told


def together(jobs: Iterable[tuple[str, Any]], folder: Path, timeout: float = 300) -> list[list[Any]]:
    """What each of two processes found for each job.

    Args:
        jobs: (name of a function in `work`, its argument as JSON has it).
        folder: An empty folder.
        timeout: Seconds.

    Returns:
        For each job what rank 0 and what rank 1 returned; for a job that they did not get to, what they said.
    """
    jobs = list(jobs)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    ended = run_two_ranks(main, folder, timeout=timeout, check=False)
    results = []
    for rank in range(2):
        file = folder / f"{rank}.jsonl"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        results.append(found + [[f"rank {rank} did not get to it: {told(ended)}"]] * (len(jobs) - len(found)))
    return [list(pair) for pair in zip(*results, strict=True)]


def main(folder: Path) -> None:
    from tests.compatibility import work

    rank = os.environ["LOCAL_RANK"]
    with (folder / f"{rank}.jsonl").open("w") as file:
        for name, argument in json.loads((folder / "jobs.json").read_text()):
            try:
                result = getattr(work, name)(argument)
            except Exception:
                result = [traceback.format_exc()[-2000:]]
            file.write(json.dumps(result) + "\n")
            file.flush()
