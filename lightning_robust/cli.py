"""The command line: demo, evaluate, study, and LightningCLI with our classes by their bare names."""

import argparse
import ast
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_HELP = """usage: lightning-robust COMMAND [options]

  demo       four models on letters: test error, robust error, on-manifold error; a report in runs/demo
  evaluate   robust accuracy of a checkpoint: lightning-robust evaluate --ckpt last.ckpt --model my.module.Net
             --data my.module.Data --threat linf --eps 8/255 --out DIR
  study      experiments that can be stopped and continued, where they are installed: lightning-robust study NAME
  fit        train a module:     lightning-robust fit --config config.yaml
  validate   evaluate on the validation data
  test       evaluate on the test data
  predict    predict

Each command tells its options with --help. fit, validate, test and predict are LightningCLI's: --model, --data and
--trainer take any LightningModule, LightningDataModule and callback; those of lightning_robust by their bare names.
"""


def demo(args: Sequence[str]) -> None:
    """Run the demonstration with command-line options."""
    from lightning_robust._command import run_command
    from lightning_robust.demo.settings import Settings

    def run(options: Settings) -> None:
        from lightning_robust.demo.run import run_demo

        run_demo(options)

    run_command(
        Settings,
        run,
        args,
        prog="lightning-robust demo",
        description="Train four models on letters (normal, adversarial, on-manifold, transformations) and attack them.",
    )


def studies() -> dict[str, EntryPoint]:
    """The studies that are installed, by name: packages register them in the entry point group of this name."""
    return {entry.name: entry for entry in entry_points(group="lightning_robust.studies")}


def _about(entry: EntryPoint) -> str:
    """What a study is: the first line of its module, which is read and not imported. Empty where it is not found."""
    package, *parts = entry.module.split(".")
    with suppress(ImportError, OSError, SyntaxError, ValueError):
        for folder in getattr(find_spec(package), "submodule_search_locations", None) or ():
            place = Path(folder, *parts)
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if file.is_file():
                return (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]
    return ""


def study(args: Sequence[str]) -> None:
    """Run a study by name."""
    known = studies()
    width = max(map(len, known), default=0)
    listed = "".join(f"  {name:{width}}   {_about(known[name])}\n" for name in sorted(known)) or (
        "  None is installed. From a clone of the repository: pip install -e studies\n"
    )
    usage = f"usage: lightning-robust study NAME [options]\n\n{listed}\nEach study tells its options with --help.\n"
    match args:
        case ["-h" | "--help" | "help", *_]:
            sys.stdout.write(usage)
        case [name, *rest] if name in known:
            with _without_advertisements():
                known[name].load()(rest)
        case _:
            problem = f"there is no study {args[0]!r}" if args else "no study is named"
            sys.stderr.write(f"lightning-robust study: {problem}.\n\n{usage}")
            raise SystemExit(2)


def evaluate(args: Sequence[str]) -> None:
    """Evaluate a checkpoint with command-line options."""
    if not args or {"-h", "--help"} & set(args):
        from lightning_robust._evaluate_options import evaluate_parser

        evaluate_parser().parse_args(["--help"])
    _know_bare_names()
    from lightning_robust.evaluation.command import main as run

    with _without_advertisements():
        run(args)


def _know_bare_names() -> None:
    """Import the classes that jsonargparse shall know by their bare names: it knows what is imported."""
    import lightning_robust.attacks
    import lightning_robust.callbacks
    import lightning_robust.datamodules
    import lightning_robust.interop
    import lightning_robust.manifolds
    import lightning_robust.models
    import lightning_robust.objectives  # noqa: F401


