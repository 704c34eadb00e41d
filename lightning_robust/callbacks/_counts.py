"""What an evaluation counts of one dataloader on one process."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_robust._lightning import pl
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.binary import binary_correct
from lightning_robust.attacks.labels import finite
from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.callbacks._handed import Handed
from lightning_robust.callbacks._shard import gathered, leave_out
from lightning_robust.evaluation._answers import NO_ANSWERS, asked
from lightning_robust.evaluation._declared import per_sample_radius
from lightning_robust.evaluation._doubts import signs_of, steps_of
from lightning_robust.evaluation._engine import Engine
from lightning_robust.evaluation._few import MOST
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._order import Order, sorted_cut
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import can_be_cut, pools
from lightning_robust.evaluation._reader import Sample
from lightning_robust.evaluation._repeats import Repeats, repeated
from lightning_robust.evaluation._strength import of_settings, searches_of, weaknesses
from lightning_robust.evaluation._suspicions import Suspicions, constant, number_of_classes, texts
from lightning_robust.evaluation._tally import Summary, Tally, are_probabilities
from lightning_robust.evaluation.indicators import from_sums, search_beats_gradients, standing, sums_of, warning

_SUMS = 10  # of `sums_of`


class Counts:
    """The counts of one dataloader on one process.

    Args:
        stages: The attacks in their thorough form, by name.
        metrics: Of the user, by name.
        device: Where to count.
        plan: Do samples leave once they are broken? Then the worst case alone is counted. Else all attacks run in full.
        settled: Is the module meant to be good? One that is being trained may still guess.

    Attributes:
        seen: Number of samples that were looked at.
        settled: As given.
        handed: The metrics of this dataloader.
        order: Of the samples; who calls `add` tells it of them, and of those that do not count.
        repeats: Which samples were counted more than once.
        doubts: Texts about the first batch.
        answers: What `probe` was told, batch by batch.
        probed: What it has found.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        metrics: Mapping[str, Metric],
        device: torch.device,
        *,
        plan: bool,
        settled: bool,
    ) -> None:
        self._stages, self._plan, self.settled, self.seen = stages, plan, settled, 0
        self._attacks = {name: stage.attack for name, stage in stages.items()}
        self._searches = searches_of(self._attacks)
        self._tally = Tally(1 if plan else len(stages), device)
        self._suspicions = Suspicions(self._attacks, device, settled=settled, refuse=False)
        self._broken = torch.zeros(2, dtype=torch.int64, device=device)  # by gradients; by a search alone
        exact = torch.device("cpu") if device.type == "mps" else device
        self._sums = torch.zeros(_SUMS, dtype=torch.float64, device=exact)
        self.handed, self.order, self.repeats = Handed(metrics, device), Order(), Repeats()
        self.doubts = self._suspicions.doubts
        self.answers, self.probed = NO_ANSWERS, list[Indicator]()
        self._engine: Engine | None = None

    @property
    def row(self) -> Tensor:
        """To be summed over processes: integers, which float64 holds exactly, and the sums of `sums_of`."""
        doubts = self._broken.new_tensor([sum(o.flagged for o in standing(self.probed, robust)) for robust in (0, 1)])
        alike, order = self._suspicions.alike, self.order.counts.to(doubts)
        counts = torch.cat([doubts, self._broken, alike, order, self._tally.counts, self._suspicions.counts])
        return torch.cat([self._sums, counts.to(self._sums.device).double()])

    def check(self, sample: Sample) -> None:
        """Refuse inputs that cannot be meant."""
        sample.check_rows()
        self._suspicions.inputs(sample.x, sample.y)

    def probe(self, module: Any, sample: Sample, key: int, *, rank: int = 0, processes: int = 1) -> None:
        """Ask the module a few questions about a batch, beside those before it. All processes ask, for nobody knows
        whether a forward waits for the others, and the first one speaks.

        Args:
            module: The module, not wrapped in DDP.
            sample: The batch.
            key: Of random moves.
            rank: Which part of the data this process has.
            processes: Their number.
        """
        whole = any(per_sample_radius(attack) for attack in self._attacks.values())
        most = len(sample) if wants_whole_batches(sample.view(module)) else MOST
        given: dict[str, Any] = {"most": most, "together": processes > 1, "before": self.answers}
        with torch.inference_mode(False):
            ((part,),) = pools([(list(range(len(sample))), sample)], whole=whole)
            self.answers = asked(module, [part], self._stages, key, Meter(len(sample)), **given)
        self.probed = [] if rank else self.answers.indicators(self._stages)

    def verdict(self, row: list[float], distinct: int) -> "Verdict":
        """What a row says that was summed over processes, of so many distinct samples."""
        given: dict[str, Any] = {"plan": self._plan, "settled": self.settled, "probed": self.probed}
        return Verdict(row, self._stages, distinct=distinct, **given)

    def add(self, module: Any, sample: Sample, key: int, mask: Tensor) -> None:
        """Attack a batch, and count.

        Args:
            module: The module, not wrapped in DDP.
            sample: The batch.
            key: Of the random starts.
            mask: (N,) bool, the samples that count.
        """
        self.repeats.see(sample, mask)
        (self._add_plan if self._plan else self._add_each)(module, sample, key, mask)

    def _add_each(self, module: Any, sample: Sample, key: int, mask: Tensor) -> None:
        """All attacks in full."""
        view, x, y, correct = sample.view(module), sample.x, sample.y, sample.reader.correct
        view.whole_batches = not can_be_cut(sample)
        clean, output = view.judged()
        self._suspicions.clean(x, y, output, clean, mask)
        none, attacked, worst, signs = torch.zeros_like(clean), [], _Worst(clean), None
        by_gradients, by_search = none, none
        for name, attack in self._attacks.items():
            outcome = view.attacked(attack, key)
            self._suspicions.result(name, x, y, outcome, Context(sample.code, key, correct), right=clean, mask=mask)
            right, output_adv = view.judged(outcome.x_adv)
            self._suspicions.answers(name, y, (output, output_adv), right=clean, mask=mask)
            self._suspicions.withstood(name, x, outcome, clean & right & mask)
            fooled = ~right[None] if outcome.fooled is None else outcome.fooled
            attacked.append((clean & right, fooled, none if outcome.stuck is None else outcome.stuck))
            worst.add(right, outcome.x_adv, output_adv)
            if outcome.signs is not None:
                signs = outcome.signs if signs is None else signs + outcome.signs
            if name in self._searches:
                by_search = by_search | (clean & ~right)
            else:
                by_gradients = by_gradients | (clean & ~right)
        yes_no = correct is binary_correct
        probabilities = are_probabilities(output, yes_no) if correct is None or yes_no else none
        self._tally.add(mask, clean, ~finite(output), probabilities, attacked)
        self._look(signs, clean & ~by_gradients & ~by_search & mask, by_gradients & mask, by_search & mask)
        views = torch.stack([clean, *worst.rights])
        known = {"x": x, "x_adv": worst.x_adv, "y": y, "target": y, "preds": worst.output}
        fooled = torch.cat([some for _, some, _ in attacked])
        self.handed.update(mask, {**known, "correct": views, "correct_clean": clean, "fooled": fooled})

    def _add_plan(self, module: Any, sample: Sample, key: int, mask: Tensor) -> None:
        """The attacks of a plan, each on the samples that those before it have left."""
        if self._engine is None:
            keep = bool(self.handed)
            self._engine = Engine(
                module, self._stages, key=key, suspicions=self._suspicions, keep_examples=keep, batch_size=len(sample)
            )
        engine = self._engine
        engine.forget()  # the batch before, so that an epoch takes no more memory than a batch
        seen = engine.seen
        whole = any(per_sample_radius(attack) for attack in self._attacks.values())
        with torch.inference_mode(False):
            ((part,),) = pools([(list(range(len(sample))), sample)], whole=whole)
            engine.run([part])
        rows = [engine.record.rows[place] for place in part.places]
        never = set().union(*seen.stuck.values()) - set().union(*seen.moved.values())

        def told(values: Any) -> Tensor:
            return torch.tensor(list(values), dtype=torch.bool, device=mask.device)

        clean, robust = told(row.clean for row in rows), told(row.open for row in rows)
        stuck = told(place in never for place in part.places)
        by_gradients = told(row.clean and bool(row.broken_by - self._searches) for row in rows)
        self._tally.add(
            mask,
            clean,
            told(place in seen.broken for place in part.places),
            told(place in seen.probabilities for place in part.places),
            [(robust, ~robust[None], stuck)],
        )
        signs = signs_of(seen, part.places)
        self._look(signs, robust & mask, by_gradients & mask, clean & ~robust & mask)
        if self.handed:
            x_adv = sample.x.detach().clone()
            for row, place in enumerate(part.places):
                if (example := seen.examples.get(place)) is not None:
                    x_adv[row] = example.to(x_adv)
            known = {"x": sample.x, "x_adv": x_adv, "y": sample.y, "target": sample.y, "correct_clean": clean}
            known["preds"] = sample.view(module).judged(x_adv)[1]
            self.handed.update(mask, {**known, "correct": torch.stack([clean, robust]), "fooled": ~robust[None]})

    def _look(self, signs: Signs | None, withstood: Tensor, by_gradients: Tensor, by_search: Tensor) -> None:
        """Count what the loop saw of the samples that withstood, and what broke the others; all (N,) bool."""
        self._broken += torch.stack([by_gradients.sum(), (by_search & ~by_gradients).sum()])
        if signs is not None:
            rows = withstood.nonzero()[:, 0].to(signs.rise.device)
            self._sums += sums_of(signs.take(rows)).to(self._sums)


