from collections import deque
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import default_collate

from lightning_robust._nested import get, take
from lightning_robust._nested.samples import samples
from tests._nested.kinds import KINDS, Plain, Triple, content, fields, views

ROWS = {
    "first": slice(0, 2),
    "steps": slice(None, None, 2),
    "numbers": torch.tensor([4, 0, 0]),
    "mask": torch.tensor([True, False, False, True, True]),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "graph"])
def test_take_then_get_is_get_then_take(kind):
    batch = KINDS[kind](*content())
    old = [views(kind, batch, field) for field in fields(kind)]
    for name, rows in ROWS.items():
        part = take(batch, 5, rows, known=fields(kind)[:2])
        assert type(part) is type(batch)
        for i, field in enumerate(fields(kind)):
            for view in views(kind, part, field):
                assert torch.equal(view, content()[i][rows]), (name, field)
            assert all(a is b for a, b in zip(views(kind, batch, field), old[i], strict=True)), (name, field)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "graph"])
def test_named_fields_are_cut_and_nothing_else(kind):
    batch = {"all": KINDS[kind](*content()), "more": torch.rand(5, 2), "y": torch.arange(5), "files": list("abcde")}
    x, y, mask = (("all", field) for field in fields(kind))
    as_a_whole = kind in ("TensorDict", "tensorclass")  # it says itself that it is of five samples
    part = take(batch, 5, slice(2), per_sample=(y,), known=(x,))
    assert torch.equal(get(part, x, "input"), content()[0][:2])
    assert torch.equal(get(part, y, "target"), content()[1][:2])
    assert len(get(part, mask, "input")) == (2 if as_a_whole else 5)
    assert part["more"] is batch["more"]
    assert part["files"] is batch["files"]
    part = take(batch, 5, slice(2), per_sample=("all",), known=("y",))
    assert [len(get(part, field, "input")) for field in (x, y, mask)] == [2, 2, 2]
    assert part["more"] is batch["more"]
    assert len(batch["y"]) == 5


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10])
def test_plain_batches_are_never_refused(n):
    """Whatever the number of samples, also where it is that of classes, entries or features."""
    x, y, code = torch.rand(n, 3, 4, 4), torch.arange(n) % 2, torch.rand(n, 7)
    soft, index, files = torch.rand(n, 10), torch.arange(n), [f"{i}.png" for i in range(n)]
    batches = [
        ((x, y), (0, 1)),
        ([x, y], (0, 1)),
        ((x, soft), (0, 1)),
        ((x, y.float()), (0, 1)),
        ((x, y, code), (0, 1)),
        ((x, y, code), (0, 1, 2)),
        ((x, y, index), (0, 1)),
        ((x, y, (code, index)), (0, 1, 2)),
        ([x, y, [code, index]], (0, 1)),
        ({"image": x, "label": y, "file": files, "index": index}, ("image", "label")),
        (
            {"image": x, "label": y, "file": tuple(files), "size": (4, 4, 3, 2, 1), "note": "a", "of": 7},
            ("image", "label"),
        ),
        (([x, x + 1], y), ((0, 0), 1)),
        ([[x], [y]], ((0, 0), (1, 0))),
        ([{"x": x}, {"y": y}], ((0, "x"), (1, "y"))),
        ({"tokens": index[:, None].expand(n, 7), "attention": torch.ones(n, 7), "label": y}, ("tokens", "label")),
        ({"image": x, "mask": torch.rand(n, 4, 4), "view": x.clone(), "label": y}, ("image", "label")),
        ({"image": x, "label": y, "none": None, "scale": torch.tensor(2.0)}, ("image", "label")),
        ({"image": x, "label": None}, ("image", "label")),
        (x, ((),)),
    ]
    for batch, known in batches:
        if isinstance(batch, dict) and n == len(batch.get("size", ())):
            continue
        part = take(batch, n, slice(0, n - 1), known=known)
        rows = [len(t) for t in _tensors(part) if t.ndim]
        assert rows == [n - 1] * len(rows)
        assert type(part) is type(batch)
        if isinstance(batch, dict) and "file" in batch:
            assert list(part["file"]) == files[:-1]


def _tensors(batch):
    if isinstance(batch, torch.Tensor):
        return [batch]
    entries = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else ()
    return [t for entry in entries for t in _tensors(entry)]


def test_all_rows_are_the_batch_itself_and_never_in_doubt():
    batch = {"x": torch.rand(3, 2), "weights": torch.rand(3)}
    for rows in (slice(None), slice(0, 9), torch.arange(3), torch.ones(3, dtype=torch.bool)):
        assert take(batch, 3, rows, known=("x",)) is batch
    assert take(None, 3, slice(1), known=((),)) is None


