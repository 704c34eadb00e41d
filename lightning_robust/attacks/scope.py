"""The inert scope: models made ready for an attack, and put back exactly as they were.

Inside: every submodule in evaluation mode (or in training mode without touching its statistics), parameters frozen,
gradients on, inference mode off, random generators on a stream of their own. Afterwards, also after an exception: every
flag, buffer, `requires_grad`, plain attribute and generator is what it was. The autocast state and `.grad` are never
touched.

What is kept, and at which price, is in `_state.py`. The scope is not thread-safe: while an attack runs, a thread that
runs the same module or draws from the global generators sees the state of the attack.
"""

import copy
import functools
import itertools
import random
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_robust._modes import own_modes
from lightning_robust._nested import ordinary
from lightning_robust.attacks._joined import Decode, Whole, in_one, joined
from lightning_robust.attacks._state import INTERNAL, State

__all__ = ["Mode", "guest", "modules_in", "ordinary", "other_random_streams", "own_random_stream", "scope"]

Mode = Literal["eval", "train"]

_MOST_ENTRIES, _DEEPEST = 1000, 3


def modules_in(owner: Any) -> list[nn.Module]:
    """The modules that a model, a space or a function holds, submodules included, each once.

    Of a module: its submodules, and what plain lists and dicts, functions and other objects that can be called hold in
    its attributes. Of a function: what its closure, its defaults and the global names in its code hold. Of any other
    object: what its attributes and slots hold, three levels deep. Containers of more than 1,000 entries are passed
    over.
    """
    modules: dict[int, nn.Module] = {}
    seen: dict[int, Any] = {}
    stack: list[tuple[Any, int]] = [(owner, 0)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, nn.Module):
            for module in value.modules():
                if id(module) not in modules:
                    modules[id(module)] = module
                    held = vars(module)
                    if not all(_is_leaf(held[name]) for name in held.keys() - INTERNAL):
                        # In the order of the attributes, which a set has lost.
                        plain = [v for name, v in held.items() if name not in INTERNAL and _may_hold(v)]
                        stack += [(v, 1) for v in plain]
            continue
        if depth > _DEEPEST or isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen[id(value)] = value
        stack += [(part, depth + 1) for part in _held(value)]
    return list(modules.values())


_HOLDERS = frozenset((list, tuple, dict, types.FunctionType, types.MethodType, functools.partial))
_FLAT = frozenset((str, bytes, int, float, bool, type(None)))
_LEAVES = (Tensor, np.ndarray, str, bytes, int, float, bool, type(None), type, types.ModuleType)


def _is_leaf(value: Any) -> bool:
    """Does an attribute hold no module, as far as its type and, in a tuple or a list, those of its entries tell?"""
    kind = type(value)
    if kind is tuple or kind is list:
        return len(value) > _MOST_ENTRIES or _FLAT.issuperset(map(type, value))
    return not _may_hold(value)


def _may_hold(value: Any) -> bool:
    return type(value) in _HOLDERS or callable(value)


def _held(value: Any) -> list[Any]:
    """What an object that is no module refers to."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        named = [value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__]
        # Of the globals only networks and functions: a module's namespace holds everything there is.
        named = [v for v in named if isinstance(v, nn.Module | types.FunctionType | functools.partial)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *named]
    if isinstance(value, list | tuple | set | frozenset | dict):
        entries = list(value.values()) if isinstance(value, dict) else list(value)
        return entries if len(entries) <= _MOST_ENTRIES else []
    slots = {n for kind in type(value).__mro__ for n, v in vars(kind).items() if type(v) is types.MemberDescriptorType}
    return [*(_own(value, "__dict__") or {}).values(), *(_own(value, name) for name in sorted(slots))]


def _own(value: Any, name: str) -> Any:
    """What an object has under a name, without what it does when it is asked for one; None: nothing."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def wants_whole_batches(model: Any) -> bool:
    """Must every forward have the samples of the batch, whether the attack is over for some or not?

    Where parameters are sharded over processes, all of them make their forwards together. A compiled network is
    compiled anew for every size of a batch. BatchNorm without running statistics answers by the rest of the batch. And
    a model, or a module in it, may say so itself: `whole_batches = True`.
    """
    modules = modules_in(model)
    if any(
        getattr(part, "whole_batches", False) or is_compiled(part) or _is_mixing(part) for part in (model, *modules)
    ):
        return True
    return is_sharded(modules)


