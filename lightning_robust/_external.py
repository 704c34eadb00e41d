"""Callbacks for scripts that nobody wants to change: those that a YAML file names, in every Trainer of the program.

Lightning asks installed packages for callbacks when a Trainer is built (entry points of the groups
`pytorch_lightning.callbacks_factory` and `lightning.pytorch.callbacks_factory`). This package gives none, unless the
environment variable `LIGHTNING_ROBUST_CALLBACKS` names a file such as

    - class_path: lightning_robust.recipes.madry
      init_args: {threat: {class_path: Linf, init_args: {eps: 0.03}}}
    - class_path: RobustEvaluation
      init_args:
        attacks: {class_path: PGD, init_args: {threat: {class_path: Linf, init_args: {eps: 0.03}}, steps: 50}}
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "LIGHTNING_ROBUST_CALLBACKS"


def for_pytorch_lightning() -> list[Any]:
    """The callbacks for a Trainer of `pytorch_lightning`."""
    return _named("pytorch_lightning")


def for_lightning() -> list[Any]:
    """The callbacks for a Trainer of `lightning.pytorch`."""
    return _named("lightning.pytorch")


def _named(backend: str) -> list[Any]:
    """The callbacks of the file that the environment names; none where it names no file."""
    path = os.environ.get(VARIABLE)
    if not path:
        return []
    os.environ.setdefault("LIGHTNING_ROBUST_BACKEND", backend)  # this Trainer's, whatever else was imported first
    from lightning_robust._lightning import pl

    if pl.__name__ != backend:
        raise RuntimeError(
            f"Expected the Trainers of this program to be of `{pl.__name__}`, because lightning_robust is in use with "
            f"it, but {VARIABLE} is to give callbacks to one of `{backend}`. Use one of the two packages."
        )
    callbacks = read_callbacks(path)
    names = ", ".join(type(callback).__name__ for callback in callbacks)
    pl.utilities.rank_zero_info(f"lightning_robust: this Trainer has {names or 'no callback'} from {path} ({VARIABLE})")
    return callbacks


def read_callbacks(path: str | Path) -> list[Any]:
    """The callbacks that a YAML file lists.

    Args:
        path: A file with a list of entries `class_path`, `init_args`, as under `trainer.callbacks` of LightningCLI.
            Only callbacks of this package and its recipes can be named.

    Raises:
        ValueError: the file cannot be read, is no such list, or names something else.
    """
    import yaml
    from jsonargparse import ArgumentParser

    import lightning_robust.attacks
    import lightning_robust.callbacks
    import lightning_robust.manifolds
    import lightning_robust.objectives
    from lightning_robust import recipes
    from lightning_robust._lightning import pl

    ours = {name: f"lightning_robust.callbacks.{name}" for name in lightning_robust.callbacks.__all__}
    ours |= {name: f"lightning_robust.recipes.{name}" for name in recipes.RECIPES}
    try:
        entries = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"Expected {VARIABLE} to name a YAML file of callbacks, but {path}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(e, str | Mapping) for e in entries):
        raise ValueError(
            f"Expected {path} to hold a list of callbacks, each with class_path and init_args, but got {entries!r}."
        )
    callbacks: list[Any] = []
    for entry in entries:
        named = {"class_path": entry} if isinstance(entry, str) else dict(entry)
        class_path = str(named.get("class_path"))
        name = class_path.rpartition(".")[2]
        known = ours.get(name)
        if known is None or class_path not in (name, f"lightning_robust.{name}", known):
            raise ValueError(
                f"Expected {path} to name callbacks and recipes of lightning_robust alone, {', '.join(ours)}, but got "
                f"{class_path!r}."
            )
        kind: Any = recipes.Recipe if known.startswith("lightning_robust.recipes.") else pl.Callback
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--entry", type=kind)
        try:
            config = parser.parse_object({"entry": {**named, "class_path": known}})
            made = parser.instantiate_classes(config).entry
        except Exception as error:
            raise ValueError(f"{path}: {class_path} cannot be made: {error}") from error
        callbacks += made if isinstance(made, list) else [made]
    return callbacks
