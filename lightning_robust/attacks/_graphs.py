"""The compiled graphs of a network.

Graphs are kept for each network as long as it lives, apart from it: nothing is put on the module, and a copy or a
pickle of it knows nothing of them. Parameters and buffers are inputs of a graph: it reads what training has written.

A graph has one shape. The first size of a batch is compiled at once; another one is compiled when two attacks in a row
bring it, so the last batch of an epoch, which is smaller, runs as it is. Where compilation or a compiled pass fails,
the network itself answers, and one warning says why.
"""

import types
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_robust.attacks._joined import Decode, kind_of

_K = TypeVar("_K")

_MOST_GRAPHS = 8
"""Of one network: sizes, precisions and modes of its layers; half of them behind maps of spaces."""

MOST_FAILURES = 3
"""Of one network: a graph that no longer fits (an attribute has changed, a kernel fails) is made anew so often."""


def call(module: nn.Module, decode: Decode | None, x: Tensor) -> Any:
    return module(x if decode is None else decode(x))


class Graph:
    """One compiled pass, for inputs of one shape.

    Args:
        backend: True for the default of `torch.compile`, or the name of another backend.
        replayed: Replay the kernels as CUDA graphs.
    """

    function: Callable[..., Any] = staticmethod(call)
    # The attack may run inside the forward of DDP, for whose all-reduces a graph would be cut to pieces.
    config: dict[str, Any] = {"optimize_ddp": False}  # noqa: RUF012

    def __init__(self, backend: bool | str, *, replayed: bool) -> None:
        # `torch.compile` keeps its graphs with the code: one of its own, so that limits are those of this pass alone
        # and the graphs go when it goes.
        code, namespace = self.function.__code__, self.function.__globals__
        function = types.FunctionType(code.replace(), namespace, code.co_name)
        kind: dict[str, Any] = {"backend": backend} if isinstance(backend, str) else {}
        if replayed:
            kind["mode"] = "reduce-overhead"
        self._function: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True, **kind)
        self._replayed, self.made = replayed, False

    def __call__(self, *args: Any) -> Any:
        """The output; it fails where the graph does not fit."""
        if self._replayed:
            torch.compiler.cudagraph_mark_step_begin()
        if self.made:
            with torch.compiler.set_stance("fail_on_recompile"):
                output = self._function(*args)
        else:
            with torch._dynamo.config.patch(**self.config), self.laid_out():
                output = self._function(*args)
            self.made = True
        # The memory of a replayed graph belongs to the next pass.
        return self.own(output) if self._replayed else output

    def laid_out(self) -> AbstractContextManager[Any]:
        """What is around the making of the graph."""
        return nullcontext()

    def own(self, output: Any) -> Any:
        """The output in memory of its own."""
        return output.clone() if isinstance(output, Tensor) else output


class Sizes:
    """The graphs of one kind of pass by the size of the batch, and the sizes that the last two attacks brought."""

    def __init__(self) -> None:
        self.graphs: dict[int, Graph] = {}
        self._attack: object = None
        self._before: int | None = None
        self._now: int | None = None

    def again(self, n: int, attack: object) -> bool:
        """Do two attacks in a row bring batches of `n`?"""
        if attack is not self._attack:
            self._before, self._now, self._attack = self._now, n, attack
        return self._before == self._now == n


class Graphs:
    """All graphs of one network for one backend.

    Attributes:
        reason: Why there are none any more; None: all is well.
        apart: Maps of spaces that are in no graph -> why.
    """

    def __init__(self, backend: bool | str) -> None:
        self._backend, self._kinds, self._failures = backend, dict[Any, Sizes](), 0
        self.reason: str | None = None
        self.apart: dict[Any, str] = {}
        self._told: set[str] = set()

    def run(
        self,
        module: nn.Module,
        decode: Decode | None,
        x: Tensor,
        kind: tuple[Any, ...],
        attack: object,
        training: bool,
    ) -> Any:
        """The output of the network, behind the map of a space if there is one; by a graph where there should be one.

        `NotImplemented`: no graph can hold the map, or there are too many of them.
        """
        sizes = self._kinds.get(kind) or Sizes()
        graph, again = sizes.graphs.get(len(x)), sizes.again(len(x), attack)
        if self.reason is not None or (graph is None and sizes.graphs and not again):
            return call(module, decode, x)
        if graph is None:
            made = sum(len(one.graphs) for one in self._kinds.values())
            if made >= (_MOST_GRAPHS if decode is None else _MOST_GRAPHS // 2):
                return call(module, None, x) if decode is None else NotImplemented
            self._kinds[kind] = sizes
            # Where layers are in training mode, `scope` hands over other buffers in each attack: no fixed addresses.
            graph = sizes.graphs[len(x)] = Graph(self._backend, replayed=x.is_cuda and not training)
        try:
            return graph(module, decode, x)
        except Exception as error:
            del sizes.graphs[len(x)]
            reason = _in_short(error)
            if decode is not None and not graph.made:
                self.apart[kind_of(decode, shapes=False)] = reason
                return NotImplemented
            self._failures += 1
            output = call(module, decode, x)  # which fails as it should, if the network is to blame
            if not graph.made or self._failures >= MOST_FAILURES:
                self.give_up(reason, module)
            return output

    def give_up(self, reason: str, module: nn.Module) -> None:
        """Compile no more."""
        self.reason = reason
        self._kinds.clear()
        self.say(reason, module)

    def say(self, reason: str, module: nn.Module) -> None:
        """Say once why the network answers itself."""
        if "all" not in self._told:
            self._told.add("all")
            tell(f"`{type(module).__name__}`", reason)

    def say_apart(self, place: Any, module: nn.Module) -> None:
        """Say once why the map of a space is in no graph, if the network is in one."""
        reason = self.apart.get(place, "It is another one in many batches.")
        if self.reason is None and reason not in self._told:
            self._told.add(reason)
            warnings.warn(
                f"Attacks on `{type(module).__name__}` compile the network alone, and the map of their space before it "
                f"runs as it is, which is slower but gives the same examples. {reason}",
                stacklevel=2,
            )


def _in_short(error: Exception) -> str:
    said = " ".join(line.strip() for line in str(error).splitlines()[:2])
    return f"{type(error).__name__}: {said[:200]}"


def tell(what: str, reason: str) -> None:
    """Say that attacks run as they are."""
    warnings.warn(
        f"Attacks on {what} run without compilation, which is slower but gives the same examples. {reason} "
        "Leave `compile` out, or compile the network yourself.",
        stacklevel=3,
    )


_known: Any = WeakIdKeyDictionary()
"""Network -> class of graphs and backend -> its graphs."""


def kept(kind: type[_K], module: nn.Module, backend: bool | str) -> _K:
    """The graphs of some class of a network, kept as long as it lives."""
    of_module = _known.get(module)
    if of_module is None:
        of_module = _known[module] = {}
    if (kind, backend) not in of_module:
        of_module[kind, backend] = kind(backend)  # type: ignore[call-arg]
    return of_module[kind, backend]


def graphs_of(module: nn.Module, backend: bool | str) -> Graphs:
    """The graphs of the passes of a network."""
    return kept(Graphs, module, backend)
