"""Published training methods, whole: the attack, the objective and whatever else belongs together, as callbacks.

    trainer = pl.Trainer(callbacks=[*recipes.trades(Linf(8 / 255)), RobustEvaluation(...)])

A recipe is a function that returns a list of callbacks. The first argument is the threat or what defines it, then come
the numbers that the paper names; every other argument (`input`, `target`, `forward`, `schedule`, ...) is one of
`AdversarialTraining`. On the command line: `lightning-robust fit --recipe lightning_robust.recipes.trades
--recipe.threat Linf --recipe.threat.eps 0.03 ...`.

To add a method, write a function here that composes attacks, objectives, schedules and callbacks which exist elsewhere,
with its source, its published settings and where it deviates, and add it to `RECIPES`; `tests/test_recipes.py` then
trains a model with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from lightning_robust import _checks
from lightning_robust._lightning import pl
from lightning_robust._noise import Noise
from lightning_robust.attacks import (
    PGD,
    AffineSpace,
    Ball,
    LatentSpace,
    Linf,
    RandomPerturbation,
    Threat,
    cross_entropy,
    divergence,
    rs_fgsm,
)
from lightning_robust.callbacks import AdversarialTraining
from lightning_robust.objectives import adversarial_loss, awp as _awp, mart as _mart, trades as _trades

__all__ = [
    "RECIPES",
    "Recipe",
    "adversarial_transformations",
    "awp",
    "fgsm_rs",
    "half_adversarial",
    "madry",
    "mart",
    "on_manifold",
    "random_transformations",
    "trades",
]


class Recipe(list[pl.Callback]):
    """The callbacks of a training method: a list, which a Trainer takes as it is."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"A recipe is a list of callbacks, and has no `{name}`. Among others it takes a star: "
            "callbacks=[*recipes.madry(threat), other]."
        )


def _textbook(steps: int) -> float:
    """The size of a step relative to the radius (Madry et al., ICLR 2018)."""
    return 2.5 / _checks.count("steps", steps)


def madry(threat: Threat | Ball, steps: int = 10, **options: Any) -> Recipe:
    r"""Train on the adversarial examples of PGD alone: :math:`\min_w E \max_{x' \in P(x)} L(f_w(x'), y)`.

    A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018. The module's own step is
    the loss. The paper takes 7 steps of 2/255 for CIFAR-10 (Linf 8/255) and 40 steps of 0.01 for MNIST (Linf 0.3), from
    a random start; here a step is 2.5 / steps of the radius. The attack runs in evaluation mode, the authors' in
    training mode.

    Args:
        threat: The perturbation set, such as `Linf(8 / 255)`.
        steps: The number of steps of PGD.
        **options: Further arguments of `AdversarialTraining`.

    Example:
        >>> from lightning_robust import Linf, recipes
        >>> trainer = pl.Trainer(callbacks=recipes.madry(Linf(8 / 255), steps=7), logger=False)
    """
    return Recipe([AdversarialTraining(PGD(threat, steps=steps, rel_step_size=_textbook(steps)), **options)])


def trades(threat: Threat | Ball, beta: float = 6.0, steps: int = 10, **options: Any) -> Recipe:
    r"""TRADES: a clean loss, and a price for predictions that move under the attack that moves them most.

    .. math:: \min_w E \big[ \text{CE}(f_w(x), y) + \beta \max_{x' \in P(x)} \text{KL}(f_w(x) \| f_w(x')) \big]

    H. Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, ICML 2019. As in the authors'
    code the attack raises the same divergence, from a start at a normal distance of 0.001. CIFAR-10: Linf(0.031), beta
    6, 10 steps of 0.007, a little less than the 2.5 / steps of the radius that are taken here; MNIST: Linf(0.3), beta
    1, 40 steps. Both views go through the model in one forward; see `lightning_robust.objectives.trades`.

    Args:
        threat: The perturbation set.
        beta: Weight of the divergence.
        steps: The number of steps of PGD.
        **options: Further arguments of `AdversarialTraining`.
    """
    attack = PGD(threat, steps=steps, rel_step_size=_textbook(steps), gain=divergence, random_start=NearbyStart())
    return Recipe([AdversarialTraining(attack, _trades(beta), **options)])


