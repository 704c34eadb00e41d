"""Two processes over gloo: as by hand, the same on both ranks, nothing counted twice. They run `callbacks_ddp.py`."""

import callbacks_ddp
import pytest
import torch
from callbacks_ddp import CASES, EVALUATIONS, MAX_SAMPLES, ODD
from callbacks_fakes import Module, data, loader, preloaded, same, trainer

from lightning_robust import RobustEvaluation
from tests.processes import run_alone, run_two_ranks, told

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)


@pytest.fixture(scope="module")
def of_both_ranks(tmp_path_factory):
    """What the two ranks found, and what they said if they failed."""
    folder = tmp_path_factory.mktemp("ddp")
    ended = run_two_ranks(callbacks_ddp.main, folder, timeout=150, check=False)
    files = [folder / f"{rank}.pt" for rank in range(2)]
    results = [torch.load(file, weights_only=True) if file.exists() else {} for file in files]

    def of(name):
        assert all(name in result for result in results), f"the ranks did not get to {name!r}: {told(ended)}"
        return [result[name] for result in results]

    of.folder = folder
    return of


@pytest.mark.parametrize("case", CASES)
def test_as_by_hand_and_equal_on_all_ranks(of_both_ranks, case):
    with_callback, by_hand = of_both_ranks(f"{case}, callback"), of_both_ranks(f"{case}, by hand")
    for one, other in zip(with_callback, by_hand, strict=True):
        assert same(one, other)  # buffers too, which differ between ranks
    parameters = [name for name, _ in CASES[case]["with"]().named_parameters()]
    assert same(*({name: weights[name] for name in parameters} for weights in with_callback))


def test_the_cases_differ(of_both_ranks):
    """Else the test above would compare nothing with nothing."""
    names = [name for name in CASES if name not in ("static graph", "find unused", "trades static")]
    weights = [of_both_ranks(f"{name}, callback")[0]["net.0.weight"] for name in names]
    for i, one in enumerate(weights):
        assert one.isfinite().all()
        assert not any(torch.equal(one, other) for other in weights[:i])
    assert same(of_both_ranks("static graph, callback")[0], of_both_ranks("plain, callback")[0])


def _alone(of_both_ranks, loader, **kwargs):
    """The values of one process that sees all samples."""
    module = Module()
    module.load_state_dict(of_both_ranks("plain, callback")[0])
    callback = RobustEvaluation(EVALUATIONS, **kwargs)
    trainer(callback).validate(module, loader, verbose=False)
    assert 0 < callback.results["val/robust_acc"] < callback.results["val/clean_acc"]
    return callback.results


def _together(of_both_ranks, name):
    first, second = of_both_ranks(name)
    assert first == second
    return first


@pytest.mark.parametrize("max_samples", MAX_SAMPLES)
def test_an_odd_number_of_samples_is_counted_once(of_both_ranks, max_samples):
    """The sampler repeats one to fill the last batch; and an adversarial example does not depend on the rank."""
    metrics = _together(of_both_ranks, f"evaluation, {max_samples}")
    assert metrics["val/n"] == (ODD if max_samples is None else max_samples)
    assert metrics == _alone(of_both_ranks, loader(ODD, seed=1), max_samples=max_samples)


def test_samples_that_the_user_has_shared_out(of_both_ranks):
    x, y = data(16, seed=1)
    metrics = _together(of_both_ranks, "evaluation, own sharding")
    assert metrics["val/n"] == 16
    assert metrics == _alone(of_both_ranks, preloaded([(x, y)]))


def test_a_handful_of_collective_calls(of_both_ranks):
    """One reduction, whatever is counted; and Lightning does not advise another one."""
    for (without, with_it), advice in zip(of_both_ranks("collectives"), of_both_ranks("advice"), strict=True):
        assert with_it - without <= 3
        assert not advice


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_results_are_there_after_ddp_spawn(tmp_path, method):
    """Processes of `spawn` import everything anew; `test__results.py` hands a pickle to one that need not."""
    run_alone(callbacks_ddp.start, tmp_path, method, timeout=150)
    saved = torch.load(tmp_path / "started.pt", weights_only=True)
    assert saved["results"]["val/n"] == ODD
    logged = {name: value for name, value in saved["logged"].items() if name != "val/own"}
    assert {name: saved["results"][name] for name in logged} == pytest.approx(logged)
    low, high = saved["intervals"]["val/robust_acc"]
    assert low < saved["results"]["val/robust_acc"] < high


def test_adversarial_examples_do_not_hang(of_both_ranks):
    assert [result["step"] for result in of_both_ranks("examples")] == [3, 3]
    assert [file.name for file in of_both_ranks.folder.rglob("*.png")] == ["epoch=0-step=3.png"]


def test_a_gap_is_measured_where_all_processes_have_their_samples(of_both_ranks):
    first, second = of_both_ranks("gap")
    assert first == second
    assert first["rows"] == [[1, 0.0, 0.0], [2, 12.0, 12.0]]
