"""What attacks made of attacks share: they ask their parts."""

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from lightning_robust.attacks.attack import Attack


@dataclass(frozen=True)
class Combined(Attack):
    """An attack made of one attack or several: a frozen dataclass whose first field is `attack` or `attacks`."""

    @property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks it is made of."""
        held = getattr(self, fields(self)[0].name)
        return held if isinstance(held, tuple) else (held,)

    def of(self, parts: tuple[Attack, ...]) -> Attack:
        """The same combination of other attacks."""
        name = fields(self)[0].name
        return replace(self, **{name: parts if name == "attacks" else parts[0]})

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse what any of the attacks refuses."""
        for part in self.parts:
            part.check(x, y)

    def doubts(self, x: Tensor) -> list[str]:
        """Those of all attacks, each once."""
        return list(dict.fromkeys(doubt for part in self.parts for doubt in part.doubts(x)))

    @property
    def restarts(self) -> int:  # type: ignore[override]
        """Those of all attacks."""
        return sum(part.restarts for part in self.parts)

    def thorough(self) -> Attack:
        """The same combination of attacks for evaluation."""
        return self.of(tuple(part.thorough() for part in self.parts))

    def brief(self) -> Attack | None:
        """The same combination of attacks with the least work."""
        parts = tuple(brief for part in self.parts if (brief := part.brief()) is not None)
        return self.of(parts) if len(parts) == len(self.parts) else None

    def scaled(self, factor: float) -> Attack:
        """The same combination of attacks in scaled balls."""
        return self.of(tuple(part.scaled(factor) for part in self.parts))
