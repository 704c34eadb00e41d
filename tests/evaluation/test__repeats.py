import pytest
import torch

from lightning_robust.evaluation._reader import Reader
from lightning_robust.evaluation._repeats import Repeats, repeated

X = torch.rand(600, 1, 3, 3, generator=torch.Generator().manual_seed(0))


def distinct(x, y, size=7, counts=None):
    """Those of samples that come in batches."""
    repeats, mask = Repeats(), torch.ones(len(x), dtype=torch.bool) if counts is None else counts
    for rows in torch.arange(len(x)).split(size):
        repeats.see(Reader().read((x[rows], y[rows])), mask[rows])
    return len(repeats.distinct)


@pytest.mark.parametrize(
    ("places", "labels", "number", "told"),
    [
        ([n % 10 for n in range(600)], [0] * 600, 10, True),
        ([n % 10 for n in range(600)], [n % 2 for n in range(600)], 10, True),
        ([n % 10 for n in range(600)], [n % 3 - 1 for n in range(600)], 30, True),
        ([0] * 60, [n % 55 for n in range(60)], 55, True),  # one image, which is of several classes
        ([n % 94 for n in range(100)], [0] * 100, 94, True),
        ([n % 95 for n in range(100)], [0] * 100, 95, False),
        (list(range(600)), [0] * 600, 600, False),
        ([n % 49 for n in range(50)], [0] * 50, 49, False),
        ([0] * 50, [0] * 50, 1, True),
        ([0] * 49, [0] * 49, 1, False),
    ],
)
def test_samples_that_repeat_others_make_intervals_too_narrow(places, labels, number, told):
    n, y = len(places), torch.tensor(labels)
    assert distinct(X[places], y) == number
    assert distinct(X[places][:, 0, 0, 0], y) == number  # a number for each sample
    assert distinct(X[places].half(), y[:, None]) == number
    texts = repeated(n, number)
    assert len(texts) == told
    assert all(text.startswith(f"Only {number} of {n} samples are distinct") for text in texts)


def test_labels_that_are_no_classes_tell_nothing_apart():
    assert distinct(X[:1].repeat(6, 1, 1, 1), torch.arange(6.0)) == 1
    assert distinct(X[:6], torch.arange(6.0)) == 6


def test_what_does_not_count_is_not_known():
    """A sampler fills the last batch with copies."""
    x, y = torch.cat([X[:5], X[:3]]), torch.zeros(8, dtype=torch.long)
    assert distinct(x, y, counts=torch.arange(8) > 4) == 3
    assert distinct(x, y, counts=torch.zeros(8, dtype=torch.bool)) == 0
    assert Repeats().distinct.tolist() == []
