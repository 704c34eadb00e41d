"""For each statement arguments at which its conditions hold; and normal numbers."""

import math

import torch

_ONES = torch.ones(4, dtype=torch.float64)
_GAUSSIAN, _BERNOULLI = {"n": 4.0, "d": 16, "sigma": 0.25}, {"d": 2**12, "tau": 0.25}

POINTS = {
    "Theorem 4": {"d": 2**16, "sigma": 0.25},
    "Theorem 5": {"n": 100.0, "d": 2**16, "sigma": 0.25, "eps": 0.0625},
    "Theorem 6": {"n": 0.0, "d": 16, "sigma_scale": 0.5, "eps": 0.5},
    "Theorem 8": _BERNOULLI,
    "Theorem 9": {"n": 0.0, "d": 2**12, "tau_scale": 0.5, "eps": 0.125, "gamma": 0.25},
    "Theorem 10": {**_BERNOULLI, "eps": 0.5},
    "Theorem 11": {**_GAUSSIAN, "eps": 0.25},
    "Fact 12": {"t": 1.0, "sigma": 1.0},
    "Lemma 13": {**_GAUSSIAN, "norm": 1.0, "delta": 0.25},
    "Lemma 14": _GAUSSIAN,
    "Lemma 15": {"n": 4.0, "sigma": 0.25, "norm": 1.0, "delta": 0.25},
    "Lemma 16": _GAUSSIAN,
    "Lemma 17": {"alignment": 2.0, "rho": 1.0, "sigma": 0.25},
    "Theorem 18": _GAUSSIAN,
    "Corollary 19": {"d": 16, "sigma": 0.25, "beta": 0.25},
    "Lemma 20": {"w": _ONES, "theta": _ONES, "sigma": 0.25, "eps": 0.25, "p": math.inf},
    "Theorem 21": {"n": 100.0, "d": 2**16, "sigma": 1.0, "eps": 0.25, "beta": 0.25},
    "Corollary 22": {"n": 100.0, "d": 2**16, "sigma": 0.25, "eps": 0.0625},
    "Corollary 23": {"n": 0.0, "d": 16, "sigma": 8.0, "eps": 0.5},
    "Theorem 27": {"d": 16, "tau": 0.25},
    "Corollary 28": {**_BERNOULLI, "beta": 0.25},
    "Lemma 29": {"n": 4.0, "tau": 0.125, "delta": 0.25},
    "Theorem 31": {"n": 0.0, "d": 16, "tau": 0.125, "eps": 0.25, "gamma": 0.25},
    "Carmon et al., Theorem 1": {"d": 16, "n0": 1.0, "eps": 0.25},
    "Carmon et al., Proposition 1": {"d": 16, "n0": 1.0, "eps": 0.25},
    "Carmon et al., Theorem 2": {"d": 16, "n0": 1.0, "eps": 0.25},
}


def normals(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
