"""The configuration of a run from the command line, kept with its results, over nothing that is there."""

import itertools
from typing import Any

from fsspec.core import url_to_fs

from lightning_robust._lightning import pl

NAME = "config.resolved"


class KeepConfig(pl.Callback):
    """Write the whole configuration, defaults and all, into the folder of the results when a run begins.

    It goes to `config.resolved.yaml`, or to `config.resolved-v1.yaml` and so on: a file that is there is left as it is,
    since the folder may be the one in which the user keeps configurations. A run of the same configuration as an
    earlier one writes nothing.

    Args:
        parser: LightningCLI's parser of the command.
        config: What it has parsed.
    """

    def __init__(self, parser: Any, config: Any) -> None:
        self.parser, self.config = parser, config
        self._kept = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write, in one process of those that run together."""
        folder = trainer.log_dir or trainer.default_root_dir  # to be asked for by all processes: it is broadcast
        if self._kept or not trainer.is_global_zero:
            return
        text = self.parser.dump(self.config, skip_none=False).encode()
        fs, root = url_to_fs(folder)
        fs.makedirs(root, exist_ok=True)
        for number in itertools.count():
            path = f"{root}/{NAME}{f'-v{number}' if number else ''}.yaml"
            if not fs.lexists(path):
                fs.pipe_file(path, text)
            elif not fs.isfile(path) or fs.cat_file(path) != text:
                continue
            break
        self._kept = True
