"""All tensors of a batch."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested.containers import contents, is_graph, loops, parts
from lightning_robust._nested.copies import rebuilt


def leaves(batch: Any) -> Iterator[Tensor]:
    """All tensors at any depth, each once. Modules and data sets within a batch are not looked into."""
    return contents(batch, Tensor)


def ordinary(batch: Any) -> Any:
    """The batch with a clone, which autograd may save, for every inference tensor. Call it outside inference mode.

    The same object comes back where there is no inference tensor. What leads back to itself is no data but an object at
    work, such as a Trainer, and stays as it is.
    """
    if not any(tensor.is_inference() for tensor in leaves(batch)):
        return batch
    return _mapped(batch, lambda t: t.clone() if t.is_inference() else t, loops(batch), {})


def _mapped(value: Any, change: Callable[[Tensor], Tensor], skip: set[int], done: dict[int, tuple[Any, Any]]) -> Any:
    """The same with other tensors; one object that is in two places is one again."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, Tensor):
        new = change(value)
    elif is_graph(value):
        new = copy.copy(value)
        new.apply(change)
    else:
        inner = parts(value) if id(value) not in skip else None
        mapped = [(part, entry, _mapped(entry, change, skip, done)) for part, entry in inner or ()]
        changes = {part: other for part, entry, other in mapped if other is not entry}
        new = rebuilt(value, changes) if changes else value
    done[id(value)] = (value, new)
    return new


def plain(tensor: Tensor) -> Tensor:
    """A tensor of a subclass, such as MONAI's MetaTensor, as a `torch.Tensor` of the same memory.

    What is counted and logged must not be of a class that a checkpoint cannot load. Subclasses without memory of their
    own, such as DTensor, stay what they are.
    """
    if type(tensor) is Tensor or type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)
