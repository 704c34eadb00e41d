"""Writes `docs/compatibility.md` from the table: `make compatibility`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.compatibility.table import AXES, REFUSALS, Refusal, covering

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
HERE = "tests/compatibility"
PACKAGES = ("torch", "pytorch-lightning", "lightning", "torchmetrics", "torchvision", "numpy")

NAMES = {
    "part": "What is trained or measured",
    "strategy": "Strategy",
    "precision": "Precision",
    "accumulation": "Batches that are accumulated",
    "optimization": "Optimization",
    "compilation": "Compilation",
    "feature": "Feature of the Trainer",
}
MEANINGS = {
    "pixels": "`AdversarialTraining` with PGD in pixels",
    "on-manifold": "`AdversarialTraining` with PGD in the codes of a manifold",
    "affine": "`AdversarialTraining` with PGD over affine maps",
    "half": "`AdversarialTraining(fraction=0.5)`: half of each batch stays clean",
    "objective": "`AdversarialTraining` with `trades(6)`, the attack raises the divergence",
    "recipe": "`recipes.awp(recipes.madry(...))`: weights are perturbed too",
    "evaluation": "`RobustEvaluation` in the validations of ordinary training",
    "one process": "",
    "DDP": "two processes over gloo, BatchNorm",
    "DDP static graph": "`DDPStrategy(static_graph=True)`",
    "DDP unused parameters": "`DDPStrategy(find_unused_parameters=True)`, with some",
    "FSDP2": "`ModelParallelStrategy` and `fully_shard` in `configure_model`, two processes over gloo",
    "32-true": "",
    "64-true": "",
    "bf16-mixed": "",
    "bf16-true": "",
    "16-mixed": "on a GPU alone: on a CPU Lightning makes bfloat16 of it",
    1: "",
    3: "and one batch that is left over",
    "automatic": "SGD with momentum",
    "manual": "two optimizers in the step",
    "LBFGS": "three calls of the step for a batch; `tolerance_change=-1`: torch stops by the loss of one process alone",
    "none": "",
    "network": "`torch.compile(network)` in `configure_model`",
    "module": "`torch.compile(module)` given to the Trainer",
    "WeightAveraging": "since Lightning 2.6",
    "EMAWeightAveraging": "since Lightning 2.6",
    "StochasticWeightAveraging": "",
    "gradient clipping": "by norm",
    "overfit_batches": "of two batches",
    "sanity check": "before training, and a validation",
    "limit_batches": "of training and validation",
    "several loaders": "two for training, two for validation",
    "inference mode": "`test` and `validate` after the fit, under inference mode",
}

BESIDES = (
    (
        "A fit that is killed within an epoch and resumed: the weights of the fit that never stopped",
        f"{HERE}/test_resume.py::test_killed_within_an_epoch",
    ),
    (
        "A resume at the end of an epoch, with a schedule",
        "tests/callbacks/test_as_by_hand.py::test_resuming_equals_never_stopping",
    ),
    (
        "Each rank attacks the samples of its sampler, once",
        f"{HERE}/test_matrix.py::test_each_rank_attacks_its_samples_once",
    ),
    (
        "Gradients are reduced as often as without an attack",
        f"{HERE}/test_matrix.py::test_gradients_are_reduced_as_often_as_without_an_attack",
    ),
    (
        "Ranks with other numbers of batches: the values of one process",
        f"{HERE}/test_matrix.py::test_ranks_with_other_numbers_of_samples_find_what_one_process_finds",
    ),
    (
        "A sampler that repeats a sample: it counts once",
        "tests/callbacks/test_ddp.py::test_an_odd_number_of_samples_is_counted_once",
    ),
    ("FSDP2: the values of one process", f"{HERE}/test_matrix.py::test_a_sharded_module_is_evaluated_as_a_whole_one"),
    (
        "No rank waits for another in a loop that depends on data",
        f"{HERE}/test_matrix.py::test_no_rank_waits_for_another_in_a_loop_that_depends_on_data",
    ),
    (
        "`ddp_fork`, and with `-m slow` `ddp_spawn`: results are there in the program that started the processes",
        "tests/callbacks/test_ddp.py::test_results_are_there_after_ddp_spawn",
    ),
    (
        "Lightning, torchrun and SLURM start the same training (`examples/16_many_processes.py`)",
        f"{HERE}/test_launch.py::test_whoever_starts_the_processes",
    ),
    (
        "float16 with a gradient scaler, on a CPU",
        "tests/callbacks/test_as_by_hand.py::test_float16_with_a_gradient_scaler_and_clipping",
    ),
    (
        "`pytorch_lightning` or `lightning.pytorch`, each where nothing of the other can be imported",
        "tests/test_lightning.py::test_a_project_with_one_copy_alone",
    ),
    (
        "`lightning.pytorch` where `pytorch_lightning` is imported too",
        "tests/test_lightning.py::test_a_project_that_uses_the_other_copy_is_served",
    ),
    ("Recurrent layers, which cuDNN differentiates in training mode only", f"{HERE}/test_gpu.py"),
    ("`Tuner`, which takes callbacks away", "tests/callbacks/test_contract.py::test_tuner_with_the_attack_attached"),
    ("Batches and modules of other packages: see [the contract](contract.md)", "tests/thirdparty/test_modules.py"),
)
"""What a table of axes cannot say, and the test of each."""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _versions() -> Iterator[tuple[str, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = [*project["dependencies"], *(text for some in project["optional-dependencies"].values() for text in some)]
    asked = {requirement.name: requirement.specifier for requirement in map(Requirement, texts)}
    yield "Python", f"`{project['requires-python']}`"
    for name in PACKAGES:
        bounds = sorted(map(str, asked[name]), key=lambda bound: (bound[0] != ">", bound))
        yield name, f"`{', '.join(bounds)}`"


def _values(refusal: Refusal) -> str:
    held = [_either(axis, value if isinstance(value, tuple) else (value,)) for axis, value in refusal.values.items()]
    return " + ".join([*held, *(f"`Trainer({name}={value})`" for name, value in refusal.trainer.items())])


def _either(axis: str, values: tuple[Any, ...]) -> str:
    """Values by name; where it says too little, with that of the axis."""
    kind = {"accumulation": "accumulation of ", "compilation": "compiled "}.get(axis, "")
    return kind + " or ".join(map(str, values))


TEMPLATE = """# Compatibility

