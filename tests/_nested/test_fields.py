import contextlib
from collections import UserDict, defaultdict
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_robust._nested import MissingFieldError, as_field, find, get, put
from tests._nested.kinds import (
    BY_INDEX,
    KINDS,
    ONLY_ITEMS,
    Answers,
    AttrDict,
    Data,
    EasyDict,
    Plain,
    Proxy,
    StaleDict,
    Store,
    Triple,
    TripleWithNotes,
    content,
    fields,
    views,
)


@pytest.mark.parametrize("kind", KINDS)
def test_put_is_seen_in_every_view_and_the_batch_keeps_its_own(kind):
    """The laws: what was put is what is there, the rest is what it was, and the batch is what it was."""
    batch = KINDS[kind](*content())
    for field, value in zip(fields(kind), content(), strict=True):
        assert torch.equal(get(batch, field, "input"), value)
        assert get(batch, field, "input") is find(batch, field)
    old = [views(kind, batch, field) for field in fields(kind)]
    value = torch.full((5, 3), 7.0)
    for at in range(3):
        new = put(batch, fields(kind)[at], value)
        assert type(new) is type(batch)
        assert new is not batch
        assert get(new, fields(kind)[at], "input") is value
        for i, field in enumerate(fields(kind)):
            seen = views(kind, new, field)
            assert all(view is value if i == at else torch.equal(view, content()[i]) for view in seen), (at, i)
            if i != at and kind != "object with a copy":
                assert seen[0] is old[i][0], (at, i)
            assert all(a is b for a, b in zip(views(kind, batch, field), old[i], strict=True)), (at, i)
            assert torch.equal(old[i][0], content()[i]), (at, i)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_used_on_as_the_batch_would_be(kind):
    """It can be copied again, and a step that writes to it sees what it would see had it written to the batch."""
    x, _, mask = fields(kind)
    zeros = torch.zeros(5, 3)
    again = put(put(KINDS[kind](*content()), x, zeros), mask, zeros)
    assert not any(view.any() for field in (x, mask) for view in views(kind, again, field))
    own = KINDS[kind](zeros, *content()[1:])
    for batch in (again, own):
        with contextlib.suppress(TypeError, AttributeError, ValueError):  # some are frozen
            if kind in BY_INDEX or kind in ONLY_ITEMS:
                batch[x] = torch.ones(5, 3)
            else:
                batch.x = torch.ones(5, 3)
    shown, wanted = ([view.sum() for view in views(kind, batch, x)] for batch in (again, own))
    assert shown == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_put_within(kind):
    value = torch.zeros(5, 3)
    for outer in ("list", "named tuple", "AttrDict", "frozen dataclass", "store"):
        inner = KINDS[kind](*content())
        batch = KINDS[outer](inner, *content()[1:])
        path = (fields(outer)[0], fields(kind)[0])
        new = put(batch, path, value)
        assert get(new, path, "input") is value, outer
        assert all(get(view, path[1:], "input") is value for view in views(outer, new, path[0])), outer
        assert torch.equal(get(batch, path, "input"), content()[0]), outer
        assert views(outer, batch, path[0])[0] is inner, outer
        assert torch.equal(get(new, (path[0], fields(kind)[1]), "target"), content()[1]), outer


def test_the_batch_itself():
    x = torch.ones(2)
    assert get(x, (), "input") is x
    assert put(x, (), 2 * x).sum() == 4
    assert find(None, ()) is None


def test_indices_from_the_end_and_names_and_indices_of_named_tuples():
    batch = Triple(*content())
    assert get(batch, -1, "input") is batch.mask
    assert put(batch, -1, 3).mask == 3
    assert put(batch, 0, 3).x == 3
    assert put([1, 2], -2, 3) == [3, 2]
    result = torch.rand(2, 3).max(1)
    assert get(put(result, "values", 5), 0, "input") == 5


def test_attribute_dictionaries_stay_linked():
    """A step that normalizes b.x reads b["x"] later."""
    new = put(AttrDict(x=1, y=2), "x", 3)
    new.x = 4
    new["y"] = 5
    assert (new["x"], new.y) == (4, 5)


def test_copies_share_what_is_not_replaced():
    """But a store that is written to: in the copy it is another."""
    batch = SimpleNamespace(x=1, notes=["kept"], inner={"a": 1})
    new = put(batch, "x", 2)
    assert new.notes is batch.notes
    assert new.inner is batch.inner
    batch = Store(x=torch.ones(2), y=3)
    put(batch, "x", torch.zeros(2)).y = 4
    assert batch.y == 3
    assert batch.x.all()


