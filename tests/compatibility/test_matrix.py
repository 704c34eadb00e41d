"""Every cell of the pairwise cover of the table, and with `-m slow` of the three-way cover, keeps its laws."""

import pytest
import torch
from callbacks_fakes import BATCH, TEXTBOOK, loader, preloaded, trainer

from lightning_robust import RobustEvaluation
from tests.compatibility import work
from tests.compatibility.cells import BATCHES, broken, refusal_of
from tests.compatibility.table import FEATURES, OURS, REFUSALS, STRATEGIES, covering

pytestmark = pytest.mark.filterwarnings("ignore")
gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)


def pytest_generate_tests(metafunc):
    """The pairwise cover, and where slow tests are wanted, the cells of the three-way cover that are not in it."""
    one = metafunc.function is test_one_process
    if not one and metafunc.function is not test_two_processes:
        return
    pairs, wanted = covering(2), "not slow" not in metafunc.config.option.markexpr
    slow = [cell for cell in covering(3) if cell not in pairs] if wanted else []
    params = [
        pytest.param(cell if one else ["cell", list(cell)], id=str(cell), marks=marks)
        for cells, marks in ((pairs, ()), (slow, pytest.mark.slow))
        for cell in cells
        if cell.alone == one
    ]
    metafunc.parametrize("cell" if one else "job", params)


def _jobs(name, arguments):
    return pytest.mark.parametrize("job", [pytest.param([name, a], id=str(a)) for a in arguments])


def test_one_process(cell):
    assert broken(cell) == []


@gloo
def test_two_processes(job, of_both_ranks):
    assert of_both_ranks(job) == [[], []]


@pytest.mark.gpu
@pytest.mark.parametrize("cell", covering(2, gpu=True), ids=str)
def test_half_precision_on_a_gpu(cell):
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert broken(cell) == []


# What is refused

HERE = [r for r in REFUSALS if r.cell.feature in FEATURES and r.cell.strategy in STRATEGIES]


def _is_that_of(refusal, error, text):
    assert error == refusal.error
    assert refusal.words in text


@pytest.mark.parametrize("refusal", [r for r in HERE if r.cell.alone], ids=lambda r: r.words)
def test_refused(refusal):
    """With the words that the page quotes; by Lightning and torch without us."""
    _is_that_of(refusal, *refusal_of(refusal))


@gloo
@_jobs("refused", [number for number, refusal in enumerate(REFUSALS) if refusal in HERE and not refusal.cell.alone])
def test_refused_by_two_processes(job, of_both_ranks):
    for found in of_both_ranks(job):
        _is_that_of(REFUSALS[job[1]], *found)


def test_what_we_refuse_says_what_to_do():
    assert all(refusal.instead.endswith(".") for refusal in REFUSALS)
    assert {refusal.error for refusal in REFUSALS if refusal.by == OURS} <= {"TypeError", "ValueError"}


# Which rank does what

SHARDING = [name for name in STRATEGIES if name in ("DDP", "FSDP2")]


@gloo
@_jobs("attacked", SHARDING)
def test_each_rank_attacks_its_samples_once(job, of_both_ranks):
    ranks = of_both_ranks(job)
    assert all(attacked == given for attacked, given in ranks)
    assert sorted(sample for attacked, _ in ranks for sample in attacked) == list(range(2 * BATCHES * BATCH))


@gloo
@_jobs("reductions", SHARDING)
def test_gradients_are_reduced_as_often_as_without_an_attack(job, of_both_ranks):
    for without, with_it in of_both_ranks(job):
        assert without == with_it > 0


def _alone(batches, kind):
    callback = RobustEvaluation(work.PLAN if kind == "plan" else TEXTBOOK)
    trainer(callback).validate(work.taught(), batches, verbose=False)
    assert 0 < callback.results["val/robust_acc"] < callback.results["val/clean_acc"]
    return callback.results


@gloo
@_jobs("uneven", ["attack", "plan"])
def test_ranks_with_other_numbers_of_samples_find_what_one_process_finds(job, of_both_ranks):
    expected = _alone(preloaded([batch for rank in work.shares() for batch in rank]), job[1])
    first, second = of_both_ranks(job)
    assert first == second
    assert first == pytest.approx(expected)


@gloo
@pytest.mark.skipif("FSDP2" not in STRATEGIES, reason="torch 2.6 shards on a CPU with an error")
@_jobs("sharded", ["attack", "plan"])
def test_a_sharded_module_is_evaluated_as_a_whole_one(job, of_both_ranks):
    first, second = of_both_ranks(job)
    assert first == second
    assert first == pytest.approx(_alone(loader(23, seed=1), job[1]))


@gloo
@_jobs("collective", ["same"])
def test_a_forward_that_waits_for_the_other_process_is_asked_by_both(job, of_both_ranks):
    first, second = of_both_ranks(job)
    assert first == second
    assert 0 < first["val/robust_acc"] < first["val/clean_acc"]


@gloo
@_jobs("waiting", SHARDING)
def test_no_rank_waits_for_another_in_a_loop_that_depends_on_data(job, of_both_ranks):
    """Where forwards are collective, all make as many; else each as many as it needs."""
    (first,), (second,) = of_both_ranks(job)
    assert first == second if job[1] == "FSDP2" else first < second
