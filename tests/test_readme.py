"""What the README says in code, pasted into a program of a user, and what it promises of it."""

import re

import pytest
import torch

from lightning_robust import recipes
from tests.newcomer import ROOT, blocks, program

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = blocks(ROOT / "README.md")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks define, one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    namespace = program(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(block, namespace)
    return namespace


def test_the_first_block_is_short_and_logs_what_it_says(names):
    assert len(BLOCKS[0].strip().splitlines()) < 15
    logged = names["trainer"].callback_metrics
    said = set(re.findall(r"val/\w+", BLOCKS[0]))
    assert said == {key for key in logged if key != "val/loss"}
    assert logged["val/robust_acc"] <= logged["val/clean_acc"]


def test_the_line_for_normalized_data_attacks_in_units_of_the_images(names):
    """What the comment of the first block gives takes the place of the space in the line below it."""
    other = re.search(r"# .*(PixelSpace\(mean.*\)\))\nspace = PixelSpace\(\)\n", BLOCKS[0]).group(1)
    mean, std = (torch.tensor(value)[:, None, None] for value in (eval(other, names).mean, eval(other, names).std))
    x = torch.rand(4, 3, 32, 32)
    with pytest.raises(ValueError, match=r"PixelSpace\(mean=\.\.\., std=\.\.\.\)"):
        names["PGD"](names["threat"])(names["net"], (x - mean) / std, torch.arange(4) % 3)
    threat = names["Threat"](names["Linf"](8 / 255), eval(other, names))
    x_adv = names["PGD"](threat, steps=10)(names["net"], (x - mean) / std, torch.arange(4) % 3)
    assert (x_adv * std + mean - x).abs().amax() == pytest.approx(8 / 255, rel=1e-4)


def test_every_recipe_is_in_the_table():
    assert set(re.findall(r"`(\w+)\(", README.partition("| recipe |")[2].partition("\n\n")[0])) == set(recipes.RECIPES)


def test_files_and_folders_that_are_named_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= 100
