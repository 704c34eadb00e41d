"""Claims of a paper, set against what a study found: how they are judged, shown and printed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lightning_robust import plots
from lightning_robust.plots import Estimate, Part


class Verdict(Enum):
    """What a study says of a claim. Its value are the words."""

    HOLDS = "holds"
    FAILS = "does not hold here"
    OPEN = "not decided"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what this study says of it.

    Args:
        title: the claim, its number first: "1. More data helps."
        verdict: by the criterion that `text` states.
        text: the numbers and the criterion.
    """

    title: str
    verdict: Verdict
    text: str

    @property
    def number(self) -> str:
        """Its number."""
        return self.title.partition(".")[0]


RULE = (
    "A claim holds where the 95 % intervals of its numbers lie wholly on the side of the criterion, does not hold here "
    "where one lies wholly on the other side, and is not decided where one covers both."
)


def judged(estimate: Estimate | tuple[float, float], compare: Callable[[float, float], bool], limit: float) -> Verdict:
    """Whether a number is on the right side of a limit: its whole interval is, none of it is, or it covers both.

    Args:
        estimate: the number, or the ends (low, high) of its interval.
        compare: of `operator`: `lt`, `le`, `gt` or `ge`.
        limit: what the number is compared with.

    Example:
        >>> from operator import ge
        >>> [judged(interval, ge, 0.9).value for interval in ((0.91, 0.95), (0.8, 0.95), (0.8, 0.85))]
        ['holds', 'not decided', 'does not hold here']
    """
    low, high = (estimate.low, estimate.high) if isinstance(estimate, Estimate) else estimate
    ends = compare(low, limit), compare(high, limit)
    return Verdict.HOLDS if all(ends) else Verdict.OPEN if any(ends) else Verdict.FAILS


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on all of several conditions; what was not measured is left out.

    Example:
        >>> all_of([Verdict.HOLDS, Verdict.OPEN]), all_of([Verdict.OPEN, Verdict.FAILS]), all_of([Verdict.UNKNOWN])
        (<Verdict.OPEN: 'not decided'>, <Verdict.FAILS: 'does not hold here'>, <Verdict.UNKNOWN: 'not measured'>)
    """
    return _first((Verdict.FAILS, Verdict.OPEN, Verdict.HOLDS), verdicts)


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on at least one of several conditions; what was not measured is left out.

    Example:
        >>> any_of([Verdict.HOLDS, Verdict.FAILS]), any_of([Verdict.OPEN, Verdict.FAILS])
        (<Verdict.HOLDS: 'holds'>, <Verdict.OPEN: 'not decided'>)
    """
    return _first((Verdict.HOLDS, Verdict.OPEN, Verdict.FAILS), verdicts)


def _first(order: Iterable[Verdict], verdicts: Iterable[Verdict]) -> Verdict:
    given = set(verdicts)
    return next((verdict for verdict in order if verdict in given), Verdict.UNKNOWN)


def summary(claims: Sequence[Claim]) -> str:
    """What holds and what does not, in the words of the claims.

    Example:
        >>> verdicts = Verdict.HOLDS, Verdict.OPEN, Verdict.HOLDS
        >>> summary([Claim(f"{i}. Title {i}.", verdict, "") for i, verdict in enumerate(verdicts, start=1)])
        'Holds: title 1; title 3. Not decided: title 2.'
    """
    sentences = []
    for verdict in Verdict:
        titles = [_lowered(claim.title.partition(". ")[2].rstrip(".")) for claim in claims if claim.verdict is verdict]
        if titles:
            sentences.append(f"{verdict.value.capitalize()}: {'; '.join(titles)}.")
    return " ".join(sentences)


def _lowered(text: str) -> str:
    """With a small first letter, unless it begins a name in capitals."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def claim_parts(claims: Sequence[Claim]) -> list[Part]:
    """What a page says of claims: a table with the numbers and the criterion of each, then what else there is."""
    told = [(claim.number, *plots.Claim.from_text(claim.title, claim.verdict.value, claim.text)) for claim in claims]
    notes = [f"To claim {number}: {more}" for number, _, more in told if more]
    return [plots.Claims([shown for _, shown, _ in told]), RULE, *notes]


def print_claims(claims: Sequence[Claim], report: Path) -> None:
    """Print the claims and where the report is."""
    console = Console(soft_wrap=True, highlight=False)
    for claim in claims:
        title, verdict, text = (escape(part) for part in (claim.title, claim.verdict.value, claim.text))
        console.print(f"{title} [bold]{verdict.capitalize()}.[/bold]\n  {text}")
    console.print(f"Report: {report}", markup=False)