X, Y = torch.rand(4, 3, 8, 8), torch.arange(4)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("weights", torch.rand(4), "of shape (4,): it could be a weight for each class"),
        ("weights", torch.rand(4, 1), "of shape (4, 1): it could be a weight for each class"),
        ("weights", np.ones(4), "of shape (4,): it could be a weight for each class"),
        ("pairs", torch.rand(4, 4), "of shape (4, 4): it could be of all pairs"),
        ("pairs", torch.ones(4, 4).bool(), "of shape (4, 4): it could be of all pairs"),
        ("levels", [torch.rand(4, 2)] * 4, "a list of 4 entries with tensors: they could be samples, views or levels"),
        ("levels", [torch.rand(2, 2)] * 4, "a list of 4 entries with tensors"),
        ("boxes", [{"boxes": torch.rand(i, 4)} for i in range(4)], "a list of 4 entries with tensors"),
        ("size", (4, 8, 8, 3), "a list of 4 numbers: it could be a size"),
        ("captions", [("a", "b", "c", "d")] * 4, "4 lists of 4 entries: either could be the samples"),
    ],
)
def test_what_may_or_may_not_be_per_sample_is_refused(name, value, why):
    batch = {"x": X, "y": Y, "more": {name: value}}
    with pytest.raises(ValueError, match="Expected to see which fields are per sample") as caught:
        take(batch, 4, slice(2), known=("x", "y"))
    assert f"batch['more'][{name!r}] is {why}" in str(caught.value)
    assert f"per_sample=(('more', {name!r}),) if it is one" in str(caught.value)
    # The remedies are remedies.
    assert take(batch, 4, slice(2), per_sample=(), known=("x", "y"))["more"] is batch["more"]
    if "levels" not in name or len(value[0]) != 4:
        part = take(batch, 4, slice(2), per_sample=(("more", name),), known=("x", "y"))["more"][name]
        assert len(part) == 2
        assert type(part) is type(value)


def test_where_not_all_is_per_sample_likeness_is_needed():
    mean = {"x": X, "y": Y, "mean": torch.rand(3, 1, 1), "mask": torch.rand(4, 8, 8)}
    part = take(mean, 4, slice(2), known=("x", "y"))
    assert part["mean"] is mean["mean"]
    assert len(part["mask"]) == 2
    with pytest.raises(ValueError, match=r"batch\['mean'\] has another number of rows"):
        take({**mean, "index": torch.arange(4)}, 4, slice(2), known=("x", "y"))


def test_no_other_number_of_samples_changes_what_is_cut():
    """Fields found in a first batch, or named, are cut in all, whatever has as many rows as the last has samples."""

    def batch(n):
        return {
            "x": torch.rand(n, 3, 8, 8),
            "y": torch.arange(n) % 2,
            "view": torch.rand(n, 3, 8, 8),
            "mean": torch.rand(3),
        }

    fields = samples(batch(8), 8, ("x", "y"))
    assert fields == (("view",),)
    for n in (2, 3, 8):
        part = take(batch(n), n, slice(1), fields, ("x", "y"))
        assert [len(value) for value in part.values()] == [1, 1, 1, 3]
    with pytest.raises(ValueError, match="weight for each class"):
        samples(batch(3), 3, ("x", "y"))


def test_two_names_of_one_tensor():
    batch = {"x": X[:, 0, 0, 0], "same": None, "y": Y}
    batch["same"] = batch["x"]  # a vector of floats, but it is the known one
    part = take(batch, 4, slice(2), known=("x", "y"))
    assert part["same"] is part["x"]


def test_a_longer_path_says_what_of_a_shorter_one_is_meant():
    codes = (torch.rand(2, 6), torch.rand(2, 6))
    batch = (X[:2], Y[:2], codes)
    with pytest.raises(ValueError, match=r"of batch\[2\] is a sample, but it is a list of 2 entries of 2 rows each"):
        take(batch, 2, slice(1), known=(0, 1, 2))
    part = take(batch, 2, slice(1), per_sample=((2, 0), (2, 1)), known=(0, 1, 2))
    assert [len(code) for code in part[2]] == [1, 1]


@pytest.mark.parametrize("n", [2, 3])
def test_codes_of_several_tensors(n):
    """As on-manifold attacks have them: (z, what stays fixed)."""
    for code in ((torch.rand(n, 6), torch.rand(n)), [torch.rand(n, 6), torch.arange(n)], Triple(*content(n))):
        part = take(code, n, slice(1, None), known=((),))
        assert type(part) is type(code)
        assert [len(entry) for entry in part] == [n - 1] * len(code)
        assert torch.equal(part[0], code[0][1:])
    assert len(take([torch.rand(3, 2), torch.rand(3), None], 3, slice(2), known=((),))[0]) == 2