class _Worst:
    """For each sample the first adversarial input that fools the module, else the last one.

    Args:
        clean: (N,) bool, right when clean.
    """

    def __init__(self, clean: Tensor) -> None:
        self._open, self.x_adv, self.output = torch.ones_like(clean), None, None
        self.rights: list[Tensor] = []

    def add(self, right: Tensor, x_adv: Tensor, output: Any) -> None:
        """Take in the results of another attack: are they right (N,), the inputs, and the outputs for them."""
        self.x_adv, self.output = (self._of(*pair) for pair in ((self.x_adv, x_adv), (self.output, output)))
        self._open, self.rights = self._open & right, [*self.rights, right]

    def _of(self, before: Any, now: Any) -> Any:
        if not isinstance(before, Tensor) or not isinstance(now, Tensor):
            return now
        return torch.where(self._open.reshape(-1, *[1] * (now.ndim - 1)), now, before)


class Verdict:
    """What the counts of one dataloader, summed over processes, say.

    Args:
        row: As `Counts.row`.
        stages: The attacks by name.
        plan: As for `Counts`.
        settled: As for `Counts`.
        probed: What a probe has found, for the warnings. One process knows it; `row` has the number of its doubts.
        distinct: Number of distinct samples, of all processes; None: nobody knows.

    Attributes:
        summary: The values.
        warnings: Texts to warn the user with.
        suspicious: Number of reasons not to believe the values.
    """

    def __init__(
        self,
        row: list[float],
        stages: Mapping[str, Stage],
        *,
        plan: bool,
        settled: bool,
        probed: Sequence[Indicator] = (),
        distinct: int | None = None,
    ) -> None:
        attacks = {name: stage.attack for name, stage in stages.items()}
        restarts = {"": 1} if plan else {name: attack.restarts for name, attack in attacks.items()}
        of_model, doubts, ours, searched, alike, labels, cut, chance, *counts = map(round, row[_SUMS:])
        width = Tally(len(restarts), torch.device("cpu")).counts.numel()
        self.summary = Summary(counts[:width], restarts)
        n, right, robust = self.summary.n, counts[1], self.summary.shown
        sums = torch.tensor(row[:_SUMS], dtype=torch.float64)
        found = from_sums(sums, n, steps_of(stages) or 1) if n else []
        searches = len(searches_of(attacks))
        if right and 0 < searches < len(attacks):
            found.append(search_beats_gradients(ours, searched, right))
        found += sorted_cut(cut, chance)
        weak = dict(weaknesses(attacks.values())) if n else {}
        if not settled:
            weak.pop("one_step", None)  # of a training one step may be all that is wanted
        found += of_settings(weak.items(), number_of_classes(counts[width:]))
        reasons = [
            *self.summary.warnings,
            *constant(n, alike, labels),
            *texts(counts[width:], attacks, settled=settled),
            *repeated(n, n if distinct is None else distinct),
        ]
        found = standing(found, robust)
        doubt = warning([*standing(probed, robust), *found])
        self.suspicious = len(reasons) + (doubts if robust else of_model) + sum(one.flagged for one in found)
        self.warnings = [*reasons, *([] if doubt is None else [doubt])]


def verdicts_of(trainer: pl.Trainer, each: Sequence[Counts], stage: str) -> list[Verdict]:
    """What the counts of each dataloader of a stage, `val` or `test`, say, over all processes; all must ask."""
    for counts, cut in zip(each, leave_out(trainer, stage), strict=False):
        counts.order.cut = counts.order.cut or cut
    own = torch.stack([counts.row for counts in each])
    rows, samples = gathered(trainer, own, [counts.repeats.distinct for counts in each])
    distinct = [len(some.unique()) for some in samples]
    return [counts.verdict(*given) for counts, *given in zip(each, rows.tolist(), distinct, strict=True)]
