"""The passes of an attack through a compiled network. Parameters are frozen, so its graphs have no weight gradients.

Graphs are kept for each network as long as it lives, apart from it: nothing is put on the module, and a copy or a
pickle of it knows nothing of them. Parameters and buffers are inputs of a graph: it reads what training has written.

A graph has one shape. The first size of a batch is compiled at once; another one is compiled when two attacks in a row
bring it, so the last batch of an epoch, which is smaller, runs as it is. Where compilation or a compiled pass fails,
the network itself answers, and one warning says why.
"""

import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_robust.attacks.attack import rows_of
from lightning_robust.attacks.scope import is_compiled, is_sharded

_MOST_GRAPHS = 8
"""Of one network: sizes, precisions and modes of its layers."""

_MOST_FAILURES = 3
"""Of one network: a graph that no longer fits (an attribute has changed, a kernel fails) is made anew so often."""


def _call(module: nn.Module, x: Tensor) -> Any:
    return module(x)


class Graph:
    """One compiled pass, for inputs of one shape.

    Args:
        backend: True for the default of `torch.compile`, or the name of another backend.
        replayed: Replay the kernels as CUDA graphs.
    """

    def __init__(self, backend: bool | str, *, replayed: bool) -> None:
        # `torch.compile` keeps its graphs with the code: one of its own, so that limits are those of this pass alone
        # and the graphs go when it goes.
        function = types.FunctionType(_call.__code__.replace(), globals(), "_call")
        kind: dict[str, Any] = {"backend": backend} if isinstance(backend, str) else {}
        if replayed:
            kind["mode"] = "reduce-overhead"
        self._function: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True, **kind)
        self._replayed, self.made = replayed, False

    def __call__(self, module: nn.Module, x: Tensor) -> Any:
        """The output; it fails where the graph does not fit."""
        if self._replayed:
            torch.compiler.cudagraph_mark_step_begin()
        if self.made:
            with torch.compiler.set_stance("fail_on_recompile"):
                output = self._function(module, x)
        else:
            # The attack may run inside the forward of DDP, for whose all-reduces a graph would be cut to pieces.
            with torch._dynamo.config.patch(optimize_ddp=False):
                output = self._function(module, x)
            self.made = True
        return output.clone() if self._replayed and isinstance(output, Tensor) else output


class _Sizes:
    """The graphs of one kind of pass by the size of the batch, and the sizes that the last two attacks brought."""

    def __init__(self) -> None:
        self.graphs: dict[int, Graph] = {}
        self._attack: object = None
        self._before: int | None = None
        self._now: int | None = None

    def due(self, n: int, attack: object) -> bool:
        """Is a graph for batches of `n` to be made?"""
        if attack is not self._attack:
            self._before, self._now, self._attack = self._now, n, attack
        return not self.graphs or self._before == self._now == n


class Graphs:
    """All graphs of one network for one backend.

    Attributes:
        reason: Why there are none any more; None: all is well.
    """

    def __init__(self, backend: bool | str) -> None:
        self._backend, self._kinds, self._failures = backend, dict[Any, _Sizes](), 0
        self.reason: str | None = None
        self._told = False

    def run(self, module: nn.Module, x: Tensor, kind: tuple[Any, ...], attack: object, training: bool) -> Any:
        """The output of the network, by a graph where there is one or should be one."""
        sizes = self._kinds.setdefault(kind, _Sizes())
        graph, due = sizes.graphs.get(len(x)), sizes.due(len(x), attack)
        if self.reason is not None or (graph is None and not due):
            return module(x)
        if graph is None:
            if sum(len(one.graphs) for one in self._kinds.values()) >= _MOST_GRAPHS:
                return module(x)
            # Where layers are in training mode, `scope` hands over other buffers in each attack: no fixed addresses.
            graph = sizes.graphs[len(x)] = Graph(self._backend, replayed=x.is_cuda and not training)
        try:
            return graph(module, x)
        except Exception as error:
            del sizes.graphs[len(x)]
            output = module(x)  # which fails as it should, if the network is to blame
            self._failures += 1
            if not graph.made or self._failures >= _MOST_FAILURES:
                said = " ".join(line.strip() for line in str(error).splitlines()[:2])
                self.give_up(f"{type(error).__name__}: {said[:200]}", module)
            return output

    def give_up(self, reason: str, module: nn.Module) -> None:
        """Compile no more."""
        self.reason = reason
        self._kinds.clear()
        self.say(reason, module)

    def say(self, reason: str, module: nn.Module) -> None:
        """Say once why the network answers itself."""
        if not self._told:
            self._told = True
            tell(f"`{type(module).__name__}`", reason)


def tell(what: str, reason: str) -> None:
    """Say that attacks run as they are."""
    warnings.warn(
        f"Attacks on {what} run without compilation, which is slower but gives the same examples. {reason} "
        "Leave `compile` out, or compile the network yourself.",
        stacklevel=3,
    )


