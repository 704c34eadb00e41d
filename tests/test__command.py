import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from lightning_robust._command import SettingsError, Terminated, ending_well, ready_folder, run_command
from lightning_robust.cells import CellsLockedError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings.

    Args:
        sizes: several numbers.
        schemes: several names.
        eps: a radius.
        out: the folder of the results.
    """

    sizes: Sequence[int] = (1, 2)
    schemes: tuple[Literal["a", "b"], ...] = ("a",)
    eps: float = 0.1
    out: str = "runs/study"

    def __post_init__(self):
        if self.eps < 0:
            raise ValueError(f"Expected argument `eps` to be at least 0, but got {self.eps}.")


@pytest.fixture
def run(tmp_path):
    (tmp_path / "quick.yaml").write_text("{}\n")
    (tmp_path / "full.yaml").write_text("sizes: [10, 20]\neps: 0.5\n")

    def run(*args, do=None):
        options = []
        presets = {name: tmp_path / f"{name}.yaml" for name in ("quick", "full")}
        run_command(Settings, do or options.append, args, prog="study", description="It does.", presets=presets)
        return options[0]

    return run


def test_options_and_lists_of_options(run):
    assert run() == Settings()
    assert run("--sizes", "3", "4", "--eps", "0.3", "--schemes", "b", "a") == Settings(
        sizes=[3, 4], eps=0.3, schemes=("b", "a")
    )
    assert run("--sizes", "[3, 4]") == run("--sizes=[3,4]") == Settings(sizes=[3, 4])


def test_options_override_presets_and_files_wherever_they_stand(run, tmp_path):
    assert run("--eps", "0.3", "--preset", "full") == Settings(sizes=[10, 20], eps=0.3)
    assert run("--preset=full", "--sizes", "3") == Settings(sizes=[3], eps=0.5)
    (tmp_path / "mine.yaml").write_text("eps: 0.7\n")
    file = str(tmp_path / "mine.yaml")
    assert run("--config", file) == Settings(eps=0.7)
    assert run("--eps", "0.3", "--config", str(tmp_path / "full.yaml")) == run("--eps", "0.3", "--preset", "full")
    assert run("--config", file, "--preset", "full") == Settings(sizes=[10, 20], eps=0.7)


def test_the_help_names_presets_and_documents_fields(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("It does.", "--preset {quick,full}", "several numbers", "default: runs/study", "--config"):
        assert part in text


@pytest.mark.parametrize(
    "args",
    [
        ["--eps", "-1"],
        ["--eps", "wide"],
        ["--preset", "none"],
        ["--sizes", "few"],
        ["--sizes"],
        ["--schemes", "c"],
        ["--epsilon", "1"],
        ["--config", "missing.yaml"],
        ["--config"],
    ],
)
def test_a_wrong_option_is_one_line(args, run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*args, do=pytest.fail)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert args[0].lstrip("-") in text
    assert text.startswith("study: ")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CellsLockedError("another run is at work"), 1),
        (ModuleNotFoundError("pip install it"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (SettingsError("there are not so many images"), 2),
    ],
)
def test_a_run_that_fails_says_why_without_a_traceback(error, code, run, capsys):
    def fail(settings):
        raise error

    with pytest.raises(SystemExit) as stopped:
        run(do=fail)
    assert stopped.value.code == code
    assert capsys.readouterr().err == f"study: {error}\n"


def test_a_mistake_of_ours_keeps_its_traceback(run):
    with pytest.raises(ZeroDivisionError):
        run(do=lambda settings: 1 / 0)


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (SystemExit, 130), (Terminated, 143)])
@pytest.mark.parametrize("exits", [False, True])
def test_what_is_stopped_says_what_is_kept_and_ends_as_shells_expect(stop, code, exits, run, capsys):
    """Lightning turns an interruption within a Trainer into an exit."""

    def interrupted(settings):
        if not exits:
            raise stop
        try:
            raise stop  # noqa: TRY301  it is to be the context of the exit
        except BaseException:
            sys.exit(1)

    with pytest.raises(SystemExit) as stopped:
        run("--out", "here", do=interrupted)
    assert stopped.value.code == code
    assert capsys.readouterr().err == (
        "study: stopped. What is finished is kept in here; the same command continues from there.\n"
    )


def test_what_keeps_nothing_says_so(capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        run_command(Settings, interrupted, [], prog="theory", description="", keeps=False)
    assert capsys.readouterr().err == "theory: stopped. Nothing is kept.\n"


def test_the_signal_to_end_is_raised_and_its_handling_put_back():
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with ending_well(), pytest.raises(Terminated):  # noqa: PT012  the signal comes a moment later
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        own = []
        signal.signal(signal.SIGTERM, lambda *args: own.append(args))
        with ending_well():
            os.kill(os.getpid(), signal.SIGTERM)
        assert len(own) == 1  # who handles it already goes on to
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_without_presets_has_none(capsys):
    options = []
    run_command(Settings, options.append, ["--eps", "0.2"], prog="demo", description="")
    assert options == [Settings(eps=0.2)]
    with pytest.raises(SystemExit):
        run_command(Settings, options.append, ["--preset", "quick"], prog="demo", description="")
    assert "preset" in capsys.readouterr().err


def test_a_folder_is_made_ready_and_left_empty(tmp_path):
    folder = ready_folder(tmp_path / "new" / "folder")
    assert folder == tmp_path / "new" / "folder"
    assert list(folder.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "there")  # a link to nothing yet
    assert ready_folder(tmp_path / "link") == tmp_path / "there"
    assert (tmp_path / "there").is_dir()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"`out` to be a folder that can be written to, but got .*file.*: \w+"):
        ready_folder(tmp_path / place)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_no_files_is_refused(error, tmp_path, monkeypatch):
    def refuse(**kwargs):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OSError, match=f"`out` to be a folder .*: {os.strerror(error)}"):  # a run that fails: code 1
        ready_folder(tmp_path)
