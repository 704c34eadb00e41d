"""What an evaluation counts of one dataloader on one process."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_robust.attacks.attack import Attack, Context
from lightning_robust.attacks.binary import binary_correct
from lightning_robust.attacks.labels import finite
from lightning_robust.callbacks._handed import Handed
from lightning_robust.evaluation._reader import Sample
from lightning_robust.evaluation._suspicions import Suspicions, texts
from lightning_robust.evaluation._tally import Summary, Tally, are_probabilities


class Counts:
    """The counts of one dataloader on one process.

    Args:
        attacks: In their thorough form, by name.
        metrics: Of the user, by name.
        device: Where to count.
        settled: Is the module meant to be good? One that is being trained may still guess.

    Attributes:
        seen: Number of samples that were looked at.
        handed: The metrics of this dataloader.
        doubts: Texts about the first batch.
    """

    def __init__(
        self, attacks: Mapping[str, Attack], metrics: Mapping[str, Metric], device: torch.device, *, settled: bool
    ) -> None:
        self._attacks, self.seen = attacks, 0
        self._tally = Tally(len(attacks), device)
        self._suspicions = Suspicions(attacks, device, settled=settled)
        self.handed = Handed(metrics, device)
        self.doubts = self._suspicions.doubts

    @property
    def row(self) -> Tensor:
        """int64, to be summed over processes."""
        return torch.cat([self._tally.counts, self._suspicions.counts])

    def check(self, sample: Sample) -> None:
        """Refuse inputs that cannot be meant."""
        self._suspicions.inputs(sample.x, sample.y)

    def add(self, module: Any, sample: Sample, key: int, mask: Tensor) -> None:
        """Make all attacks in full, and count.

        Args:
            module: The module, not wrapped in DDP.
            sample: The batch.
            key: Of the random starts.
            mask: (N,) bool, the samples that count.
        """
        view, x, y, correct = sample.view(module), sample.x, sample.y, sample.reader.correct
        clean, output = view.judged()
        self._suspicions.clean(x, y, output, clean, mask)
        none, attacked, worst = torch.zeros_like(clean), [], _Worst(clean)
        for name, attack in self._attacks.items():
            outcome = view.attacked(attack, key)
            self._suspicions.result(name, x, y, outcome, Context(sample.code, key, correct), right=clean, mask=mask)
            right, output_adv = view.judged(outcome.x_adv)
            self._suspicions.answers(name, y, (output, output_adv), right=clean, mask=mask)
            fooled = ~right[None] if outcome.fooled is None else outcome.fooled
            attacked.append((clean & right, fooled, none if outcome.stuck is None else outcome.stuck))
            worst.add(right, outcome.x_adv, output_adv)
        yes_no = correct is binary_correct
        probabilities = are_probabilities(output, yes_no) if correct is None or yes_no else none
        self._tally.add(mask, clean, ~finite(output), probabilities, attacked)
        views = torch.stack([clean, *worst.rights])
        fooled = torch.cat([some for _, some, _ in attacked])
        known = {"x": x, "x_adv": worst.x_adv, "y": y, "target": y, "preds": worst.output}
        self.handed.update(mask, {**known, "correct": views, "correct_clean": clean, "fooled": fooled})


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
        attacks: By name.
        each: Is the robust accuracy under each attack logged?
        settled: As for `Counts`.

    Attributes:
        summary: The values.
        warnings: Texts to warn the user with.
    """

    def __init__(self, row: list[int], attacks: Mapping[str, Attack], *, each: bool, settled: bool) -> None:
        width = Tally(len(attacks), torch.device("cpu")).counts.numel()
        self.summary = Summary(row[:width], {name: attack.restarts for name, attack in attacks.items()}, each=each)
        self.warnings = [*self.summary.warnings, *texts(row[width:], attacks, settled=settled)]
