"""Settings of a study from the command line: a preset first, then what differs from it."""

import sys
from argparse import ArgumentParser as PlainParser
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lightning_robust.studies.grid.errors import StudyArgumentError, StudyError

T = TypeVar("T")


def run_command(
    settings: type[T],
    run: Callable[[T], object],
    args: Sequence[str],
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Mapping[str, Any]],
    lists: Mapping[str, tuple[type, str]] | None = None,
) -> None:
    """Parse the options of a study, of which every field of `settings` is one, and run it.

    Args:
        settings: a dataclass whose docstring tells what its fields are.
        run: the study.
        args: the words after the name of the study.
        prog: the command, for the help.
        description: what it does, for the help.
        presets: for each name what it changes of the defaults; the first one is the default.
        lists: the fields that take several words, `--sizes 500 2500`: their type and help.

    Raises:
        SystemExit: an option is wrong, or the study failed; the message says why, on the error stream.
    """
    from jsonargparse import ArgumentParser

    lists = lists or {}
    default = next(iter(presets))
    first = PlainParser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=list(presets), default=default)
    preset = presets[first.parse_known_args(list(args))[0].preset]

    parser = ArgumentParser(prog=prog, description=description)
    parser.add_argument("--preset", choices=list(presets), default=default, help="what the other defaults are")
    parser.add_class_arguments(settings, as_group=False, skip=set(lists))
    defaults = vars(settings(**preset))
    for name, (kind, text) in lists.items():
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=list(defaults[name]), help=text)
    parser.set_defaults({name: value for name, value in preset.items() if name not in lists})
    given = vars(parser.parse_args(list(args)))
    del given["preset"]
    try:
        run(settings(**given))
    except StudyArgumentError as error:
        parser.error(str(error))
    except (StudyError, ModuleNotFoundError) as error:
        sys.stderr.write(f"{prog}: {error}\n")
        raise SystemExit(1) from None
