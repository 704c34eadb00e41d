"""`lightning-robust evaluate`: the robust accuracy of a checkpoint."""

import argparse
import errno
import importlib
import inspect
import itertools
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from lightning_robust import _checks
from lightning_robust._evaluate_options import PROG, evaluate_parser
from lightning_robust._lightning import pl
from lightning_robust.attacks import L1, L2, Attack, Ball, Linf, PixelSpace, Threat
from lightning_robust.evaluation._models import put_weights, read_checkpoint
from lightning_robust.evaluation._plan import Plan
from lightning_robust.evaluation.evaluate import evaluate
from lightning_robust.evaluation.ledger import unfinished
from lightning_robust.evaluation.plan import standard
from lightning_robust.evaluation.report import Report, check_new

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
_ADVICE = {  # of PixelSpace
    "say how in the attack: Threat(Linf(8 / 255), PixelSpace(mean=..., std=...))": "give its `mean` and `std`",
    ", or say Threat(Linf(8), PixelSpace(0, 255))": "",
}
_NORMS: dict[str, Callable[[float], Ball]] = {"linf": Linf, "l2": L2, "l1": L1}


def main(args: Sequence[str]) -> None:
    """Run the command with these words."""
    try:
        with _working_folder(), _short_warnings():
            match list(args):
                case ["--join", folder]:
                    _join(Path(folder))
                case []:
                    _run(["--help"])
                case words:
                    _run(words)
    except KeyboardInterrupt:
        if (out := _value(list(args), "out")) is not None:
            sys.stderr.write(
                f"{PROG}: stopped. What was found is kept in {out}; the same command goes on from there.\n"
            )
        raise
    except (argparse.ArgumentError, ImportError, OSError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        text = text[max(text.find("Expected argument `"), 0) :]  # and not how the parser came upon it
        text = text if "of_classes" in vars(error) else _in_options(text, "join" if args[0] == "--join" else "out")
        sys.stderr.write(f"{PROG}: {text if len(text) <= 600 else f'{text[:600]} ...'}\n")
        raise SystemExit(1 if getattr(error, "errno", None) in _OF_DISKS else 2) from None


def _in_options(text: str, folder: str) -> str:
    """What an error says of arguments, said of options; `folder` is the option of the folder."""
    options = {name: name for name in vars(evaluate_parser().get_defaults())} | {"folder": folder, "out": folder}
    for advice, instead in _ADVICE.items():
        text = text.replace(advice, instead)
    text = re.sub("another folder", f"another --{folder}", text)
    return re.sub(
        r"(?:arguments? )?`(\w+)`", lambda found: f"--{options[found[1]]}" if found[1] in options else found[0], text
    )


@contextmanager
def _of_classes() -> Iterator[None]:
    """Errors within speak of arguments of classes, which are other options: `--data.batch_size`."""
    try:
        yield
    except Exception as error:
        vars(error)["of_classes"] = True
        raise


def _run(words: list[str]) -> None:
    """Evaluate, print the table, and write the report."""
    config, made, content = _parsed(words)
    attacks = _attacks(config, made)
    shard = _shard(config.shard)
    if shard[1] > 1 and config.out is None:
        raise ValueError("Expected argument `out` to be a folder that all shards write to, but got none.")
    if content is None:
        warnings.warn("No --ckpt was given: the model is as its class makes it, untrained.", stacklevel=2)
    else:
        put_weights(made.model, content, config.ckpt, "ckpt")
    reads = {name: getattr(config, name) for name in ("input", "target", "code")}
    amounts = {name: getattr(config, name) for name in ("max_samples", "batch_size", "device", "seed")}
    report = evaluate(made.model, made.data, attacks, **reads, **amounts, out=config.out, shard=shard)
    sys.stdout.write(f"{report}\n\n{report.table()}\n")
    if shard[1] > 1:
        sys.stdout.write(
            f"Shard {shard[0]} of {shard[1]} is done. When all are, {PROG} --join {config.out} writes the report.\n"
        )
    elif config.out is not None:
        sys.stdout.write(f"Report: {Path(config.out) / 'report.html'}\n")


def _join(folder: Path) -> None:
    """The report of all shards."""
    check_new("out", folder)
    left = unfinished(folder) if any(folder.glob("ledger-*.jsonl")) else []
    if left:
        shards = f"shard {', '.join(map(str, left))}" if len(left) == 1 else f"shards {', '.join(map(str, left))}"
        raise ValueError(
            f"Expected argument `folder` to hold evaluations that have come to their ends, but in {folder} {shards} "
            "(the first is 0) did not: images that look robust may be those that were not attacked yet. Run the same "
            "command again, which goes on from there, and then join."
        )
    report = Report.load(folder)
    sys.stdout.write(f"{report}\n\n{report.table()}\nReport: {report.write(folder)}\n")


def _parsed(words: list[str]) -> tuple[Any, Any, dict[str, Any] | None]:
    """The options, the objects that they describe, and what the checkpoint holds."""
    parser = evaluate_parser(nn.Module, pl.LightningDataModule, Attack | Plan | dict[str, Attack] | None)
    for option, base in (("model", nn.Module), ("data", pl.LightningDataModule)):
        _check_class(option, _value(words, option), base)
    path = _value(words, "ckpt")
    content = None if path is None else _read(path)
    with _of_classes():
        config = parser.parse_args([*words, *_saved_arguments(words, content)])
    if content is None and config.ckpt is not None:  # named in a file of options
        content = _read(config.ckpt)
    with _of_classes():
        make = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before jsonargparse 4.49
        return config, make(config), content


def _read(path: str) -> dict[str, Any]:
    """What the checkpoint holds."""
    try:
        return read_checkpoint(path, "ckpt")
    except OSError as error:
        named = OSError(f"Expected argument `ckpt` to be a file of weights, but got {path!r}: {error.strerror}.")
        named.errno = error.errno
        raise named from error


def _value(words: list[str], option: str) -> str | None:
    """What follows an option, the last time it is given."""
    found = None
    for word, after in itertools.pairwise([*words, ""]):
        if word == f"--{option}":
            found = after
        elif word.startswith(f"--{option}="):
            found = word.partition("=")[2]
    return found


def _named(name: str) -> Any:
    """What an import path, or the bare name of something of `lightning_robust`, stands for; None: nobody knows."""
    if "." not in name:
        places = ("models", "datamodules")
        return next(
            (o for p in places if (o := getattr(importlib.import_module(f"lightning_robust.{p}"), name, 0))), None
        )
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _check_class(option: str, name: str | None, base: type) -> None:
    """Refuse a name that stands for nothing."""
    if name is None or not name or name[0] in "{[" or name.endswith((".yaml", ".yml", ".json")):
        return
    wanted = f"Expected argument `{option}` to be the import path of a {base.__name__}, such as my.module.MyClass"
    try:
        value = _named(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{wanted}, but got {name!r}: {error}.") from error
    if value is None and not any(kind.__name__ == name for kind in _kinds_of(base)):
        raise ValueError(f"{wanted}, but got {name!r}, which is no class of lightning_robust.")
    if isinstance(value, type) and not issubclass(value, base):
        raise TypeError(f"{wanted}, but {name!r} is none.")


def _kinds_of(base: type) -> Iterator[type]:
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        yield kind
        yield from _kinds_of(kind)


def _saved_arguments(words: list[str], content: dict[str, Any] | None) -> list[str]:
    """Options for the arguments of the model that a checkpoint holds and the words do not give."""
    name, saved = _value(words, "model"), (content or {}).get("hyper_parameters")
    value = _named(name) if name is not None and name[:1] not in "{[" else None
    if not isinstance(value, type) or not isinstance(saved, dict):
        return []
    given = {word.split("=")[0].split(".")[-1] for word in words if word.startswith("--model.")}
    options = []
    for key in inspect.signature(value).parameters:
        if key in saved and key not in given:
            try:
                options.append(f"--model.{key}={json.dumps(saved[key])}")
            except TypeError:  # no text stands for it: it is to be given
                continue
    return options


def _attacks(config: Any, made: Any) -> Any:
    """The attacks that are named, or the standard of a threat."""
    if (config.threat is None) == (config.attacks is None):
        raise ValueError("Expected one of `threat`, such as --threat linf --eps 8/255, and `attacks`.")
    if config.threat is None:
        return made.attacks
    norm = _checks.choice("threat", config.threat.lower(), tuple(_NORMS))
    if config.eps is None:
        raise ValueError(f"Expected argument `eps` to be the radius of {norm}, such as 8/255, but got none.")
    mean, std = (
        None if v is None else [_fraction(n, p) for p in v.strip("[]").split(",")]
        for n, v in (("mean", config.mean), ("std", config.std))
    )
    threat = Threat(_NORMS[norm](_fraction("eps", config.eps)), PixelSpace(mean=mean, std=std))
    return standard(threat, radii=config.radii)


def _fraction(name: str, text: str) -> float:
    """A number such as 0.03 or 8/255."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / (float(bottom) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"Expected argument `{name}` to be a number such as 8/255, but got {text!r}.") from None


def _shard(text: str) -> tuple[int, int]:
    """0/4: the first of four processes."""
    number, slash, processes = text.partition("/")
    if not (slash and number.isdecimal() and processes.isdecimal() and int(number) < int(processes)):
        raise ValueError(
            f"Expected argument `shard` to be the number of this process and that of all, such as 0/4, but got "
            f"{text!r}."
        )
    return int(number), int(processes)


@contextmanager
def _working_folder() -> Iterator[None]:
    """Modules in the working folder can be imported, as in a program that stands there."""
    folder = str(Path.cwd())
    known = folder in sys.path or "" in sys.path
    if not known:
        sys.path.append(folder)
    try:
        yield
    finally:
        if not known and folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings without the place in the source."""

    def show(message: Any, category: Any, filename: Any, lineno: Any, file: Any = None, line: Any = None) -> None:
        sys.stderr.write(f"Warning: {message}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
