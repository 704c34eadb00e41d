"""A claim of a paper, set against what a study found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what this study says of it.

    Args:
        title: the claim.
        holds: by the criterion that `text` states; None where the study did not measure it.
        text: the numbers.
    """

    title: str
    holds: bool | None
    text: str

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds", False: "does not hold here", None: "not measured"}[self.holds]
