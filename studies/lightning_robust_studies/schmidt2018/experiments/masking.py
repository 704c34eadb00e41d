"""Which networks white-box PGD cannot judge, by the attacks of the stage `masking`."""

from collections.abc import Sequence

from lightning_robust.cells import Row, Scalar

MISLED = 0.02
"""PGD counts as misled where the share of images that withstand it alone is larger than this, interval and all."""


def misled(masking: Sequence[Row]) -> set[tuple[Scalar, Scalar]]:
    """The networks, as (data, model), for which PGD was too optimistic at some training radius.

    Args:
        masking: rows of the stage, with data, model, metric and low.

    Example:
        >>> row = {"data": "digits", "model": "cnn", "metric": "too optimistic by", "low": 0.1}
        >>> misled([row, {**row, "model": "mlp", "low": 0.0}])
        {('digits', 'cnn')}
    """
    return {
        (row["data"], row["model"])
        for row in masking
        if row["metric"] == "too optimistic by" and float(str(row["low"])) > MISLED
    }


def trusted(models: Sequence[Row], masking: Sequence[Row]) -> list[Row]:
    """The rows of the networks that PGD can judge; of a data set for which there are none, all of them."""
    refuted = misled(masking)
    left = [row for row in models if (row["data"], row["model"]) not in refuted]
    there = {row["data"] for row in left}
    return [row for row in models if row["data"] not in there or (row["data"], row["model"]) not in refuted]
