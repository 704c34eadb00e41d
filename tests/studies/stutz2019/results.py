"""Results as the study would give them."""

import pandas as pd
import torch


def row_of(value, **names):
    return {**names, "value": value, "low": max(0.0, value - 0.01), "high": value + 0.01, "count": 100}


def models_of(sizes=(500, 2500), schemes=("normal", "on-true"), seeds=(0, 1)):
    rows = [
        row_of(value * 100 / n**0.5 / 10 + 0.01 * seed + 0.05 * (scheme == "normal"), **cell, metric=metric)
        for n in sizes
        for scheme in schemes
        for seed in seeds
        for cell in ({"n": n, "scheme": scheme, "seed": seed},)
        for metric, value in (
            ("test error", 0.3),
            ("off-manifold success", 0.4),
            ("off-manifold success, worst restart", 0.45),
            ("on-manifold success", 0.6),
            ("on-manifold success, worst restart", 0.7),
        )
    ]
    return pd.DataFrame(rows)


def leaks_of(flags, scheme="on-learned-class", n=2500):
    """The rows of the stage `leak` for one model and some manifolds, and whether each leaks."""
    rows = []
    for manifold, leaks in flags.items():
        cell = {"n": n, "scheme": scheme, "seed": 0, "manifold": manifold}
        rows += [
            row_of(0.3, **cell, metric="error on originals"),
            row_of(0.02 if leaks else 0.29, **cell, metric="error on reconstructions"),
            row_of(0.6 if leaks else 0.3, **cell, metric="error with a wrong label"),
            row_of(0.9 * leaks, **cell, metric="read as the decoder's class"),
            {**row_of(leaks, **cell, metric="leaks"), "sentence": f"What is seen along {manifold}."},
        ]
    return pd.DataFrame(rows)


TRANSFER = pd.DataFrame(
    [
        row_of(rate, n=n, source=source, threat=threat, target=target, metric="transfer")
        for n, factor in ((500, 0.5), (2500, 1.0))
        for threat in ("off", "on")
        for source, target, rate in (
            ("normal", "normal", 0.61 * factor),
            ("normal", "on-true", 0.37 * factor),
            ("on-true", "normal", 0.23 * factor),
            ("on-true", "on-true", 0.11 * factor),
        )
    ]
)
DISTANCES = pd.DataFrame(
    [
        row_of(
            value + 0.001 * seed, n=2500, scheme="normal", seed=seed, threat=threat, manifold=manifold, metric=metric
        )
        for threat, scale in (("off", 1.0), ("on", 0.02))
        for manifold in ("true", "tangent")
        for metric, value in (("distance", 2.5 * scale), ("angle", 84.0 * scale))
        for seed in (0, 1)
    ]
)
EXAMPLES = {
    f"{threat} {manifold} {metric}": torch.tensor([1.0, 2.0, torch.nan])
    for threat in ("off", "on")
    for manifold in ("true", "tangent")
    for metric in ("distance", "angle")
}