def lightning(args: Sequence[str] | None) -> None:
    """Run LightningCLI on these words, None: on those of the command line."""
    _know_bare_names()
    from lightning_robust._keep_config import KeepConfig
    from lightning_robust._lightning import lightning_cli, pl
    from lightning_robust.recipes import Recipe

    trainers: list[Any] = []

    class RobustCLI(lightning_cli()):  # type: ignore[misc]
        """LightningCLI with an option for a training method."""

        def add_arguments_to_parser(self, parser: Any) -> None:
            text = "a function of lightning_robust.recipes, such as lightning_robust.recipes.trades"
            parser.add_argument("--recipe", type=Recipe | None, default=None, help=text)

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            recipe = self._get(self.config_init, "recipe") or []
            given = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
            callbacks = [*(given if isinstance(given, list) else [given]), *recipe]
            trainers.append(super().instantiate_trainer(callbacks=callbacks, **kwargs))
            return trainers[-1]

    # An error of an option raises, where jsonargparse would print fifty lines of usage before it.
    options = {name: {"exit_on_error": False} for name in RobustCLI.subcommands()} | {"exit_on_error": False}
    with _without_advertisements(), _saying_how_it_ended(trainers), _wrong_options_in_one_line():
        RobustCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=KeepConfig,
            seed_everything_default=0,
            parser_kwargs=options,
            args=None if args is None else list(args),
        )


@contextmanager
def _wrong_options_in_one_line() -> Iterator[None]:
    try:
        yield
    except argparse.ArgumentError as error:
        sys.stderr.write(f"lightning-robust: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None


@contextmanager
def _saying_how_it_ended(trainers: list[Any]) -> Iterator[None]:
    """Say where the results of the Trainer are, also where it was stopped, and end as shells expect."""
    from lightning_robust._command import INTERRUPTED, TERMINATED

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        terminated = type(stop).__name__ == "SIGTERMException"  # Lightning's; it makes an exit of Ctrl-C, too
        if not terminated and isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        _tell_results(trainers, "stopped. ")
        raise SystemExit(TERMINATED if terminated else INTERRUPTED) from None
    _tell_results(trainers)


def _tell_results(trainers: list[Any], how: str = "") -> None:
    for trainer in trainers:
        if trainer.is_global_zero:
            kept = [path for path in map(_path_of, trainer.checkpoint_callbacks) if path]
            weights = f"Checkpoint: {kept[-1]}" if kept else "No checkpoint was written"
            folder = trainer.log_dir or trainer.default_root_dir
            (sys.stderr if how else sys.stdout).write(f"lightning-robust: {how}Results: {folder}. {weights}.\n")


def _path_of(callback: Any) -> str:
    return getattr(callback, "best_model_path", "") or getattr(callback, "last_model_path", "")


@contextmanager
def _without_advertisements() -> Iterator[None]:
    """Lightning recommends packages at every start, and meets a deprecation of torch's that is not the user's."""

    def is_news(record: logging.LogRecord) -> bool:
        return "💡 Tip:" not in record.getMessage()

    names = [f"{package}.utilities.rank_zero" for package in ("pytorch_lightning", "lightning.pytorch")]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.*")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_news)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `lightning-robust`."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(args, None if argv is None else args)
    except KeyboardInterrupt as stop:
        from lightning_robust._command import code_of

        raise SystemExit(code_of(stop)) from None


def _run(args: list[str], given: list[str] | None) -> None:
    match args:
        case [] | ["-h" | "--help" | "help", *_]:
            sys.stdout.write(_HELP)
        case ["--version", *_]:
            from lightning_robust import __version__

            sys.stdout.write(f"lightning_robust {__version__}\n")
        case ["demo" | "evaluate" | "study" as command, *rest]:
            from lightning_robust._command import ending_well

            with ending_well():
                {"demo": demo, "evaluate": evaluate, "study": study}[command](rest)
        case ["fit" | "validate" | "test" | "predict", *_]:
            lightning(given)
        case [command, *_]:
            sys.stderr.write(f"lightning-robust: there is no command {command!r}.\n\n{_HELP}")
            raise SystemExit(2)


if __name__ == "__main__":
    main()
