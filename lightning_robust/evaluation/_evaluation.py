"""One evaluation from its samples to its report."""

import math
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust._versions import command, processor
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._again import elsewhere, judged_again
from lightning_robust.evaluation._answers import asked
from lightning_robust.evaluation._data import fingerprint_of_data
from lightning_robust.evaluation._declared import common_threat, per_sample_radius
from lightning_robust.evaluation._described import described
from lightning_robust.evaluation._doubts import cautions_of, kinds_of, most_that_withstood, of_the_run, remembered
from lightning_robust.evaluation._engine import Engine, Sink
from lightning_robust.evaluation._few import MOST
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._memory import COUNTS, DOUBT, Memory, beginning, of_process
from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._models import fingerprint_of_model, settings_of_model
from lightning_robust.evaluation._order import Order, sorted_cut
from lightning_robust.evaluation._outputs import other_outputs, other_verdicts
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part, pools
from lightning_robust.evaluation._progress import Bar
from lightning_robust.evaluation._reader import KEYS, Reader, Sample
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._suspicions import Suspicions, number_of_classes, texts
from lightning_robust.evaluation.comparison import AS_USUAL
from lightning_robust.evaluation.images import LEAST_RADII
from lightning_robust.evaluation.indicators import refuse, standing, warning
from lightning_robust.evaluation.ledger import END, Event
from lightning_robust.evaluation.report import Report


@dataclass(frozen=True, eq=False)
class Settings:
    """What an evaluation was asked for.

    Args:
        stages: The attacks by name, in their thorough form.
        full: Is each attack made in full, and reported?
        note: What a reader shall know of the plan.
        reader: What is read of a batch, and how.
        seed: Of the random starts.
        batch_size: Samples per batch.
        limit: Number of samples; None: all.
        shard: Number of this process, and number of processes.
        keep_examples: Are adversarial inputs kept?
    """

    stages: Mapping[str, Stage]
    full: bool
    note: str
    reader: Reader
    seed: int
    batch_size: int
    limit: int | None
    shard: tuple[int, int]
    keep_examples: bool

    @cached_property
    def threat(self) -> Threat | None:
        """The perturbation set of all attacks; None where they have several, or one does not tell."""
        return common_threat(stage.attack for stage in self.stages.values())

    @property
    def eps(self) -> float | None:
        """Its radius, where it is one number."""
        radius = None if self.threat is None else self.threat.ball.radius
        return float(radius) if radius is not None and not (isinstance(radius, Tensor) and radius.ndim) else None

    def attacks(self) -> dict[str, str]:
        """What the attacks are, in words."""
        return {
            name: described(stage.attack) + ("" if stage.on == "survivors" else f", on {stage.on}")
            for name, stage in self.stages.items()
        }

    def reads(self) -> str:
        """What is read of a batch, and how, in words."""
        reader = self.reader
        return described((reader.input, reader.target, reader.code, reader.forward, reader.correct))

    def header(self, module: nn.Module, data: Any) -> dict[str, str | int | float | None]:
        """What must be equal for results to belong together."""
        from lightning_robust import __version__

        settings = settings_of_model(module)
        return {
            "version": __version__,
            "model": fingerprint_of_model(module),
            **({"settings": settings} if settings else {}),
            "data": fingerprint_of_data(data),
            "attacks": "; ".join(f"{name}: {text}" for name, text in self.attacks().items()),
            "full": int(self.full),
            "threat": "" if self.threat is None else described(self.threat),
            "eps": self.eps,
            "seed": self.seed,
            "max_samples": self.limit,
            "reads": self.reads(),
        }


