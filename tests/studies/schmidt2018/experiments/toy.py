"""Results in closed form, as the study would have measured them."""

from lightning_robust.learning_curves import LearningCurves
from lightning_robust_studies.schmidt2018.experiments.settings import Grid

SIZES = (100, 400, 1600)
GRID = Grid(
    data="toy", sizes=SIZES, eps_train=(0.0, 0.1), eps_test=(0.0, 0.1), models=("cnn",), steps=10, train_steps=2
)
MASKING = [
    {"model": model, "eps_train": 0.1, "seed": 0, "eps_test": 0.1, "attack": attack,
     "metric": metric, "value": value, "low": max(0.0, value - 0.03), "high": value + 0.03, "count": 200}
    for model, excess in (("cnn", 0.01), ("cnn+threshold", 0.2))
    for attack, metric, value in (
        ("pgd", "accuracy", 0.6), ("all", "accuracy", 0.6 - excess), ("pgd", "too optimistic by", excess)
    )
]  # fmt: skip
GAPS = [
    {"n": n, "model": "cnn", "eps_train": 0.1, "seed": 0, "split": split, "step": step, "value": 0.5}
    for n in SIZES for split in ("train", "val") for step in (5, 10)
]  # fmt: skip


def toy(seeds=3, sizes=SIZES, gaps=(), masking=()):
    """Errors 4 n^-1/2 without an attack and 8 n^-1/2 under it; the last checkpoint is two points worse."""
    rows = [
        {
            "data": "toy", "n": n, "model": "cnn", "eps_train": eps_train, "seed": seed, "checkpoint": checkpoint,
            "split": split, "eps_test": eps, "value": value, "low": value - 0.01, "high": value + 0.01, "count": 10_000,
        }
        for n in sizes
        for seed in range(seeds)
        for eps_train in (0.0, 0.1)
        for checkpoint in ("best", "last")
        for split in ("train", "val", "test")
        for eps in (0.0, 0.1)
        for value in (
            1
            - (4 + 4 * (eps > 0)) / n**0.5
            - 0.02 * (checkpoint == "last")
            - 0.1 * (eps_train != eps)
            + 0.001 * (seed - 1)
            + 0.05 * (split == "train"),
        )
    ]  # fmt: skip
    return {"toy": LearningCurves(rows, gaps, masking)}
