"""Parameters kept while an attack runs: teachers that follow as running averages, clipped and normalized weights.

Forwards seldom write to parameters, and these are large, so hardly any are copied. Version counters and places in
memory tell of writes; a parameter that was given other memory, or replaced by another, is put back: its memory is held,
so no other can come to the same place. Copied are

- small ones that need no gradient, as running averages do: always;
- large ones that need none: when they are met, if together they take no more memory than those that need one;
- small ones that need a gradient: when their model is met;
- and each to which a forward has written before.

Of a write of which there is no copy, a warning tells. Of parameters of a class of their own, as quantized ones are,
and of those of TorchScript, the content is not looked at.
"""

import itertools
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_robust.attacks._kept import SMALL, clone, put_back, size, writable, writes

_met: tuple[Any, Any] = (WeakIdKeyDictionary(), WeakIdKeyDictionary())
"""Models that have been met, by their first parameter, in evaluation mode and in training mode: were any written to?"""


class Weights:
    """The parameters of some modules, kept until `put_back`. In between, `requires_grad` may change.

    Args:
        modules: All modules, each once.
        training: Will forwards run in training mode?
    """

    def __init__(self, modules: list[nn.Module], *, training: bool) -> None:
        self._modules, self._training = modules, training
        # Not of TorchScript, whose entries are no dicts.
        self._entries = [
            (entries, dict(entries)) for part in modules if (entries := part._parameters) and isinstance(entries, dict)
        ]
        self._flat = [p for _, before in self._entries for p in before.values()]
        self._all = list({id(p): p for p in self._flat if type(p) is nn.Parameter}.values())  # tied ones once
        try:
            self._versions, self._places = self._look()
        except RuntimeError:  # inference tensors have no version, sparse ones no place
            self._all = [p for p in self._all if not p.is_inference() and p.layout == torch.strided]
            self._versions, self._places = self._look()
        self._data = [p.data for p in self._all]
        self._copies: dict[int, Tensor] = {}
        self._always: list[int] = []
        if self._all:
            self._copy()

    def _look(self) -> tuple[list[int], list[int]]:
        """Versions and places in memory."""
        return [p._version for p in self._all], list(map(Tensor.data_ptr, self._all))

    def _copy(self) -> None:
        """Copy those that may be written to."""
        written = self._written()
        trained = [p.requires_grad for p in self._all]
        if written is False and all(trained):
            return
        new = []
        for i, p in enumerate(self._all):
            if trained[i] and written is False:
                continue
            small = size(p) <= SMALL
            seen = None if small and not trained[i] else writes(p, training=self._training)
            if (trained[i] and written and not seen) or not writable(p):
                continue
            if small and not trained[i]:
                self._always.append(i)
            if small or seen:
                self._copies[i] = clone(p)
            elif seen is None and not trained[i]:
                new.append(i)
        if new and sum(size(self._all[i]) for i in new) <= sum(size(p) for p in itertools.compress(self._all, trained)):
            self._copies |= {i: clone(self._all[i]) for i in new}

    @torch.no_grad()
    def put_back(self) -> list[str]:
        """Write to what has changed; returns what is lost, because there was no copy of it."""
        now = itertools.chain.from_iterable([entries.values() for entries, _ in self._entries])
        if not all(map(operator.is_, now, self._flat)):
            for entries, before in self._entries:
                # Those that are gone stay away: the module is another one now.
                entries.update({name: p for name, p in before.items() if entries.get(name, p) is not p})
        if not self._all:
            return []
        versions, places = self._look()
        if self._copies or self._written() is None or versions != self._versions or places != self._places:
            return self._write(versions, places)
        return []

    def _write(self, versions: list[int], places: list[int]) -> list[str]:
        written, lost, always = False, [], set(self._always)
        for i, p in enumerate(self._all):
            moved = places[i] != self._places[i]
            touched = moved or versions[i] != self._versions[i]
            if i in always:
                if moved:
                    p.data = self._data[i]
            elif touched or i in self._copies:
                if put_back(p, self._versions[i], self._data[i], self._copies.get(i), training=self._training):
                    lost.append(f"`{self._name(p)}` {tuple(p.shape)}")
                written |= bool(writes(p, training=self._training))
        if always:
            torch._foreach_copy_([self._data[i] for i in self._always], [self._copies[i] for i in self._always])
        for training in (False, True) if lost else (self._training,):
            if written or _met[training].get(self._all[0]) is None:
                _met[training][self._all[0]] = written
        return lost

    def _written(self) -> bool | None:
        """Did a forward write to any of them, as far as attacks have seen? None: they have not been met."""
        written: bool | None = _met[self._training].get(self._all[0])
        return written

    def _name(self, parameter: Tensor) -> str:
        return next(name for module in self._modules for name, p in module.named_parameters() if p is parameter)
