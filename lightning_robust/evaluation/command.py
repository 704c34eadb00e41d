"""`lightning-robust evaluate`: the robust accuracy of a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack
from lightning_robust.evaluation.evaluate import evaluate
from lightning_robust.evaluation.report import check_new

_DESCRIPTION = """Attack a trained model on the test part of a data module, and write report.html, report.json and
samples.csv. Classes of lightning_robust go by their bare names, all others by their import path."""


def main(args: Sequence[str]) -> None:
    """Run the command with these words."""
    prog = "lightning-robust evaluate"
    try:
        config, made = _parsed(prog, args)
        if config.out is not None:
            check_new("out", Path(config.out))
        if config.ckpt is not None:
            load_weights(made.model, config.ckpt)
        report = evaluate(
            made.model,
            made.data,
            made.attacks,
            input=config.input,
            target=config.target,
            code=config.code,
            max_samples=config.max_samples,
            device=config.device,
        )
    except (argparse.ArgumentError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{prog}: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    sys.stdout.write(f"{report.table()}\n")
    if config.out is not None:
        sys.stdout.write(f"Report: {report.write(config.out)}\n")


def _parsed(prog: str, args: Sequence[str]) -> tuple[Any, Any]:
    """The options, and the objects that they describe."""
    from jsonargparse import ActionConfigFile, ArgumentParser

    parser = ArgumentParser(prog=prog, description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of options")
    parser.add_argument("--model", type=nn.Module, required=True, help="module from inputs to logits")
    parser.add_argument("--ckpt", type=str | None, default=None, help="checkpoint of Lightning, or a state dict")
    parser.add_argument("--data", type=pl.LightningDataModule, required=True, help="its test data is attacked")
    parser.add_argument("--attacks", type=Attack | dict[str, Attack], required=True, help="one, or several by name")
    parser.add_argument("--input", type=int | str, default=0, help="where the input is in a batch")
    parser.add_argument("--target", type=int | str, default=1, help="where the labels are")
    parser.add_argument("--code", type=int | str | None, default=None, help="where the latent codes are")
    parser.add_argument("--max_samples", type=int | None, default=None, help="number of samples; default: all")
    parser.add_argument("--device", type=str | None, default=None, help="such as cuda; default: the CPU")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the report")
    config = parser.parse_args(list(args))
    return config, parser.instantiate_classes(config)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load the weights of a file: a checkpoint of Lightning, or a state dict as `torch.save` writes it.

    Args:
        module: Takes the weights.
        path: The file. It is read safely: nothing in it is executed.

    Raises:
        ValueError: if the file cannot be read safely, or its weights are those of another module.
        TypeError: if it holds something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"Expected argument `ckpt` to be a file of weights that can be read safely, but {path} cannot: "
            f"{str(error).splitlines()[0]} Save the weights alone: torch.save(module.state_dict(), path)."
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict):
        raise TypeError(f"Expected argument `ckpt` to hold a state dict, but {path} holds {type(weights).__name__}.")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"Expected argument `ckpt` to hold the weights of {type(module).__name__}, but {path} does not: {error}"
        ) from error
