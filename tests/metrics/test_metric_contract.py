"""What every metric owes: one list of all metrics feeds every test. A new metric joins `CASES`."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lightning_robust import metrics
from lightning_robust.metrics import (
    AttackSuccessRate,
    ManifoldDistance,
    PerClassRobustAccuracy,
    PerturbationNorm,
    RobustAccuracy,
    TangentShare,
)
from tests.processes import run_two_ranks

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")


class Case(NamedTuple):
    make: Callable[[], Metric]
    inputs: Callable[[torch.Generator, int], dict[str, Tensor]]


def _flags(*sizes: int, g: torch.Generator) -> Tensor:
    return torch.rand(sizes, generator=g) < 0.7


def _images(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 3, 3, generator=g)


CASES = {
    "robust": Case(
        lambda: RobustAccuracy(["fgsm", "pgd"]),
        lambda g, n: {"correct": _flags(3, n, g=g), "mask": _flags(n, g=g)},
    ),
    "per_class": Case(
        lambda: PerClassRobustAccuracy(4),
        lambda g, n: {
            "correct": _flags(3, n, g=g),
            "y": torch.randint(4, (n,), generator=g),
            "mask": _flags(n, g=g),
        },
    ),
    "success": Case(
        lambda: AttackSuccessRate(5),
        lambda g, n: {"correct_clean": _flags(n, g=g), "fooled": _flags(5, n, g=g), "mask": _flags(n, g=g)},
    ),
    **{
        f"norm_{p}": Case(
            lambda p=p: PerturbationNorm(p),
            lambda g, n: {"x": _images(n, g), "x_adv": _images(n, g), "mask": _flags(n, g=g)},
        )
        for p in (1, 2, math.inf)
    },
    "manifold": Case(
        ManifoldDistance,
        lambda g, n: {"x": _images(n, g), "x_adv": _images(n, g), "projection": _images(n, g), "mask": _flags(n, g=g)},
    ),
    "tangent": Case(
        TangentShare,
        lambda g, n: {
            "x": _images(n, g),
            "x_adv": _images(n, g),
            "jacobian": torch.randn(n, 1, 3, 3, 2, generator=g),
            "mask": _flags(n, g=g),
        },
    ),
}

SIZES = [7, 1, 12, 0, 5]
VIEWS = ("correct", "fooled")  # (V, N): the samples are along the last axis, elsewhere along the first
every_metric = pytest.mark.parametrize("name", CASES)


def batches(name: str) -> list[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(3)
    return [CASES[name].inputs(g, n) for n in SIZES]


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One batch of them all."""
    return {key: torch.cat([part[key] for part in parts], dim=int(key in VIEWS)) for key in parts[0]}


def expected(name: str) -> dict[str, Tensor]:
    metric = CASES[name].make()
    metric.update(**joined(batches(name)))
    return metric.compute()


