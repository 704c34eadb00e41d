"""What `fast` gives: one attack with each setting, in turns, and how many times faster each is than the plain one.

python -m benchmarks.attack_pass --models standard --rounds 9
python -m benchmarks.attack_pass --models standard --batch-size 64 --compile --decoder 0.25
"""

import argparse
import itertools
import statistics

import torch

from benchmarks.attack_step import CLASSES, CLOCKS, MODELS
from lightning_robust.attacks import PGD, LatentSpace, Linf, Threat, fast
from lightning_robust.manifolds import VAEGAN


def attack_on(shape, decoder):
    """PGD-10 on images, or along the codes of a VAE-GAN of some width, whose decoder comes before the network."""
    if decoder is None:
        return PGD(Linf(8 / 255), steps=10)
    manifold = VAEGAN(shape, width=decoder, bound=2.0, init_std=None).eval()
    return PGD(Threat(Linf(0.3), LatentSpace(manifold)), steps=10)


def settings(attack, compile):  # noqa: A002
    """Name -> attack; the first is the textbook version."""
    found = {"as it is": attack}
    for half, code, last in itertools.product((False, True), (False, True) if compile else (False,), (False, True)):
        if half or code or last:
            names = ["bfloat16"] * half + ["compiled"] * code + ["channels last"] * last
            found[", ".join(names)] = fast(attack, compile=code, precision="bf16" if half else None, channels_last=last)
    return found


def ratios(model, batch_size, rounds, clock, compile, decoder=None):  # noqa: A002
    """Name -> how many times faster than the attack as it is, round by round."""
    torch.manual_seed(0)
    network, shape = MODELS[model][0]().eval(), MODELS[model][1]
    x, y = torch.rand(batch_size, *shape), torch.randint(CLASSES, (batch_size,))
    attacks = settings(attack_on(shape, decoder), compile)
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
    parser.add_argument("--decoder", type=float, help="attack the codes of a VAE-GAN of this width")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for model in given.models:
        print(
            f"\n| {model}, batches of {given.batch_size} | times faster, median of {given.rounds} | least | greatest |"
        )
        print("|---|---|---|---|")
        rest = given.rounds, given.clock, given.compile, given.decoder
        for name, values in ratios(model, given.batch_size, *rest).items():
            print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
