r"""The losses of the VAE-GAN, one number per sample, in float32 at least.

References:
    Kingma, Welling, "Auto-encoding variational Bayes", ICLR 2014; Larsen et al., "Autoencoding beyond pixels using a
    learned similarity metric", ICML 2016; Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), whose code sums them over
    pixels and samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def below(x: Tensor, limit: float) -> Tensor:
    r"""Keep numbers below a limit, smoothly: :math:`c - \log(1 + e^{c - x})` for the limit c.

    The identity up to :math:`e^{x - c}` where x is less than c, and never without a gradient.

    Example:
        >>> below(torch.tensor([2.0, 10.0, 1000.0]), 10.0)
        tensor([ 1.9997,  9.3069, 10.0000])
    """
    return limit - F.softplus(limit - x)


def kl_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""The divergence of the code's distribution from the standard normal one.

    .. math::

        \mathrm{KL}(N(\mu, \sigma^2) \,\|\, N(0, 1)) = \tfrac12 \sum_d \big( \mu_d^2 + \sigma_d^2 - 1 - \log \sigma_d^2
        \big)

    Args:
        mean: (N, Z).
        log_var: the logarithm of the variance, (N, Z).

    Returns:
        (N,), not negative.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
        tensor([2.])
    """
    mean, log_var = wide(mean), wide(log_var)
    return 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum(1)


def reconstruction_loss(x: Tensor, x_rec: Tensor, p: int = 1) -> Tensor:
    r"""How far images are from their reconstructions, :math:`\sum_i |x_i - \hat x_i|^p`.

    Args:
        x: (N, ...).
        x_rec: of the same shape.
        p: 1, as in the paper, or 2.

    Returns:
        (N,).
    """
    difference = (wide(x) - wide(x_rec)).flatten(1)
    return difference.abs().sum(1) if p == 1 else difference.square().sum(1)


def generator_loss(fake: Tensor) -> Tensor:
    r"""How well the discriminator tells reconstructions from data: :math:`-\log \sigma(D(\hat x))`.

    The paper's code takes :math:`-\log(\sigma(D(\hat x)) + 10^{-12})`, whose gradient vanishes where the discriminator
    is sure. From logits the logarithm is exact.

    Args:
        fake: the discriminator's logits of reconstructions, (N, 1).

    Returns:
        (N,).
    """
    return F.softplus(-wide(fake)).flatten(1).sum(1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""How badly the discriminator does: :math:`-\log \sigma(D(x)) - \log(1 - \sigma(D(\hat x)))`.

    Args:
        real: its logits of data, (N, 1).
        fake: its logits of reconstructions, (N, 1).

    Returns:
        (N,).

    Example:
        >>> discriminator_loss(torch.zeros(1, 1), torch.zeros(1, 1))
        tensor([1.3863])
    """
    return (F.softplus(-wide(real)) + F.softplus(wide(fake))).flatten(1).sum(1)


def confusion_loss(logits: Tensor) -> Tensor:
    r"""How much a classifier's opinion differs from none at all: :math:`\mathrm{KL}(1/K \,\|\, q)`, q its softmax.

    .. math:: - \log K - \frac1K \sum_k \log q_k

    Its gradient by the logits is :math:`(q - 1/K)`, which does not vanish where the classifier is sure, as that of its
    reversed cross-entropy does.

    Args:
        logits: (N, K).

    Returns:
        (N,), not negative; 0 where all classes are as likely.

    Example:
        >>> confusion_loss(torch.tensor([[1.0, 1.0], [0.0, 10.0]]))
        tensor([0.0000, 4.3069])

    References:
        Tzeng et al., "Simultaneous deep transfer across domains and tasks", ICCV 2015 (arXiv 1510.02192), equation 4,
        up to the constant.
    """
    return -F.log_softmax(wide(logits), dim=1).mean(1) - math.log(logits.shape[1])
