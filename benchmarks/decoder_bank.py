"""How fast a bank of decoders is, against one class-agnostic decoder and against each decoder on the whole batch.

    python benchmarks/decoder_bank.py --width 0.25 --batch 100 --classes 10

The candidates take turns, so that a slow moment of the machine hits all alike; on a CPU the time is that of this
process alone. Ratios are medians over rounds of ratios within a round, with the least and the greatest.
The task is that of an attack: decode codes of mixed classes, and differentiate with respect to them. The candidates:

- one: the class-agnostic decoder of the same size on the same batch (what a bank cannot beat).
- bank: `VAEGAN(num_classes=K).decode`, each class's samples through its own decoder.
- select: each decoder on the whole batch, of which the right samples are kept.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust.manifolds import VAEGAN

Decode = Callable[[Tensor], Tensor]


def seconds(decode: Decode, z: Tensor, gradient: bool, precision: torch.dtype) -> float:
    z = z.clone().requires_grad_(gradient)
    wait, clock = (torch.cuda.synchronize, time.perf_counter) if z.is_cuda else ((lambda: None), time.process_time)
    wait()
    start = clock()
    autocast = torch.autocast(z.device.type, torch.bfloat16, enabled=precision == torch.bfloat16)
    with autocast, torch.set_grad_enabled(gradient):
        out = decode(z)
    if gradient:
        torch.autograd.grad(out.square().sum(), z)
    wait()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    precision = torch.bfloat16 if options.bfloat16 else torch.float32

    networks = {"width": options.width, "init_std": None}
    one = VAEGAN(**networks).to(options.device).eval().requires_grad_(False)
    bank = VAEGAN(**networks, num_classes=options.classes).to(options.device).eval().requires_grad_(False)
    y = torch.randint(options.classes, (options.batch,)).to(options.device)
    z = torch.randn(options.batch, bank.latent).to(options.device)
    rows = torch.arange(options.batch, device=y.device)
    candidates: dict[str, Decode] = {
        "one": lambda codes: one.decode(codes, y),
        "bank": lambda codes: bank.decode(codes, y),
        "select": lambda codes: torch.stack([member(codes).sigmoid() for member in bank.decoder.members])[y, rows],
    }
    error = (candidates["bank"](z) - candidates["select"](z)).abs().max()
    print(f"{options}, threads {torch.get_num_threads()}; bank - select: {float(error):.1e}")
    for gradient in (False, True):
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(options.rounds + 2):
            for name, decode in candidates.items():
                times[name].append(seconds(decode, z, gradient, precision))
        print("decode and gradient" if gradient else "decode")
        for name, values in times.items():
            ratios = [a / b for a, b in zip(values[2:], times["one"][2:], strict=True)]
            ms, middle = 1e3 * statistics.median(values[2:]), statistics.median(ratios)
            print(f"  {name:8} {ms:8.2f} ms   {middle:5.2f} [{min(ratios):.2f}, {max(ratios):.2f}] x one")


if __name__ == "__main__":
    main()
