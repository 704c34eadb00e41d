"""Two processes over gloo, each with its rank in the environment, and what they say."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run_two_ranks(script: str | Path, folder: Path, timeout: float) -> list[str]:
    """Run `python script folder` as ranks 0 and 1 of one machine; neither outlives this call.

    Returns:
        What each rank said, with its exit code at the end if that is not 0.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env=os.environ
            | world
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = []
    try:
        for process in ranks:
            text = process.communicate(timeout=timeout)[0]
            said.append(text + (f"\nexit code {process.returncode}" if process.returncode else ""))
    except subprocess.TimeoutExpired:
        said.append(f"ran out of its {timeout:.0f} s")
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return said
