from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from callbacks_fakes import MAKERS, Pair, Sample, fields, unpack
from torch.utils.data import default_collate

from lightning_robust.callbacks import _batch


def content():
    return torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("kind", MAKERS)
def test_get_finds_what_is_there(kind):
    x, y = content()
    batch = MAKERS[kind](x, y)
    assert _batch.get(batch, fields(kind)["input"], "input") is x
    assert _batch.get(batch, fields(kind)["target"], "target") is y


@pytest.mark.parametrize("kind", MAKERS)
def test_put_makes_a_copy_that_differs_in_one_field(kind):
    x, y = content()
    batch = MAKERS[kind](x, y)
    new = _batch.put(batch, fields(kind)["input"], x + 1)
    assert type(new) is type(batch)
    assert new is not batch
    assert torch.equal(unpack(new)[0], x + 1)
    assert unpack(new)[1] is y  # shallow: the rest is the same object
    assert unpack(batch)[0] is x  # the user's batch is not written to
    assert torch.equal(x, content()[0])


@pytest.mark.parametrize("kind", MAKERS)
def test_take_cuts_the_samples(kind):
    x, y = content()
    batch = MAKERS[kind](x, y)
    part = _batch.take(batch, 4, slice(1, 3))
    assert type(part) is type(batch)
    assert torch.equal(unpack(part)[0], x[1:3])
    assert torch.equal(unpack(part)[1], y[1:3])
    assert unpack(batch)[0] is x


class Encoding(UserDict):
    """As tokenisers and feature extractors return: keys are attributes too, and there is more than the data."""

    def __init__(self, data, kind):
        super().__init__(data)
        self.kind = kind

    def __getattr__(self, name):
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


def test_mappings_of_other_libraries():
    x, y = content()
    batch = Encoding({"pixel_values": x, "labels": y}, "images")
    new = _batch.put(batch, "pixel_values", 2 * x)
    assert isinstance(new, Encoding)
    assert new.kind == "images"
    assert torch.equal(new["pixel_values"], 2 * x)
    assert batch["pixel_values"] is x
    part = _batch.take(batch, 4, slice(0, 1))
    assert part.kind == "images"
    assert len(part["pixel_values"]) == len(part["labels"]) == 1
    assert len(batch["labels"]) == 4


@pytest.mark.parametrize("make", [OrderedDict, lambda d: defaultdict(list, d)])
def test_subclasses_of_dict_stay_what_they_are(make):
    x, y = content()
    batch = make({"x": x, "y": y})
    for new in (_batch.put(batch, "x", x + 1), _batch.take(batch, 4, slice(2))):
        assert type(new) is type(batch)
        assert list(new) == ["x", "y"]
    assert batch["x"] is x


def test_namedtuples_by_name_and_by_index_and_negative_indices():
    x, y = content()
    batch = Pair(x, y)
    assert _batch.get(batch, 0, "input") is x
    assert _batch.get(batch, "image", "input") is x
    assert _batch.put(batch, 0, y).image is y
    assert _batch.put(batch, "label", x).label is x
    assert _batch.get((x, y), -1, "target") is y
    assert _batch.put((x, y), -1, x) == (x, x)


def test_dataclasses_keep_what_is_no_argument_of_theirs():
    from dataclasses import field

    @dataclass
    class Rich:
        x: torch.Tensor
        extra: list = field(init=False, default_factory=list)

    batch = Rich(content()[0])
    batch.extra = ["kept"]
    assert _batch.put(batch, "x", 1).extra == ["kept"]
    assert _batch.take(batch, 4, slice(1)).extra == ["kept"]


def test_objects_with_attributes():
    """Graph libraries and others: any object that `copy.copy` copies."""

    class Thing:
        def __init__(self, x):
            self.x = x

    x, _ = content()
    thing = Thing(x)
    assert _batch.get(thing, "x", "input") is x
    assert _batch.put(thing, "x", 3).x == 3
    assert thing.x is x


def test_take_leaves_what_is_not_per_sample():
    x, y = content()
    weights, scalar = torch.ones(3), torch.tensor(1.0)
    batch = {"x": x, "y": y, "weights": weights, "scalar": scalar, "name": "a", "number": 4, "none": None}
    part = _batch.take(batch, 4, slice(2))
    assert part["weights"] is weights
    assert part["scalar"] is scalar
    assert (part["name"], part["number"], part["none"]) == ("a", 4, None)
    assert _batch.take(None, 4, slice(2)) is None


def test_take_cuts_collated_strings():
    """`default_collate` leaves the strings of the samples a tuple, or a list within a dict."""
    x, y = content()
    samples = [(x[i], y[i], f"file{i}") for i in range(4)]
    part = _batch.take(default_collate(samples), 4, slice(1, 3))
    assert list(part[2]) == ["file1", "file2"]
    batch = default_collate([{"x": x, "file": f} for x, _, f in samples])
    assert list(_batch.take(batch, 4, slice(1, 3))["file"]) == ["file1", "file2"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_take_tells_a_batch_from_a_list_of_samples(n):
    """Also where a batch happens to have as many samples as entries."""
    x, y = content()
    x, y = x[:n], y[:n]
    for batch in ([x, y], [x, y, [f"file{i}" for i in range(n)]], [{"x": x}, {"y": y}], [[x], [y]], ((x,), (y,))):
        part = _batch.take(batch, n, slice(0, 1))
        assert type(part) is type(batch)
        assert len(part) == len(batch)
        first = part[0] if isinstance(part[0], torch.Tensor) else next(iter(_entries(part[0])))
        assert torch.equal(first, x[:1])
    part = _batch.take([x, y, [f"file{i}" for i in range(n)]], n, slice(0, 1))
    assert part[2] == ["file0"]


def _entries(container):
    return container.values() if isinstance(container, dict) else container


def test_take_and_namedtuples_inside():
    x, y = content()
    part = _batch.take({"views": Pair(x, x), "y": y}, 4, slice(3, 4))
    assert isinstance(part["views"], Pair)
    assert len(part["views"].image) == len(part["views"].label) == 1


class Three(NamedTuple):
    a: int
    b: int
    c: int


@pytest.mark.parametrize(
    ("batch", "field", "described"),
    [
        ((1, 2), 2, "a tuple of 2 entries"),
        ([1], "x", "a list of 1 entries"),
        ({"a": 1}, "b", "a dict with the keys ['a']"),
        (UserDict(a=1), 0, "a UserDict with the keys ['a']"),
        (Sample(1, 2), "pixels", "a Sample with the fields ['image', 'label']"),
        (Sample(1, 2), 0, "a Sample with the fields ['image', 'label']"),
        (torch.ones(2), 0, "a single tensor"),
        ({"views": [1]}, ("views", 3), "a dict with the keys ['views']"),
        (3.5, "x", "a float"),
        (None, 0, "a NoneType"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(batch, field, described):
    with pytest.raises(KeyError) as caught:
        _batch.get(batch, field, "input")
    (text,) = caught.value.args
    for part in (f"field {field!r}", "`input`", described, "input=<index or key>"):
        assert part in text


@pytest.mark.parametrize("field", [0, -1, "x", ("a", 0), ("a", "b", "c")])
def test_fields_that_can_be(field):
    _batch.check_fields(input=field)


@pytest.mark.parametrize("field", [None, 1.0, True, ("a", True), (), [0], ("a", None), b"x"])
def test_fields_that_cannot_be(field):
    with pytest.raises(TypeError) as caught:
        _batch.check_fields(input=field)
    assert str(caught.value) == (
        f"Expected argument `input` to be an index, a key, or a path of these, but got {field!r}."
    )
