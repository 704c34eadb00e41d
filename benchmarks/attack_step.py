"""What a step of adversarial training costs: against the least it can cost, and against other packages, in one run.

    python benchmarks/attack_step.py --rounds 15 --models standard --precisions float32 --markdown step.md

The floor is the arithmetic of PGD-10 training and nothing else: ten forward passes with the gradient of the input, and
one training step. Every variant takes turns with it, round by round, on the same batch, so that what else the machine
does meets all of them alike. Each ratio is taken within a round; the table shows their median, least and greatest. A
package that is not there is left out, and said to be.

On Linux the C library hands freed memory back to the system and fetches it again, at every pass or at none, depending
on how the heap happens to lie: up to 30 % of the time of a small network, which no variant has earned. So the memory is
kept, unless `--system-memory` asks for the usual behaviour. On a CPU the clock counts the time of this process only, on
one thread: so the ratios hold on a machine that others use, too. `--clock wall` and `--threads` ask for another clock.
Graphs that take minutes to compile are left out on a CPU, unless `--variants` names them. All defaults together take
less than 15 minutes of such a processor.
"""

import argparse
import copy
import ctypes
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust.attacks import PGD, Attack, Linf, fast
from lightning_robust.models import standard_net

EPS, STEPS, CLASSES = 8 / 255, 10, 10
ALPHA = 2.5 * EPS / STEPS

Step = Callable[[Tensor, Tensor], None]
"""One step of training on a batch (x, y)."""


@dataclass(frozen=True)
class Setting:
    """A network that a variant may keep, its optimiser, and the precision of its forward passes."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Callable[[], AbstractContextManager]

    def train(self, x: Tensor, y: Tensor) -> None:
        """A training step, inside the precision context already; the backward pass too, which costs nothing."""
        loss = F.cross_entropy(self.net(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


# A variant is a function of a setting that returns a step. Add one here, and it is measured.


def floor(setting: Setting) -> Step:
    """Ten forward passes with input gradients in evaluation mode, and a training step.

    The parameters are not frozen: autograd skips their gradients anyway.
    """
    net = setting.net

    def step(x: Tensor, y: Tensor) -> None:
        with setting.precision():
            net.eval()
            for _ in range(STEPS):
                x_adv = x.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(net(x_adv), y), x_adv)
            net.train()
            setting.train(x, y)

    return step


def ours(attack: Attack, *, checked: bool = False) -> Callable[[Setting], Step]:
    """An attack of this package, called as a callback calls it after the first batch, or with checks of the data."""

    def variant(setting: Setting) -> Step:
        def step(x: Tensor, y: Tensor) -> None:
            with setting.precision():
                x_adv = attack(setting.net, x, y) if checked else attack.run(setting.net, x, y).x_adv
                setting.train(x_adv, y)

        return step

    return variant


def torchattacks_pgd(setting: Setting) -> Step:
    """PGD of torchattacks, built once, which is the fastest and what its users write."""
    import torchattacks

    attack = torchattacks.PGD(setting.net, eps=EPS, alpha=ALPHA, steps=STEPS)

    def step(x: Tensor, y: Tensor) -> None:
        with setting.precision():
            setting.train(attack(x, y), y)

    return step


def foolbox_pgd(setting: Setting) -> Step:
    """LinfPGD of foolbox; the user sets the mode of the model, and its parameters stay trainable."""
    import foolbox

    device = next(setting.net.parameters()).device
    attack = foolbox.attacks.LinfPGD(abs_stepsize=ALPHA, steps=STEPS)
    model = foolbox.PyTorchModel(setting.net.eval(), bounds=(0, 1), device=device)

    def step(x: Tensor, y: Tensor) -> None:
        with setting.precision():
            setting.net.eval()
            _, x_adv, _ = attack(model, x, y, epsilons=EPS)
            setting.net.train()
            setting.train(x_adv, y)

    return step


def adv_lib_pgd(setting: Setting) -> Step:
    """pgd_linf of adv-lib, which wants a plot server that no attack needs; the user sets the mode of the model."""
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    from adv_lib.attacks import pgd_linf

    def step(x: Tensor, y: Tensor) -> None:
        with setting.precision():
            setting.net.eval()
            x_adv = pgd_linf(setting.net, x, y, EPS, steps=STEPS, relative_step_size=ALPHA / EPS)
            setting.net.train()
            setting.train(x_adv, y)

    return step


def art_pgd(setting: Setting) -> Step:
    """ProjectedGradientDescentPyTorch of ART, which takes and gives arrays."""
    import numpy as np
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    options = {"loss": nn.CrossEntropyLoss(), "nb_classes": CLASSES, "clip_values": (0, 1)}
    kind = "gpu" if next(setting.net.parameters()).is_cuda else "cpu"

    def step(x: Tensor, y: Tensor) -> None:
        with setting.precision():
            setting.net.eval()
            model = PyTorchClassifier(setting.net, input_shape=tuple(x.shape[1:]), device_type=kind, **options)
            attack = ProjectedGradientDescentPyTorch(
                model, np.inf, EPS, ALPHA, max_iter=STEPS, batch_size=len(x), verbose=False
            )
            x_adv = torch.as_tensor(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x)
            setting.net.train()
            setting.train(x_adv, y)

    return step


_PGD = PGD(Linf(EPS), steps=STEPS)
VARIANTS: dict[str, Callable[[Setting], Step]] = {
    "floor": floor,
    "lightning_robust": ours(_PGD),
    "lightning_robust, checked": ours(_PGD, checked=True),
    "lightning_robust, channels_last": ours(fast(_PGD, channels_last=True)),
    "lightning_robust, compiled": ours(fast(_PGD, compile=True)),
    "lightning_robust, both": ours(fast(_PGD, compile=True, channels_last=True)),
    "lightning_robust, bf16 attack": ours(fast(_PGD, precision="bf16", channels_last=True)),
    "torchattacks": torchattacks_pgd,
    "foolbox": foolbox_pgd,
    "adv-lib": adv_lib_pgd,
    "ART": art_pgd,
}


class Transformer(nn.Module):
    """A small vision transformer for 32 x 32: patches of 4 x 4, an encoder of torch, the mean over patches."""

    def __init__(self, width: int = 192, depth: int = 6, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 64, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.encoder(tokens).mean(1))


def resnet18() -> nn.Module:
    """The ResNet-18 of torchvision at the size of CIFAR-10."""
    from torchvision.models import resnet18 as imagenet_resnet18

    net = imagenet_resnet18(num_classes=CLASSES)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


# The network and the shape of its images.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "standard": (lambda: standard_net(1, CLASSES, 28), (1, 28, 28)),
    "resnet18": (resnet18, (3, 32, 32)),
    "vit": (Transformer, (3, 32, 32)),
}


def settings(model: str, precision: str, device: torch.device) -> Iterator[Setting]:
    """Settings that start alike, one for each variant."""
    torch.manual_seed(0)
    origin = MODELS[model][0]().to(device)
    while True:
        net = copy.deepcopy(origin)
        # As Lightning's bf16-mixed: without the cache of casts.
        autocast = partial(torch.autocast, device.type, torch.bfloat16, cache_enabled=False)
        context = autocast if precision == "bfloat16" else nullcontext
        yield Setting(net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), context)


Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(step: Step, x: Tensor, y: Tensor, clock: Clock) -> float:
    """The time of one step, with all its work on the device done."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = clock()
    step(x, y)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return clock() - start


