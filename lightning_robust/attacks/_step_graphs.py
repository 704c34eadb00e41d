"""Whole steps of the ascent as compiled graphs: on GPUs a step is then one replay.

The laws are those of the graphs of a network (`_graphs`), and: a graph of a step is made when two attacks in a row
bring the same kind and size, since that of the pass is there already; and where none can be made, the pass by its own
graph answers without a word.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust.attacks._graphs import MOST_FAILURES, Graph, Sizes, kept
from lightning_robust.attacks._joined import Decode
from lightning_robust.attacks._step import Course, step
from lightning_robust.attacks.ball import Sized
from lightning_robust.attacks.balls import L1, L2, Box, Linf
from lightning_robust.attacks.rules import mapped
from lightning_robust.attacks.threats import Threat

_MOST_STEPS = 4
"""Of one network, as `_MOST_GRAPHS`."""

_MOST_KINDS = 16
"""Of which sizes are known."""

_BALLS = (Linf, Box, L2, L1)
_PLAIN = (bool, int, float, str, type(None))


def can_be_made(device: torch.device) -> bool:
    """Can a graph hold a gradient, which older torch cannot trace, and has the device numbers of 64 bits?"""
    return device.type in ("cpu", "cuda") and hasattr(torch._dynamo.config, "trace_autograd_ops")


def with_tensors(threat: Threat, device: torch.device) -> Threat:
    """The threat with its radius as a tensor: a graph need not be made anew for another one.

    Of the balls here alone: those of somebody else may want a number.
    """
    ball = threat.ball
    return replace(threat, ball=ball.on(device)) if isinstance(ball, Sized) and type(ball) in _BALLS else threat


def number(value: float, device: torch.device) -> Tensor:
    """A number as a tensor, without waiting for the device."""
    return torch.full((), value, dtype=torch.float64, device=device)


def _own(held: Any) -> Any:
    if isinstance(held, Tensor):
        return held.clone()
    if isinstance(held, _PLAIN):
        return held
    raise TypeError(f"A state that holds {type(held).__name__} may lie in the memory of a graph.")


class StepGraph(Graph):
    """One compiled step, for perturbations of one shape."""

    function = staticmethod(step)
    config = {**Graph.config, "trace_autograd_ops": True}  # noqa: RUF012

    def laid_out(self) -> AbstractContextManager[Any]:
        """The layout is the one that `channels_last` says.

        Inductor would lay out convolutions with channels last, but not their gradients: in one graph with these, all
        that both read is copied.
        """
        inductor = torch._inductor.config
        return inductor.patch(layout_optimization=False) if hasattr(inductor, "layout_optimization") else nullcontext()

    def own(self, output: Any) -> Any:
        """The perturbation and the state in memory of their own."""
        return mapped(output, _own)


class Steps:
    """All graphs of steps of one network for one backend."""

    def __init__(self, backend: bool | str) -> None:
        self._backend, self._failures = backend, dict[Any, int]()
        self._kinds: dict[Any, Sizes] = {}
        self._made_by: dict[Any, object] = {}
        self._refused: set[Any] = set()

    @torch.compiler.disable
    def run(
        self,
        module: nn.Module,
        decode: Decode,
        course: Course,
        args: tuple[Tensor, Any, Tensor, Tensor],
        kind: tuple[Any, ...],
        attack: object,
        training: bool,
    ) -> tuple[Tensor, Any] | None:
        """The next perturbation and state; None where there is no graph."""
        delta = args[0]
        graph = self._graph(kind, len(delta), attack, delta.is_cuda and not training)
        if graph is None:
            return None
        try:
            return graph(module, decode, course, *args)
        except Exception:  # whatever is wrong, the usual step will say
            self._failures[kind] = self._failures.get(kind, 0) + 1
            del self._kinds[kind].graphs[len(delta)]
            # One that no longer fits in the attack that has made it, as of a rule that counts in numbers, never will.
            if not graph.made or self._made_by.get(kind) is attack or self._failures[kind] >= MOST_FAILURES:
                self._refused.add(kind)
            return None

    def _graph(self, kind: tuple[Any, ...], n: int, attack: object, replayed: bool) -> Graph | None:
        if kind in self._refused:
            return None
        sizes = self._kinds.setdefault(kind, Sizes())
        again = sizes.again(n, attack)
        made = sum(len(one.graphs) for one in self._kinds.values())
        if n not in sizes.graphs and again and made < _MOST_STEPS and len(self._refused) < _MOST_STEPS:
            sizes.graphs[n], self._made_by[kind] = StepGraph(self._backend, replayed=replayed), attack
        if len(self._kinds) > _MOST_KINDS:
            waiting = next(one for one, sizes in self._kinds.items() if not sizes.graphs)
            del self._kinds[waiting]
        return sizes.graphs.get(n)


def steps_of(module: nn.Module, backend: bool | str) -> Steps:
    """The graphs of steps of a network."""
    return kept(Steps, module, backend)
