import pytest
import torch

from lightning_robust.evaluation import Images
from lightning_robust.evaluation._pool import keys_of
from lightning_robust.evaluation._record import END, Record
from lightning_robust.evaluation.ledger import CLEAN, Event

INF, NAN = float("inf"), float("nan")


def event(sample, stage, wave=0, *, fooled=False, target=-1, step=-1, gain=NAN, radius=INF, passes=1, label=1):
    return Event(sample, stage, wave, fooled, target, step, gain, radius, passes, f"{sample:016x}", label)


EVENTS = [
    event(0, CLEAN),
    event(1, CLEAN),
    event(2, CLEAN, fooled=True, target=3),
    event(0, "a", gain=-2.0, passes=10),
    event(1, "a", gain=-1.0, passes=10),
    event(0, "a", 1, gain=-3.0, passes=10),
    event(1, "a", 1, fooled=True, target=2, step=4, gain=0.5, radius=0.3, passes=5),
    event(0, "b", gain=-4.0, radius=0.9, passes=7),
    event(1, "b", fooled=True, target=0, step=1, gain=0.1, radius=0.2, passes=7),
    event(-1, END),
]


def test_events_make_images():
    record = Record(EVENTS)
    images = record.images()
    assert images.key == [f"{i:016x}" for i in range(3)]
    assert images.clean.tolist() == [True, True, False]
    assert images.attack == ["", "a", ""]  # the first that broke it
    assert (images.target.tolist(), images.restart.tolist(), images.step.tolist()) == (
        [-1, 2, -1],
        [-1, 1, -1],
        [-1, 4, -1],
    )
    assert images.gain.tolist()[:2] == [-4.0, 0.1]  # of the last attack
    assert images.radius.tolist() == [0.9, 0.2, 0.0]  # of all
    assert images.passes.tolist() == [28, 23, 1]
    assert images.robust.tolist() == [True, False, False]
    assert (images.label.tolist(), record.ended) == ([1, 1, 1], 1)
    assert record.right("a").tolist() == record.right("b").tolist() == [True, False, False]
    assert record.rows[0].has("a", 1)
    assert record.rows[0].has("a", -1)
    assert not record.rows[0].has("a", 2)


def test_events_of_before_change_nothing_and_the_order_of_samples_neither():
    images = Record(EVENTS).images()
    for other in (Record([*EVENTS, *EVENTS]).images(), Record(sorted(EVENTS, key=lambda e: e.sample == 1)).images()):
        assert other.attack == images.attack
        assert torch.equal(other.passes, images.passes)
        assert torch.equal(other.radius, images.radius)


def test_labels_of_another_kind():
    assert Record([event(0, CLEAN, label=None), event(1, CLEAN)]).images().label is None


def test_keys_are_of_the_content_in_single_precision():
    x = torch.rand(50, 3, 4, 4)
    keys = keys_of(x)
    assert len(set(keys)) == 50
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    assert keys_of(x.flip(0).double()) == keys[::-1]
    assert keys_of(x.transpose(2, 3).contiguous().transpose(2, 3)) == keys
    x[7, 0, 0, 0] += 1e-6
    assert [a == b for a, b in zip(keys_of(x), keys, strict=True)] == [i != 7 for i in range(50)]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"clean": torch.tensor([1, 0])}, "`clean` to be a boolean tensor"),
        ({"key": ["00"]}, "`key` to be a string for each image"),
        ({"attack": [None, ""]}, "`attack`"),
        ({"label": torch.tensor([1])}, "`label` to be an integer tensor"),
        ({"step": torch.tensor([1.0, 2.0])}, "`step` to be an integer tensor"),
        ({"radius": torch.tensor([1, 2])}, "`radius` to be a floating point tensor"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, match):
    two = torch.tensor([0, 1])
    valid = {
        "key": ["00", "01"],
        "label": two,
        "clean": torch.tensor([True, False]),
        "attack": ["a", ""],
        **dict.fromkeys(("target", "restart", "step", "passes"), two),
        **dict.fromkeys(("gain", "radius"), two.double()),
    }
    assert len(Images(**valid)) == 2
    with pytest.raises((ValueError, TypeError), match=match):
        Images(**(valid | change))
