"""What an attack takes of memory beside a training step, and what data take of the time of a step.

python benchmarks/memory_and_data.py

Memory is what the allocator has handed out at most during a call, beyond what it had before; parameters and the state
of the optimizer are there before. Data are the batches of a loader, one by one in the process that trains, beside steps
of the standard net, in turns; on a CPU the time is that of this process alone.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.attack_step import CLASSES, CLOCKS, EPS, MODELS, STEPS
from lightning_robust.attacks import PGD, Linf
from lightning_robust.datamodules import Fonts, TensorDataModule

ATTACK = PGD(Linf(EPS), steps=STEPS)


def peak(work: Callable[[], Any]) -> int:
    """The bytes that a call holds at most at one time, on top of those held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes), default=0)


def works(model: str, batch_size: int) -> dict[str, Callable[[], Any]]:
    """A training step on a clean batch, the attack, and the forward and backward pass of its input alone."""
    torch.manual_seed(0)
    network, shape = MODELS[model][0](), MODELS[model][1]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.rand(batch_size, *shape), torch.randint(CLASSES, (batch_size,))

    def train() -> None:
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def once() -> None:
        network.eval()
        x_adv = x.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(network(x_adv), y), x_adv)
        network.train()

    return {"training step": train, "attack": lambda: ATTACK.run(network, x, y), "one gradient of the input": once}


def memory(model: str, batch_size: int) -> None:
    """Print what each takes."""
    found = works(model, batch_size)
    for work in found.values():  # the state of the optimizer, kernels
        work()
    taken = {name: peak(work) for name, work in found.items()}
    for name, size in taken.items():
        share = size / taken["training step"]
        print(f"| {model}, batches of {batch_size} | {name} | {size / 2**20:.1f} MiB | {share:.2f} |")


def endless(loader: Any) -> Iterator[Any]:
    """Batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def data(batch_size: int, rounds: int, clock: Callable[[], float]) -> None:
    """Print the time of a batch beside that of a step."""
    size = 100 * batch_size
    images, labels = torch.randint(256, (size, 1, 28, 28), dtype=torch.uint8), torch.arange(size) % CLASSES
    modules = {
        "Fonts": Fonts(train_size=size, batch_size=batch_size, num_workers=0),
        "in memory": TensorDataModule((images, labels), (images, labels), batch_size=batch_size, num_workers=0),
    }
    batches = {}
    for name, module in modules.items():
        module.prepare_data()
        module.setup("fit")
        batches[name] = endless(module.train_dataloader())
    found = works("standard", batch_size)
    turns: dict[str, Callable[[], Any]] = {name: (lambda it=it: next(it)) for name, it in batches.items()}
    turns |= {"training step": found["training step"], "attack": found["attack"]}
    for turn in turns.values():
        turn()
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            began = clock()
            turn()
            times[name].append(clock() - began)
    for name in batches:
        for what, parts in (("a plain step", ["training step"]), ("a robust step", ["training step", "attack"])):
            shares = [100 * t / sum(times[part][i] for part in parts) for i, t in enumerate(times[name])]
            middle = statistics.median(shares)
            print(
                f"| {name} | {1e3 * statistics.median(times[name]):.2f} ms | of {what}: {middle:.1f} % "
                f"[{min(shares):.1f}, {max(shares):.1f}] |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["standard", "resnet18", "vit"])
    parser.add_argument("--batch-size", type=int, default=128, help="of the standard net")
    parser.add_argument("--large-batch-size", type=int, default=4, help="of the larger networks")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="the processor time of this process, or wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | work | peak memory | of a training step |\n|---|---|---|---|")
    for model in options.models:
        memory(model, options.batch_size if model == "standard" else options.large_batch_size)
    print("\n| data | a batch | share |\n|---|---|---|")
    data(options.batch_size, options.rounds, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
