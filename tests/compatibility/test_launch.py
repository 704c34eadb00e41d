"""The example of many processes prints the same whoever starts them: Lightning, torchrun or SLURM."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "16_many_processes.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
    ),
]


def _port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def _slurm(rank):
    """What `srun` gives to a task."""
    names = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "JOB_ID": 1, "PROCID": rank, "LOCALID": rank, "NODEID": 0}
    names |= {"NODELIST": "127.0.0.1", "JOB_NODELIST": "127.0.0.1", "JOB_NAME": "robust"}
    return {f"SLURM_{name}": str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _printed(*commands, folder):
    """The lines that programs, started at once, print together."""
    running = [
        subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, more in commands
    ]
    try:
        said = [one.communicate(timeout=200) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert not any(one.returncode for one in running), said
    return [line for out, _ in said for line in out.splitlines() if line.startswith("{")]


def test_whoever_starts_the_processes(tmp_path):
    alone = [sys.executable, str(EXAMPLE)]
    by_lightning = _printed((alone, {}), folder=tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", _port()]
    by_torchrun = _printed(([*torchrun, str(EXAMPLE)], {}), folder=tmp_path)
    port = {"MASTER_PORT": _port()}
    by_slurm = _printed(*((alone, _slurm(rank) | port) for rank in range(2)), folder=tmp_path)
    (line,) = by_lightning
    assert "'val/n': 201" in line
    assert by_torchrun == by_slurm == by_lightning