def keep_memory() -> None:
    """Tell glibc to serve large blocks from its heap and never to shrink it (mallopt(3))."""
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    libc = ctypes.CDLL(None)
    for option, size in ((trim_threshold, 2**30), (top_pad, 2**28), (mmap_threshold, 2**30)):
        libc.mallopt(option, size)


def measure(
    model: str, precision: str, names: list[str], batch_size: int, rounds: int, device: torch.device, clock: Clock
) -> dict[str, list[float]]:
    """Times per variant, in rounds in which every variant has its turn once: A B C, A B C, ..."""
    steps: dict[str, Step] = {}
    for name, setting in zip(names, settings(model, precision, device), strict=False):
        try:
            steps[name] = VARIANTS[name](setting)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    x = torch.rand(batch_size, *MODELS[model][1], device=device)
    y = torch.randint(CLASSES, (batch_size,), device=device)
    for name in list(steps):  # buffers, kernels and caches are made in the first two
        try:
            for _ in range(2):
                steps[name](x, y)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            del steps[name]
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, x, y, clock))
    return times


HEADINGS = ("median ms", "x floor: median", "least", "greatest")


def show(title: str, times: dict[str, list[float]]) -> str:
    """Print a table, in Markdown; returns the same."""
    rows = [(title, *HEADINGS)]
    for name, of_variant in times.items():
        ratios = [t / base for t, base in zip(of_variant, times["floor"], strict=True)]
        rows.append((name, f"{1000 * median(of_variant):.1f}", *(f"{f(ratios):.3f}" for f in (median, min, max))))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in wide))
    text = "\n".join(f"| {' | '.join(map(str.ljust, row, wide))} |" for row in rows)
    print("\n" + text)
    return "\n" + text


def processor() -> str:
    """The name of the CPU where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def usual(device: torch.device) -> list[str]:
    """The variants that are measured unless others are named."""
    slow = () if device.type == "cuda" else ("lightning_robust, compiled", "lightning_robust, both")
    return [name for name in VARIANTS if name not in ("floor", "lightning_robust, checked", *slow)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=None, help="turns of each variant; default: 15, 5 on a CPU")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 128, or 4 on a CPU but for standard")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=None, help="besides the floor")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; 0: as torch decides")
    parser.add_argument("--clock", choices=CLOCKS, default=None, help="default: wall, of this process alone on a CPU")
    parser.add_argument("--system-memory", action="store_true", help="let the C library hand memory back")
    parser.add_argument("--markdown", type=Path, default=None, help="write the tables to this file, too")
    args = parser.parse_args()
    keeps = platform.libc_ver()[0] == "glibc" and not args.system_memory
    if keeps:
        keep_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    on_cpu = device.type == "cpu"
    clock, rounds = args.clock or ("cpu" if on_cpu else "wall"), args.rounds or (5 if on_cpu else 15)
    names = ["floor", *(name for name in args.variants or usual(device) if name != "floor")]
    said = (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}\n"
        f"CPU: {processor()}, threads: {torch.get_num_threads()}\n"
        f"device: {torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}\n"
        f"PGD-{STEPS} in Linf(8/255) and one step of SGD, {rounds} rounds, {clock} clock, "
        f"memory {'kept' if keeps else 'as the system has it'}"
    )
    print(said)
    lines = [said]
    for precision in args.precisions:
        for model in args.models:
            size = args.batch_size or (4 if model != "standard" and on_cpu else 128)
            times = measure(model, precision, names, size, rounds, device, CLOCKS[clock])
            lines.append(show(f"{model}, batches of {size}, {precision}", times))
            if args.markdown is not None:
                args.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
