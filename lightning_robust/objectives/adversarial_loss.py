"""The standard objective of adversarial training."""

from torch import Tensor, nn

from lightning_robust.objectives._logits import labels_of, logits_of

__all__ = ["adversarial_loss"]


def adversarial_loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy on the adversarial examples alone.

        loss = (1/N) sum_n -log p_y(x_adv)

    With a PGD attack this is the adversarial training of Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks" (ICLR 2018), eq. (2.1). The clean images are not looked at.

    Args:
        model: images to logits (N, K).
        x: (N, C, H, W) clean images, unused.
        x_adv: (N, C, H, W) adversarial images.
        y: class labels: integers (N,) or (N, 1), or probabilities (N, K).

    Returns:
        Scalar.

    Raises:
        ValueError: for labels of another kind, which need an objective of their own.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0]])
        >>> x_adv = torch.tensor([[1.0, 0.0]])
        >>> adversarial_loss(torch.nn.Identity(), x, x_adv, torch.tensor([1]))  # log(1 + e)
        tensor(1.3133)
    """
    del x
    logits = logits_of(model, x_adv)
    return nn.functional.cross_entropy(logits, labels_of(logits, y, "adversarial_loss"))
