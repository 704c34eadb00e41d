"""The inert scope: a model made ready for an attack, and put back exactly as it was.

Inside: every submodule in evaluation mode (or in training mode without touching its statistics), parameters frozen,
gradients on, inference mode off, random generators on a stream of their own. Afterwards, also after an exception: every
flag, buffer, `requires_grad` and generator is what it was. The autocast state and `.grad` are never touched.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Mode = Literal["eval", "train"]


def _keeps_training_mode(module: nn.Module) -> bool:
    # cuDNN gives gradients of recurrent layers only in training mode; without dropout the two modes compute the same.
    return isinstance(module, nn.RNNBase) and module.dropout == 0


@contextmanager
def _flags(modules: list[nn.Module], mode: Mode) -> Iterator[None]:
    """Set the mode one submodule at a time: `model.eval()` and `.train()` would thaw what the user froze."""
    before = [(module, module.training) for module in modules]
    try:
        if mode == "eval":
            for module in modules:
                wanted = _keeps_training_mode(module)
                if module.training != wanted:
                    module.training = wanted
        yield
    finally:
        for module, training in before:
            if module.training != training:
                module.training = training


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Parameters need no gradient: compiled models compute 1.5 to 1.9 times faster for it."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for p, _ in before:
            p.requires_grad_(False)
        yield
    finally:
        for p, trainable in before:
            p.requires_grad_(trainable)


@contextmanager
def _buffers_kept(modules: list[nn.Module], mode: Mode) -> Iterator[None]:
    """Put back every buffer that a forward writes to or replaces.

    In training mode the buffers are swapped for clones: BatchNorm normalises with the statistics of the batch and
    updates the clones. In evaluation mode they stay where they are (compiled graphs know their addresses) and are
    restored from a copy in the rare case that a layer wrote to them; only inference tensors, which a layer that fills
    its cache lazily may have made under `torch.inference_mode`, are swapped, since autograd cannot save them.
    """
    found = [(m._buffers, name, b) for m in modules for name, b in m._buffers.items() if b is not None]
    swapped = [entry for entry in found if mode == "train" or entry[2].is_inference()]
    watched = [
        (buffer, buffer.detach().clone(), buffer._version)
        for _, _, buffer in found
        if mode == "eval" and not buffer.is_inference()
    ]
    try:
        for buffers, name, buffer in swapped:
            buffers[name] = buffer.clone()
        yield
    finally:
        for buffers, name, buffer in found:
            if buffers.get(name) is not buffer:
                buffers[name] = buffer
        with torch.no_grad():
            for buffer, copy, version in watched:
                if buffer._version != version:
                    buffer.copy_(copy)


@contextmanager
def own_random_stream(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from generators seeded by `seed`; the global streams go on afterwards as if nothing had been drawn."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            # The generator of the CPU looks at 32 bits of a seed only: all 64 are folded into them.
            generator.manual_seed((seed ^ (seed >> 32) * 0x9E3779B1) % 2**32)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def scope(model: Any, mode: Mode = "eval", seed: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """Make a model ready for an attack and put everything back at the end, also after an exception.

    Args:
        model: An `nn.Module`; of any other callable only the gradient mode and the generators are cared for.
        mode: "eval": dropout off, BatchNorm by its running statistics, the default of the field (Pang et al., ICLR
            2021). "train": the flags stay as they are, so that BatchNorm uses the statistics of the adversarial batch;
            the running statistics do not change. Then a sample's adversarial example depends on its batch, and under
            SyncBatchNorm all ranks must make the same forwards.
        seed: Seeds what the model itself draws inside (dropout in training mode, randomised layers).
        device: Where the model draws random numbers; the CPU's generator is always cared for.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
        >>> with scope(net):
        ...     [m.training for m in net]
        [False, False]
        >>> [m.training for m in net]
        [True, True]
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(own_random_stream(seed, device or torch.device("cpu")))
        if isinstance(model, nn.Module):
            modules = list(model.modules())
            stack.enter_context(_flags(modules, mode))
            stack.enter_context(_frozen(model))
            stack.enter_context(_buffers_kept(modules, mode))
        yield


@contextmanager
def guest(model: Any, seed: int) -> Iterator[None]:
    """What a function from elsewhere may disturb too, inside `scope`.

    It may set the model to training mode, where BatchNorm writes to its buffers, call `backward`, and draw from the
    generators of numpy and Python.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    parameters = [p for m in modules for p in m.parameters(recurse=False)]
    grads = [p.grad for p in parameters]
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        for p in parameters:
            p.grad = None
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        with _buffers_kept(modules, "train"):
            yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad


def plain(value: Any) -> Any:
    """A copy of what is an inference tensor, nested or not; everything else as it is. Call it inside `scope`."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return value
