from operator import ge, lt

import pytest

from lightning_robust import plots
from lightning_robust.plots import Estimate
from lightning_robust_studies.claims import (
    RULE,
    Claim,
    Verdict,
    all_of,
    any_of,
    claim_parts,
    judged,
    print_claims,
    summary,
)

HOLDS, FAILS, OPEN, UNKNOWN = Verdict


@pytest.mark.parametrize(
    ("low", "high", "at_least", "less"),
    [(0.5, 0.7, HOLDS, FAILS), (0.4, 0.7, OPEN, OPEN), (0.3, 0.49, FAILS, HOLDS), (0.3, 0.5, OPEN, OPEN)],
)
def test_a_verdict_is_the_interval_s(low, high, at_least, less):
    for estimate in ((low, high), Estimate(low, low, high, 10)):
        assert (judged(estimate, ge, 0.5), judged(estimate, lt, 0.5)) == (at_least, less)


def test_conditions_are_put_together():
    assert all_of([HOLDS, HOLDS, UNKNOWN]) is HOLDS
    assert all_of([HOLDS, OPEN, UNKNOWN]) is OPEN
    assert all_of([HOLDS, OPEN, FAILS]) is FAILS
    assert any_of([FAILS, OPEN, HOLDS]) is HOLDS
    assert any_of([FAILS, OPEN, UNKNOWN]) is OPEN
    assert any_of([FAILS, UNKNOWN]) is FAILS
    assert all_of([]) is any_of([UNKNOWN]) is UNKNOWN


CLAIMS = [
    Claim(f"{i}. Title {i}.", verdict, f"Number [{i}]. Criterion: more than {i}. Note {i}.")
    for i, verdict in enumerate(Verdict, start=1)
]


def test_all_verdicts_are_said(tmp_path, capsys):
    assert summary(CLAIMS) == (
        "Holds: title 1. Does not hold here: title 2. Not decided: title 3. Not measured: title 4."
    )
    assert summary([Claim("1. PGD is enough.", HOLDS, ""), *CLAIMS[:1]]) == "Holds: PGD is enough; title 1."
    table, rule, *notes = claim_parts(CLAIMS)
    assert [(one.claim, one.verdict, one.numbers, one.criterion) for one in table.claims] == [
        (claim.title, claim.verdict.value, f"Number [{i}].", f"More than {i}.") for i, claim in enumerate(CLAIMS, 1)
    ]
    assert rule == RULE
    assert notes[2] == "To claim 3: Note 3."
    (alone, _) = claim_parts([Claim("1. A.", OPEN, "All.")])
    assert alone.claims == (plots.Claim("1. A.", "not decided", "All."),)
    print_claims(CLAIMS, tmp_path / "report.html")
    said = capsys.readouterr().out
    assert "3. Title 3. Not decided.\n  Number [3]. Criterion: more than 3. Note 3.\n" in said
    assert said.endswith(f"Report: {tmp_path / 'report.html'}\n")
