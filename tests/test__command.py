from dataclasses import dataclass

import pytest

from lightning_robust._command import check_folder, run_command
from lightning_robust.cells.errors import StudyArgumentError, StudyLockedError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings.

    Args:
        sizes: several numbers.
        eps: a radius.
        out: the folder of the results.
    """

    sizes: tuple[int, ...] = (1, 2)
    eps: float = 0.1
    out: str = "runs/study"

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


@pytest.mark.parametrize(
    "error",
    [
        StudyLockedError("another run is at work"),
        ModuleNotFoundError("pip install it"),
        OSError(28, "No space left on device"),
    ],
)
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


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)])
def test_a_study_that_the_keyboard_stops_ends_as_shells_expect(stop, capsys):
    """Lightning makes an exit of an interruption within a Trainer."""

    def interrupted(settings):
        raise stop

    with pytest.raises(SystemExit) as stopped:
        _run(run=interrupted)
    assert stopped.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file", "file/deeper", "link"])
def test_where_results_cannot_be_written_nothing_runs(out, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SystemExit) as stopped:
        _run("--out", str(tmp_path / out), run=pytest.fail)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Expected argument `out` to be a folder that can be written to" in said
    assert str(tmp_path / out.partition("/")[0]) in said


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(ValueError, match="nothing may be written to"):
        check_folder(str(tmp_path / "new"))
    check_folder(str(tmp_path.parent / "new"))
    assert not (tmp_path.parent / "new").exists()


def test_a_command_without_presets_has_none(capsys):
    given = []
    run_command(Settings, given.append, ["--eps", "0.2"], prog="demo", description="")
    assert given == [Settings(eps=0.2)]
    with pytest.raises(SystemExit):
        run_command(Settings, given.append, ["--preset", "quick"], prog="demo", description="")
    assert "preset" in capsys.readouterr().err
