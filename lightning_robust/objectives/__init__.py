"""Objectives: what the learner lowers, `(model, x, x_adv, y) -> scalar`."""

from lightning_robust.objectives.alp import alp
from lightning_robust.objectives.awp import awp
from lightning_robust.objectives.mart import mart
from lightning_robust.objectives.mixed import mixed
from lightning_robust.objectives.objective import Objective
from lightning_robust.objectives.standard import standard
from lightning_robust.objectives.trades import trades

__all__ = ["Objective", "alp", "awp", "mart", "mixed", "standard", "trades"]