def test_results_kept_of_the_old_content_are_not_kept():
    class Lazy(Plain):
        @cached_property
        def normalized(self):
            return self.x - 1

    batch = Lazy(*content())
    assert torch.equal(batch.normalized, batch.x - 1)
    new = put(batch, "x", torch.zeros(5, 3))
    assert torch.equal(new.normalized, -torch.ones(5, 3))
    assert "normalized" in vars(batch)
    assert put(batch, "normalized", 3).normalized == 3


def test_reading_and_copying_make_no_entries():
    batch = defaultdict(list, x=1)
    with pytest.raises(MissingFieldError):
        get(batch, "y", "input")
    with pytest.raises(MissingFieldError):
        put(batch, "y", 1)
    assert list(batch) == ["x"]


def test_classes_that_answer_to_any_name():
    for batch in (Answers(x=1), Proxy(x=1)):
        with pytest.raises(MissingFieldError, match="'z'"):
            get(batch, "z", "input")

    class Items(Store):
        def __getattr__(self, name):
            raise KeyError(name)

    assert put(Items(x=1), "x", 2)["x"] == 2


def test_keys_that_are_names_of_methods():
    batch = {"items": 1, "copy": 2}
    assert get(batch, "items", "input") == 1
    assert put(batch, "copy", 3) == {"items": 1, "copy": 3}
    with pytest.raises(MissingFieldError):
        get(batch, "values", "input")
    with pytest.raises(MissingFieldError):
        get(Plain(1, 2, 3), "to", "input")


def test_a_number_is_no_field_of_what_is_indexed_by_sample():
    tensordict = pytest.importorskip("tensordict")
    graphs = pytest.importorskip("torch_geometric.data")
    batch = graphs.Batch.from_data_list([graphs.Data(x=torch.ones(2, 1))] * 2)
    for samples in (batch, tensordict.TensorDict({"x": torch.ones(2)}, batch_size=[2]), torch.ones(2)):
        with pytest.raises(MissingFieldError, match="field 0"):
            get(samples, 0, "input")


def test_batches_of_graphs():
    graphs = pytest.importorskip("torch_geometric.data")
    one = graphs.Data(x=torch.ones(2, 3), y=torch.tensor([1]), edge_index=torch.tensor([[0], [1]]))
    batch = graphs.Batch.from_data_list([one, one])
    new = put(batch, "x", torch.zeros(4, 3))
    assert new.num_graphs == 2
    assert not new.x.any()
    assert not new["x"].any()
    assert batch.x.all()
    assert torch.equal(new.to_data_list()[1].x, torch.zeros(2, 3))
    hetero = graphs.HeteroData()
    hetero["paper"].x = torch.ones(2, 3)
    new = put(hetero, ("paper", "x"), torch.zeros(2, 3))
    assert not new["paper"].x.any()
    assert hetero["paper"].x.all()


class Stubborn:
    """It shares its store with all copies, and hides it."""

    def __init__(self, x):
        store = {"x": x}
        object.__setattr__(self, "read", lambda: store["x"])
        object.__setattr__(self, "write", lambda value: store.update(x=value))

    x = property(lambda self: self.read(), lambda self, value: self.write(value))


class Derived:
    """x is computed."""

    def __init__(self, images):
        self.images = images

    @property
    def x(self):
        return self.images / 2


class TwoStores:
    """Items from one store, attributes from another, neither of which can be set."""

    def __init__(self, x):
        self._of = ({"x": x}, {"x": x})

    x = property(lambda self: self._of[0]["x"])

    def __getitem__(self, name):
        return self._of[1][name]


@pytest.mark.parametrize("make", [Stubborn, Derived, TwoStores])
def test_what_cannot_be_copied_is_refused_and_left_as_it_was(make):
    x = torch.ones(3)
    batch = make(x)
    before = batch.x
    with pytest.raises(TypeError) as caught:
        put(batch, "x", torch.zeros(3))
    for part in (f"another 'x', but a {type(batch).__name__}", "__copy__", "dict from the collate function"):
        assert part in str(caught.value)
    assert torch.equal(batch.x, before)
    if make is Stubborn:
        assert batch.x is x


def test_what_is_beside_the_fields_is_kept():
    batch = StaleDict(x=1)
    batch.note = "kept"
    new = put(batch, "x", 2)
    assert (new["x"], new.x, new.note) == (2, 2, "kept")
    batch = TripleWithNotes((1, 2), 3)
    assert put(batch, "x", 5).note == "kept"
    assert put(batch, "note", "new").note == "new"
    assert batch.note == "kept"
    batch = EasyDict(views=[{"image": 1}, {"image": 2}])  # it converts what it is given
    new = put(batch, ("views", 1, "image"), 3)
    assert new.views[1].image == new["views"][1]["image"] == 3
    assert batch.views[1].image == 2


