"""Training with `fast` attacks in two processes: the same weights on both, and one choice for both."""

from types import SimpleNamespace

import pytest
import torch
from callbacks_ddp import trainer
from callbacks_fakes import TEXTBOOK, Module, loader, same, state

from lightning_robust import AdversarialTraining
from lightning_robust.attacks import _choice, fast
from tests.processes import run_two_ranks

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)

CASES = {
    "plain": (lambda: TEXTBOOK, "64-true"),
    "channels last": (lambda: fast(TEXTBOOK, compile=False, channels_last=True), "64-true"),
    "bf16": (lambda: fast(TEXTBOOK, precision="bf16"), "32-true"),
    "auto": (lambda: fast(TEXTBOOK, precision="auto", channels_last="auto"), "32-true"),
}
SETTINGS = 4
QUICKEST = {0: 3, 1: 0}
"""Rank -> number of the setting that is the quickest there."""


class Clock:
    """A clock by which one of the settings takes no time, and each other one the longer the farther it is from it."""

    def __init__(self, quickest):
        self.quickest, self.calls, self.now = quickest, 0, 0.0

    def perf_counter(self):
        if self.calls % 2:  # in the first round, which is not counted, no end is looked at
            self.now += abs((self.calls - SETTINGS) // 2 % SETTINGS - self.quickest)
        self.calls += 1
        return self.now


def fit(attack, precision):
    """The weights, what the attack chose, and how its first convolution was called with a gradient."""
    torch.manual_seed(7)
    module, seen = Module(), SimpleNamespace(last=None)  # what a list holds is put back after an attack

    def look(part, args):
        if args[0].requires_grad:
            last = part.weight.is_contiguous(memory_format=torch.channels_last)
            seen.last = torch.is_autocast_enabled("cpu"), last

    first = next(part for part in module.modules() if isinstance(part, torch.nn.Conv2d))
    with torch.no_grad():  # of one channel both layouts are the same: three, of which two are empty
        first.weight = torch.nn.Parameter(torch.cat([first.weight, *2 * [0 * first.weight]], 1))
    first.register_forward_pre_hook(lambda part, args: (args[0].expand(-1, 3, -1, -1),))
    first.register_forward_pre_hook(look)
    callback = AdversarialTraining(attack)
    trainer(callback, precision=precision).fit(module, loader(batch_size=3))
    return {"weights": state(module), "choices": callback.state_dict().get("choices"), "seen": seen.last}


def work(folder):
    kept = {}
    for name, (make, precision) in CASES.items():
        if torch.distributed.is_initialized():
            _choice.time = SimpleNamespace(perf_counter=Clock(QUICKEST[torch.distributed.get_rank()]).perf_counter)
        kept[name] = fit(make(), precision)
    torch.save(kept, folder / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_both_ranks_train_alike_and_make_one_choice(tmp_path):
    run_two_ranks(work, tmp_path, timeout=150)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    parameters = [name for name, _ in Module().named_parameters()]
    for name in CASES:
        assert same(*({key: one[name]["weights"][key] for key in parameters} for one in (first, second)))
        assert first[name]["seen"] == second[name]["seen"]
        assert first[name]["choices"] == second[name]["choices"]
    for key, value in first["plain"]["weights"].items():
        torch.testing.assert_close(first["channels last"]["weights"][key], value, rtol=1e-9, atol=1e-9)
    assert {name: first[name]["seen"] for name in CASES} == {
        "plain": (False, False),
        "channels last": (False, True),
        "bf16": (True, False),
        "auto": (True, True),
    }
    assert first["auto"]["choices"] == [{"precision": "bf16", "channels_last": True}]
