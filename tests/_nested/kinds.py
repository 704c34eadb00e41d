"""One list of all kinds of batches, that feeds every test: each makes a batch of x, y and a mask."""

import collections
import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

N = 5


def content(n=N):
    """x (n, 3), y (n,), a mask like x."""
    return torch.arange(3.0 * n).reshape(n, 3) / 64, torch.arange(n) % 2, torch.ones(n, 3)


class Triple(NamedTuple):
    x: Any
    y: Any
    mask: Any


class TripleWithNotes(collections.namedtuple("TripleWithNotes", "x y mask")):
    """With a constructor of its own, and a `__dict__`."""

    def __new__(cls, both, mask):
        new = super().__new__(cls, *both, mask)
        new.note = "kept"
        return new


@dataclass
class Data:
    x: Any
    y: Any
    mask: Any


@dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any
    mask: Any


class SlotsByHand:
    __slots__ = ("__weakref__", "mask", "x", "y")

    def __init__(self, x, y, mask):
        self.x, self.y, self.mask = x, y, mask


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    x: Any
    y: Any
    mask: Any


class Plain:
    def __init__(self, x, y, mask):
        self.x, self.y, self.mask = x, y, mask

    def to(self, *args):
        return self


class AttrDict(dict):
    """The recipe of many answers: the dictionary is its own `__dict__`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class AttrDictByItem(dict):
    """As fastcore has it."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self[name] = value


class EasyDict(dict):
    """Two stores, both written by both ways; dictionaries and lists are converted on the way in."""

    def __init__(self, **entries):
        for name, value in entries.items():
            setattr(self, name, value)

    def __setattr__(self, name, value):
        if isinstance(value, list | tuple):
            value = [type(self)(**entry) if isinstance(entry, dict) else entry for entry in value]
        elif isinstance(value, dict) and not isinstance(value, EasyDict):
            value = EasyDict(**value)
        super().__setattr__(name, value)
        super().__setitem__(name, value)

    __setitem__ = __setattr__


class Answers(dict):
    """As addict has it: it answers to any name."""

    def __getattr__(self, name):
        return self[name]

    def __missing__(self, name):
        return Answers()


class DotDict(dict):
    """The shortest recipe."""

    __getattr__ = dict.get
    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__


