"""What attacks made of attacks share: they ask their parts."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lightning_robust.attacks.attack import Attack


@dataclass(frozen=True)
class Combined(Attack):
    """An attack made of one attack or several: a frozen dataclass with a field `attack` or `attacks`."""

    @property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks it is made of."""
        return (self.attack,) if hasattr(self, "attack") else self.attacks  # type: ignore[attr-defined]

    def of(self, parts: tuple[Attack, ...]) -> Attack:
        """The same combination of other attacks."""
        if hasattr(self, "attack"):
            return replace(self, attack=parts[0])  # type: ignore[call-arg]
        return replace(self, attacks=parts)  # type: ignore[call-arg]

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
        parts = [part.brief() for part in self.parts]
        return None if any(part is None for part in parts) else self.of(tuple(parts))  # type: ignore[arg-type]

    def scaled(self, factor: float) -> Attack:
        """The same combination of attacks in scaled balls."""
        return self.of(tuple(part.scaled(factor) for part in self.parts))
