"""The table of what goes together: the axes, what is refused and by whom, and the covers that the tests run.

`cells.py` runs a cell, `page.py` writes `docs/compatibility.md`.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from lightning_robust._lightning import pl
from tests.compatibility.cover import cover

TORCH_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))

AXES: dict[str, tuple[Any, ...]] = {
    "part": ("pixels", "on-manifold", "affine", "half", "objective", "recipe", "evaluation"),
    "strategy": ("one process", "DDP", "DDP static graph", "DDP unused parameters", "FSDP2"),
    "precision": ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed"),
    "accumulation": (1, 3),
    "optimization": ("automatic", "manual", "LBFGS"),
    "compilation": ("none", "network", "module"),
    "feature": (
        "none",
        "WeightAveraging",
        "EMAWeightAveraging",
        "StochasticWeightAveraging",
        "gradient clipping",
        "overfit_batches",
        "sanity check",
        "limit_batches",
        "several loaders",
        "inference mode",
    ),
}
"""The first value of an axis is what a Trainer does unless it is told otherwise."""


# Weight averaging came with Lightning 2.6; torch 2.6 cannot shard on a CPU.
FEATURES = tuple(name for name in AXES["feature"] if "WeightAveraging" not in name or hasattr(pl.callbacks, name))
STRATEGIES = AXES["strategy"] if TORCH_VERSION >= (2, 7) else AXES["strategy"][:-1]


class Cell(NamedTuple):
    """A value of each axis."""

    part: str = "pixels"
    strategy: str = "one process"
    precision: str = "32-true"
    accumulation: int = 1
    optimization: str = "automatic"
    compilation: str = "none"
    feature: str = "none"

    @property
    def alone(self) -> bool:
        """Does it run in one process?"""
        return self.strategy == "one process"

    def __str__(self) -> str:
        pairs = zip(self._fields[1:], self[1:], strict=True)
        told = [f"{name} {value}" for name, value in pairs if value != AXES[name][0]]
        return ", ".join([self.part, *told])


class Refusal(NamedTuple):
    """What is refused.

    Args:
        values: The values, by axis, that no cell may hold together; several of an axis in a tuple.
        by: Who refuses.
        error: The name of the error's class.
        words: A part of its text.
        instead: What to do.
        trainer: Arguments of the Trainer that are refused with these values; no cell has them.
    """

    values: Mapping[str, Any]
    by: str
    error: str
    words: str
    instead: str
    trainer: Mapping[str, Any] = {}

    @property
    def cell(self) -> Cell:
        """The plainest cell that it refuses."""
        return Cell(**{name: v[0] if isinstance(v, tuple) else v for name, v in self.values.items()})


OURS, LIGHTNING, TORCH = "lightning_robust", "Lightning", "torch"
AVERAGING = ("WeightAveraging", "EMAWeightAveraging")
REFUSALS = (
    Refusal(
        {"part": ("objective", "recipe"), "optimization": "manual"},
        OURS,
        "ValueError",
        "compute the loss in its training_step and leave `objective` out",
        "Call the objective in the `training_step`.",
    ),
    Refusal(
        {"part": "recipe", "strategy": "FSDP2"},
        OURS,
        "TypeError",
        "Expected argument `model` to have whole parameters",
        "`awp` with DDP.",
    ),
    Refusal(
        {"optimization": "manual"},
        LIGHTNING,
        "MisconfigurationException",
        "Automatic gradient clipping is not supported for manual optimization",
        "`self.clip_gradients(optimizer, ...)` in the step, as the cells do.",
        {"gradient_clip_val": 0.1},
    ),
    Refusal(
        {"optimization": "manual"},
        LIGHTNING,
        "MisconfigurationException",
        "Automatic gradient accumulation is not supported for manual optimization",
        "Step the optimizers every so many batches, as the cells do.",
        {"accumulate_grad_batches": 3},
    ),
    Refusal(
        {"optimization": "manual", "feature": "StochasticWeightAveraging"},
        LIGHTNING,
        "MisconfigurationException",
        "SWA currently works with 1 `optimizer`",
        "`WeightAveraging`.",
    ),
    Refusal(
        {"precision": "16-mixed", "optimization": "LBFGS"},
        LIGHTNING,
        "MisconfigurationException",
        "AMP and the LBFGS optimizer are not compatible",
        "`bf16-mixed`.",
    ),
    Refusal(
        {"part": "evaluation", "precision": "16-mixed", "feature": "StochasticWeightAveraging"},
        TORCH,
        "AssertionError",
        "No inf checks were recorded for this optimizer",
        "`WeightAveraging`, or `bf16-mixed`: with validations and BatchNorm any module ends so.",
    ),
    Refusal(
        {"strategy": "FSDP2", "precision": ("64-true", "16-mixed")},
        LIGHTNING,
        "ValueError",
        "The `ModelParallelStrategy` does not support",
        "`32-true`, `bf16-mixed` or `bf16-true`.",
    ),
    Refusal(
        {"strategy": "FSDP2", "optimization": "LBFGS"},
        TORCH,
        "RuntimeError",
        "Cannot flatten unevenly sharded tensor",
        "DDP.",
    ),
    Refusal(
        {"strategy": "FSDP2", "feature": AVERAGING},
        TORCH,
        "AssertionError",
        "FSDP does not support deepcopy",
        "DDP.",
    ),
    Refusal(
        {"strategy": "FSDP2", "feature": "StochasticWeightAveraging"},
        TORCH,
        "RuntimeError",
        "got mixed torch.Tensor and DTensor",
        "DDP.",
    ),
    Refusal(
        {"strategy": "DDP static graph", "accumulation": 3},
        TORCH,
        "RuntimeError",
        "expect_autograd_hooks_ INTERNAL ASSERT FAILED",
        "DDP without `static_graph`.",
    ),
    Refusal(
        {"strategy": "FSDP2", "compilation": "module"},
        LIGHTNING,
        "RuntimeError",
        "Using a compiled model is incompatible with the current strategy",
        "Compile the network in `configure_model`.",
    ),
)


def matches(values: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    """Does a (partial) combination hold all the values of a refusal?"""
    for name, value in values.items():
        if name not in chosen or chosen[name] not in (value if isinstance(value, tuple) else (value,)):
            return False
    return True


def allowed(chosen: Mapping[str, Any]) -> bool:
    """Is a (partial) combination refused by nobody?"""
    return not any(matches(refusal.values, chosen) for refusal in REFUSALS if not refusal.trainer)


@functools.cache
def covering(strength: int, *, gpu: bool = False) -> list[Cell]:
    """The cover of all that is installed here; `gpu`: of what one GPU alone can do, 16-mixed."""
    axes = {**AXES, "feature": FEATURES, "strategy": STRATEGIES}
    axes["precision"] = ("16-mixed",) if gpu else AXES["precision"][:-1]
    axes["strategy"] = ("one process",) if gpu else STRATEGIES
    return [Cell(**combination) for combination in cover(axes, strength, allowed)]
