r"""How a batch of mixed classes is laid out so that each class meets its own weights in one pass.

K networks of one architecture have stacked weights, one leading dimension K. A sample of class y must be multiplied by
the weights number y. `Sorted` sorts the batch by class: each class is a run of rows, nothing is padded, and what does
not depend on the class (ReLU, padding, shuffling) is done for all rows at once; it is best on CPUs, where time is
arithmetic. `Padded` gives each class as many rows as the largest one has, so that a layer of all classes is one batched
product or one grouped convolution; it is best on GPUs, where time is the number of kernels. Both give the same numbers
up to rounding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor


class Layout(ABC):
    """A batch seen as K classes; layers of stacked networks are written in terms of these operations.

    Attributes:
        counts: how many samples there are of each class.
    """

    counts: list[int]

    @abstractmethod
    def scatter(self, x: Tensor) -> Tensor:
        """(N, F) or (N, C, H, W) -> the layout of it."""

    @abstractmethod
    def gather(self, h: Tensor) -> Tensor:
        """Undo `scatter`."""

    @abstractmethod
    def linear(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Linear maps with weights (K, O, I) and biases (K, O)."""

    @abstractmethod
    def conv(self, h: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Convolutions with weights (K, O, I, h, w) and biases (K, O), if any."""

    @abstractmethod
    def normalize(self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Batch normalisation of images with known statistics, all (K, C)."""

    @abstractmethod
    def batch_normalize(
        self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float, momentum: float
    ) -> Tensor:
        """Batch normalisation of images with the statistics of each class in this batch.

        The running statistics `mean` and `var` (K, C) of the classes that are there move by `momentum`, in place.
        """

    @abstractmethod
    def flatten(self, h: Tensor) -> Tensor:
        """Images to vectors."""

    @abstractmethod
    def unflatten(self, h: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Vectors to images of shape (C, H, W)."""


def layout_of(y: Tensor, num_classes: int) -> Layout:
    """The layout that is fastest on the device of the labels.

    Args:
        y: int64 of shape (N,), 0 to K - 1. Ignored where `num_classes` is 1.
        num_classes: K.

    Raises:
        ValueError: if a label is not in this range.
    """
    return Sorted(y, num_classes) if y.device.type == "cpu" or num_classes == 1 else Padded(y, num_classes)


def _counts(y: Tensor, num_classes: int) -> list[int]:
    counts = torch.bincount(y.clamp(-1, num_classes) + 1, minlength=num_classes + 2).tolist()
    if counts[0] or counts[-1] or len(counts) != num_classes + 2:
        raise ValueError(f"Expected labels from 0 to {num_classes - 1}, but got {int(y.min())} to {int(y.max())}.")
    return counts[1:-1]


def _autocast(h: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Cast all classes' weights at once where autocast would cast them one by one."""
    if not torch.is_autocast_enabled(h.device.type):
        return weights
    dtype = torch.get_autocast_dtype(h.device.type)
    return tuple(w.to(dtype) for w in weights)


@final
class Sorted(Layout):
    """Rows in the order of their classes: (N, F), or (N, C, H, W) with the channels last in memory."""

    def __init__(self, y: Tensor, num_classes: int) -> None:
        self._order: Tensor | None = None
        self.counts = [len(y)]
        if num_classes > 1:
            self.counts = _counts(y, num_classes)
            self._order = torch.argsort(y, stable=True)
            self._back = torch.argsort(self._order)
            self._class = y[self._order]

    def scatter(self, x: Tensor) -> Tensor:
        x = x if self._order is None else x[self._order]
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def gather(self, h: Tensor) -> Tensor:
        return h.contiguous() if self._order is None else h.contiguous()[self._back]

    def _each(self, f: Callable[..., Tensor], h: Tensor, *stacks: Tensor) -> Tensor:
        """Apply `f` to the rows of each class that is there, and to its entry of each stack."""
        members = zip(h.split(self.counts), *(stack.unbind() for stack in stacks), strict=True)
        parts = [f(*member) for count, member in zip(self.counts, members, strict=True) if count or len(h) == 0]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def linear(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self._each(F.linear, h, *_autocast(h, weight, bias))

    def conv(self, h: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        def one(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            return F.conv2d(x, w, b, stride, padding)

        return self._each(one, h, *_autocast(h, *([weight] if bias is None else [weight, bias])))

    def normalize(self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        scale = weight * torch.rsqrt(var + eps)
        shift = bias - mean * scale
        if self._order is not None:
            scale, shift = scale[self._class], shift[self._class]
        return torch.addcmul(shift[:, :, None, None], h, scale[:, :, None, None])

    def batch_normalize(
        self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float, momentum: float
    ) -> Tensor:
        def one(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
            return F.batch_norm(x, m, v, w, b, training=True, momentum=momentum, eps=eps)

        return self._each(one, h, mean, var, weight, bias)

    def flatten(self, h: Tensor) -> Tensor:
        return h.flatten(1)

    def unflatten(self, h: Tensor, shape: tuple[int, int, int]) -> Tensor:
        return h.unflatten(1, shape).contiguous(memory_format=torch.channels_last)


@final
class Padded(Layout):
    """M rows for each class, M the size of the largest: vectors (K, M, F), images (M, K * C, H, W)."""

    def __init__(self, y: Tensor, num_classes: int) -> None:
        self.counts = _counts(y, num_classes)
        self._rows = max(1, *self.counts)
        one_hot = F.one_hot(y, num_classes)
        self._slot = y * self._rows + (one_hot.cumsum(0) * one_hot).sum(1) - 1
        self._count = one_hot.sum(0)

    @property
    def _classes(self) -> int:
        return len(self.counts)

    def scatter(self, x: Tensor) -> Tensor:
        padded = x.new_zeros(self._classes * self._rows, *x.shape[1:]).index_copy(0, self._slot, x)
        padded = padded.unflatten(0, (self._classes, self._rows))
        return padded if x.ndim == 2 else padded.transpose(0, 1).flatten(1, 2)

    def gather(self, h: Tensor) -> Tensor:
        if h.ndim == 4:
            h = h.unflatten(1, (self._classes, -1)).transpose(0, 1)
        return h.flatten(0, 1)[self._slot]

    def linear(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.baddbmm(bias[:, None], h, weight.transpose(1, 2))

    def conv(self, h: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        flat = None if bias is None else bias.flatten()
        return F.conv2d(h, weight.flatten(0, 1), flat, stride, padding, groups=self._classes)

    def normalize(self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.batch_norm(h, mean.flatten(), var.flatten(), weight.flatten(), bias.flatten(), eps=eps)

    def batch_normalize(
        self, h: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float, momentum: float
    ) -> Tensor:
        images = h.unflatten(1, (self._classes, -1))  # (M, K, C, H, W)
        images = images.to(torch.promote_types(h.dtype, torch.float32))
        row = torch.arange(self._rows, device=h.device)[:, None]
        there = (row < self._count)[:, :, None, None, None]
        size = (self._count * h.shape[2] * h.shape[3]).to(images.dtype)[:, None]
        own_mean = torch.where(there, images, 0).sum((0, 3, 4)) / size.clamp(min=1)
        centred = torch.where(there, images - own_mean[:, :, None, None], 0)
        own_var = centred.square().sum((0, 3, 4)) / size.clamp(min=1)
        with torch.no_grad():
            rate = momentum * (size > 0)
            mean += rate * (own_mean - mean)
            var += rate * (own_var * (size / (size - 1).clamp(min=1)) - var)
        scale = weight * torch.rsqrt(own_var + eps)
        out = torch.addcmul(bias[:, :, None, None], centred, scale[:, :, None, None])
        return out.flatten(1, 2).to(h.dtype)

    def flatten(self, h: Tensor) -> Tensor:
        return h.unflatten(1, (self._classes, -1)).transpose(0, 1).flatten(2)

    def unflatten(self, h: Tensor, shape: tuple[int, int, int]) -> Tensor:
        return h.unflatten(2, shape).transpose(0, 1).flatten(1, 2)
