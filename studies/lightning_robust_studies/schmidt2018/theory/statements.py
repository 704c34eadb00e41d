"""Every statement of Schmidt et al. (2018) on the two models, and those of Carmon et al. (2019), in one table.

A statement is called with its arguments, and solved for one of them by `limit`:

    >>> STATEMENTS["Theorem 21"](n=16, d=4096, sigma=1.0, eps=0.5, beta=0.01)
    Guarantee(error=0.01, probability=1.0)
    >>> round(STATEMENTS["Theorem 21"].limit("eps", n=16, d=4096, sigma=1.0, beta=0.01), 4)
    0.5359
    >>> STATEMENTS["Corollary 22"](n=1024, d=2**16, sigma=0.6, eps=0.25)
    Traceback (most recent call last):
    ValueError: Expected argument `sigma` to be at most d^(1/4) / 32 = 0.5, but got 0.6.

Letters: n samples (need not be whole, except where a statement speaks of one sample), d dimensions, sigma the standard
deviation of a coordinate in the Gaussian model and tau its advantage in the Bernoulli model, eps the l_inf radius, beta
an error, delta a probability, n0 the labels of Carmon et al. Logarithms are natural. Where the paper leaves a universal
constant open (Theorems 4, 5, 6, 8, 9 and 10), the table has that of the statement in the appendix it follows from.
"""

from collections.abc import Mapping

from lightning_robust_studies.schmidt2018.theory._statement import Statement
from lightning_robust_studies.schmidt2018.theory.bernoulli_statements import BERNOULLI_STATEMENTS
from lightning_robust_studies.schmidt2018.theory.gaussian_statements import GAUSSIAN_STATEMENTS

STATEMENTS: Mapping[str, Statement] = {each.name: each for each in (*GAUSSIAN_STATEMENTS, *BERNOULLI_STATEMENTS)}
"""By name, the Gaussian model first."""
