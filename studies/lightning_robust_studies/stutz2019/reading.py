"""How success along learned manifolds is to be read: what their decoders tell of the label, in tables and figures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import Tensor

from lightning_robust.plots import bar_chart
from lightning_robust_studies.stutz2019.kinds import KINDS, along
from lightning_robust_studies.stutz2019.leaks import MOVED, PROTOTYPE, SHARES, VALID, VALID_BEFORE
from lightning_robust_studies.stutz2019.plots import heat_map
from lightning_robust_studies.stutz2019.tables import largest, means, wide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON = ("on-manifold", *map(along, KINDS))
"""The threats along manifolds, the true one first, as metrics begin with them."""
_PARTS = {
    "Success along learned manifolds, and how to read it; means over seeds": (
        *("success", "success, worst restart"),
        *("error on originals", "error on reconstructions", "leak"),
    ),
    "What a wrong label does, and a random move of the codes; means over seeds": (
        *(SHARES["error_on_mislabeled"], *MOVED.values()),
    ),
    "What is read of decoders; means over seeds": (
        *(SHARES["reads_decoder"], PROTOTYPE, SHARES["reads_own"], SHARES["reads_random"]),
    ),
    "Successful examples that still show their label; means over seeds": (VALID_BEFORE, VALID),
}
_COLUMNS = frozenset(name for part in _PARTS.values() for name in part)
_ERRORS = ("error on originals", "error on reconstructions", "error with a wrong label")
_HOW = (
    "What models say of test images, of what the manifold makes of them with the right label, and of what it makes of "
    "them with a wrong one; largest size, 95 % intervals. Where the label leaks, the second is far below the first, "
    "and the third above it."
)
_DECODERS = (
    "What the model of {} training reads of test images whose code the decoder of another class was given: a row for "
    "each decoder, a column for each class that is read, in per cent of the row. A leak shows on the diagonal."
)


def leaking(leaks: pd.DataFrame) -> dict[str, bool]:
    """For each manifold whose leak was measured, by the name of its threat: does it leak for any model?"""
    flags = leaks[leaks["metric"] == "leaks"]
    return {along(name): bool(rows["value"].any()) for name, rows in flags.groupby("manifold", sort=False)}


def warnings(leaks: pd.DataFrame) -> list[str]:
    """A sentence for each manifold that leaks, with the numbers of the model that reads its images best."""
    texts = []
    flags = leaks[leaks["metric"] == "leaks"]
    for name, rows in flags.groupby("manifold", sort=False):
        hit = rows[rows["value"] > 0]
        if hit.empty:
            continue
        errors = leaks[(leaks["manifold"] == name) & (leaks["metric"] == "error on reconstructions")]
        keys = ["n", "scheme", "seed"]
        worst = hit.merge(errors[[*keys, "value"]], on=keys, suffixes=("", "_error")).sort_values("value_error").iloc[0]
        texts.append(
            f"{along(str(name))} leaks the label for {len(hit)} of {len(rows)} models. {worst['scheme']} training on "
            f"{worst['n']} images, the clearest: {worst['sentence']}"
        )
    return texts


def tables_along(models: pd.DataFrame, leaks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A line for each size, scheme and manifold: success along it, and what tells how to read that.

    In several tables by caption, each narrow enough to be read; those without a line are left out.
    """
    parts = models["metric"].str.extract(r"^(?P<threat>on-\S+) (?P<what>.*)$")
    success = models.join(parts)[parts["threat"].isin(ON)]
    told = leaks.assign(threat=[along(name) for name in leaks["manifold"]], what=leaks["metric"])
    shares = means(success, "n", "scheme", "threat", "what") | means(
        told[~told["what"].isin(("leaks", "fingerprint"))], "n", "scheme", "threat", "what"
    )
    texts: dict[tuple[Any, ...], object] = {key: e.clipped() for key, e in shares.items() if key[-1] in _COLUMNS}
    flags = told[told["what"] == "leaks"].groupby(["n", "scheme", "threat"], sort=False)["value"].max()
    marks = {(*key, "leak"): "yes" if value else "no" for key, value in flags.items()}
    table = wide({**texts, **marks}, "N", "training", "along")
    parts_of = {caption: [name for name in part if name in table.columns] for caption, part in _PARTS.items()}
    return {
        caption: table[["N", "training", "along", *names]].dropna(subset=names, how="all")
        for caption, names in parts_of.items()
        if names
    }


def leak_figures(
    leaks: pd.DataFrame, decoders: Mapping[str, Tensor], classes: tuple[str, ...]
) -> dict[str, tuple["Figure", str]]:
    """Figures and captions, by the name of the file.

    Args:
        leaks: n, scheme, seed, manifold, metric, value, low, high, count.
        decoders: for "<manifold> <scheme>" how often each class was read of each decoder, (K, K).
        classes: names of the classes.
    """
    figures = {}
    for name in leaks["manifold"].unique():
        rows = largest(leaks[(leaks["manifold"] == name) & leaks["metric"].isin(_ERRORS)])
        bars = [
            e.clipped().row(training=scheme, metric=metric)
            for (scheme, metric), e in means(rows, "scheme", "metric").items()
        ]
        chart = bar_chart(bars, group="training", bar="metric", ylabel="error", title=f"What is read, {along(name)}")
        figures[f"leak_{name}"] = (chart, _HOW)
    for key, table in decoders.items():
        name, scheme = key.split(" ")
        rates = pd.DataFrame((table / table.sum(1, keepdim=True).clamp(min=1)).numpy(), classes, classes)
        title = f"Read of the decoders, {along(name)}"
        figures[f"decoders_{name}"] = (
            heat_map(rates, title=title, xlabel="read as", ylabel="decoder"),
            _DECODERS.format(scheme),
        )
    return figures
