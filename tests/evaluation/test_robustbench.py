"""The form in which RobustBench lists models."""

import json

import pytest
import torch

from lightning_robust.evaluation import Report
from lightning_robust.evaluation.indicators import Indicator

REPORT = Report(
    {"clean": torch.arange(8) < 7, "autoattack": torch.arange(8) < 4, "own": torch.arange(8) < 3}, eps=8 / 255
)
FIELDS = {  # of model_info/cifar10/Linf/*.json there
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture"),
    *("eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable"),
}


def test_the_fields_are_those_of_robustbench():
    info = REPORT.robustbench_info(name="A title", dataset="cifar10", additional_data=True)
    assert set(info) == FIELDS | {"external"}
    assert (info["eps"], info["clean_acc"], info["autoattack_acc"], info["external"]) == (
        *("8/255", "87.50", "50.00", "37.50"),
    )
    assert (info["additional_data"], info["number_forward_passes"], info["unreliable"]) == (True, 1, False)
    assert json.loads(json.dumps(info)) == info
    assert "external" not in REPORT.robustbench_info(autoattack_acc=0.375)
    assert "autoattack_acc" not in Report({"clean": torch.ones(1).bool()}, eps=0.5).robustbench_info()


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (0.5, "0.5"), (4 / 255, "4/255"), (1, "1"), (12, "12")],
)
def test_the_radius_is_written_as_there(eps, text):
    assert Report({"clean": torch.ones(1).bool()}, eps=eps).robustbench_info()["eps"] == text


@pytest.mark.parametrize(
    "doubt", [{"indicators": (Indicator("x", 1.0, 0.5, True, "Look.", "nobody"),)}, {"warnings": ("Beware.",)}]
)
def test_a_doubt_makes_it_unreliable(doubt):
    assert Report({"clean": torch.ones(1).bool()}, eps=1, **doubt).robustbench_info()["unreliable"]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="a report with `eps`"):
        Report({"clean": torch.ones(1).bool()}).robustbench_info()
    with pytest.raises(TypeError, match="`venue` to be a string"):
        REPORT.robustbench_info(venue=2024)
    with pytest.raises(ValueError, match="`autoattack_acc`"):
        REPORT.robustbench_info(autoattack_acc=56.7)