class DotDictWithKeyErrors(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class StaleDict(dict):
    """Attributes are set once, from the items, as torchio's Subject has it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__.update(self)


class Encoding(collections.UserDict):
    """As tokenizers return it: keys are attributes, and there is more than the data."""

    def __init__(self, data, kind="images"):
        super().__init__(data)
        self.kind = kind

    def __getattr__(self, name):
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


class ModelOutput(collections.OrderedDict):
    """As transformers has it: items and attributes keep each other up to date, by a reduction of its own."""

    def __init__(self, x=None, y=None, mask=None):
        super().__init__()
        for name, value in {"x": x, "y": y, "mask": mask}.items():
            self[name] = value

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __setattr__(self, name, value):
        if name in self.keys() and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self):
        return type(self), tuple(self.values())


class ReadOnly(Mapping):
    def __init__(self, entries):
        self._entries = dict(entries)

    def __getitem__(self, name):
        return self._entries[name]

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)


class Store:
    """Items and attributes from an inner store, which `copy.copy` shares."""

    def __init__(self, **entries):
        self.__dict__["_store"] = entries

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.__dict__["_store"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        self._store[name] = value

    def __getitem__(self, name):
        return self._store[name]

    def __setitem__(self, name, value):
        self._store[name] = value


class Proxy:
    """It answers to any name, also where `copy.copy` asks for one before there is anything in it."""

    def __init__(self, **entries):
        self.inner = entries

    def __getattr__(self, name):
        return self.inner[name]


class Properties:
    """x can be set, y and mask only be read."""

    def __init__(self, x, y, mask):
        self._x, self._y, self._more = x, y, {"mask": mask}

    @property
    def x(self):
        return self._x

    @x.setter
    def x(self, value):
        self._x = value

    @property
    def y(self):
        return self._y

    @property
    def mask(self):
        return self._more["mask"]


class Checked:
    """Setting an attribute converts it."""

    def __init__(self, x, y, mask):
        self.__dict__.update(x=x, y=y, mask=mask)

    def __setattr__(self, name, value):
        self.__dict__[name] = value.clone()


class Copying:
    """With a copy of its own, deeper than needed."""

    def __init__(self, x, y, mask):
        self.x, self.y, self.mask = x, y, mask

    def __copy__(self):
        return Copying(self.x.clone(), self.y.clone(), self.mask.clone())


def _attrs(**options):
    attrs = pytest.importorskip("attrs")
    return _once("attrs", tuple(options.items()), lambda: attrs.make_class("Attrs", ["x", "y", "mask"], **options))


def _pydantic(**config):
    pydantic = pytest.importorskip("pydantic")
    kinds = dict.fromkeys(("x", "y", "mask"), (torch.Tensor, ...))
    config = {"arbitrary_types_allowed": True, **config}
    if config.get("extra") == "allow":
        del kinds["mask"]
    return _once("pydantic", tuple(config.items()), lambda: pydantic.create_model("Model", __config__=config, **kinds))


def _tensorclass():
    tensordict = pytest.importorskip("tensordict")
    kind = type("TC", (), {"__annotations__": dict.fromkeys(("x", "y", "mask"), torch.Tensor), "__module__": __name__})
    return _once("tensorclass", (), lambda: tensordict.tensorclass(kind))


_classes: dict[Any, Any] = {}


def _once(library, options, make):
    if (library, options) not in _classes:
        _classes[library, options] = make()
    return _classes[library, options]


def _tensordict(x, y, mask):
    return pytest.importorskip("tensordict").TensorDict({"x": x, "y": y, "mask": mask}, batch_size=[len(x)])


def _tensordict_without_size(x, y, mask):
    return pytest.importorskip("tensordict").TensorDict({"x": x, "y": y, "mask": mask}, batch_size=[])


def _graph(x, y, mask):
    return pytest.importorskip("torch_geometric.data").Data(x=x, y=y, mask=mask)


def _by_name(make):
    return lambda x, y, mask: make(x=x, y=y, mask=mask)


BY_INDEX = {
    "tuple": lambda x, y, mask: (x, y, mask),
    "list": lambda x, y, mask: [x, y, mask],
    "deque": lambda x, y, mask: collections.deque([x, y, mask]),
    "UserList": lambda x, y, mask: collections.UserList([x, y, mask]),
    "named tuple by index": Triple,
}
ONLY_ITEMS = {
    "dict": _by_name(dict),
    "OrderedDict": _by_name(collections.OrderedDict),
    "defaultdict": _by_name(functools.partial(collections.defaultdict, list)),
    "UserDict": _by_name(collections.UserDict),
    "MappingProxyType": lambda x, y, mask: types.MappingProxyType({"x": x, "y": y, "mask": mask}),
    "read-only mapping": lambda x, y, mask: ReadOnly({"x": x, "y": y, "mask": mask}),
    "TensorDict": _tensordict,
    "TensorDict without a size": _tensordict_without_size,
}
ITEMS_AND_ATTRIBUTES = {
    "AttrDict": _by_name(AttrDict),
    "AttrDict by item": _by_name(AttrDictByItem),
    "EasyDict": _by_name(EasyDict),
    "answers to any name": _by_name(Answers),
    "DotDict": _by_name(DotDict),
    "DotDict with KeyErrors": _by_name(DotDictWithKeyErrors),
    "attributes set once": _by_name(StaleDict),
    "Encoding": lambda x, y, mask: Encoding({"x": x, "y": y, "mask": mask}),
    "ModelOutput": ModelOutput,
    "store": _by_name(Store),
    "graph": _graph,
}
ONLY_ATTRIBUTES = {
    "named tuple": Triple,
    "named tuple with a constructor": lambda x, y, mask: TripleWithNotes((x, y), mask),
    "dataclass": Data,
    "frozen dataclass": Frozen,
    "frozen dataclass with slots": FrozenSlots,
    "slots": SlotsByHand,
    "SimpleNamespace": _by_name(types.SimpleNamespace),
    "plain object": Plain,
    "properties": Properties,
    "proxy": _by_name(Proxy),
    "checked attributes": Checked,
    "object with a copy": Copying,
    "attrs": lambda x, y, mask: _attrs()(x, y, mask),
    "frozen attrs": lambda x, y, mask: _attrs(frozen=True, slots=False, eq=False)(x, y, mask),
    "frozen attrs with slots": lambda x, y, mask: _attrs(frozen=True, slots=True)(x, y, mask),
    "pydantic": lambda x, y, mask: _pydantic()(x=x, y=y, mask=mask),
    "frozen pydantic": lambda x, y, mask: _pydantic(frozen=True)(x=x, y=y, mask=mask),
    "pydantic that checks": lambda x, y, mask: _pydantic(validate_assignment=True)(x=x, y=y, mask=mask),
    "pydantic with more": lambda x, y, mask: _pydantic(extra="allow")(x=x, y=y, mask=mask),
    "tensorclass": lambda x, y, mask: _tensorclass()(x=x, y=y, mask=mask, batch_size=[len(x)]),
}
KINDS = {**BY_INDEX, **ONLY_ITEMS, **ITEMS_AND_ATTRIBUTES, **ONLY_ATTRIBUTES}


def fields(kind):
    """The fields of x, y and mask in a batch of this kind."""
    return (0, 1, 2) if kind in BY_INDEX else ("x", "y", "mask")


def views(kind, batch, field):
    """The content of a field in every way in which a step could read it."""
    if kind in BY_INDEX:
        return [batch[field]]
    contents = [batch[field]] if kind in ONLY_ITEMS or kind in ITEMS_AND_ATTRIBUTES else []
    return contents + ([getattr(batch, field)] if kind not in ONLY_ITEMS else [])
