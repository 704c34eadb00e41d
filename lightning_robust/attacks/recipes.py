"""Named settings of `PGD` from the literature. Each is a point on the axes ball, space, gain and rule, not a class."""

from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.rules import Adam, Steepest
from lightning_robust.attacks.starts import norm_uniform
from lightning_robust.attacks.threats import Threat


def fgsm(threat: Threat | Ball) -> PGD:
    """The fast gradient sign method: one full step from the clean input (Goodfellow et al., ICLR 2015)."""
    return PGD(threat, steps=1, rel_step_size=1.0, random_start=False)


def rs_fgsm(threat: Threat | Ball) -> PGD:
    """FGSM from a random start with a step of 1.25 radii, for fast adversarial training (Wong et al., ICLR 2020)."""
    return PGD(threat, steps=1, rel_step_size=1.25)


def bim(threat: Threat | Ball, steps: int = 10) -> PGD:
    """The basic iterative method: no random start, steps of 1 / steps (Kurakin et al., 2017)."""
    return PGD(threat, steps=steps, rel_step_size=1 / steps, random_start=False)


def mim(threat: Threat | Ball, steps: int = 10, momentum: float = 1.0) -> PGD:
    """The momentum iterative method (Dong et al., CVPR 2018)."""
    return PGD(threat, steps=steps, rel_step_size=1 / steps, random_start=False, rule=Steepest(momentum))


def stutz(threat: Threat | Ball, steps: int = 40, attempts: int = 5, lr: float = 0.005) -> PGD:
    """The attack of Stutz et al. (CVPR 2019): Adam on the perturbation, a start of uniform norm, several attempts.

    With lr 0.005 and 40 steps a coordinate moves by about 0.2 at most, so the start matters. We keep the best iterate,
    where the paper's evaluation keeps the first success.
    """
    return PGD(threat, steps=steps, restarts=attempts, random_start=norm_uniform, rule=Adam(lr), keep="best")