def mart(threat: Threat | Ball, beta: float = 5.0, steps: int = 10, **options: Any) -> Recipe:
    """MART: boosted cross-entropy on adversarial examples, and a divergence that weighs misclassified samples most.

    Y. Wang et al., Improving Adversarial Robustness Requires Revisiting Misclassified Examples, ICLR 2020. The attack
    raises the cross-entropy, from a start at a normal distance of 0.001 as in the authors' code, with 10 steps of 0.007
    within Linf(0.031); here a step is 2.5 / steps of the radius. Beta is 5 for ResNet-18 and 6 for WRN-34-10. See
    `lightning_robust.objectives.mart` for the loss and its deviations.

    Args:
        threat: The perturbation set.
        beta: Weight of the divergence.
        steps: The number of steps of PGD.
        **options: Further arguments of `AdversarialTraining`.
    """
    attack = PGD(threat, steps=steps, rel_step_size=_textbook(steps), gain=cross_entropy, random_start=NearbyStart())
    return Recipe([AdversarialTraining(attack, _mart(beta), **options)])


def awp(recipe: Recipe | list[pl.Callback], gamma: float = 0.005) -> Recipe:
    """Another recipe with adversarial weight perturbation: its loss is lowered at weights that were moved against it.

    D. Wu, S. Xia, Y. Wang, Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020: gamma is 0.005
    around TRADES and 0.01 around PGD training, after some epochs without it. Where the recipe trains with the module's
    own step, `awp` puts `adversarial_loss`, the cross-entropy on adversarial examples, in its place.

    Args:
        recipe: What another function of this module returned.
        gamma: Size of the perturbation relative to the norm of each weight.

    Raises:
        ValueError: if the recipe attacks a fraction of the batch: such a recipe has no objective to move against.

    Example:
        >>> from lightning_robust import Linf, recipes
        >>> recipe = recipes.awp(recipes.trades(Linf(8 / 255), beta=6.0), gamma=0.005)
        >>> recipe[0].objective
        Awp(objective=Trades(beta=6.0, forward='joint'), gamma=0.005)
    """
    callbacks = list(_checks.sequence("recipe", recipe, "callbacks, as recipes.trades(...) returns them"))
    trained = [callback for callback in callbacks if isinstance(callback, AdversarialTraining)]
    if len(trained) != 1:
        raise ValueError(
            "Expected argument `recipe` to hold one AdversarialTraining, as recipes.trades(...) does, but got "
            f"{callbacks}."
        )
    return Recipe(_perturbed(c, gamma) if isinstance(c, AdversarialTraining) else c for c in callbacks)


def _perturbed(callback: AdversarialTraining, gamma: float) -> AdversarialTraining:
    if callback.fraction != 1:
        raise ValueError(
            "Expected argument `recipe` to attack every sample, because weight perturbation needs an objective, but "
            f"got one that attacks a fraction of {callback.fraction:g}."
        )
    objective = _awp(callback.objective or adversarial_loss, gamma)
    where = {field.name: getattr(callback.reader, field.name) for field in fields(callback.reader)}
    return AdversarialTraining(callback.attack, objective, schedule=callback.schedule, **where)


def fgsm_rs(threat: Threat | Ball, **options: Any) -> Recipe:
    """Fast adversarial training: one step of 1.25 radii from a random start.

    E. Wong, L. Rice, J. Z. Kolter, Fast is Better than Free, ICLR 2020, for Linf(8/255). It may collapse in the course
    of training, when robustness against PGD falls to zero (catastrophic overfitting): watch `val/robust_acc` of
    `RobustEvaluation`, and stop or return to the best checkpoint. The authors' attack runs in training mode; ours in
    evaluation mode.

    Args:
        threat: The perturbation set.
        **options: Further arguments of `AdversarialTraining`.
    """
    return Recipe([AdversarialTraining(rs_fgsm(threat), **options)])


