"""What codes tell of the class, by a classifier that is trained on them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust.manifolds import Share
from lightning_robust.manifolds.networks import code_classifier

Codes = tuple[Tensor, Tensor]


def class_told(train: Codes, test: Codes, classes: int, *, passes: int = 6, seed: int = 0) -> Share:
    """How often a classifier of codes, two hidden layers on standardized entries, reads the class.

    A lower bound of what codes tell: another classifier may read more. Guessing gives 1 / K of balanced classes.

    Args:
        train: codes (N, Z) and labels (N,) that it is trained on, by Adam in batches of 200.
        test: those that it is asked about.
        classes: K.
        passes: over the training codes.
        seed: of the first weights and the order of codes.

    Example:
        >>> y = torch.arange(2000) % 2
        >>> z = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
        >>> told = class_told((z + 3 * y[:, None], y), (z + 3 * y[:, None], y), 2)
        >>> told.value > 0.95
        True
    """
    z, y = (part.cpu() for part in train)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        network = code_classifier(z.shape[1], classes).to(z.dtype)
        adam = torch.optim.Adam(network.parameters(), lr=2e-3)
        for _ in range(passes):
            for rows in torch.randperm(len(z)).split(200):
                if len(rows) == 1:  # no deviation to divide by
                    continue
                adam.zero_grad()
                F.cross_entropy(network(z[rows]), y[rows]).backward()
                adam.step()
    with torch.no_grad():
        return Share.of(network.eval()(test[0].cpu().to(z.dtype)).argmax(1) == test[1].cpu())