def assert_same(actual: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
    assert list(actual) == list(reference)
    for key, value in reference.items():
        torch.testing.assert_close(
            actual[key], value, rtol=1e-6, atol=0, equal_nan=True, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_the_list_is_complete():
    exported = {thing for name in metrics.__all__ if isinstance(thing := getattr(metrics, name), type)}
    missing = exported - {type(case.make()) for case in CASES.values()}
    assert not missing, f"Give {missing} a line in CASES"


@every_metric
def test_facts_are_stated(name):
    metric = CASES[name].make()
    assert metric.is_differentiable is False
    assert metric.full_state_update is False
    assert metric.higher_is_better in (True, False, None)
    assert "higher_is_better" in vars(type(metric))


@every_metric
def test_batches_add_up(name):
    metric = CASES[name].make()
    for batch in batches(name):
        metric.update(**batch)
    assert_same(metric.compute(), expected(name))


@every_metric
def test_mask_chooses_samples(name):
    inputs = joined(batches(name))
    mask = inputs.pop("mask")
    metric = CASES[name].make()
    metric.update(**{key: value[:, mask] if key in VIEWS else value[mask] for key, value in inputs.items()})
    assert_same(metric.compute(), expected(name))


@every_metric
def test_of_nothing_is_known_only_that_it_is_nothing(name):
    metric, g = CASES[name].make(), torch.Generator()
    metric.update(**CASES[name].inputs(g, 0))
    metric.update(**{**CASES[name].inputs(g, 3), "mask": torch.zeros(3, dtype=torch.bool)})
    known = {"low": 0, "high": 1, "count": 0, "n": 0, "class": -1}
    for key, value in metric.compute().items():
        right = known.get(key.rpartition("_")[2])
        assert bool((value.isnan() if right is None else value == right).all()), key


@every_metric
def test_forward_gives_the_batch_and_accumulates(name):
    metric = CASES[name].make()
    for batch in batches(name):
        alone = CASES[name].make()
        alone.update(**batch)
        assert_same(metric(**batch), alone.compute())
    assert_same(metric.compute(), expected(name))


@every_metric
def test_reset(name):
    metric = CASES[name].make()
    metric.update(**CASES[name].inputs(torch.Generator().manual_seed(9), 8))
    metric.reset()
    for batch in batches(name):
        metric.update(**batch)
    assert_same(metric.compute(), expected(name))


@pytest.mark.skipif("merge_state" not in dir(Metric), reason="torchmetrics 1.4 has no merge_state")
@every_metric
def test_merge_state(name):
    parts = batches(name)
    one, other = CASES[name].make(), CASES[name].make()
    for batch in parts[:2]:
        one.update(**batch)
    for batch in parts[2:]:
        other.update(**batch)
    one.merge_state(other)
    assert_same(one.compute(), expected(name))


@every_metric
def test_pickle_and_copy_midway(name):
    metric = CASES[name].make()
    parts = batches(name)
    for batch in parts[:2]:
        metric.update(**batch)
    for twin in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        for batch in parts[2:]:
            twin.update(**batch)
        assert_same(twin.compute(), expected(name))


@every_metric
def test_state_dict_round_trip(name):
    metric, twin = CASES[name].make(), CASES[name].make()
    assert metric.state_dict() == {}  # states are no weights, as in torchmetrics
    parts = batches(name)
    for batch in parts[:2]:
        metric.update(**batch)
    metric.persistent(True)
    twin.persistent(True)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for batch in parts[2:]:
        twin.update(**batch)
    assert_same(twin.compute(), expected(name))


@every_metric
def test_updates_in_and_out_of_inference_mode(name):
    metric = CASES[name].make()
    with torch.inference_mode():
        metric.reset()
    for i, batch in enumerate(batches(name)):
        with torch.inference_mode(i % 2 == 0):
            metric.update(**batch)
    assert_same(metric.compute(), expected(name))


@every_metric
def test_inputs_and_earlier_results_are_left_alone(name):
    metric = CASES[name].make()
    first, second = batches(name)[0], batches(name)[2]
    before = copy.deepcopy(first)
    metric.update(**first)
    result = metric.compute()
    kept = copy.deepcopy(result)
    metric.update(**second)
    metric.compute()
    assert_same(result, kept)
    for key, value in before.items():
        assert first[key].equal(value)


@every_metric
def test_integer_states_are_exact_after_a_module_in_half_precision(name):
    metric = torch.nn.ModuleDict({"metric": CASES[name].make()}).to(torch.float16)["metric"]
    for batch in batches(name):
        metric.update(**batch)
    assert all(getattr(metric, state).dtype in (torch.int64, torch.float64) for state in metric.metric_state)
    assert_same(metric.compute(), expected(name))


def test_in_one_collection():
    """The metrics of one kind of input live in one collection, and each gives what it gives alone."""
    names = ["norm_1", "norm_2", "norm_inf", "manifold"]
    metrics = MetricCollection({name: CASES[name].make() for name in names})
    for batch in batches("manifold"):
        metrics.update(**batch)
    result = metrics.compute()
    for name in names:
        alone = CASES[name].make()
        for batch in batches("manifold"):
            alone.update(
                **{key: value for key, value in batch.items() if key in CASES[name].inputs(torch.Generator(), 1)}
            )
        assert_same({key: result[key] for key in alone.compute()}, alone.compute())


def _work(folder: Path) -> None:
    """Rank 0 takes three batches, rank 1 two (an empty one among them); then rank 0 takes all of a second epoch."""
    dist.init_process_group("gloo")
    rank, results = dist.get_rank(), {}
    for name, case in CASES.items():
        metric = case.make()
        for batch in batches(name)[rank::2]:
            metric.update(**batch)
        first = metric.compute()
        metric.reset()
        for batch in batches(name) if rank == 0 else []:
            metric.update(**batch)
        results[name] = (first, metric.compute())
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()  # torch 2.6 may wait for ever if the group ends while its thread lets go of the last tensors
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")
def test_two_processes_agree_with_one(tmp_path: Path):
    run_two_ranks(_work, tmp_path, timeout=120)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in CASES:
            for result in results[name]:
                assert_same(result, expected(name))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@every_metric
def test_on_cuda(name):
    metric = CASES[name].make().to("cuda")
    for batch in batches(name):
        metric.update(**{key: value.to("cuda") for key, value in batch.items()})
    result = metric.compute()
    assert all(value.device.type == "cuda" for value in result.values())
    assert_same({key: value.cpu() for key, value in result.items()}, expected(name))
