import math

import pytest

from lightning_robust.learning_curves import Amount, AmountEstimate


def test_amounts_in_words():
    known, below, above, unknown = Amount(1840.2, 1840.2), Amount(0, 500), Amount(20_000, math.inf), Amount(0, math.inf)
    assert [str(a) for a in (known, below, above, unknown)] == ["1,840", "< 500", "> 20,000", "unknown"]
    assert [a.known for a in (known, below, above, unknown)] == [True, False, False, False]
    assert [a.value for a in (known, below, above)] == [1840.2, 500, 20_000]
    assert math.isnan(unknown.value)
    assert [str(Amount(2.345, 2.345)), str(Amount(2, 3))] == ["2.35", "2 to 3"]
    assert str(AmountEstimate(known, 1200, 2300)) == "1,840 [1,200, 2,300]"
    assert str(AmountEstimate(below, 0, 700, censored=(1,))) == "< 500 [0, 700], censored: seed 1"


def test_amounts_are_checked():
    with pytest.raises(ValueError, match="low=3 and high=2"):
        Amount(3, 2)
    with pytest.raises(ValueError, match=r"to contain 5, but got \[6, 7\]"):
        AmountEstimate(Amount(5, 5), 6, 7)
