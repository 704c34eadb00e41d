"""Affine maps of images with six parameters: the matrix and the resampling, torch only.

`theta = [t_x, t_y, shear_x, shear_y, scale, rotation]` acts on the *sampling grid*: the output pixel at position
`p` takes the value that the input has at `A(theta) p`. Hence `scale > 1` shrinks what is seen, and a positive
`t_x` moves it to the left.
"""

from __future__ import annotations

import torch
from torch import Tensor

IDENTITY = (0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The parameters that change nothing, in the order `t_x, t_y, shear_x, shear_y, scale, rotation`."""


def affine_matrix(theta: Tensor) -> Tensor:
    r"""Compose scale, shear, rotation and translation into one matrix.

    .. math::

        A(\theta) = \Big[\, s \begin{pmatrix} 1 & l_x \\ l_y & 1 \end{pmatrix}
                    \begin{pmatrix} \cos r & -\sin r \\ \sin r & \cos r \end{pmatrix} \;\Big|\;
                    \begin{pmatrix} t_x \\ t_y \end{pmatrix} \Big]
                  = \begin{pmatrix} s(\cos r + l_x \sin r) & s(-\sin r + l_x \cos r) & t_x \\
                                    s(\sin r + l_y \cos r) & s(\cos r - l_y \sin r) & t_y \end{pmatrix}

    for `theta` = :math:`(t_x, t_y, l_x, l_y, s, r)`.

    Args:
        theta: parameters of shape (N, 6): translation in units of half an image (the image spans [-1, 1]), shear,
            scale, and the rotation in radians.

    Returns:
        The matrices, shape (N, 2, 3), in the floating type of `theta`.

    Raises:
        ValueError: if `theta` is not a floating tensor of shape (N, 6).

    Example:
        >>> affine_matrix(torch.tensor([[0.1, 0.0, 0.0, 0.5, 2.0, 0.0]]))
        tensor([[[2.0000, 0.0000, 0.1000],
                 [1.0000, 2.0000, 0.0000]]])

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740).
        The code of that paper has the other sign before `l_x` in the entry (1, 1), so that its matrix is no product
        of a shear and a rotation. We take the product.
    """
    if theta.ndim != 2 or theta.shape[1] != 6 or not theta.is_floating_point():
        raise ValueError(
            "Expected argument `theta` to be a floating tensor of shape (N, 6), "
            f"but got {theta.dtype} {tuple(theta.shape)}."
        )
    t_x, t_y, shear_x, shear_y, scale, rotation = theta.unbind(dim=1)
    cos, sin = rotation.cos(), rotation.sin()
    row_x = torch.stack((scale * (cos + shear_x * sin), scale * (shear_x * cos - sin), t_x), dim=1)
    row_y = torch.stack((scale * (sin + shear_y * cos), scale * (cos - shear_y * sin), t_y), dim=1)
    return torch.stack((row_x, row_y), dim=1)


def warp(images: Tensor, theta: Tensor) -> Tensor:
    r"""Resample each image under its own affine map: bilinear, zeros beyond the border, corners aligned.

    `out[n, :, p] = images[n, :, A(theta_n) p]` with positions `p` in :math:`[-1, 1]^2`, where -1 and 1 are the
    centers of the corner pixels. Differentiable (twice) in both arguments.

    This is `grid_sample(images, affine_grid(A(theta), align_corners=True), align_corners=True)` up to rounding,
    written out for four reasons: the identity returns the image bit for bit; an image comes out the same alone as in a
    batch, and no reduced-precision matrix product (TF32) touches the positions; the gradient exists under
    `torch.use_deterministic_algorithms` on CUDA, where that of `grid_sample` does not; and there is a second
    derivative. Autocast is off inside, and half precision is computed in float32: positions need more than the 8 or 11
    bits of bfloat16 or float16.

    Args:
        images: shape (N, C, H, W), any floating type. No range is assumed, but what lies beyond the border is 0.
        theta: parameters of shape (N, 6), see :func:`affine_matrix`. Images are NaN where these are not finite.

    Returns:
        The warped images, shape (N, C, H, W), in the type of `images`.

    Raises:
        ValueError: if `images` is not a floating tensor of four dimensions, or `theta` not one of shape (N, 6).

    Example:
        >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> warp(image, torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]))
        tensor([[[[1., 2., 0.],
                  [4., 5., 0.],
                  [7., 8., 0.]]]])
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "Expected argument `images` to be a floating tensor of shape (N, C, H, W), "
            f"but got {images.dtype} {tuple(images.shape)}."
        )
    if theta.ndim != 2 or theta.shape[0] != images.shape[0]:
        raise ValueError(
            f"Expected argument `theta` to be of shape ({images.shape[0]}, 6), a row for each image, "
            f"but got {tuple(theta.shape)}."
        )
    dtype = torch.promote_types(torch.promote_types(images.dtype, theta.dtype), torch.float32)
    with torch.autocast(device_type=images.device.type, enabled=False):
        x, y = _positions(affine_matrix(theta.to(dtype)), height=images.shape[2], width=images.shape[3])
        return _bilinear(images.to(dtype), x, y).to(images.dtype)


def _positions(matrix: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each output pixel looks: column and row, in pixels, both of shape (N, H, W).

    Pixel `j` of `W` lies at `u / h` with `u = j - h` and `h = (W - 1) / 2`. The map is applied to `u`, a
    multiple of 1/2 and so without rounding, rather than to `u / h`.
    """
    half_w, half_h = (width - 1) / 2, (height - 1) / 2
    u = torch.arange(width, dtype=matrix.dtype, device=matrix.device) - half_w
    v = torch.arange(height, dtype=matrix.dtype, device=matrix.device)[:, None] - half_h
    xx, xy, x0 = matrix[:, 0, :, None, None].unbind(dim=1)
    yx, yy, y0 = matrix[:, 1, :, None, None].unbind(dim=1)
    x = xx * u + xy * (half_w / max(half_h, 0.5) * v) + (x0 * half_w + half_w)
    y = yx * (half_h / max(half_w, 0.5) * u) + yy * v + (y0 * half_h + half_h)
    return x, y


def _bilinear(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The images (N, C, H, W) at columns `x` and rows `y` (N, H, W), from the four pixels around, zeros outside."""
    channels, height, width = images.shape[1:]
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1)).flatten(start_dim=2)
    left, top = x.detach().floor(), y.detach().floor()

    def pixel(row: Tensor, column: Tensor) -> Tensor:
        row = (row.nan_to_num() + 1).clamp(0, height + 1).long()
        column = (column.nan_to_num() + 1).clamp(0, width + 1).long()
        index = (row * (width + 2) + column).flatten(start_dim=1)[:, None].expand(-1, channels, -1)
        return padded.gather(2, index).unflatten(2, x.shape[1:])

    right, down = (x - left)[:, None], (y - top)[:, None]
    upper = torch.lerp(pixel(top, left), pixel(top, left + 1), right)
    lower = torch.lerp(pixel(top + 1, left), pixel(top + 1, left + 1), right)
    return torch.lerp(upper, lower, down)
