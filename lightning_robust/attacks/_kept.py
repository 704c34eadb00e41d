"""Tensors that are put back after an attack: how they are told from what they were, and when they are copied.

Small ones, and those that kernels write to without counting versions, are copied before and written back after. A large
one is copied the first time it is met, and compared with the copy. If nothing wrote to it then, it is only watched by
its version counter and its place in memory from then on, which costs nothing. Should it be written to later all the
same, this is said, and it is copied again from then on. A forward in training mode may write where one in evaluation
mode does not: what is known of a tensor is known for one of them.
"""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

SMALL = 1 << 16
"""Bytes up to which a tensor is always copied."""

_seen: tuple[Any, Any] = (WeakIdKeyDictionary(), WeakIdKeyDictionary())
"""Large tensors that have been met, in evaluation mode and in training mode: does a forward write to them?"""


class _Kept(NamedTuple):
    """A tensor, its version, its memory if it is large, its copy if there is one, its name; is it in an attribute?"""

    tensor: Tensor
    version: int
    data: Tensor | None
    copy: Tensor | None
    name: str
    attribute: bool


class Tensors:
    """Buffers and tensors in attributes, kept until `put_back`.

    Args:
        training: Will forwards run in training mode?
    """

    def __init__(self, *, training: bool) -> None:
        self._training = training
        self._small: list[_Kept] = []
        self._large: list[_Kept] = []

    def keep(self, tensor: Tensor, name: str, *, always: bool = False, attribute: bool = False) -> None:
        """Copy a tensor, or watch it."""
        if always or size(tensor) <= SMALL:
            if writable(tensor):
                self._small.append(_Kept(tensor, tensor._version, None, clone(tensor), name, attribute))
                return
        elif writable(tensor):
            copy = clone(tensor) if writes(tensor, training=self._training) in (None, True) else None
            self._large.append(_Kept(tensor, tensor._version, tensor.data, copy, name, attribute))
            return
        if attribute:
            self._large.append(_Kept(tensor, tensor._version, None, None, name, True))

    def moved(self) -> bool:
        """Has a forward written to a tensor in an attribute?"""
        return any(kept.attribute and kept.tensor._version != kept.version for kept in (*self._small, *self._large))

    def rewind(self) -> None:
        """The tensors in attributes as they were, as far as they were copied."""
        for kept in (*self._small, *self._large):
            if kept.attribute and kept.copy is not None and kept.tensor._version != kept.version:
                _resize_back(kept.tensor, kept.copy)
                kept.tensor.data.copy_(kept.copy)

    @torch.no_grad()
    def put_back(self) -> list[str]:
        """Write to what has changed; returns what is lost, because there was no copy of it."""
        if self._small:
            for kept in self._small:
                _resize_back(kept.tensor, kept.copy)
            # Through `.data`: a graph that has saved the buffer stays valid, since nothing has changed for it.
            torch._foreach_copy_([kept.tensor.data for kept in self._small], [kept.copy for kept in self._small])  # type: ignore[misc]
        lost = []
        for tensor, version, data, copy, name, _ in self._large:
            if data is None or not put_back(tensor, version, data, copy, training=self._training):
                continue
            lost.append(f"`{name}` {tuple(tensor.shape)}")
        return lost


def put_back(tensor: Tensor, version: int, data: Tensor, copy: Tensor | None, *, training: bool) -> bool:
    """Give a tensor its memory back, and this its content, and note whether it is written to; returns: is it lost?

    Args:
        tensor: The tensor, which has changed in version or place, or of which there is a copy.
        version: Its version before.
        data: Its memory before, held since.
        copy: A copy of it; None: there is none.
        training: Did forwards run in training mode?
    """
    replaced = tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape
    if replaced:
        tensor.data = data
    changed = replaced or tensor._version != version or (copy is not None and not _same(data, copy))
    # Where the memory is another, nothing tells that the former was written to as well.
    lost = changed and copy is None and not replaced
    _seen[training][tensor] = changed
    if lost:
        _seen[not training][tensor] = True
    elif changed and copy is not None:
        data.copy_(copy)
    return lost


def writes(tensor: Tensor, *, training: bool) -> bool | None:
    """Does a forward write to this tensor, as far as attacks have seen? None: it has not been met."""
    written: bool | None = _seen[training].get(tensor)
    return written


def tell(lost: list[str]) -> None:
    """Warn of tensors that are not what they were."""
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    warnings.warn(
        f"The forward wrote to {', '.join(lost[:3])}{more} while an attack ran. It is large, and nothing told before "
        "that forwards write to it, so no copy was kept: it is not what it was. From now on it is copied.",
        stacklevel=2,
    )


def size(tensor: Tensor) -> int:
    """Bytes."""
    return tensor.numel() * tensor.element_size()


def clone(tensor: Tensor) -> Tensor:
    """A copy without a graph; of what has none by the shorter way, which nearly all tensors go."""
    return tensor.detach().clone() if tensor.requires_grad else tensor.clone()


def writable(tensor: Tensor) -> bool:
    """Can a copy be written back? Not where several entries share one place, as in an expanded tensor."""
    if tensor.layout != torch.strided or tensor.is_meta:
        return False
    if tensor.is_contiguous():
        return True
    return not any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))


def _same(tensor: Tensor, copy: Tensor) -> bool:
    """Are two tensors of one shape the same bits, NaN included?"""
    if torch.equal(tensor, copy):
        return True
    if tensor.is_quantized:
        return False
    return torch.equal(tensor.reshape(-1).view(torch.uint8), copy.reshape(-1).view(torch.uint8))


def _resize_back(tensor: Tensor, copy: Tensor | None) -> None:
    """Give a tensor that a forward has resized in place, as observers do in their first one, its size back."""
    if copy is not None and tensor.shape != copy.shape:
        tensor.data = torch.empty_like(copy)
