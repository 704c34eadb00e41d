"""The command line of the demonstration and of the studies: options from a dataclass, and errors on one line."""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar, get_origin, get_type_hints

T = TypeVar("T")

WRONG_OPTION, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143
"""Exit codes; those of Ctrl-C and SIGTERM are 128 and the number of the signal, as in shells."""


class SettingsError(ValueError):
    """Settings that turn out to be wrong when the data or the folder is looked at."""


def run_command(
    settings: type[T],
    run: Callable[[T], object],
    args: Sequence[str],
    *,
    prog: str,
    description: str,
    presets: Mapping[str, str | Path] | None = None,
    keeps: bool = True,
) -> None:
    """Parse options, of which every field of `settings` is one, and run what they say.

    The option `--config FILE.yaml` reads options from a file, and `--preset NAME` from one of `presets`. Options of the
    command line override those of files, wherever they stand. Sequences are given as `--sizes 500 2500`.

    Args:
        settings: a dataclass whose docstring documents its fields.
        run: called with the settings.
        args: the words of the command line after the name of the command.
        prog: the command, for the help.
        description: what it does, for the help.
        presets: YAML files by name.
        keeps: does a run that is stopped keep what is finished, for the next one?

    Raises:
        SystemExit: an option is wrong (2), the run failed (1), Ctrl-C (130) or SIGTERM (143) stopped it. One line on
            the error stream says why.
    """
    try:
        given = _parsed(settings, args, presets or {}, prog=prog, description=description)
    except argparse.ArgumentError as error:
        _leave(prog, error, WRONG_OPTION)
    try:
        options = settings(**given)
    except (TypeError, ValueError) as error:
        _leave(prog, error, WRONG_OPTION)
    try:
        run(options)
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns Ctrl-C within a Trainer into an exit
        folder = f" in {options.out}" if hasattr(options, "out") else ""
        kept = f"What is finished is kept{folder}; the same command continues from there."
        sys.stderr.write(f"{prog}: stopped. {kept if keeps else 'Nothing is kept.'}\n")
        raise SystemExit(code_of(stop)) from None
    except SettingsError as error:
        _leave(prog, error, WRONG_OPTION)
    except _failures() as error:
        _leave(prog, error, FAILED)


def _failures() -> tuple[type[Exception], ...]:
    """What a run may fail of without a mistake of ours; loaded when a run has failed, for it brings torch along."""
    from lightning_robust.cells import CellsError

    return CellsError, ModuleNotFoundError, OSError


class Terminated(KeyboardInterrupt):
    """The system asks the program to end: what the keyboard does, with another exit code."""


def code_of(stop: BaseException) -> int:
    """The exit code of what was stopped: by SIGTERM, also where something else was raised in its place, or Ctrl-C."""
    return TERMINATED if isinstance(stop, Terminated) or isinstance(stop.__context__, Terminated) else INTERRUPTED


@contextmanager
def ending_well() -> Iterator[None]:
    """SIGTERM raises `Terminated`, in the main thread, unless somebody else handles it."""

    def end(number: int, frame: object) -> NoReturn:
        raise Terminated

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ready_folder(out: str | Path) -> Path:
    """The folder of the results, absolute, made and seen to take files, before anything is computed.

    Raises:
        SettingsError: it cannot be a folder, since a file is there.
        OSError: nothing can be written there.
    """
    folder = Path(out).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        kind = SettingsError if isinstance(error, FileExistsError | NotADirectoryError) else OSError
        text = f"Expected argument `out` to be a folder that can be written to, but got {folder}: {error.strerror}."
        raise kind(text) from error
    return folder


def _parsed(
    settings: type, args: Sequence[str], presets: Mapping[str, str | Path], *, prog: str, description: str
) -> dict[str, object]:
    """The options as a dictionary. Words that name files are put first, since later words override earlier ones."""
    from jsonargparse import ActionConfigFile, ArgumentParser

    files = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False, exit_on_error=False)
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of options")
    files.add_argument("--config", action="append", default=[])
    if presets:
        parser.add_argument("--preset", choices=list(presets), help="name of a file that comes with the command")
        files.add_argument("--preset", choices=list(presets))
    parser.add_class_arguments(settings, as_group=False)
    chosen, rest = files.parse_known_args(list(args))
    preset = getattr(chosen, "preset", None)
    configs = [*([presets[preset]] if preset else []), *chosen.config]
    words = [*(f"--config={file}" for file in configs), *_joined(rest, settings)]
    parsed = vars(parser.parse_args(words))
    return {name: value for name, value in parsed.items() if name not in ("config", "preset")}


def _joined(words: Iterable[str], settings: type) -> list[str]:
    """The words with the values of a sequence joined to one in YAML: `--sizes 500 2500` to `--sizes [500, 2500]`."""
    origins = {f"--{name}": get_origin(hint) for name, hint in get_type_hints(settings).items()}
    joined: list[str] = []
    values: list[str] | None = None  # those of the sequence whose option came last
    for word in [*words, "--"]:
        if word.startswith("--"):
            if values:
                joined.append(values[0] if values[0].startswith("[") else f"[{', '.join(values)}]")
            origin = origins.get(word)
            values = [] if isinstance(origin, type) and issubclass(origin, Sequence) else None
            joined.append(word)
        elif values is not None:
            values.append(word)
        else:
            joined.append(word)
    return joined[:-1]


def _leave(prog: str, error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"{prog}: {' '.join(str(error).split())}\n")
    raise SystemExit(code) from None
