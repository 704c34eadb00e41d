"""How fast a bank of decoders is: against one class-agnostic decoder, and against loops over the classes.

    python benchmarks/decoder_bank.py --width 0.25 --batch 100 --classes 10

Times are medians over rounds in which the candidates take turns, so that a slow moment of the machine hits all alike.
The task is that of an
attack: decode codes of mixed classes, and differentiate with respect to them. The candidates:

- one: the class-agnostic decoder of the same size on the same batch (what a bank cannot beat).
- bank: `VAEGAN(num_classes=K).decode`.
- loop: each class's samples through its own decoder, one after the other.
- loop, transposed: the same with `nn.ConvTranspose2d` for the convolutions, as the paper's networks have it.
- loop, select: each decoder on the whole batch, of which the right samples are kept.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_robust.manifolds.bank import bank
from lightning_robust.manifolds.networks import UpConv2d, decoder
from lightning_robust.manifolds.vaegan import VAEGAN

Decode = Callable[[Tensor], Tensor]


def transposed(member: VAEGAN) -> nn.Sequential:
    """A decoder of the same size in torch's own layers."""
    layers: list[nn.Module] = []
    size = (0, 0)
    for layer in decoder(member.hparams["image_shape"], member.latent, member.hparams["width"]):
        if isinstance(layer, UpConv2d):
            extra = (layer.size[0] - 2 * size[0], layer.size[1] - 2 * size[1])
            channels = (layer.weight.shape[1], layer.weight.shape[0] // 4)
            layers.append(nn.ConvTranspose2d(*channels, 6, 2, 2, output_padding=extra, bias=layer.bias is not None))
            size = layer.size
        else:
            layers.append(layer)
            size = layer.unflattened_size[1:] if isinstance(layer, nn.Unflatten) else size
    return nn.Sequential(*layers, nn.Sigmoid())


def loop(decoders: list[Decode], y: Tensor) -> Decode:
    def decode(z: Tensor) -> Tensor:
        rows = [torch.nonzero(y == k)[:, 0] for k in range(len(decoders))]
        parts = [d(z[own]) for d, own in zip(decoders, rows, strict=True) if len(own)]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    return decode


def select(decoders: list[Decode], y: Tensor) -> Decode:
    return lambda z: torch.stack([d(z) for d in decoders])[y, torch.arange(len(y), device=y.device)]


def seconds(decode: Decode, z: Tensor, gradient: bool, precision: torch.dtype) -> float:
    z = z.clone().requires_grad_(gradient)
    wait = torch.cuda.synchronize if z.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    autocast = torch.autocast(z.device.type, torch.bfloat16, enabled=precision == torch.bfloat16)
    with autocast, torch.set_grad_enabled(gradient):
        out = decode(z)
    if gradient:
        torch.autograd.grad(out.square().sum(), z)
    wait()
    return time.perf_counter() - start


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

    members = [VAEGAN(width=options.width, init_std=None).to(options.device).eval() for _ in range(options.classes)]
    joined = bank(members).requires_grad_(False)
    plain = [transposed(member).to(options.device).eval().requires_grad_(False) for member in members]
    for member in members:
        member.requires_grad_(False)
    y = torch.randint(options.classes, (options.batch,)).to(options.device)
    z = torch.randn(options.batch, members[0].latent).to(options.device)
    decoders = [lambda codes, m=member: m.decode(codes, y[: len(codes)]) for member in members]
    candidates: dict[str, Decode] = {
        "one": decoders[0],
        "bank": lambda codes: joined.decode(codes, y),
        "loop": loop(decoders, y),
        "loop, transposed": loop(list(plain), y),
        "loop, select": select(decoders, y),
    }
    error = (candidates["bank"](z) - candidates["loop"](z)).abs().max()
    print(f"{options}, threads {torch.get_num_threads()}; bank - loop: {float(error):.1e}")
    for gradient in (False, True):
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(options.rounds + 2):
            for name, decode in candidates.items():
                times[name].append(seconds(decode, z, gradient, precision))
        median = {name: 1e3 * statistics.median(values[2:]) for name, values in times.items()}
        print("decode and gradient" if gradient else "decode")
        for name, ms in median.items():
            print(f"  {name:17} {ms:8.2f} ms   {ms / median['one']:5.2f} x one   {ms / median['bank']:5.2f} x bank")


if __name__ == "__main__":
    main()
