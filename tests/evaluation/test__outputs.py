"""A model that answers as it did is told from another one, up to rounding and to its own spread."""

import pytest
import torch

from lightning_robust.evaluation._outputs import numbers_of, other_outputs, other_verdicts


def outputs(seed=0, n=64, shape=(10,), noise=0.0):
    clean = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return clean + noise * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(10,), (), (1,), (2,), (5, 3, 4)])
def test_one_number_for_each_output(shape):
    output = outputs(shape=shape)
    numbers = numbers_of(output)
    assert numbers.shape == (64,)
    assert len(numbers.unique()) == 64
    assert torch.allclose(numbers_of(output[3:4]), numbers[3:4])
    if output.numel() > 64:
        assert torch.allclose(numbers_of(output + 100), numbers, atol=1e-3)
    assert other_outputs(numbers, output, lambda: output) == 0
    assert other_outputs(numbers, -output, lambda: -output) > 50


@pytest.mark.parametrize(
    ("change", "others"),
    [
        (lambda z: z.bfloat16(), False),
        (lambda z: z.half().double(), False),
        (lambda z: z * 1.001, False),
        (lambda z: z * 1.1, True),
        (lambda z: z.roll(1, 0), True),
        (lambda z: torch.where(torch.arange(64)[:, None] < 8, z.roll(1, 1), z), True),
    ],
)
def test_rounding_is_forgiven(change, others):
    output = outputs()
    now = change(output)
    assert (other_outputs(numbers_of(output), now, lambda: now) > 3) == others


def test_a_random_model_is_compared_up_to_its_spread():
    before, now, elsewhere = (outputs(seed, noise=0.2) for seed in (1, 2, 3))
    assert other_outputs(numbers_of(before), now, lambda: now) > 10
    assert other_outputs(numbers_of(before), now, lambda: elsewhere) == 0
    assert other_outputs(numbers_of(before), -3 * now, lambda: -3 * elsewhere) > 3


def test_what_is_not_known_is_not_compared():
    output = outputs()
    before = numbers_of(output).where(torch.arange(64) < 32, torch.tensor(torch.nan))
    assert other_outputs(before, output.roll(1, 0), lambda: output.roll(1, 0)) in range(20, 33)
    lost = output.clone()
    lost[:32] = torch.inf
    assert numbers_of(lost)[:32].isnan().all()
    assert other_outputs(numbers_of(lost), lost, lambda: lost) == 0


def test_verdicts_that_turn_by_themselves_are_forgiven():
    right, few = torch.arange(64) % 2 == 0, torch.arange(64) < 8
    assert other_verdicts(right, right, lambda: ~right) == 0
    assert other_verdicts(right ^ few, right, lambda: right) == 8
    assert other_verdicts(right ^ few, right, lambda: right ^ few.roll(20)) == 0
    assert other_verdicts(~right, right, lambda: right ^ few) == 32
