"""The pages of docs/: blocks run in the program of a user, lists are those of the code, links lead somewhere."""

import importlib
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

import lightning_robust
from lightning_robust import (
    L2,
    PGD,
    AdversarialExamples,
    AdversarialTraining,
    Linf,
    RobustEvaluation,
    RobustGeneralizationGap,
    standard,
    trades,
)
from lightning_robust._external import read_callbacks
from tests.newcomer import ROOT, YourData, YourModule, blocks, program

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "gallery"} & set(path.relative_to(DOCS).parts))
pytestmark = pytest.mark.filterwarnings("ignore:.*(Robust accuracy|numbers may|Checkpoint directory|lr_find|radius).*")


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_blocks_run(page, tmp_path, monkeypatch):
    namespace = program(tmp_path)
    monkeypatch.chdir(tmp_path)
    needed = {"foolbox", "torchattacks"} & set(re.findall(r"^import (\w+)$", page.read_text("utf-8"), re.MULTILINE))
    for package in needed:
        pytest.importorskip(package)
    for block in blocks(page):
        exec(compile(block, name_of(page), "exec"), namespace)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(<?(?!https?:)([\w./-]+)[)#>]", page.read_text("utf-8")):
        built = any(part in target for part in ("gallery/", "parts/"))  # the build looks at these
        assert built or (page.parent / target).exists() or (page.parent / f"{target}.md").exists(), target


def keys(page: str) -> dict[str, tuple[str, bool]]:
    """The keys of the table: where they are found, and whether they have an interval."""
    table = (DOCS / page).read_text("utf-8").partition("| key |")[2].partition("\n\n")[0]
    found = {}
    for row in table.splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), (cells[2], cells[3] == "yes"))
    return found


def test_the_table_of_keys_is_what_is_logged():
    """Every key that the callbacks log or keep is in the table, with its place and its interval, and no other is."""
    seen: dict[str, tuple[str, bool]] = {}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "max_epochs": 1}
    metric = lightning_robust.metrics.RobustAccuracy(["a", "b"])
    attacks = {"a": PGD(Linf(0.1), steps=1), "b": PGD(L2(0.1), steps=1)}
    for own in (attacks, PGD(Linf(0.1), steps=1)):
        named = isinstance(own, dict)
        evaluation = RobustEvaluation(own, metrics={"metric": metric} if named else {})
        gap = RobustGeneralizationGap(PGD(Linf(0.1), steps=1), max_samples=8)
        training = AdversarialTraining(PGD(Linf(0.1), steps=1), trades())
        trainer = pl.Trainer(callbacks=[training, evaluation, gap], **quiet)
        trainer.fit(YourModule(), YourData())
        kept = {**gap.results, **evaluation.results}
        for key in {*kept, *trainer.callback_metrics} - {"val/loss"}:
            general = re.sub(r"_[ab]$", "_<attack>", re.sub(r"^val/metric(_\w+)?$", "val/<metric>", key))
            place = "logged" if key in trainer.callback_metrics else "results"
            seen[general] = (place, key in evaluation.intervals)
    seen[AdversarialExamples(PGD(Linf(0.1))).name] = ("image", False)
    seen |= dict.fromkeys(("reconstructions", "samples", "interpolations"), ("image", False))  # of ManifoldSheets
    assert keys("howto/logging.md") == seen


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_have_texts(page):
    """The site puts a page's title there; the host of a repository shows nothing."""
    assert "[](" not in page.read_text("utf-8")


def test_the_report_of_the_start_is_of_the_plan_as_it_is():
    text = (DOCS / "start.md").read_text("utf-8").partition("```text\n")[2].partition("```")[0]
    plan, named = standard(Linf(0.1)).attacks, re.findall(r"^after ([a-z]+(?: \d)?)  ", text, re.MULTILINE)
    assert len(named) > 2
    assert plan.keys() >= set(named)
    others = re.search(r"^after (\d+) other attacks  ", text, re.MULTILINE)
    assert len(named) + int(others[1]) == len(plan)


def test_the_file_of_callbacks_on_the_page_is_read(tmp_path):
    text = (DOCS / "howto/running.md").read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "callbacks.yaml"
    path.write_text(text, "utf-8")
    training, evaluation = read_callbacks(path)
    assert isinstance(training, AdversarialTraining)
    assert isinstance(evaluation, RobustEvaluation)
    assert evaluation.attacks[""].steps == 50


def test_every_public_name_is_on_a_page_of_the_api(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    pages = importlib.import_module("public_names")
    assert set(pages.PARTS) >= set(lightning_robust._SUBPACKAGES)
    assert all(
        name in importlib.import_module(f"lightning_robust.{home}").__all__
        for name, home in lightning_robust._HOME.items()
    )
    for part in pages.PARTS:
        text = pages.page(part)
        for name, value in pages.names_of(part).items():
            assert f":: {name}\n" in text
            assert pages.text_of(value, name), f"lightning_robust.{part}.{name} says nothing of itself"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("44.1 % [41.1, 47.2]", ["44.1 %", "[41.1, 47.2]"]),
        ("> 3.7 [1.8, inf) at 50 %", [">", "3.7", "[1.8, inf)", "at", "50 %"]),
        ("325 / 565", ["325 / 565"]),
        ("CIFAR-10: 7 steps, beta 5 or 6", ["CIFAR-10:", "7", "steps,", "beta", "5", "or", "6"]),
    ],
)
def test_numbers_of_tables_stay_on_one_line(text, lines, monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    kept = importlib.import_module("unbroken").unbroken(text)
    assert [line.replace("\xa0", " ") for line in kept.split(" ")] == lines


def test_pictures_are_small():
    for path in (DOCS / "figures").glob("*.png"):
        assert path.stat().st_size < 300_000, path.name
