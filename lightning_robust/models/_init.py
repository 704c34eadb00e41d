"""Initialisation that networks share."""

from torch import nn

__all__ = ["kaiming_"]


def kaiming_(network: nn.Module, negative_slope: float = 0.0) -> None:
    """Draw the weights of convolutions and linear layers from N(0, 2 / ((1 + a^2) fan_in)), and set their biases to 0.

    He et al., "Delving Deep into Rectifiers" (ICCV 2015), eq. (15).

    Args:
        network: changed in place.
        negative_slope: a, the slope of the activation below zero.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=negative_slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
