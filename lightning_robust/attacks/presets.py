"""Named settings of `PGD` from the literature. Each is a point on the axes ball, space, gain and rule, not a class."""

from dataclasses import replace

from lightning_robust._checks import count
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import confident_margin
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
    return PGD(threat, steps=steps, rel_step_size=1 / count("steps", steps), random_start=False)


def mim(threat: Threat | Ball, steps: int = 10, momentum: float = 1.0) -> PGD:
    """The momentum iterative method (Dong et al., CVPR 2018)."""
    return PGD(
        threat, steps=steps, rel_step_size=1 / count("steps", steps), random_start=False, rule=Steepest(momentum)
    )


def stutz(threat: Threat | Ball, steps: int = 40, restarts: int = 5, lr: float = 0.005) -> PGD:
    """The attack of Stutz et al. (CVPR 2019): Adam on the perturbation, several starts of uniform norm.

    With lr 0.005 and 40 steps a coordinate moves by about 0.2 at most, so the start matters. We keep the best iterate,
    where the paper's evaluation keeps the first success.
    """
    return PGD(threat, steps=steps, restarts=restarts, random_start=norm_uniform, rule=Adam(lr), keep="best")


def pgd_cw(threat: Threat | Ball, steps: int = 30, kappa: float = 50.0) -> PGD:
    """What tables of robust accuracy call "CW": PGD on the loss of Carlini & Wagner (Madry et al., ICLR 2018).

    With steepest steps and the kappa of their code. The largest logit is taken of the wrong classes alone; theirs
    includes a zero for the true one.
    """
    size = 2.5 / count("steps", steps)
    return PGD(threat, steps=steps, rel_step_size=size, gain=confident_margin(kappa), keep="best")


def carlini_wagner(
    threat: Threat | Ball, steps: int = 120, *, kappa: float = 3.0, lr: float = 0.005, restarts: int = 1
) -> PGD:
    r"""The attack of Carlini & Wagner (S&P 2017) within a given threat: Adam on the margin, up to the confidence kappa.

    .. math:: \max_{\delta \in B} \; \min\big(\max_{j \ne y} z_j - z_y,\; \kappa\big)

    The constrained form: the ball bounds the perturbation by projection, and any space will do. Steps, kappa, lr and
    the start of uniform norm are those of Stutz et al. (CVPR 2019), who instead add the norm to the loss and keep
    pixels in range by a tanh, so that their perturbations have no bound. Adam moves all coordinates alike: in a ball of
    the Euclidean norm `pgd_cw`, with the steepest steps, goes further.

    The attack of minimum norm is another thing, and other packages have it:
    `from_foolbox(foolbox.attacks.L2CarliniWagnerAttack(), eps=0.5)`, for which a sample counts as robust if its nearest
    adversarial example is further than eps away; or `from_torchattacks(torchattacks.CW, ...)`, which takes the true
    class for a logit of zero, so that it stands still where the logits of all wrong classes are negative.

    Args:
        threat: The perturbation set.
        steps: The number of steps.
        kappa: The confidence, in units of logits.
        lr: The step size of Adam, in the units of the space.
        restarts: The number of random starts.
    """
    return replace(stutz(threat, steps, restarts, lr), gain=confident_margin(kappa))
