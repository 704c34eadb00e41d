"""The model of whatever is given to an evaluation, and where it is."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_robust import _checks
from lightning_robust._lightning import copy_of
from lightning_robust.attacks.scope import modules_in
from lightning_robust.evaluation._data import fingerprint
from lightning_robust.evaluation._described import settings_of, taken_by

_FEW = 64  # numbers


def module_of(model: Any, model_class: Any = None) -> nn.Module:
    """The model as a module: of a function, one that calls it; of a path, one with the weights of that file.

    Args:
        model: A module, a function, or the path of a checkpoint.
        model_class: Of a path: the class of the model, or a model that takes the weights.
    """
    if isinstance(model, str | Path):
        return _loaded(Path(model), model_class)
    if model_class is not None:
        raise ValueError("Expected argument `model_class` to be None, unless `model` is the path of a checkpoint.")
    if isinstance(model, nn.Module):
        return model
    return Function(_checks.function("model", model, "(x) -> logits, or a module"))


class Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        """What the function gives."""
        return self.function(x)


def home_of(module: nn.Module) -> torch.device:
    """Where the first parameter or buffer of a model is, or of a network that a function holds; else the CPU."""
    tensors = (t for part in modules_in(module) for t in (*part.parameters(), *part.buffers()))
    return next((t.device for t in tensors), torch.device("cpu"))


def device_of(device: Any) -> torch.device:
    """A device that is there."""
    _checks.instance("device", device, (str, torch.device), 'a device such as "cpu" or "cuda:0"')
    try:
        place = torch.device(device)
        return torch.empty(0, device=place).device
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"Expected argument `device` to be a device of this machine, but got {str(device)!r}: {reason}"
        ) from error


def fingerprint_of_model(module: nn.Module) -> str | None:
    """16 hexadecimal digits made of all parameters and buffers, of what the layers are, and of numbers that they hold,
    such as a mean that is no buffer; None where there are no weights to be seen.
    """
    parts = modules_in(module)
    tensors = [
        (f"{number}.{name}", tensor)
        for number, part in enumerate(parts)
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    ]
    return fingerprint([*tensors, *map(_settings, parts)]) if tensors else None


def settings_of_model(module: nn.Module) -> str:
    """What the constructors of its layers took that is no weight, and its functions, in words; "": nothing.

    Layers of torch tell theirs in the fingerprint. A LightningModule has settings of its training beside them.
    """
    texts = []
    for part in modules_in(module):
        if type(part).__module__.split(".")[0] == "torch" or isinstance(part, Metric):
            continue
        if not copy_of(part, "LightningModule") and (settings := settings_of(part)):
            words = ", ".join(f"{name}={text}" for name, text in settings.items())
            texts.append(f"{type(part).__qualname__}({words})")
    return "; ".join(dict.fromkeys(texts))


def _settings(part: nn.Module) -> tuple[str, Tensor]:
    """What a layer is, and its numbers that are no weights. Whole numbers and large tensors may be counts and caches, a
    single number that no constructor took a best accuracy, and one of a LightningModule a learning rate: they say
    nothing.
    """
    texts, numbers = [f"{type(part).__qualname__}({part.extra_repr()})"], []
    taken = set() if copy_of(part, "LightningModule") else taken_by(part)
    for name, value in sorted(() if isinstance(part, Metric) else vars(part).items()):
        if isinstance(value, Tensor):
            several = value.detach().flatten().tolist() if value.numel() <= _FEW and not value.requires_grad else []
        else:
            several = list(value) if isinstance(value, tuple | list) and len(value) <= _FEW else [value]
            several = several if any(isinstance(one, float) for one in several) else []
        single = not isinstance(value, tuple | list) and not (isinstance(value, Tensor) and value.ndim)
        if name.startswith("_") or (single and name not in taken):
            continue
        if several and all(isinstance(one, float | int) for one in several):
            texts.append(name)
            numbers += several
    return re.sub(" at 0x[0-9a-f]+", "", " ".join(texts)), torch.tensor(numbers, dtype=torch.float64)


def _loaded(path: Path, model_class: Any) -> nn.Module:
    """A model with the weights of a file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected argument `model` to be a model, or the path of a checkpoint, but there is no file {path}."
        )
    content = read_checkpoint(path)
    if isinstance(model_class, nn.Module):
        module = model_class
    elif isinstance(model_class, type) and issubclass(model_class, nn.Module):
        settings = content.get("hyper_parameters") or {}
        try:
            inspect.signature(model_class).bind(**settings)
        except TypeError as error:
            raise ValueError(
                f"Expected argument `model_class` to be made of what {path} says of it, {sorted(settings)}, but "
                f"{error}. Give a model that takes the weights: model_class=Net(...)."
            ) from error
        module = model_class(**settings)
    else:
        raise TypeError(
            "Expected argument `model_class` to be the class of the model whose weights are in the checkpoint, or such "
            f"a model, but got {model_class!r}."
        )
    put_weights(module, content, path)
    return module


def read_checkpoint(path: str | Path, name: str = "model") -> dict[str, Any]:
    """What a checkpoint of Lightning, or a file with a state dict, holds. Nothing in it is executed.

    Args:
        path: The file.
        name: What errors call it.

    Raises:
        ValueError: if the file cannot be read safely.
        TypeError: if it holds something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"Expected argument `{name}` to be a file of weights that can be read safely, but {path} "
            f"{_reason(error, path)}"
        ) from error
    if not isinstance(content, dict):
        raise TypeError(f"Expected argument `{name}` to hold a state dict, but {path} holds {type(content).__name__}.")
    return content


def _reason(error: Exception, path: str | Path) -> str:
    """Why a file cannot be read safely, and what to do."""
    try:
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # what is no checkpoint ends in any way
        classes = []
    if not classes:
        return f"cannot: {str(error).splitlines()[0]}"
    return (
        f"holds objects beside the weights, whose reading runs code: {', '.join(classes)}. Where you trust the file, "
        "read it yourself and give the module, Net.load_from_checkpoint(path, weights_only=False), or keep its weights "
        "alone for ever after: torch.save({'state_dict': module.state_dict()}, path)."
    )


def put_weights(module: nn.Module, content: dict[str, Any], path: str | Path, name: str = "model") -> None:
    """Load the weights that a checkpoint holds.

    Args:
        module: Takes the weights.
        content: What `read_checkpoint` gave.
        path: The file.
        name: What errors call it.

    Raises:
        ValueError: if they are those of another module.
        TypeError: if it holds no state dict.
    """
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict):
        raise TypeError(f"Expected argument `{name}` to hold a state dict, but {path} holds {type(weights).__name__}.")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"Expected argument `{name}` to hold the weights of {type(module).__name__}, but {path} does not: {error}"
        ) from error
