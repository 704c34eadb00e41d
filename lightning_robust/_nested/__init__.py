"""Nested batches as users have them: read a field, copy with another field, cut to some samples.

A batch is any nesting of tuples, lists, dictionaries and other mappings, named tuples, dataclasses, attrs and pydantic
models, `SimpleNamespace`, plain objects, TensorDicts and graphs of PyG around tensors. The user's batch is never
written to, at any depth.

Why not a library: of the 44 kinds of batches in `tests/_nested/kinds.py`, `lightning_utilities.apply_to_collection`
copies 23 with other tensors, `torch.utils._pytree` 11. Both leave plain objects, slots, attrs and pydantic models and
graphs as they are, and the first does not set the fields of frozen dataclasses. Neither copies with one field changed.

    containers.py   what a container holds, and how a part of it is read
    copies.py       a copy of a container with other parts, verified
    fields.py       `get`, `find`, `put`: where something is in a batch
    samples.py      `take`: the batch of some of its samples
    tensors.py      `leaves`, `ordinary`, `plain`: all tensors of a batch
"""

from lightning_robust._nested.fields import Field, MissingFieldError, as_field, find, get, put
from lightning_robust._nested.samples import cut, take
from lightning_robust._nested.tensors import leaves, ordinary, plain

__all__ = ["Field", "MissingFieldError", "as_field", "cut", "find", "get", "leaves", "ordinary", "plain", "put", "take"]
