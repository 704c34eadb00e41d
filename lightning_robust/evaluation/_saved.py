"""Reports that are read from files again."""

import csv
import json
import math
import warnings
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_robust.evaluation._doubts import cautions_of, most_that_withstood, of_the_run, remembered
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._memory import Memory
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._runs import Seen
from lightning_robust.evaluation._suspicions import number_of_classes
from lightning_robust.evaluation.images import LEAST_RADII, Images
from lightning_robust.evaluation.indicators import standing, warning
from lightning_robust.evaluation.ledger import CLEAN, header_of, join, unfinished

_INTEGERS = ("target", "restart", "step", "passes")
_FLOATS = ("gain", "radius")
_FROM_LEDGERS = "This report was read from ledgers. They hold all verdicts, but no indicators and no other doubts."
"""Of a version that did not write what its runs saw."""
_UNFINISHED = (
    "The evaluation has not come to its end: images that look robust may be those that were not attacked yet. Run it "
    "again with the same folder to finish it."
)


def saved_fields(folder: Path, own: Set[str]) -> dict[str, Any]:
    """The arguments of the report in a folder, or of that which its ledgers tell.

    Args:
        folder: Where the files are.
        own: Names of columns that are no attacks.
    """
    if not (folder / "report.json").exists():
        if not any(folder.glob("ledger-*.jsonl")):
            raise FileNotFoundError(
                f"Expected argument `folder` to hold a report or a ledger, but {folder} has neither report.json nor "
                "ledger-*.jsonl."
            )
        return _of_ledgers(folder)
    try:
        return _of_files(folder, own)
    except FileNotFoundError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected argument `folder` to hold a report as `Report.write` writes it, but that in {folder} cannot be "
            f"read ({type(error).__name__}: {error}). Evaluate again, into another folder."
        ) from error


def _of_files(folder: Path, own: Set[str]) -> dict[str, Any]:
    content = json.loads((folder / "report.json").read_text("utf-8"))
    with (folder / "samples.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader)
        columns = dict(zip(names, map(list, zip(*reader, strict=True)), strict=True))
    right = {name: _bools(columns[name]) for name in names if name not in own}
    if len(right["clean"]) != content["n"]:
        raise ValueError(f"samples.csv has {len(right['clean'])} rows where report.json has n = {content['n']}")
    labels = torch.tensor([int(text) for text in columns["label"]]) if "label" in columns else None
    eps = content["eps"]
    return {
        "right": right,
        "labels": labels,
        "warnings": tuple(content["warnings"]),
        "attacks": content["attacks"],
        "seconds": content["seconds"],
        "images": _images(columns, labels) if "key" in columns else None,
        "indicators": tuple(_indicator(one) for one in content["indicators"]),
        "passes": (content["passes"]["forward"], content["passes"]["backward"]),
        "eps": None if eps is None else float(eps),
        "threat": content["threat"],
        "about": content["about"],
    }


def _images(columns: dict[str, list[str]], labels: Tensor | None) -> Images:
    return Images(
        key=columns["key"],
        label=labels,
        clean=_bools(columns["clean"]),
        attack=columns["broken_by"],
        **{name: torch.tensor([int(text) for text in columns[name]]) for name in _INTEGERS},
        **{
            name: torch.tensor([float(text) if text else math.nan for text in columns[name]], dtype=torch.float64)
            for name in _FLOATS
        },
    )


def _bools(texts: list[str]) -> Tensor:
    values = {"True": True, "False": False}
    return torch.tensor([values[text] for text in texts])


def _indicator(content: dict[str, Any]) -> Indicator:
    numbers = {name: float(content[name]) for name in ("value", "threshold")}
    return Indicator(**{**content, **numbers})


def _of_ledgers(folder: Path) -> dict[str, Any]:
    events, header = join(folder), header_of(folder)
    memory, left = Memory(), unfinished(folder)
    record = Record(memory.listen(events))
    images, eps = record.images(), header.get("eps")
    names = dict.fromkeys(event.stage for event in events if event.sample >= 0 and event.stage != CLEAN)
    full = {name: record.right(name) for name in names} if header.get("full") else {}
    indicators, doubts = _doubts_of(record, memory, full)
    if left:
        warnings.warn(_UNFINISHED, stacklevel=4)
        doubts = [*doubts, _UNFINISHED]
    return {
        "right": {"clean": images.clean, **full},
        "labels": images.label,
        "warnings": tuple(dict.fromkeys(doubts)),
        "indicators": tuple(indicators),
        "attacks": _attacks(str(header.get("attacks") or ""), names if memory.kinds is None else memory.kinds.names),
        "images": images,
        "eps": float(eps) if isinstance(eps, int | float) else None,
        "threat": str(header.get("threat") or ""),
        "about": header | (LEAST_RADII if memory.kinds is not None and memory.kinds.curve else {}),
    }


def _attacks(text: str, names: Iterable[str]) -> dict[str, str]:
    """What each attack is, from the settings of a ledger, "name: text; ..."; "" where that is not known."""
    found, last = dict.fromkeys(names, ""), ""
    for name in found:
        before, mark, after = f"; {text}".partition(f"; {name}: ")
        if not mark:
            return dict.fromkeys(found, "")
        found |= {last: before.removeprefix("; ")} if last else {}
        text, last = after, name
    return found | ({last: text} if last else {})


def _doubts_of(record: Record, memory: Memory, full: dict[str, Tensor]) -> tuple[list[Indicator], list[str]]:
    """What the runs of all processes saw: indicators of the attacks, questions that gave reason to doubt, texts."""
    kinds = memory.kinds
    if kinds is None:
        return [], [_FROM_LEDGERS]
    seen, withstood = remembered(Seen(), memory), most_that_withstood(record, full, kinds)
    ran = of_the_run(kinds, record, seen, number_of_classes(memory.counts))
    indicators = standing([*memory.asked.values(), *ran], withstood)
    doubt = warning(indicators)
    return indicators, [
        *memory.doubts,
        *cautions_of(kinds, record, seen, memory.unknown, each=bool(full), withstood=withstood),
        *memory.last,
        *([] if doubt is None else [doubt]),
    ]
