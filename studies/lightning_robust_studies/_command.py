"""The command of a study: its options and help come without torch, which the work alone brings along."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_robust._command import run_command


def study_command(
    settings: type[Any], package: str, *, name: str, description: str, presets: Mapping[str, Any], keeps: bool = True
) -> Callable[[Sequence[str]], None]:
    """The function `main` of a study.

    Args:
        settings: The dataclass of the options.
        package: Its module `study` has `run_and_print(settings)`.
        name: As in `lightning-robust study NAME`.
        description: One sentence for the help.
        presets: Files of options, by name.
        keeps: Does a run that is stopped keep what is finished?
    """

    def run(options: Any) -> None:
        importlib.import_module(f"{package}.study").run_and_print(options)

    def main(args: Sequence[str]) -> None:
        """Run the study with command-line options; the claims are printed."""
        prog = f"lightning-robust study {name}"
        run_command(settings, run, args, prog=prog, description=description, presets=presets, keeps=keeps)

    return main
