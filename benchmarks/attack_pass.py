"""What `fast` gives: one attack with each setting, in turns, and how many times faster each is than the plain one.

python -m benchmarks.attack_pass --models standard --rounds 9
python -m benchmarks.attack_pass --models standard --batch-size 64 --compile --decoder 0.25
python -m benchmarks.attack_pass --models resnet18 --batch-size 4 --rounds 5 --compile --precisions float32
"""

import argparse
import itertools
import statistics
from unittest import mock

import torch

from benchmarks.attack_step import CLASSES, CLOCKS, MODELS
from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat, _compiled, fast
from lightning_robust.manifolds import VAEGAN


def attack_on(shape, decoder):
    """PGD-10 on images, or along the codes of a VAE-GAN of some width, whose decoder comes before the network."""
    if decoder is None:
        return PGD(Linf(8 / 255), steps=10)
    manifold = VAEGAN(shape, width=decoder, bound=2.0, init_std=None).eval()
    return PGD(Threat(Linf(0.3), LatentSpace(manifold)), steps=10)


def passes_alone(attack):
    """The same attack where no whole step is a graph, but the passes through the network are."""

    def run(network, x, y):
        with mock.patch.object(_compiled, "can_be_made", return_value=False):
            return attack(network, x, y)

    return run


def settings(attack, compile, precisions):  # noqa: A002
    """Name -> attack; the first is the textbook version."""
    found = {"as it is": attack}
    halves, codes = [name == "bfloat16" for name in precisions], (False, True) if compile else (False,)
    for half, code, last in itertools.product(halves, codes, (False, True)):
        if half or code or last:
            names = ["bfloat16"] * half + ["compiled"] * code + ["channels last"] * last
            quick = fast(attack, compile=code, precision="bf16" if half else None, channels_last=last)
            found[", ".join(names)] = quick
            if code:
                found[", ".join([*names, "passes alone"])] = passes_alone(quick)
    return found


def ratios(model, batch_size, rounds, clock, compile, precisions, decoder=None):  # noqa: A002
    """Name -> how many times faster than the attack as it is, round by round."""
    torch.manual_seed(0)
    network, shape = MODELS[model][0]().eval(), MODELS[model][1]
    x, y = torch.rand(batch_size, *shape), torch.randint(CLASSES, (batch_size,))
    attacks = settings(attack_on(shape, decoder), compile, precisions)
    for attack in (*attacks.values(), *attacks.values()):  # compiles passes, then whole steps, and fills caches
        attack(network, x, y)
    found = {name: [] for name in attacks}
    for _ in range(rounds):
        seconds = {}
        for name, attack in attacks.items():
            began = CLOCKS[clock]()
            attack(network, x, y)
            seconds[name] = CLOCKS[clock]() - began
        for name, value in seconds.items():
            found[name].append(seconds["as it is"] / value)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["standard"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="the CPU time of this process, or wall")
    parser.add_argument("--compile", action="store_true", help="compiled ones too; takes minutes on large networks")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--decoder", type=float, help="attack the codes of a VAE-GAN of this width")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for model in given.models:
        print(
            f"\n| {model}, batches of {given.batch_size} | times faster, median of {given.rounds} | least | greatest |"
        )
        print("|---|---|---|---|")
        rest = given.rounds, given.clock, given.compile, given.precisions, given.decoder
        for name, values in ratios(model, given.batch_size, *rest).items():
            print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