def half_adversarial(threat: Threat | Ball, steps: int = 40, fraction: float = 0.5, **options: Any) -> Recipe:
    """Half of every batch clean, half adversarial, in one forward: the scheme of Stutz et al. for any threat.

    D. Stutz, M. Hein, B. Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019: in pixels with
    Linf(0.3) and 40 steps. Their attack takes Adam's steps; PGD takes the steepest ones.

    Args:
        threat: The perturbation set.
        steps: The number of steps of PGD.
        fraction: The share of adversarial samples in a batch.
        **options: Further arguments of `AdversarialTraining`.
    """
    return Recipe(
        [AdversarialTraining(PGD(threat, steps=steps, rel_step_size=_textbook(steps)), fraction=fraction, **options)]
    )


def on_manifold(manifold: Any, eta: float = 0.3, steps: int = 40, **options: Any) -> Recipe:
    """On-manifold adversarial training (Stutz et al., CVPR 2019): half of every batch is moved along the data manifold.

    Args:
        manifold: What has `encode(x, y)` and `decode(z, y)`: the true `FontsManifold`, a trained `VAEGAN`, your own.
        eta: The radius, in codes of the manifold (Linf).
        steps: The number of steps of PGD.
        **options: Further arguments of `AdversarialTraining`: `code=2` where the batch brings its codes, as that of
            `Fonts` does.

    Example:
        >>> from lightning_robust import recipes
        >>> from lightning_robust.manifolds import FontsManifold
        >>> trainer = pl.Trainer(callbacks=recipes.on_manifold(FontsManifold(), eta=0.3, code=2), logger=False)
    """
    return half_adversarial(Threat(_linf(eta), LatentSpace(manifold)), steps, **options)


def adversarial_transformations(
    eta: float = 0.3, steps: int = 40, space: AffineSpace | None = None, **options: Any
) -> Recipe:
    """Adversarial training with affine maps (Stutz et al., CVPR 2019): half of every batch is moved, turned, sheared.

    Args:
        eta: The radius in the six affine parameters (Linf).
        steps: The number of steps of PGD.
        space: The affine maps that are possible; None: those of `AffineSpace()`.
        **options: Further arguments of `AdversarialTraining`.
    """
    return half_adversarial(_affine(eta, space), steps, **options)


def random_transformations(
    eta: float = 0.3, space: AffineSpace | None = None, fraction: float = 0.5, **options: Any
) -> Recipe:
    """The same affine maps drawn at random: the data augmentation that `adversarial_transformations` is compared with.

    Args:
        eta: The radius in the six affine parameters (Linf).
        space: The affine maps that are possible; None: those of `AffineSpace()`.
        fraction: The share of transformed samples in a batch.
        **options: Further arguments of `AdversarialTraining`.
    """
    attack = RandomPerturbation(_affine(eta, space))
    return Recipe([AdversarialTraining(attack, fraction=fraction, **options)])


def _linf(eta: float) -> Linf:
    return Linf(_checks.number("eta", eta, 0))


def _affine(eta: float, space: AffineSpace | None) -> Threat:
    return Threat(_linf(eta), AffineSpace() if space is None else space)


@dataclass(frozen=True)
class NearbyStart:
    """A start close to the clean input, a normal step of the given deviation, as in the code of TRADES and MART.

    The divergence has no gradient at the clean input itself.
    """

    std: float = 0.001

    def __call__(self, ball: Ball, noise: Noise, zero: Tensor) -> Any:
        """The perturbation to start from, in the ball."""
        return ball.project(self.std * noise.normal(tuple(zero.shape[1:]), 0).to(zero.dtype))


RECIPES: Mapping[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        madry,
        trades,
        mart,
        awp,
        fgsm_rs,
        half_adversarial,
        on_manifold,
        adversarial_transformations,
        random_transformations,
    )
}
"""All recipes by name, for the command line and for tests that hold for each."""
