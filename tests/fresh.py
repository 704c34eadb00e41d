"""Fresh interpreters for the price of a fork.

Most of the seconds that a program of Lightning takes before its first line go to torch and to what torchmetrics finds
installed. A server loads these once and nothing else, neither Lightning nor this library. Each program runs in a fork
of it, with its own arguments, environment, folder and output, and ends as an interpreter ends.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

SMALL = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
FORKS = sys.platform == "linux"
"""Elsewhere what is loaded cannot be forked, and each program is an interpreter of its own."""


class Fresh:
    """Programs in processes of their own, with one thread and without a GPU.

    Attributes:
        seconds: Processor time of loading what programs find loaded.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        if FORKS:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._server = subprocess.Popen([sys.executable, __file__], env=os.environ | SMALL, text=True, **pipes)
            self.seconds = float(self._server.stdout.readline())

    def __enter__(self) -> "Fresh":
        return self

    def __exit__(self, *error: object) -> None:
        if FORKS:
            self._server.communicate()

    def run(
        self,
        program: str | Path,
        *words: Any,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: int = 120,
    ) -> subprocess.CompletedProcess:
        """Run a program, a source or the path of a script, until it ends.

        Args:
            program: What Python is given.
            words: Its arguments.
            cwd: Its folder, else that of this process.
            env: Its environment, else that of this process.
            timeout: Seconds after which it is ended by a signal.
        """
        words = [str(program) if isinstance(program, Path) else "-c", *map(str, words)]
        environment = {**(os.environ if env is None else env), **SMALL}
        if not FORKS:
            command = [sys.executable, *(words if isinstance(program, Path) else ["-c", program, *words[1:]])]
            return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
        source = program.read_text("utf-8") if isinstance(program, Path) else program
        with tempfile.TemporaryDirectory() as folder:
            said = [Path(folder) / name for name in ("out", "err")]
            job = {"source": source, "words": words, "environment": environment, "timeout": timeout}
            job |= {"folder": str(cwd or Path.cwd()), "said": list(map(str, said))}
            print(json.dumps(job), file=self._server.stdin, flush=True)
            code = os.waitstatus_to_exitcode(int(self._server.stdout.readline()))
            return subprocess.CompletedProcess(words, code, *(path.read_text("utf-8") for path in said))


def _next() -> dict[str, Any] | None:
    """A fork for each line, in which this returns the program; in the server it returns when no more come."""
    while line := sys.stdin.readline():
        if not (program := os.fork()):
            return json.loads(line)
        print(os.waitpid(program, 0)[1], flush=True)
    return None


def _become(job: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The code of a program, and the names that it begins with; this process is as if Python had begun with it."""
    signal.alarm(job["timeout"])
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(job["environment"])
    for number, name in enumerate((os.devnull, *job["said"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0)  # noqa: SIM115
    os.chdir(job["folder"])
    main, sys.argv = ModuleType("__main__"), job["words"]
    script = "" if sys.argv[0] == "-c" else sys.argv[0]
    if script:
        main.__file__ = script
    added = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [str(Path(script).parent) if script else "", *added, *(p for p in sys.path[1:] if p not in known)]
    importlib.invalidate_caches()
    sys.modules["__main__"] = main
    return compile(job["source"], script or "<string>", "exec"), vars(main)


if __name__ == "__main__":
    import torchmetrics  # noqa: F401
    import torchvision  # noqa: F401

    gc.freeze()  # else a fork copies the memory of all that is loaded when it looks for garbage
    print(time.process_time(), flush=True)
    if job := _next():
        exec(*_become(job))