Written by `make compatibility` from `{here}/table.py`; a test keeps the two equal. What stands here is tested, by the
test that is named.

## Versions

{versions}
The oldest releases together run the suite by `make test-oldest`, the newest by `make test`. FSDP2 on a CPU needs torch
2.7. Tried: the whole suite with Python 3.10.13, torch 2.6.0 and Lightning 2.5.3; 1,520 tests of attacks,
callbacks and evaluation with Python 3.15.2, torch 2.15.0 and Lightning 2.6.6; all 339 combinations of three values with
torch 2.14.1 and Lightning 2.6.6.

## What goes together

Each value of each axis goes with each value of every other axis, except for what is refused below.
`{here}/test_matrix.py` runs combinations in which every two values that may come together do so ({pairs} fits, each
beside the same by hand: `test_one_process`, `test_two_processes`), and with `-m slow` every three ({threes}). 16-mixed
is tested in the same way by `pytest -m gpu`, in one process (`test_half_precision_on_a_gpu`). A combination keeps three
laws:

- **As by hand.** Weights, buffers, what the module logs and the random stream after the fit are equal, bit for bit, to
  those of a training whose step has the attack written into it.
- **Inert.** `RobustEvaluation` changes none of these, and finds what a loop written by hand finds.
- **Feasible.** What is trained on is in the perturbation set and in [0, 1], in the type of the inputs.

{axes}
## What is refused

What Lightning and torch refuse, they refuse without our callbacks too. The words are those of the newest releases;
`{here}/test_matrix.py` runs into each (`test_refused`, `test_refused_by_two_processes`).

{refused}
## Besides

{besides}
Not run for this version: FSDP1 (`FSDPStrategy`), DeepSpeed and several GPUs.
"""


def text() -> str:
    """The page."""
    axes = (
        _table((NAMES[axis], "that is"), ((str(value), MEANINGS[value]) for value in values))
        for axis, values in AXES.items()
    )
    refused = ((_values(r), r.by, f"{r.error}: {r.words}", r.instead) for r in REFUSALS)
    return TEMPLATE.format(
        here=HERE,
        versions=_table(("package", "releases"), _versions()),
        pairs=len(covering(2)),
        threes=len(covering(3)),
        axes="\n".join(axes),
        refused=_table(("together", "by", "in these words", "instead"), refused),
        besides=_table(("what", "test"), ((what, f"`{test}`") for what, test in BESIDES)),
    )


if __name__ == "__main__":
    PAGE.write_text(text(), "utf-8")
