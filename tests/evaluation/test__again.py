"""A model that is asked again answers sample by sample as at once, in whatever batches and order it is asked."""

import pytest
import torch

from lightning_robust.evaluation._again import elsewhere, judged_again
from lightning_robust.evaluation._pool import pools
from lightning_robust.evaluation._reader import Reader

NET = torch.nn.Linear(3, 2)
X = torch.rand(11, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(11) % 2

SEEN = []  # what a module holds is put back after a question


class Model(torch.nn.Module):
    def forward(self, x):
        SEEN.append(x)
        return NET(x)


def asked(ask, rows, most, whole=False):
    """What is answered, and the inputs of each forward."""
    SEEN.clear()
    ((part,),) = pools([(list(range(11)), Reader().read([X, Y]))], whole=whole)
    return ask(Model(), part, rows, most), list(SEEN)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("most", [1, 2, 4, 64])
def test_answers_come_in_the_order_of_the_rows(n, most):
    rows = list(range(11))[-n:]
    (right, output), forwards = asked(judged_again, rows, most)
    (verdicts, again), others = asked(elsewhere, rows, most)
    expected = NET(X[rows])
    for found in (right, verdicts):
        assert torch.equal(found, expected.argmax(1) == Y[rows])
    for found in (output, again):
        assert torch.allclose(found, expected, atol=1e-6)
    assert max(len(x) for x in (*forwards, *others)) <= most
    if n > 2 and most > 1:
        company = [{frozenset(map(tuple, x.tolist())) for x in some} for some in (forwards, others)]
        assert not {some for some in company[0] & company[1] if len(some) > 1}, "in other company"


def test_a_batch_that_cannot_be_cut_is_asked_whole():
    for ask in (judged_again, elsewhere):
        _, forwards = asked(ask, list(range(11)), 4, whole=True)
        assert [len(x) for x in forwards] == [11]