def test_a_code_is_not_taken_for_a_list_of_samples():
    """Where it has as many tensors as there are samples, of which one is not per sample."""
    for n in (2, 3):
        with pytest.raises(ValueError, match=rf"Expected batch\[1\] to be of {n} samples, but got shape \(5,\)"):
            take((torch.rand(n, 6), torch.rand(5)), n, slice(1), known=((),))


def test_lists_of_samples_that_are_named():
    targets = [{"boxes": torch.rand(i + 1, 4)} for i in range(4)]
    batch = {"x": X, "targets": targets}
    part = take(batch, 4, torch.tensor([3, 1]), known=("x", "targets"))
    assert [len(target["boxes"]) for target in part["targets"]] == [4, 2]
    assert isinstance(take({"x": X, "t": deque("abcd")}, 4, slice(2), known=("x",))["t"], deque)
    assert take({"x": X, "t": np.array(list("abcd"))}, 4, slice(2), known=("x",))["t"].tolist() == ["a", "b"]


def test_collated_strings():
    rows = [(X[i], Y[i], f"file{i}") for i in range(4)]
    assert list(take(default_collate(rows), 4, slice(1, 3), known=(0, 1))[2]) == ["file1", "file2"]
    rows = [{"x": X[i], "y": Y[i], "meta": {"file": f"file{i}", "tags": ("a", str(i))}} for i in range(4)]
    part = take(default_collate(rows), 4, slice(1, 3), known=("x", "y"))
    assert list(part["meta"]["file"]) == ["file1", "file2"]
    assert [list(tags) for tags in part["meta"]["tags"]] == [["a", "a"], ["1", "2"]]


def test_none_and_missing_fields():
    part = take({"x": X, "code": None, "more": None}, 4, slice(2), per_sample=(("more", 0),), known=("x", "code"))
    assert part["code"] is part["more"] is None
    with pytest.raises(KeyError, match=r"to have the field 'masks'.* Did you mean 'mask'"):
        take({"x": X, "mask": X}, 4, slice(2), per_sample=("masks",), known=("x",))


def test_what_is_named_must_be_of_that_many_samples():
    for value in (torch.rand(3, 2), torch.tensor(1.0), {"inner": torch.rand(7)}, np.ones(3)):
        with pytest.raises(ValueError, match=r"Expected batch\['w'\].* to be of 4 samples, but got shape"):
            take({"x": X, "w": value}, 4, slice(2), per_sample=("w",), known=("x",))


def test_what_cannot_be_cut():
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    with pytest.raises(ValueError, match=r"PackedSequence.*pack them in the model"):
        take({"x": X[:2], "words": packed}, 2, slice(1), known=("x",))
    assert take({"x": X[:2], "words": packed}, 2, slice(1), (), ("x",))["words"] is packed
    with pytest.raises(ValueError, match=r"dense tensor.*batch\['x'\] is torch.sparse_coo"):
        take({"x": torch.eye(4).to_sparse()}, 4, slice(2), known=("x",))


def test_graphs_are_not_cut():
    graphs = pytest.importorskip("torch_geometric.data")
    batch = graphs.Batch.from_data_list([graphs.Data(x=torch.ones(2, 3), y=torch.tensor([0]))] * 4)
    for known in (("y",), ()):
        with pytest.raises(ValueError, match=r"a DataBatch of graphs, whose nodes are not samples. Use whole batches"):
            take(batch, 4, slice(2), known=known)
    assert take({"x": X, "graph": batch}, 4, slice(2), (), ("x",))["graph"] is batch


def test_what_is_inside_objects_at_work_is_not_cut():
    trainer = SimpleNamespace(metric=torch.rand(4))
    trainer.loop = SimpleNamespace(trainer=trainer)
    array = SimpleNamespace(model=torch.nn.Linear(4, 4), data=torch.utils.data.TensorDataset(torch.rand(4)))
    batch = {"x": X, "trainer": trainer, "array": array}
    part = take(batch, 4, slice(2), known=("x",))
    assert part["trainer"] is trainer
    assert part["array"] is array


def test_results_kept_of_all_samples_are_not_kept():
    class Lazy(Plain):
        @cached_property
        def total(self):
            return self.x.sum()

    batch = Lazy(*content())
    batch.note, total = "kept", batch.total
    part = take(batch, 5, slice(1), known=("x", "y"))
    assert part.total != total
    assert part.note == "kept"


def test_neighbors_are_cut_without_a_copy():
    batch = {"x": X}
    assert take(batch, 4, slice(1, 3), known=("x",))["x"].data_ptr() == X[1].data_ptr()
    assert take(batch, 4, torch.tensor([1, 2]), known=("x",))["x"].data_ptr() == X[1].data_ptr()
