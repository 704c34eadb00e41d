"""What is claimed, and what was found: a part of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightning_robust import _checks
from lightning_robust.plots.rows import check_texts

_MARKS = {"holds": "yes", "does not hold": "no"}


@dataclass(frozen=True)
class Claim:
    """A claim and what was found of it.

    Args:
        claim: the claim, in a sentence.
        verdict: "holds", "does not hold", "not decided" or "not measured"; further words may follow.
        numbers: what was found.
        criterion: which numbers the verdict asks for.

    Raises:
        TypeError: the claim or the verdict is empty.
    """

    claim: str
    verdict: str
    numbers: str = ""
    criterion: str = ""

    def __post_init__(self) -> None:
        for name in ("claim", "verdict"):
            _checks.text(name, getattr(self, name))
        check_texts(numbers=self.numbers, criterion=self.criterion)

    @classmethod
    def from_text(cls, claim: str, verdict: str, text: str) -> tuple[Claim, str]:
        """The claim of a text that gives the numbers, then "Criterion: ..." in a sentence, and what follows it.

        Example:
            >>> claim, more = Claim.from_text("More is better.", "holds", "From 3 to 4. Criterion: growth. By 2 seeds.")
            >>> claim.numbers, claim.criterion, more
            ('From 3 to 4.', 'Growth.', 'By 2 seeds.')
        """
        numbers, _, after = text.partition("Criterion: ")
        sentence, more = re.match(r"(.*?(?:\.(?= |$)|$)) ?(.*)", after, re.DOTALL).groups()  # type: ignore[union-attr]
        sentence = sentence if sentence[1:2] == " " else sentence[:1].upper() + sentence[1:]  # a symbol stays small
        return cls(claim, verdict, numbers.strip(), sentence), more

    @property
    def mark(self) -> str:
        """How the verdict is marked."""
        return next((mark for start, mark in _MARKS.items() if self.verdict.startswith(start)), "open")


@dataclass(frozen=True)
class Claims:
    """A table of claims: claim, verdict, numbers, criterion. On narrow screens each is a block of its own.

    Args:
        claims: in reading order; at least one.

    Raises:
        ValueError: there is none.
    """

    kind: ClassVar = "claims"
    claims: Sequence[Claim]

    def __post_init__(self) -> None:
        claims = _checks.sequence("claims", self.claims, "a list of Claim")
        if not claims:
            raise ValueError("Expected argument `claims` to hold at least one Claim, but got none.")
        for i, claim in enumerate(claims):
            _checks.instance(f"claims[{i}]", claim, Claim, "a Claim")
        object.__setattr__(self, "claims", tuple(claims))
