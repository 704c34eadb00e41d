"""The options of `lightning-robust evaluate`. Its help needs nothing else, so that it comes without torch."""

import argparse
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser

PROG = "lightning-robust evaluate"
_DESCRIPTION = """Attack a trained model on the test part of a data module.

    lightning-robust evaluate --ckpt last.ckpt --model my.module.Net --data my.module.Data
        --threat linf --eps 8/255 --out runs/evaluation

Classes go by their import path, from the working folder too; those of lightning_robust by their bare names. Arguments
of a class are options of their own, --model.width 64, which --model.help my.module.Net lists; those that a checkpoint
of Lightning holds need not be given. With --out, report.html, report.json and samples.csv are written, and what is
found is kept from the first batch on: the same command goes on where it was stopped.

    lightning-robust evaluate --join DIR

writes the report of all shards, once each of them has ended in the folder DIR."""


def evaluate_parser(model: Any = str, data: Any = str, attacks: Any = str) -> ArgumentParser:
    """The parser, with the types of what classes are named for; text, where no class is needed."""
    parser = ArgumentParser(
        prog=PROG,
        usage=f"{PROG} --model CLASS --data CLASS --threat NORM --eps RADIUS [options]",
        description=_DESCRIPTION,
        exit_on_error=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of options")
    parser.add_argument("--model", type=model, required=True, help="class of the model, from inputs to logits")
    parser.add_argument("--ckpt", type=str | None, default=None, help="checkpoint of Lightning, or a state dict")
    parser.add_argument("--data", type=data, required=True, help="its test data is attacked")
    parser.add_argument("--threat", type=str | None, default=None, help="linf, l2 or l1, of pixels in [0, 1]")
    parser.add_argument("--eps", type=str | None, default=None, help="its radius, such as 8/255")
    parser.add_argument("--mean", type=str | None, default=None, help="if the data is normalized: 0.5, or 0.5,0.4,0.4")
    parser.add_argument("--std", type=str | None, default=None, help="likewise; eps stays in units of [0, 1]")
    parser.add_argument("--radii", type=bool, default=False, help="accuracy over the radius, too")
    parser.add_argument("--attacks", type=attacks, default=None, help="in place of a threat: attacks of your own")
    parser.add_argument("--input", type=int | str, default=0, help="where the input is in a batch")
    parser.add_argument("--target", type=int | str, default=1, help="where the labels are")
    parser.add_argument("--code", type=int | str | None, default=None, help="where the latent codes are")
    parser.add_argument("--max_samples", type=int | None, default=None, help="number of samples; default: all")
    parser.add_argument("--batch_size", type=int, default=250, help="samples per batch of an attack")
    parser.add_argument("--device", type=str | None, default=None, help="such as cuda; default: the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the random starts")
    parser.add_argument("--shard", type=str, default="0/1", help="0/4: the first of four; evaluate --join DIR ends")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the report")
    return parser