def is_sharded(modules: list[nn.Module]) -> bool:
    """Are parameters spread over processes, which make their forwards together?"""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    names = {kind.__name__ for module in modules for kind in type(module).__mro__}
    sharded = any(hasattr(p, "ds_id") or hasattr(p, "device_mesh") for p in _parameters(modules))
    return sharded or bool(names & {"FSDPModule", "FullyShardedDataParallel"})


def is_compiled(part: Any) -> bool:
    """Is it `torch.compile(module)`, or a module after `module.compile()`?"""
    if not isinstance(part, nn.Module):
        return False
    wrapped = "_orig_mod" in part._modules and isinstance(part, torch._dynamo.OptimizedModule)
    return wrapped or getattr(part, "_compiled_call_impl", None) is not None


def _is_mixing(part: Any) -> bool:
    """Does it normalize by the batch in evaluation mode, too?"""
    return isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None


def _parameters(modules: list[nn.Module]) -> list[nn.Parameter]:
    return [p for module in modules for p in module._parameters.values() if p is not None]


def _left_trainable(modules: list[nn.Module]) -> set[int]:
    """Weights that make passes slower where they are frozen, by `id`: the projections of `nn.MultiheadAttention`.

    For who asks for gradients by `torch.autograd.grad` alone: `backward` would write their `.grad` and call hooks.

    It transposes what comes with batches first. With a weight that needs no gradient, torch multiplies each row of that
    by itself: the attack on a small vision transformer takes 1.13 times as long, in bfloat16 on a CPU twice as long.
    Not in a compiled network, whose graph would have the gradients of weights, nor where parameters are sharded: FSDP
    then waits for a `backward`.
    """
    if any(is_compiled(module) or getattr(module, "wants_frozen", False) for module in modules):
        return set()
    attention = [module for module in modules if isinstance(module, nn.MultiheadAttention)]
    weights = [module._parameters.get("in_proj_weight") for module in attention]
    return {id(weight) for weight in weights if weight is not None}


def _is_autocast() -> bool:
    return any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))


