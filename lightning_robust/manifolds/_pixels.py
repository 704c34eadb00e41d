"""Images are cut to [0, 1]."""

from torch import Tensor

_ROUNDING = 1e-6


def cut(x: Tensor) -> Tensor:
    """The nearest image with pixels in [0, 1].

    Gradients are those of the clamp: 1 within, 0 outside. A pixel at 0 or 1 is at a corner, and rounding decides on
    which side of it a decoder puts it. So the gradient is 1 up to 1e-6 beyond the corner: the pixel can still move.

    Example:
        >>> import torch
        >>> x = torch.tensor([-0.5, -1e-8, 0.0, 0.3, 1.0, 1.1], requires_grad=True)
        >>> cut(x).tolist()[1:3], torch.autograd.grad(cut(x).sum(), x)[0].tolist()
        ([0.0, 0.0], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    """
    near = x.clamp(-_ROUNDING, 1 + _ROUNDING)
    plain = near.detach()
    return near + (plain.clamp(0, 1) - plain)
