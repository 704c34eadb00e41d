"""Settings from the command line, and a run that ends with one line where it cannot go on."""

import os
import sys
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning_robust.cells.errors import StudyArgumentError, StudyError

T = TypeVar("T")

INTERRUPTED = 130
"""The exit status of what Ctrl-C has stopped, as shells have it: 128 and the number of the signal."""


def run_command(
    settings: type[T],
    run: Callable[[T], object],
    args: Sequence[str],
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    lists: Mapping[str, tuple[type, str]] | None = None,
) -> None:
    """Parse the options of a study, of which every field of `settings` is one, and run it.

    Args:
        settings: a dataclass whose docstring tells what its fields are; `out`, where it has one, is the folder of the
            results.
        run: the study.
        args: the words after the name of the study.
        prog: the command, for the help.
        description: what it does, for the help.
        presets: for each name what it changes of the defaults; the first one is the default. None: no presets.
        lists: the fields that take several words, `--sizes 500 2500`: their type and help.

    Raises:
        SystemExit: an option is wrong (2), the study failed or a file could not be read or written (1), or the
            keyboard stopped it (130). The message says why, on the error stream.
    """
    from jsonargparse import ArgumentParser

    lists, preset = lists or {}, {}
    parser = ArgumentParser(prog=prog, description=description)
    if presets:
        first = PlainParser(prog=prog, add_help=False, allow_abbrev=False)
        choice: dict[str, Any] = {"choices": list(presets), "default": next(iter(presets))}
        first.add_argument("--preset", **choice)
        preset = dict(presets[first.parse_known_args(list(args))[0].preset])
        parser.add_argument("--preset", **choice, help="what the other defaults are")
    parser.add_class_arguments(settings, as_group=False, skip=set(lists))
    defaults = vars(settings(**preset))
    for name, (kind, text) in lists.items():
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=list(defaults[name]), help=text)
    parser.set_defaults({name: value for name, value in preset.items() if name not in lists})
    given = vars(parser.parse_args(list(args)))
    given.pop("preset", None)
    try:
        options = settings(**given)
        if "out" in given:
            check_folder(given["out"])
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        run(options)
    except StudyArgumentError as error:
        parser.error(str(error))
    except (StudyError, ModuleNotFoundError, OSError) as error:
        sys.stderr.write(f"{prog}: {error}\n")
        raise SystemExit(1) from None
    except (KeyboardInterrupt, SystemExit):  # Lightning makes an exit of what the keyboard stops within a Trainer
        raise SystemExit(INTERRUPTED) from None


def check_folder(out: str) -> None:
    """See that results can be written to a folder, which may not be there yet; nothing is made.

    Raises:
        ValueError: it is a file, a link to nothing, or may not be written to.
    """
    path = Path(out)
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    wanted = f"Expected argument `out` to be a folder that can be written to, but got {out!r}"
    if not there.is_dir():
        raise ValueError(f"{wanted}: {there} is {'no folder' if there.exists() else 'a link to nothing'}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{wanted}: nothing may be written to {there.resolve()}.")
