"""When the module is asked about itself: in fit, too, seldom, by all processes alike, and without a trace."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from callbacks_fakes import EPS, Module, fingerprint, loader, same, state, trainer

from lightning_robust import L2, PGD, Linf, RobustEvaluation
from lightning_robust.attacks import fgsm
from lightning_robust.callbacks._counts import Counts
from lightning_robust.callbacks._probes import Probes
from lightning_robust.evaluation._plan import stages_of
from lightning_robust.evaluation._reader import Reader
from tests.evaluation.zoo import Changed

ATTACK = PGD(Linf(EPS), 2)


class Flipped(Module):
    """Its gradient leads astray."""

    def forward(self, x):
        return super().forward(Changed.apply(x, torch.neg))


def asked_in(number, state="fit", last=False):
    """Which of so many measurements ask, all processes alike."""
    now = SimpleNamespace(
        state=SimpleNamespace(fn=state),
        should_stop=last,
        min_epochs=0,
        min_steps=0,
        current_epoch=0,
        global_step=0,
        check_val_every_n_epoch=1,
        max_epochs=-1,
        max_steps=-1,
    )
    probes, due = Probes(), []
    for _ in range(number):
        probes.begin(now)
        due.append(probes._due)
    return [i + 1 for i, one in enumerate(due) if one]


def test_in_fit_the_module_is_asked_ever_less_often_and_at_the_end():
    assert asked_in(20) == [1, 2, 4, 8, 16]
    assert asked_in(4, last=True) == [1, 2, 3, 4]
    assert asked_in(4, state="validate") == [1, 2, 3, 4]


def test_a_gradient_that_leads_astray_is_told_of_within_fit():
    """And the doubt stands in the validations that do not ask."""
    attacks, seen = {"near": ATTACK, "far": PGD(Linf(2 * EPS), 2), "l2": PGD(L2(0.5), 2)}, []

    class History(RobustEvaluation):
        def on_validation_end(self, trainer, pl_module):
            super().on_validation_end(trainer, pl_module)
            seen.append(float(trainer.callback_metrics["val/suspicious"]))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(History(attacks), max_epochs=4).fit(Flipped(), loader(), loader())
    assert min(seen) > 0
    assert seen[2] >= seen[1] - 2  # asked in the first, second and fourth
    assert "gradient_rise" in " ".join(str(one.message) for one in caught)


def test_an_honest_module_is_not_doubted_within_fit():
    t = trainer(RobustEvaluation({"linf": ATTACK, "l2": PGD(L2(0.3), 2)}), max_epochs=2)
    t.fit(Module(), loader(), loader())
    assert float(t.callback_metrics["val/suspicious"]) == 0


def test_a_fit_is_the_same_as_without_and_so_is_the_random_stream():
    def run(*callbacks):
        torch.manual_seed(7)
        module = Module()
        before = fingerprint(module)
        trainer(*callbacks, max_epochs=2).fit(module, loader(), loader())
        assert fingerprint(module)[1:3] == before[1:3]
        return state(module), torch.rand(3)

    (weights, drawn), (others, expected) = run(RobustEvaluation({"linf": ATTACK, "l2": PGD(L2(0.3), 2)})), run()
    assert same(weights, others)
    assert torch.equal(drawn, expected)


SIZES = []  # what a module holds is put back after an attack


class Whole(Flipped):
    """Wants all samples of a batch in every forward."""

    whole_batches = True

    def forward(self, x):
        SIZES.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("flipped", [True, False])
def test_all_processes_make_the_same_forwards(flipped, whole):
    """However different their samples and answers are; one of them speaks."""
    forwards, doubts = [], []
    for rank in range(2):
        module = Whole()
        module.whole_batches = whole
        if rank or not flipped:
            module.forward = lambda x, module=module: (SIZES.append(len(x)), Module.forward(module, x))[1]
        counts = Counts(stages_of(ATTACK), {}, torch.device("cpu"), plan=False, settled=True)
        x, y = next(iter(loader(70, batch_size=70, seed=rank)))
        SIZES.clear()
        counts.probe(module, Reader().read([x, y]), -1, rank=rank, processes=2)
        forwards.append(list(SIZES))
        doubts.append({one.name for one in counts.probed if one.flagged})
    assert len(forwards[0]) == len(forwards[1])
    assert {size for sizes in forwards for size in sizes} == {70 if whole else 64}
    assert ("gradient_rise" in doubts[0]) == flipped
    assert not doubts[1]


@pytest.mark.parametrize(("size", "batches"), [(4, 4), (1, 16), (64, 1), (None, 1)])
def test_processes_ask_about_as_many_batches_whatever_these_hold(size, batches):
    now, key = SimpleNamespace(state=SimpleNamespace(fn="test")), {"loader": 0, "size": size, "processes": 2}
    forwards = []
    for rank, sizes in enumerate(([4] * 20, [8, 1, 3, 2] * 5)):
        module, probes = Module(), Probes()
        module.forward = lambda x, module=module: (SIZES.append(len(x)), Module.forward(module, x))[1]
        counts = Counts(stages_of(ATTACK), {}, torch.device("cpu"), plan=False, settled=True)
        x, y = next(iter(loader(80, batch_size=80, seed=rank)))
        probes.begin(now)
        SIZES.clear()
        for pair in zip(x[: sum(sizes)].split(sizes), y[: sum(sizes)].split(sizes), strict=True):
            probes.look(counts, module, Reader().read(list(pair)), -1, rank=rank, **key)
        assert counts.answers.batches == batches
        forwards.append(len(SIZES))
    assert forwards[0] == forwards[1]


def test_one_process_asks_until_there_are_samples_enough():
    now = SimpleNamespace(state=SimpleNamespace(fn="test"))
    for size, n in ((3, 18), (40, 40), (1, 16)):
        probes, counts = Probes(), Counts(stages_of(ATTACK), {}, torch.device("cpu"), plan=False, settled=True)
        probes.begin(now)
        for pair in loader(40, batch_size=size):
            probes.look(counts, Module(), Reader().read(list(pair)), -1, loader=0, size=size, rank=0, processes=1)
        assert counts.answers.n == n


class Full(Flipped):
    """Its memory is full with more than 16 samples and their gradients."""

    def forward(self, x):
        SIZES.append(len(x))
        if len(x) > 16 and x.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_less_samples_are_asked_about_where_memory_runs_out(monkeypatch, whole, several):
    """But where processes make their forwards together: their number must not depend on the memory of one."""
    counts = Counts(stages_of(ATTACK), {}, torch.device("cpu"), plan=False, settled=True)
    module, sample = Full(), Reader().read(list(next(iter(loader(70, batch_size=70)))))
    module.whole_batches = whole
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: several)
    SIZES.clear()
    if whole and several:
        with pytest.raises(torch.OutOfMemoryError):
            counts.probe(module, sample, -1)
        assert set(SIZES) == {70}
    else:
        counts.probe(module, sample, -1)
        assert "gradient_rise" in {one.name for one in counts.probed if one.flagged}
        assert SIZES[0] == (70 if whole else 64)
        assert SIZES[-1] in range(8, 17)


@pytest.mark.parametrize("kind", ["whole", "compiled"])
def test_modules_of_whole_batches_are_asked_in_test_too(kind):
    module = Whole() if kind == "whole" else Flipped()
    if kind == "compiled":
        module.compile(backend="eager")
    with pytest.warns(UserWarning, match="gradient_rise"):
        (found,) = trainer(RobustEvaluation(ATTACK)).validate(module, loader(), verbose=False)
    assert found["val/suspicious"] > 0


def test_one_step_may_watch_a_training_and_is_no_verdict_after_it():
    callback, module = RobustEvaluation(fgsm(Linf(EPS))), Module()
    t = trainer(callback, max_epochs=2)
    t.fit(module, loader(), loader())
    assert callback.results["val/suspicious"] == 0
    with pytest.warns(UserWarning, match="one_step"):
        t.validate(module, loader(), verbose=False)
    assert callback.results["val/suspicious"] == 1
    short = RobustEvaluation(PGD(Linf(EPS), 4, rel_step_size=0.2))
    with pytest.warns(UserWarning, match="short_steps"):
        trainer(short, max_epochs=1).fit(Module(), loader(), loader())
    assert short.results["val/suspicious"] == 1
