from operator import ge, lt

import pytest

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


CLAIMS = [Claim(f"{i}. Title {i}.", verdict, f"Number [{i}].") for i, verdict in enumerate(Verdict, start=1)]


def test_all_verdicts_are_said(tmp_path, capsys):
    assert summary(CLAIMS) == (
        "Claim 1 holds. Claim 2 does not hold here. Claim 3 is not decided. Claim 4 was not measured."
    )
    assert summary([*CLAIMS[:1], *CLAIMS[:1], *CLAIMS[:1]]) == "Claims 1, 1 and 1 hold."
    table, rule, *texts = claim_parts(CLAIMS)
    for claim in CLAIMS:
        assert {"claim": claim.title, "verdict": claim.verdict.value} in table.rows
    assert rule == RULE
    assert texts[2] == "Claim 3: Number [3]."
    print_claims(CLAIMS, tmp_path / "report.html")
    said = capsys.readouterr().out
    assert "3. Title 3. Not decided.\n  Number [3].\n" in said
    assert said.endswith(f"Report: {tmp_path / 'report.html'}\n")
