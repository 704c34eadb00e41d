"""Images are cut to [0, 1]."""

import torch
from torch import Tensor

ROUNDING = 1e-5  # far below a grey level, far above the rounding of float32


def cut(x: Tensor, *, snap: bool = False) -> Tensor:
    """The nearest image with pixels in [0, 1].

    Gradients are those of the clamp: 1 within, 0 outside. A pixel at 0 or 1 is at a corner, and rounding decides on
    which side of it a decoder puts it. So the gradient is 1 up to 1e-5 beyond the corner: the pixel can still move.

    Args:
        x: images.
        snap: whether pixels less than 1e-5 from 0 or 1 become 0 or 1, with a gradient of 1.

    Example:
        >>> x = torch.tensor([-0.5, -1e-8, 1e-8, 0.3, 1.0, 1.1], requires_grad=True)
        >>> cut(x, snap=True).tolist()[1:3], torch.autograd.grad(cut(x).sum(), x)[0].tolist()
        ([0.0, 0.0], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    """
    near = x.clamp(-ROUNDING, 1 + ROUNDING)
    plain = near.detach()
    target = plain.clamp(0, 1)
    if snap:
        target = torch.where((target - target.round()).abs() < ROUNDING, target.round(), target)
    return near + (target - plain)
