"""The MNIST network of Madry et al."""

from torch import nn

from lightning_robust._checks import count

__all__ = ["madry_mnist"]


def madry_mnist(in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """Two 5x5 convolutions with max-pools and a hidden layer of 1024 units, for 28x28 images.

        [conv 5x5 -> ReLU -> max-pool 2x2] with 32, then 64 channels -> linear 1024 -> ReLU -> linear K

    The network of Madry et al. (ICLR 2018) and of Schmidt et al. (NeurIPS 2018) for MNIST: 3,274,634 parameters.
    Weights start from a normal distribution of standard deviation 0.1 cut at two deviations, biases at 0.1, as in
    their code.

    Args:
        in_channels: C.
        num_classes: K.

    Returns:
        A network from (N, C, 28, 28) to logits (N, K).

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> sum(p.numel() for p in madry_mnist().parameters())
        3274634
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    network = nn.Sequential(
        nn.Conv2d(in_channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(),
        nn.Linear(1024, num_classes),
    )
    for module in network:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.1)
    return network