@contextmanager
def _frozen(modules: list[nn.Module], left: set[int]) -> Iterator[None]:
    """Parameters need no gradient, but for those in `left`: compiled models compute 1.5 to 1.9 times faster for it."""
    entries = [(module, name, p) for module in modules for name, p in module._parameters.items() if p is not None]
    every = [p for _, _, p in entries]
    before = [p.requires_grad for p in every]
    try:
        for p in itertools.compress(every, before):
            if id(p) not in left:
                p.requires_grad = False
        yield
    finally:
        # FSDP2 has put others in their places that hold the whole weights, with the flags that it found inside.
        now = [dict(module._parameters).get(name) for module, name, _ in entries] if is_sharded(modules) else []
        for here, trainable in zip([*every, *now], itertools.cycle(before), strict=False):
            if here is not None and here.requires_grad != trainable:
                here.requires_grad = trainable
        if left and _is_autocast():
            # It keeps what it has cast of weights that need gradients: what was cast without gradients would go on so.
            torch.clear_autocast_cache()


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
def other_random_streams(seed: int) -> Iterator[None]:
    """The same for the global generators of numpy and Python, from which a forward or a guest may draw."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


def _first_forward(model: Any, modules: list[nn.Module], x: Tensor) -> None:
    """Give lazy layers their parameters, drawn from the user's random stream and not from the attack's."""
    if any(is_lazy(p) for p in _parameters(modules)):
        with torch.inference_mode(False), torch.no_grad(), own_modes(modules, evaluate=True):
            model(x.clone())


@contextmanager
def scope(
    model: Any,
    x: Tensor | None = None,
    *,
    mode: Mode = "eval",
    seed: int = 0,
    also: tuple[Any, ...] = (),
    own_loop: bool = False,
) -> Iterator[Callable[[Tensor], Any]]:
    """Make a model ready for an attack and put everything back at the end, also after an exception.

    Args:
        model: An `nn.Module`, or anything that holds some: a function, a manifold, see `modules_in`.
        x: The inputs (N, ...) of the attack: the device on which the model draws random numbers, and an example for the
            first forward of lazy layers; None: the CPU, and no lazy layers.
        mode: "eval": dropout off, BatchNorm by its running statistics, the default of the field (Pang et al., ICLR
            2021). "train": the flags stay as they are, so that BatchNorm uses the statistics of the adversarial batch;
            the running statistics do not change. Then a sample's adversarial example depends on its batch, and under
            SyncBatchNorm all ranks must make the same forwards.
        seed: Seeds what the model itself draws inside (dropout in training mode, randomised layers).
        also: What else may hold networks (a space, a gain); these are always in evaluation mode.
        own_loop: Nothing inside calls `backward`: projections of attention, which are slow where they are frozen, keep
            their flag.

    Yields:
        The model as a function: a model that keeps a state between its forwards (hidden states, spikes) starts each of
        them from the state in which the attack found it.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
        >>> with scope(net):
        ...     [m.training for m in net]
        [False, False]
        >>> [m.training for m in net]
        [True, True]
    """
    modules = modules_in(model)
    known = {id(module) for module in modules}
    others = [module for module in modules_in(also) if id(module) not in known] if also else []
    if x is not None:
        _first_forward(model, modules, x)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(own_random_stream(seed, torch.device("cpu") if x is None else x.device))
        stack.enter_context(other_random_streams(seed))
        stack.enter_context(own_modes(modules, evaluate=mode == "eval"))
        if others:
            stack.enter_context(own_modes(others, evaluate=True))
        every = [*modules, *others]
        # Where parameters are spread over processes, they are put together and apart in each forward.
        whole = not is_sharded(every)
        state = stack.enter_context(State(modules, swap=mode == "train", weights=whole))
        if others:
            stack.enter_context(State(others, swap=False, weights=whole))
        stack.enter_context(_frozen(every, _left_trainable(every) if own_loop and whole else set()))
        yield _Repeatable(model, state)


class _Repeatable:
    """A model all of whose forwards start from the same Python state."""

    def __init__(self, model: Any, state: State) -> None:
        self._model, self._state = model, state
        self._looked: set[bool] = set()

    def rows(self, rows: Tensor) -> "_Repeatable":
        """The same for some samples of the batch, of a model that reads more of the batch than its input."""
        part = copy.copy(self)
        part._model = self._model.rows(rows) if hasattr(self._model, "rows") else self._model
        return part

    def after_decode(self, decode: Decode) -> "_Repeatable":
        """The same behind the map of a space, as one function of the perturbation."""
        part = copy.copy(self)
        part._model, part._looked = joined(self._model, decode), set()
        return part

    def in_one(self, *course: Any) -> Whole | None:
        """The whole step as one function, see `_joined`; None where the model keeps a state between its forwards."""
        return None if self._state.moves else in_one(self._model, *course)

    def __call__(self, x: Tensor) -> Any:
        state = self._state  # of all copies, so that each knows what one has seen
        if state.moves:
            state.rewind()
        output = self._model(x)
        if not state.moves and x.requires_grad not in self._looked:
            # Looked at once with and once without a gradient: apart from that, forwards change attributes all alike.
            self._looked.add(x.requires_grad)
            state.moves = state.attributes_moved()
        return output


@contextmanager
def guest(model: Any, seed: int) -> Iterator[None]:
    """What a function from elsewhere may disturb too, inside `scope`.

    It may set the model to training mode, where BatchNorm writes to its buffers, call `backward`, and draw from the
    generators of all CUDA devices.
    """
    modules = modules_in(model)
    parameters = _parameters(modules)
    grads = [p.grad for p in parameters]
    # `torch.manual_seed`, which some attacks call, seeds every device there is.
    devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    device_states = [generator.get_state() for generator in devices]
    try:
        for p in parameters:
            p.grad = None
        with State(modules, swap=True, weights=False):
            yield
    finally:
        for generator, state in zip(devices, device_states, strict=True):
            generator.set_state(state)
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad
