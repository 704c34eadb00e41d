"""The mean of a model that answers at random."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.attack import Model, rows_of
from lightning_robust.attacks.scope import other_random_streams, own_random_stream


class Expectation(nn.Module):
    """A model whose output is the mean over its random numbers, see `expectation`."""

    def __init__(
        self,
        model: Model,
        draws: int = 16,
        *,
        average: Literal["probabilities", "logits"] = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = _checks.function("model", model, "x -> logits")
        self.draws = _checks.count("draws", draws)
        self.average = _checks.choice("average", average, ("probabilities", "logits"))
        self.seed = _checks.seed("seed", seed)

    def rows(self, rows: slice | Tensor) -> "Expectation":
        """The mean of the model for some of its samples."""
        return Expectation(rows_of(self.model, rows), self.draws, average=self.average, seed=self.seed)

    def through(self, wrap: Callable[[Any], Any]) -> "Expectation":
        """The same around `wrap(model)`."""
        return Expectation(wrap(self.model), self.draws, average=self.average, seed=self.seed)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the draws."""
        outputs = [self._draw(x, k) for k in range(self.draws)]
        stacked = wide(torch.stack(outputs))
        if self.average == "logits":
            mean = stacked.mean(0)
        else:
            if stacked.ndim < 3 or stacked.shape[2] < 2:
                raise ValueError(
                    f"Expected logits (N, K) with K >= 2 to average probabilities, but got {tuple(outputs[0].shape)}. "
                    "Say average='logits'."
                )
            mean = stacked.log_softmax(2).logsumexp(0) - math.log(self.draws)
        return mean.to(outputs[0].dtype)

    def _draw(self, x: Tensor, k: int) -> Any:
        seed = (self.seed << 20) + k
        with own_random_stream(seed, x.device), other_random_streams(seed):
            return self.model(x.clone())  # a forward may write to its input


def expectation(
    model: Model,
    draws: int = 16,
    *,
    average: Literal["probabilities", "logits"] = "probabilities",
    seed: int = 0,
) -> Expectation:
    r"""A random model in expectation, for its verdict and for its gradients.

    .. math:: \log \frac1S \sum_{s=1}^S \mathrm{softmax}(f(x; \omega_s)) \qquad\text{or}\qquad
              \frac1S \sum_{s=1}^S f(x; \omega_s)

    Where a model answers at random (noise layers, random shifts, dropout that stays on), one forward decides by luck,
    and an attack that asks often enough wins by luck. The mean has one answer, and its gradient is the expectation over
    transformations, EOT (Athalye, Engstrom, Ilyas, Kwok, ICML 2018). The draws are the same in every forward: they are
    seeded, so that the mean is a function that an attack can climb. The random numbers belong to the place in a batch
    as those of the model do: take so many draws that the verdict does not depend on them.

    Args:
        model: x -> output; a module, or a function.
        draws: S, number of forwards for each. With gradients, memory grows with it.
        average: "probabilities": of the softmax over dimension 1, the output is its logarithm. "logits": of the output
            as it is, for outputs of any shape.
        seed: Of the draws.

    Deviation: Athalye et al. draw anew in each step. Here all steps and the verdict share their draws.

    Example:
        >>> noisy = lambda x: x + 0.1 * torch.randn_like(x)
        >>> mean, x = expectation(noisy, 64), torch.tensor([[0.5, 0.0]])
        >>> torch.equal(mean(x), mean(x)), bool((mean(x).exp().sum(1) - 1).abs() < 1e-5)
        (True, True)
    """
    return Expectation(model, draws, average=average, seed=seed)
