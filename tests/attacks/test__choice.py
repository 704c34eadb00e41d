"""The choice of the quickest setting: by medians, once, by process 0; logged, and the same after a resume."""

import logging

import pytest
import torch
from callbacks_fakes import Module, loader, trainer

from lightning_robust import AdversarialTraining
from lightning_robust.attacks import PGD, Linf, _choice, fast, worst_of


def test_the_least_median_wins_and_process_0_decides(monkeypatch):
    clock, cost = [0.0], {"a": [9.0, 2.0, 2.0, 50.0], "b": [1.0, 3.0, 3.0, 1.0]}  # the first round is not counted
    monkeypatch.setattr(_choice.time, "perf_counter", lambda: clock[0])

    def measured():
        left = {name: list(times) for name, times in cost.items()}

        def run(name):
            clock[0] += left[name].pop(0)

        return _choice.quickest(["a", "b"], run, torch.device("cpu"))

    assert measured() == ("a", [2.0, 3.0])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: tensor.fill_(1))
    assert measured()[0] == "b"


def _fit(attack, epochs, **kwargs):
    callback = AdversarialTraining(attack)
    with_callback = trainer(callback, max_epochs=epochs)
    with_callback.fit(Module(), loader(8), **kwargs)
    return with_callback, callback


def test_the_choice_is_logged_and_a_resumed_run_makes_the_same(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    attacks = [worst_of(fast(PGD(Linf(0.1), steps=1), precision="auto"), PGD(Linf(0.1), steps=1)) for _ in range(3)]
    monkeypatch.setattr(_choice.time, "perf_counter", iter(range(10**6)).__next__)  # all take the same: the first wins
    first, callback = _fit(attacks[0], 1)
    assert callback.state_dict()["choices"] == [{"precision": "32"}]
    assert caplog.text.count("runs with precision='32'") == 1
    first.save_checkpoint(tmp_path / "one.ckpt")
    _choice_of(attacks[1]).value = {"precision": "bf16"}  # this machine would have chosen otherwise
    _, resumed = _fit(attacks[1], 2, ckpt_path=tmp_path / "one.ckpt")
    assert resumed.state_dict()["choices"] == [{"precision": "32"}]
    assert "choices" not in AdversarialTraining(PGD(Linf(0.1))).state_dict()


def _choice_of(attack):
    (choice,) = _choice.choices(attack)
    return choice


@pytest.mark.parametrize("forward", [None, lambda module, batch: module(batch[0])], ids=["module", "function"])
def test_a_lightning_module_is_compiled_once_for_all_batches(forward):
    from lightning_robust.attacks._compiled import graphs_of

    torch.manual_seed(0)
    attack, weights = PGD(Linf(0.1), steps=2), []
    for one in (attack, fast(attack, compile="eager")):
        torch.manual_seed(0)
        module = Module().double()
        trainer(AdversarialTraining(one, forward=forward), max_epochs=2, precision="64-true").fit(module, loader(8))
        weights.append(module.state_dict())
    graphs = [len(kind.graphs) for kind in graphs_of(module, "eager")._kinds.values()]
    assert graphs == ([1] if forward is None else [])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-9, atol=1e-9)
