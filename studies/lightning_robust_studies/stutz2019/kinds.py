"""The learned manifolds of the study: how each is made, and which setting is the radius of attacks along it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A learned manifold.

    Args:
        learner: VAE-GAN, principal components, or a normalizing flow.
        per_class: has each class a manifold of its own?
        radius: the setting that holds the radius of attacks in its codes.
        conditional: is there one VAE-GAN for all classes, whose decoder and discriminator get the class?
        confusion: weight of the term that keeps its codes from telling the class.
        around: another manifold, by name. This one has its weights, and adds to each image what the other leaves of it.
    """

    learner: Literal["vaegan", "pca", "flow"]
    per_class: bool
    radius: str
    conditional: bool = False
    confusion: float = 0.0
    around: str | None = None


CONFUSION = 20.0
"""Weight of the term that keeps the codes of "blind" from telling the class."""

_LEARNED: Mapping[str, Kind] = {
    "class": Kind(learner="vaegan", per_class=True, radius="eta"),
    "data": Kind(learner="vaegan", per_class=False, radius="eta_data"),
    "conditional": Kind(learner="vaegan", per_class=False, radius="eta", conditional=True),
    "blind": Kind(learner="vaegan", per_class=False, radius="eta_data", conditional=True, confusion=CONFUSION),
    "pca-class": Kind(learner="pca", per_class=True, radius="eta_pca"),
    "pca": Kind(learner="pca", per_class=False, radius="eta_pca"),
    "flow-class": Kind(learner="flow", per_class=True, radius="eta_flow"),
    "flow": Kind(learner="flow", per_class=False, radius="eta_flow"),
}

KINDS: Mapping[str, Kind] = {
    **_LEARNED,
    **{f"residual-{name}": replace(kind, around=name) for name, kind in _LEARNED.items() if kind.learner != "flow"},
}
"""All learned manifolds by name."""


def along(name: str) -> str:
    """What training and attacks along a learned manifold are called.

    Example:
        >>> [along(name) for name in ("class", "data", "pca-class", "residual-class")]
        ['on-learned-class', 'on-learned-data', 'on-pca-class', 'on-residual-class']
    """
    return f"on-learned-{name}" if name in ("class", "data") else f"on-{name}"


def weights_of(name: str) -> str:
    """The learned manifold whose weights this one has: itself, or the one that it is around."""
    return KINDS[name].around or name
