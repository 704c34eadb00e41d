"""The command line: demo, evaluate, study, and LightningCLI with our classes by their bare names."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
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
    from lightning_robust.demo import Settings, run_demo

    run_command(
        Settings,
        run_demo,
        args,
        prog="lightning-robust demo",
        description="Train four models on letters (normal, adversarial, on-manifold, transformations) and attack them.",
    )


def studies() -> dict[str, EntryPoint]:
    """The studies that are installed, by name: packages register them in the entry point group of this name."""
    return {entry.name: entry for entry in entry_points(group="lightning_robust.studies")}


def study(args: Sequence[str]) -> None:
    """Run a study by name."""
    known = studies()
    listed = "".join(f"  {name}\n" for name in sorted(known)) or (
        "  None is installed. From a clone of the repository: pip install -e studies\n"
    )
    usage = f"usage: lightning-robust study NAME [options]\n\n{listed}\nEach study tells its options with --help.\n"
    match args:
        case ["-h" | "--help" | "help", *_]:
            sys.stdout.write(usage)
        case [name, *rest] if name in known:
            known[name].load()(rest)
        case _:
            problem = f"there is no study {args[0]!r}" if args else "no study is named"
            sys.stderr.write(f"lightning-robust study: {problem}.\n\n{usage}")
            raise SystemExit(2)


def evaluate(args: Sequence[str]) -> None:
    """Evaluate a checkpoint with command-line options."""
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

    class RobustCLI(lightning_cli()):  # type: ignore[misc]
        """LightningCLI with an option for a training method."""

        def add_arguments_to_parser(self, parser: Any) -> None:
            text = "a function of lightning_robust.recipes, such as lightning_robust.recipes.trades"
            parser.add_argument("--recipe", type=Recipe | None, default=None, help=text)

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            recipe = self._get(self.config_init, "recipe") or []
            given = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
            callbacks = [*(given if isinstance(given, list) else [given]), *recipe]
            return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    with _without_advertisements():
        RobustCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=KeepConfig,
            seed_everything_default=0,
            args=None if args is None else list(args),
        )


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
        match args:
            case [] | ["-h" | "--help" | "help", *_]:
                sys.stdout.write(_HELP)
            case ["--version", *_]:
                from lightning_robust import __version__

                sys.stdout.write(f"lightning_robust {__version__}\n")
            case ["demo", *rest]:
                demo(rest)
            case ["evaluate", *rest]:
                evaluate(rest)
            case ["study", *rest]:
                study(rest)
            case ["fit" | "validate" | "test" | "predict", *_]:
                lightning(None if argv is None else args)
            case [command, *_]:
                sys.stderr.write(f"lightning-robust: there is no command {command!r}.\n\n{_HELP}")
                raise SystemExit(2)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as shells have it: 128 and the number of the signal


if __name__ == "__main__":
    main()