class Evaluation:
    """Attacks samples, and reports.

    Args:
        module: The model.
        settings: What is asked for.
        device: Where to count.
        record: What is known from earlier runs.
        memory: What these saw.
        sink: Takes events before they count.
        bar: Shows the progress.
        order: Of the samples.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        device: torch.device,
        record: Record,
        memory: Memory,
        sink: Sink | None,
        bar: Bar,
        order: Order,
    ) -> None:
        self._module, self._settings, self._sink, self._bar, self._order = module, settings, sink, bar, order
        self._memory, self._kinds = memory, kinds_of(settings.stages)
        self._key = KEYS["test"] - settings.seed  # so the numbers are those of `trainer.test`
        self._began = time.monotonic()
        self._attacks = {name: stage.attack for name, stage in settings.stages.items()}
        self._suspicions = Suspicions(self._attacks, device)
        if len(memory.counts) == len(self._suspicions.counts):
            self._suspicions.counts += torch.tensor(memory.counts, device=device)
        self._told = self._suspicions.counts.tolist()
        self._meter = Meter(0)
        self._first: list[Indicator] | None = None
        self._cut: list[Indicator] = []
        self._before = sum(row.passes for row in record.rows.values())
        self._engine = Engine(
            module,
            settings.stages,
            key=self._key,
            batch_size=settings.batch_size,
            full=settings.full,
            record=record,
            sink=None if sink is None else self._write,
            suspicions=self._suspicions,
            keep_examples=settings.keep_examples,
            tell=bar,
        )

    def over(self, samples: Iterable[tuple[list[int], Sample]]) -> None:
        """Attack all samples."""
        whole = any(per_sample_radius(attack) for attack in self._attacks.values())
        clean: dict[int, Tensor] = {}
        for parts in pools(self._checked(samples), whole=whole):
            self._compare(parts)
            if self._first is None:
                self._ask_again(parts[0])
                self._ask(parts)
            self._bar.read(sum(map(len, parts)))
            self._engine.run(parts)
            if self._settings.keep_examples:
                for part in parts:
                    clean |= dict(zip(part.places, part.sample.x.detach().cpu(), strict=True))
        if self._first is None:
            raise ValueError("Expected argument `data` to have samples, but got none.")
        self._clean = clean
        self._cut = sorted_cut(*self._order.counts.tolist())
        if self._sink is not None and not self._engine.record.ended:
            place, number = self._settings.shard
            of = f"Of process {place} of {number}: " if number > 1 else ""
            said = [of + text for text in texts(self._suspicions.counts.tolist(), self._attacks)]
            begun = [beginning(self._kinds, self._cut)] if any(one.flagged for one in self._cut) else []
            self._write([*begun, of_process(END, said=said)])

    def _write(self, events: list[Event]) -> None:
        """Write events, and after them what else was seen since the last ones."""
        counts, doubts = self._suspicions.counts.tolist(), self._doubts()
        rise = [now - before for now, before in zip(counts, self._told, strict=True)]
        events = [*events, *(of_process(DOUBT, said=text) for text in doubts[len(self._memory.doubts) :])]
        if any(rise):
            events.append(of_process(COUNTS, rise))
        if self._sink is not None and events:
            self._sink(events)
        self._told, self._memory.doubts = counts, doubts

    def _doubts(self) -> list[str]:
        """Those of earlier runs and of this one, each once: their numbers may differ after the first sentence."""
        doubts: dict[str, str] = {}
        for text in (*self._memory.doubts, *self._suspicions.doubts):
            doubts.setdefault(text.partition(". ")[0], text)
        return list(doubts.values())

    def _checked(self, samples: Iterable[tuple[list[int], Sample]]) -> Iterable[tuple[list[int], Sample]]:
        for places, sample in samples:
            self._suspicions.inputs(sample.x, sample.y)
            yield places, sample

    def _compare(self, parts: list[Part]) -> None:
        """Refuse to go on with other data."""
        for part in parts:
            for row, (place, key) in enumerate(zip(part.places, part.keys, strict=True)):
                known = self._engine.record.rows.get(place)
                label = None if part.labels is None else part.labels[row]
                if known is not None and (known.key, known.label) != (key, label):
                    raise ValueError(
                        f"Expected argument `out` to hold results for the same data in the same order, but sample "
                        f"{place} is another one. Is the data shuffled? Give another folder, or the data as it was."
                    )

    def _ask_again(self, part: Part) -> None:
        """Refuse to go on with another model, of which the settings do not tell: a function, or a new `forward`."""
        rows = [row for row, place in enumerate(part.places) if place in self._engine.record.rows]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return  # other processes may have nothing to ask
        if not part.whole:
            rows = rows[:MOST]
        elif rows:
            rows = list(range(len(part)))
        if rows:
            asking = self._module, part, rows, self._settings.batch_size
            right, output = judged_again(*asking)
            others = cache(lambda: elsewhere(*asking))
            known = [self._engine.record.rows.get(part.places[row]) for row in rows]
            were = [now if one is None else one.clean for one, now in zip(known, right.tolist(), strict=True)]
            turned = other_verdicts(torch.tensor(were), right.cpu(), lambda: others()[0].cpu())
            before = torch.tensor([math.nan if one is None else one.output for one in known], dtype=torch.float64)
            half = any(p.is_floating_point() and p.element_size() < 4 for p in self._module.parameters())
            other = other_outputs(before, output, lambda: others()[1], half=half)
            number_known = sum(one is not None for one in known)
            for number, what in (
                (turned, "samples are right in one and wrong in the other without an attack"),
                (other, "samples have other outputs without an attack"),
            ):
                if number > max(1, 0.05 * number_known):  # rounding on another machine may turn a few
                    raise ValueError(
                        f"Expected argument `out` to hold results of the same model, but {number} of the first "
                        f"{number_known} {what}. Give another folder."
                    )

    def _ask(self, parts: list[Part]) -> None:
        self._meter = Meter(max(map(len, parts)))
        most, stages = min(MOST, self._settings.batch_size), self._settings.stages
        self._first = asked(self._module, parts, stages, self._key, self._meter, most=most).indicators(stages)
        refuse(self._first)
        known = self._memory.asked
        flagged = {one.name for one in self._first if one.flagged}
        if self._memory.kinds != self._kinds or not flagged <= known.keys():
            self._write([beginning(self._kinds, self._first)])
        kept = [known[one.name] if one.name in known and not one.flagged else one for one in self._first]
        self._first = [*kept, *(one for name, one in known.items() if name not in {one.name for one in kept})]

    def report(self) -> Report:
        """What was found."""
        settings, record, kinds = self._settings, self._engine.record, self._kinds
        seen = remembered(self._engine.seen, self._memory)
        images = record.images(self._examples())
        each = {name: record.right(name) for name in self._attacks} if settings.full else {}
        withstood = most_that_withstood(record, each, kinds)
        ran = of_the_run(kinds, record, seen, number_of_classes(self._suspicions.counts.tolist()))
        found = {one.name: one for one in (*(self._first or ()), *ran, *self._cut)}
        indicators = tuple(standing(found.values(), withstood))
        doubt = warning(indicators)
        cautions = [
            *self._doubts(),
            *cautions_of(kinds, record, seen, self._memory.unknown, each=settings.full, withstood=withstood),
            *texts(self._suspicions.counts.tolist(), self._attacks),
            *([] if doubt is None else [doubt]),
        ]
        right = {"clean": images.clean} | each
        engine, meter = self._engine, self._meter
        return Report(
            right=right,
            labels=images.label,
            warnings=tuple(dict.fromkeys(cautions)),
            attacks=settings.attacks(),
            seconds=time.monotonic() - self._began,
            images=images,
            indicators=indicators,
            passes=(engine.forwards + meter.forwards, engine.backwards + meter.backwards),
            eps=settings.eps,
            threat="" if settings.threat is None else described(settings.threat),
            about=self._about(),
        )

    def _examples(self) -> Tensor | None:
        """(N, ...) the adversarial inputs, and the clean ones where there are none."""
        if not self._settings.keep_examples:
            return None
        inputs = self._clean | self._engine.seen.examples
        shapes = {tuple(x.shape) for x in inputs.values()}
        if len(shapes) > 1:
            raise ValueError(
                f"Expected inputs of one shape for `keep_examples`, but got {', '.join(map(str, sorted(shapes)))}. "
                "Evaluate without it."
            )
        return torch.stack([inputs[place] for place in sorted(inputs)])

    def _about(self) -> dict[str, Any]:
        settings = self._settings
        about: dict[str, Any] = {"plan": settings.note} if settings.note else {}
        if settings.reads() != AS_USUAL:
            about["reads"] = settings.reads()
        if settings.shard[1] > 1:
            about["shard"] = f"{settings.shard[0]} of {settings.shard[1]}"
        if self._before:
            about["resumed"] = f"{self._before:,} passes were made in earlier runs, beside those of this one"
        if self._kinds.curve:
            about |= LEAST_RADII
        return about | {
            "seed": settings.seed,
            "batch_size": self._engine.batch_size,
            "device": str(self._suspicions.counts.device),
            "command": command(),
            "processor": processor(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
