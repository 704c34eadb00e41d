from functools import cached_property
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from lightning_robust._nested import get, leaves, ordinary, plain
from tests._nested.kinds import KINDS, AttrDict, Encoding, Plain, Triple, content, fields, views


@pytest.mark.parametrize("kind", KINDS)
def test_inference_tensors_become_ordinary(kind):
    with torch.inference_mode():
        made = content()
        batch = {"inner": [KINDS[kind](*(t.clone() for t in made))], "name": "kept", "other": None}
    new = ordinary(batch)
    assert type(new["inner"][0]) is type(batch["inner"][0])
    assert new["name"] == "kept"
    w = torch.ones(5, 3, requires_grad=True)
    for field, value in zip(fields(kind), made, strict=True):
        for view in views(kind, new["inner"][0], field):
            assert not view.is_inference()
            assert torch.equal(view, value)
        assert get(batch, ("inner", 0, field), "input").is_inference()
    x = views(kind, new["inner"][0], fields(kind)[0])[-1]
    assert torch.equal(torch.autograd.grad((w * x).sum(), w)[0], x)
    assert sum(t.is_inference() for t in leaves(batch)) == 3
    assert sorted(t.numel() for t in leaves(new)) == [5, 15, 15]
    assert not any(t.is_inference() for t in leaves(new))
    assert ordinary(new) is new  # nothing to do


def test_only_what_must_be_is_copied():
    with torch.inference_mode():
        lazy = torch.ones(2)
    kept = torch.ones(3)
    inner = [kept]
    batch = {"a": lazy, "b": lazy, "inner": inner}
    new = ordinary(batch)
    assert new["a"] is new["b"]  # one tensor stays one
    assert new["inner"] is inner
    assert not ordinary(lazy).is_inference()
    assert ordinary(None) is None


def test_packed_sequences():
    with torch.inference_mode():
        packed = pack_sequence([torch.ones(3), torch.ones(2)])
    new = ordinary({"x": packed})["x"]
    assert type(new) is type(packed)
    assert not any(t.is_inference() for t in leaves(new))
    assert torch.equal(new.data, packed.data)


def test_what_a_property_has_kept():
    class Lazy(Plain):
        @cached_property
        def double(self):
            return 2 * self.x

    batch = Lazy(*content())
    with torch.inference_mode():
        kept = batch.double
    new = ordinary(batch)
    assert kept.is_inference()
    assert batch.double is kept
    assert not new.double.is_inference()
    assert new.x is batch.x


class Trainer:
    """An object at work: it leads back to itself, and holds a model and inference tensors."""

    def __init__(self):
        self.loop = SimpleNamespace(trainer=self, batches=[])
        self.model = nn.Linear(2, 2)
        with torch.inference_mode():
            self.metric = torch.ones(1)
        self.results = [self.metric]

    def __copy__(self):
        raise NotImplementedError


def test_objects_at_work_are_left_alone():
    trainer = Trainer()
    with torch.inference_mode():
        x = torch.ones(2)
    for batch in ({"x": x, "trainer": trainer}, AttrDict(x=x, trainer=trainer), Triple(trainer, x, [x])):
        trainer.loop.batches.append(batch)  # another loop
        trainer.loop.batches.clear()
        new = ordinary(batch)
        assert not get(new, "x" if isinstance(batch, dict) else 1, "input").is_inference()
        assert get(new, "trainer" if isinstance(batch, dict) else 0, "input") is trainer
    assert trainer.metric.is_inference()
    assert len(list(leaves(trainer))) == 1  # each once, and no parameters


def test_a_batch_that_holds_itself():
    with torch.inference_mode():
        x = torch.ones(2)
    batch = [x, {"y": torch.ones(1)}]
    batch.append(batch)
    assert len(list(leaves(batch))) == 2
    assert ordinary(batch) is batch


def test_modules_and_data_sets_are_not_looked_into():
    data = torch.utils.data.TensorDataset(torch.ones(3))
    batch = SimpleNamespace(model=nn.Linear(1, 1), data=data, loader=torch.utils.data.DataLoader(data), x=torch.ones(1))
    assert [t.shape for t in leaves(batch)] == [(1,)]


def test_only_records_of_data_are_looked_into():
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = torch.ones(1)

    class Images(torch.utils.data.Dataset):
        images = None

        def __init__(self):
            self.images = torch.ones(1)

    class Sparse:
        shape = (3, 3)

        def __init__(self):
            self.data = torch.ones(1)

    others = [Module(), Images(), Sparse(), torch.distributions.Normal(torch.zeros(1), torch.ones(1))]
    assert list(leaves([*others, Plain(*others[:3])])) == []


def test_each_tensor_once_and_those_beside_the_items():
    x = torch.ones(1)
    assert len(list(leaves([x, {"x": x}]))) == 1
    batch = Encoding({"x": x})
    with torch.inference_mode():
        batch.kind = torch.zeros(2)
    assert len(list(leaves(batch))) == 2
    new = ordinary(batch)
    assert not new.kind.is_inference()
    assert batch.kind.is_inference()


class Meta(torch.Tensor):
    """As MONAI's MetaTensor, which carries itself through every function."""

    def mean_of(self):
        return self.mean()


def test_plain():
    x = torch.ones(2)
    assert plain(x) is x
    meta = x.as_subclass(Meta)
    assert type(meta * 2) is Meta
    assert type(plain(meta)) is torch.Tensor
    assert plain(meta).data_ptr() == meta.data_ptr()
    assert type(plain(nn.Parameter(x))) is torch.Tensor
    w = torch.ones(2, requires_grad=True)
    assert torch.equal(torch.autograd.grad(plain(w.as_subclass(Meta)).sum(), w)[0], torch.ones(2))
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)
    assert plain(nested) is nested


def test_subclasses_stay_what_they_are_in_a_batch():
    with torch.inference_mode():
        meta = torch.ones(2).as_subclass(Meta)
    new = ordinary({"x": meta})["x"]
    assert type(new) is Meta
    assert not new.is_inference()