_known: Any = WeakIdKeyDictionary()
"""Network -> backend -> its graphs."""


def graphs_of(module: nn.Module, backend: bool | str) -> Graphs:
    """The graphs of a network, kept as long as it lives."""
    kept = _known.get(module)
    if kept is None:
        kept = _known[module] = {}
    if backend not in kept:
        kept[backend] = Graphs(backend)
    return kept[backend]


class _Pass(torch.autograd.Function):
    """A pass whose gradient is that of the compiled graph, or of the network where the graph's fails."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, compiled: "Compiled") -> Any:
        leaf = x.detach().requires_grad_()
        device = x.device.type
        ctx.mixed = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        with torch.enable_grad():
            output = compiled.answer(leaf)
        if not isinstance(output, Tensor):
            raise _NoTensorError
        result = output.detach()
        if output.requires_grad:
            ctx.compiled, ctx.leaf, ctx.output = compiled, leaf, output
        else:
            ctx.mark_non_differentiable(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        output, ctx.output = ctx.output, None  # its memory is freed as it is used
        try:
            if output is not None:
                (grad,) = torch.autograd.grad(output, ctx.leaf, grads, allow_unused=True)
                # The memory of a replayed graph belongs to the next pass.
                return (grad.clone() if grad is not None and grad.is_cuda else grad), None
        except Exception as error:
            ctx.compiled.graphs.give_up(f"{type(error).__name__} in the backward pass.", ctx.compiled.module)
        enabled, dtype = ctx.mixed
        with torch.enable_grad(), torch.autocast(ctx.leaf.device.type, dtype, enabled=enabled, cache_enabled=False):
            output = ctx.compiled.module(ctx.leaf)
            (grad,) = torch.autograd.grad(output, ctx.leaf, grads, allow_unused=True)
        return grad, None


class _NoTensorError(Exception):
    """The network returns something else than a tensor: the attack says what is wrong with it."""


class Compiled(nn.Module):
    """A network whose passes with gradients are compiled, for one attack. It owns the network: `scope` reaches it.

    Args:
        module: The network.
        backend: See `Graph`.
    """

    def __init__(self, module: nn.Module, backend: bool | str) -> None:
        super().__init__()
        self.module = module
        self._backend, self._attack, self._parts = backend, object(), tuple(module.modules())
        self._ready = self._is_ready()
        self._layout: tuple[Any, ...] | None = None

    @property
    def graphs(self) -> Graphs:
        """Those of the network."""
        return graphs_of(self.module, self._backend)

    @property
    def whole_batches(self) -> bool:
        """Samples stay in the batch, so that it keeps its shape."""
        return self._ready and self.graphs.reason is None

    def rows(self, rows: slice | Tensor) -> "Compiled":
        """For some samples of the batch."""
        return Compiled(rows_of(self.module, rows), self._backend)

    def _is_ready(self) -> bool:
        """Can the network be compiled? One that its user has compiled stays as it is."""
        if any(is_compiled(part) for part in self._parts) or self.graphs.reason is not None:
            return False
        reason = None
        if is_sharded(list(self._parts)):
            reason = "Its parameters are sharded."
        elif any(_has_hooks(part) for part in self._parts):
            reason = "A layer of it has hooks, which a graph does not see."
        elif any(isinstance(part, torch.jit.ScriptModule) for part in self._parts):
            reason = "It is a TorchScript module."
        if reason is not None:  # for this attack; hooks may go again
            self.graphs.say(reason, self.module)
        return reason is None

    @torch.compiler.disable
    def forward(self, x: Any) -> Any:
        """The output of the network."""
        if not (self._ready and isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()):
            return self.module(x)
        try:
            return _Pass.apply(x, self)
        except _NoTensorError:
            return self.module(x)

    def answer(self, x: Tensor) -> Any:
        """The output for a leaf."""
        device = x.device.type
        mixed = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        modes = tuple(part.training for part in self._parts)
        if self._layout is None:  # of the weights, which may lie with channels last during an attack
            self._layout = tuple(weight.stride() for weight in self.module.parameters())
        kind = (x.shape[1:], x.stride()[1:], x.dtype, x.device, mixed, modes, self._layout)
        return self.graphs.run(self.module, x, kind, self._attack, any(modes))


def _has_hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)


_told: set[str] = set()


def compiled(model: Any, backend: bool | str) -> Any:
    """A model whose passes are compiled, for one attack; models that are no modules stay as they are.

    A model that is made anew for each batch around a network has a method `through(wrap)`: the same model around
    `wrap(network)`, or itself, where it cannot say what the network is.
    """
    through = getattr(model, "through", None)
    inside = through(lambda module: compiled(module, backend)) if through is not None else model
    if through is None and isinstance(model, nn.Module):
        return Compiled(model, backend)
    if (
        inside is model
        and (name := f"the function {getattr(model, '__qualname__', type(model).__name__)}") not in _told
    ):
        _told.add(name)
        tell(name, "Only a module is compiled, not a function of one.")
    return inside