def test_a_copy_may_leave_out_what_its_class_leaves_out():
    class Lean(Plain):
        def __copy__(self):
            return Lean(self.x, self.y, self.mask)

    batch = Lean(*content())
    batch.cache = {"x": batch.x}
    assert not hasattr(put(batch, "x", 3), "cache")


@pytest.mark.parametrize(
    "kind", ["tuple", "list", "dict", "named tuple", "AttrDict", "frozen dataclass", "plain object"]
)
def test_contents_are_not_compared(kind, monkeypatch):
    """It would wait for the GPU in every forward of an attack."""
    batch = KINDS[kind](*content())
    monkeypatch.setattr(torch, "equal", None)
    put(batch, fields(kind)[0], torch.zeros(5, 3))


def test_none_on_the_way():
    batch = {"labelled": None, "unlabelled": [1, None]}
    assert find(batch, ("labelled", 0)) is None
    assert find(batch, ("unlabelled", 1)) is None
    assert find(batch, ("unlabelled", 1, "x", 3)) is None
    assert find(batch, ("unlabelled", 0)) == 1
    for path, place in {("labelled", 0): "batch['labelled']", ("unlabelled", 1): "batch['unlabelled'][1]"}.items():
        with pytest.raises(MissingFieldError) as caught:
            get(batch, path, "input")
        assert f"{path!r} (argument `input`), but {place} is None. A loader that is over" in str(caught.value)
    with pytest.raises(MissingFieldError, match="is None"):
        put(batch, ("labelled", 0), 1)
    with pytest.raises(MissingFieldError, match=r"'labels', but the batch is"):
        find(batch, "labels")
    with pytest.raises(MissingFieldError, match=r"'labels' \(argument `target`\)"):
        find(batch, "labels", "target")


@pytest.mark.parametrize(
    ("batch", "field", "there", "advice"),
    [
        ((1, 2), 2, "the batch is a tuple of 2 entries", "such as input=0"),
        ([1], "x", "the batch is a list of 1 entries", "such as input=0"),
        ({"image": 1}, 0, "the batch is a dict with the keys ['image']", "such as input='image'"),
        ({"images": 1, "y": 2}, "image", "the batch is a dict with the keys ['images', 'y']", "Did you mean 'images'?"),
        (UserDict(a=1), 0, "the batch is a UserDict with the keys ['a']", "such as input='a'"),
        (Data(1, 2, 3), "pixels", "the batch is a Data with the fields ['x', 'y', 'mask']", "such as input='x'"),
        (Triple(1, 2, 3), "masks", "the batch is a Triple with the fields ['x', 'y', 'mask']", "mean 'mask'?"),
        (torch.ones(2, 3), 0, "the batch is a single tensor of shape (2, 3)", "write input=()"),
        ({"a": [torch.ones(2)]}, ("a", 0, "b"), "batch['a'][0] is a single tensor of shape (2,)", "input=('a', 0)"),
        ({"a": torch.ones(2)}, ("a", "data"), "batch['a'] is a single tensor of shape (2,)", "write input='a'"),
        ({"views": [1]}, ("views", 3), "batch['views'] is a list of 1 entries", "such as input=('views', 0)"),
        (3.5, "x", "the batch is a float", "input=<index, key, or path of these>."),
        ("text", 0, "the batch is a str", "input=<index, key, or path of these>."),
        (torch.nn.Linear(1, 1), "x", "the batch is a Linear", "input=<index, key, or path of these>."),
    ],
)
def test_what_is_not_there_is_said_with_what_is(batch, field, there, advice):
    with pytest.raises(KeyError) as caught:
        get(batch, field, "input")
    text = str(caught.value)
    assert text.startswith(f"Expected the batch to have the field {field!r} (argument `input`), but {there}. ")
    assert advice in text


@pytest.mark.parametrize("field", [0, -1, "x", ("a", 0), ("a", "b", "c"), ()])
def test_fields_stay_what_they_are(field):
    assert as_field("input", field) == field


def test_fields_of_yaml_and_numpy():
    assert as_field("input", ["image", np.int64(0)]) == ("image", 0)
    assert type(as_field("input", np.int32(3))) is int
    assert as_field("code", None) is as_field("target", None) is None


@pytest.mark.parametrize("field", [None, 1.0, True, np.True_, ("a", True), [["a"]], ("a", None), b"x", {"a"}])
def test_fields_that_cannot_be(field):
    with pytest.raises(TypeError) as caught:
        as_field("input", field)
    assert str(caught.value).startswith("Expected argument `input` to be an index, a key, or a path of these such as")
    assert str(caught.value).endswith(f"but got {field!r}.")
