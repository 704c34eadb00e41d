from dataclasses import dataclass

import pytest

from lightning_robust.studies.command import run_command
from lightning_robust.studies.grid.errors import StudyArgumentError, StudyLockedError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings.

    Args:
        sizes: several numbers.
        eps: a radius.
    """

    sizes: tuple[int, ...] = (1, 2)
    eps: float = 0.1

    def __post_init__(self):
        if self.eps < 0:
            raise StudyArgumentError(f"Expected argument `eps` to be at least 0, but got {self.eps}.")


def _run(*args, run=None):
    given = []
    run_command(
        Settings,
        run or given.append,
        args,
        prog="study",
        description="",
        presets={"quick": {}, "full": {"sizes": (10, 20), "eps": 0.5}},
        lists={"sizes": (int, "images")},
    )
    return given[0]


@pytest.mark.parametrize("error", [StudyLockedError("another run is at work"), ModuleNotFoundError("pip install it")])
def test_a_study_that_fails_says_why_without_a_traceback(error, capsys):
    def fail(settings):
        raise error

    with pytest.raises(SystemExit) as stopped:
        _run(run=fail)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"study: {error}\n"


def test_the_first_preset_is_the_default():
    assert _run() == Settings(sizes=[1, 2], eps=0.1)


def test_options_go_before_the_preset_wherever_they_stand():
    assert _run("--eps", "0.3", "--preset", "full") == Settings(sizes=[10, 20], eps=0.3)
    assert _run("--preset=full", "--sizes", "3", "4", "5") == Settings(sizes=[3, 4, 5], eps=0.5)


@pytest.mark.parametrize("args", [["--eps", "-1"], ["--preset", "none"], ["--sizes", "few"], ["--epsilon", "1"]])
def test_what_is_wrong_is_said_without_a_traceback(args, capsys):
    with pytest.raises(SystemExit) as stopped:
        _run(*args)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert args[0].lstrip("-") in said
    assert "Traceback" not in said
