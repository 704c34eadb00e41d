"""Objectives, or training losses: what the learner lowers, `(model, x, x_adv, y) -> scalar`.

What the attacker raises is a gain, or attack loss, one value per sample; see `lightning_robust.attacks.gains`.
"""

from lightning_robust.objectives.adversarial_loss import adversarial_loss
from lightning_robust.objectives.alp import Alp, alp
from lightning_robust.objectives.awp import Awp, awp
from lightning_robust.objectives.mart import Mart, mart
from lightning_robust.objectives.mixed import Mixed, mixed
from lightning_robust.objectives.objective import Objective
from lightning_robust.objectives.trades import Trades, trades

__all__ = [
    "Alp",
    "Awp",
    "Mart",
    "Mixed",
    "Objective",
    "Trades",
    "adversarial_loss",
    "alp",
    "awp",
    "mart",
    "mixed",
    "trades",
]
