import pytest

from lightning_robust.demo import Settings
from lightning_robust.demo.page import demo_page, figures, finding, judged
from lightning_robust.demo.settings import SCHEMES
from lightning_robust.demo.work import METRICS
from lightning_robust.plots import Estimate

VALUES = {"normal": (0.2, 1.0, 0.99, 0.95), "adversarial": (0.21, 0.6, 0.99, 0.95), "on-manifold": (0.1, 1.0, 0.9, 0.7)}


def rows(half=0.01, **changed):
    return [
        Estimate(value, max(0, value - half), min(1, value + half), 2000).row(model=model, metric=metric)
        for model in SCHEMES
        for metric, value in zip(METRICS, {**VALUES, **changed}.get(model, (0.15, 1.0, 0.9, 0.8)), strict=True)
    ]


def test_a_claim_holds_where_intervals_are_apart():
    assert [claim.verdict for claim in judged(rows())] == ["holds"] * 3
    assert [claim.verdict for claim in judged(rows(half=0.2))] == ["not decided", "not decided", "not decided"]
    turned = judged(rows(normal=(0.05, 0.5, 0.8, 0.7)))
    assert [claim.verdict for claim in turned] == ["does not hold"] * 3
    assert judged(rows())[0].numbers == "on-manifold 10.0 % [9.0, 11.0], normal 20.0 % [19.0, 21.0]"


def test_the_finding_has_its_numbers_beside_the_names():
    said = finding(rows())
    for part in ("20.0 % after normal training", "10.0 % after on-manifold", "60.0 % after training against them"):
        assert part in said


@pytest.mark.parametrize(("seeds", "said"), [(1, "from one seed"), (5, "the mean over 5 seeds")])
def test_the_page_says_what_intervals_cover_and_how_it_was_made(seeds, said):
    options = Settings(seeds=seeds, test_steps=1, restarts=1)
    drawn = figures(rows(), {}, options)
    assert list(drawn) == ["bars"]
    page = demo_page(rows(), drawn, options).html()
    assert said in page
    for part in ("<dt>command</dt>", "<dt>processor</dt>", "<dt>average</dt>", "On-manifold training lowers"):
        assert part in page


def test_a_model_without_a_success_rate_has_a_dash_on_the_page():
    lacking = ("adversarial", METRICS[-1])
    some, options = [row for row in rows() if (row["model"], row["metric"]) != lacking], Settings()
    pages = [demo_page(each, figures(each, {}, options), options).html() for each in (rows(), some)]
    assert pages[1].count("–</td>") == pages[0].count("–</td>") + 1
