"""How much counting over few images hides of a correlation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_robust.plots import PERCENT


@dataclass(frozen=True)
class Counting:
    """What counting noise does to the correlation of a rate with another number, over models; made by `counting`.

    Args:
        share: of the variance of the rate over models, how much is counting noise.
        r: an estimate of the correlation without that noise; NaN where all of the variance may be noise.
    """

    share: float
    r: float

    def text(self) -> str:
        """The two numbers in words.

        Example:
            >>> Counting(0.25, 0.8).text()
            'counting over few images makes 25.0 % of the variance of success, and without it r is estimated at 0.800'
        """
        noise = f"counting over few images makes {PERCENT.text(min(self.share, 1.0))} of the variance of success"
        if math.isnan(self.r):
            return f"{noise}, so that r without it cannot be estimated"
        return f"{noise}, and without it r is estimated at {self.r:.3f}"


def counting(rates: Sequence[float], images: Sequence[int], r: float) -> Counting | None:
    r"""Spearman's correction for attenuation, with the binomial noise of rates.

    Rates :math:`p_i` of M models, each counted over :math:`n_i` images, vary over models by what they would be over
    all images and by which images were taken:

    .. math::

        \text{share} = \frac{\frac1M \sum_i p_i (1 - p_i) / n_i}{\mathrm{Var}(p)}, \qquad
        r' = \frac{r}{\sqrt{1 - \text{share}}}

    with the sample variance of the :math:`p_i`; r' is cut to [-1, 1]. It takes the images of different models as drawn
    apart. Where all models are counted over the same images, part of the noise is common to them and does not hide
    anything, and share and r' are too large.

    Args:
        rates: in [0, 1], one for each model.
        images: how many images each is counted over.
        r: the correlation of the rates with another number, which is measured without noise.

    Returns:
        None where the rates are all equal, or there are fewer than two.

    Example:
        >>> counting([0.1, 0.2, 0.3, 0.4], [100] * 4, r=0.9).text()
        'counting over few images makes 10.5 % of the variance of success, and without it r is estimated at 0.951'

    References:
        Spearman, "The proof and measurement of association between two things", American Journal of Psychology 15
        (1904).
    """
    p, n = np.asarray(rates, dtype=np.float64), np.asarray(images, dtype=np.float64)
    if len(p) < 2 or p.min() == p.max():
        return None
    share = float((p * (1 - p) / n).mean() / p.var(ddof=1))
    return Counting(share, max(-1.0, min(1.0, r / math.sqrt(1 - share))) if share < 1 else math.nan)
