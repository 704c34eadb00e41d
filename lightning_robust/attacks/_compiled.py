"""The passes of an attack through a compiled network. Parameters are frozen, so its graphs have no weight gradients.

The ascent asks for the network behind the map of a space (`_joined`): then both are one graph, from the perturbation to
the output. A map that no graph can hold runs as it is, before the graph of the network alone. From its second step on
it asks for the whole step as one function (`in_one`), which is a graph of its own (`_step_graphs`).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust.attacks._goal import Goal
from lightning_robust.attacks._graphs import Graphs, call, graphs_of, tell
from lightning_robust.attacks._joined import Decode, Whole, kind_of
from lightning_robust.attacks._step import Course
from lightning_robust.attacks._step_graphs import can_be_made, number, steps_of, with_tensors
from lightning_robust.attacks.attack import rows_of
from lightning_robust.attacks.rules import Rule
from lightning_robust.attacks.scope import is_compiled, is_sharded
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.threats import Threat


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
            output = ctx.compiled.plain(ctx.leaf)
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

    wants_frozen = True  # all parameters, see `scope`: a graph computes the gradients of those that are not

    def __init__(self, module: nn.Module, backend: bool | str) -> None:
        super().__init__()
        self.module = module
        self._backend, self._attack, self._parts = backend, object(), tuple(module.modules())
        self._ready = self._is_ready()
        self._layout: tuple[Any, ...] | None = None
        self._decode: Decode | None = None
        self._map: Any = None

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

    def after_decode(self, decode: Decode) -> "Compiled":
        """The network behind the map of a space, as one function of the perturbation."""
        joined = copy.copy(self)
        joined._decode, joined._map = decode, kind_of(decode, shapes=False)
        return joined

    @torch.compiler.disable
    def in_one(self, goal: Goal, threat: Threat, chart: Chart, rule: Rule, steps: int) -> Whole | None:
        """A whole step of the ascent as one function, where a graph can hold it."""
        zero, decode, graphs = chart.zero, self._decode, self.graphs
        if not self._ready or graphs.reason is not None or decode is None or self._map in graphs.apart:
            return None
        if not can_be_made(zero.device):
            return None
        threat = with_tensors(threat, zero.device)
        course = Course(goal, threat.ball, chart, threat.projection(chart), rule, number(steps, zero.device))
        kind = self._kind(zero, (decode, *goal.held, threat.ball, chart.lower, chart.upper, rule))
        training = any(part.training for part in self._parts)

        def whole(delta: Tensor, state: Any, size: float, step: int) -> tuple[Tensor, Any] | None:
            args = (delta, state, number(size, delta.device), number(step, delta.device))
            return steps_of(self.module, self._backend).run(
                self.module, decode, course, args, kind, self._attack, training
            )

        return whole

    def plain(self, x: Tensor) -> Any:
        """The output without compilation."""
        return call(self.module, self._decode, x)

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
            return self.plain(x)
        try:
            return _Pass.apply(x, self)
        except _NoTensorError:
            return self.plain(x)

    def answer(self, x: Tensor) -> Any:
        """The output for a leaf."""
        graphs, decode = self.graphs, self._decode
        if decode is None:
            return self._by_graph(None, x)
        if self._map not in graphs.apart:
            output = self._by_graph(decode, x)
            if output is not NotImplemented:
                return output
        output = self._by_graph(None, decode(x))
        graphs.say_apart(self._map, self.module)
        return output

    def _by_graph(self, decode: Decode | None, x: Tensor) -> Any:
        kind, training = self._kind(x, decode), any(part.training for part in self._parts)
        return self.graphs.run(self.module, decode, x, kind, self._attack, training)

    def _kind(self, x: Tensor, place: Any) -> tuple[Any, ...]:
        """What a graph depends on: the input, the precision, modes and layouts of the network, and what is around."""
        device = x.device.type
        mixed = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        modes = tuple(part.training for part in self._parts)
        if self._layout is None:  # of the weights, which may lie with channels last during an attack
            self._layout = tuple(weight.stride() for weight in self.module.parameters())
        around = None if place is None else kind_of(place)
        return (x.shape[1:], x.stride()[1:], x.dtype, x.device, mixed, modes, self._layout, around)


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
