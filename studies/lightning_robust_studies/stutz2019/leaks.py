"""What the decoders of learned manifolds tell of the label, and which on-manifold examples still show it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_robust._codes import parts
from lightning_robust._fitting import device
from lightning_robust._noise import Noise
from lightning_robust.attacks import Ball
from lightning_robust.cells import Row, save_artifact
from lightning_robust.manifolds import Fingerprint, Leak, Share, leak, still_valid
from lightning_robust_studies.stutz2019 import trained
from lightning_robust_studies.stutz2019.kinds import weights_of
from lightning_robust_studies.stutz2019.learned import Learned, load_manifold
from lightning_robust_studies.stutz2019.settings import JUDGE, JUDGE_SEED, LeakSettings

_MOVE = 0x3A7E  # the stream of random moves
IMAGES = 2000
"""Test images whose reconstructions are read, at most."""
SHARES = {
    "error_on_originals": "error on originals",
    "error_on_reconstructions": "error on reconstructions",
    "error_on_mislabeled": "error with a wrong label",
    "reads_decoder": "read as the decoder's class",
    "reads_own": "read as its own class",
    "reads_random": "random codes read as the decoder's class",
}
"""The shares of a `Leak`, and what they are called in tables."""
MOVED = {
    "error_on_reconstructions": "error after a random move",
    "error_on_mislabeled": "error after a random move with a wrong label",
}
"""The same where codes are moved at random within the ball of the attack: of residual manifolds, which give the image
itself where no code is moved, only this can leak."""
PROTOTYPE = "the same of the second manifold"
VALID, VALID_BEFORE = "label still right", "label still right, before the attack"


@dataclass(frozen=True)
class Moved:
    """A manifold whose codes are moved at random within a ball and its bounds; the content of an image decides how."""

    manifold: Learned
    ball: Ball

    def encode(self, x: Tensor, y: Tensor) -> tuple[Any, ...]:
        """The codes of images, moved."""
        z, *fixed = parts(self.manifold.encode(x, y))
        moved = z + self.ball.sample(Noise.of(x, _MOVE), torch.zeros_like(z))
        low, high = self.manifold.bounds or (moved, moved)
        return (torch.minimum(torch.maximum(moved, torch.minimum(low, z)), torch.maximum(high, z)), *fixed)

    def decode(self, z: Tensor, y: Tensor, *fixed: Any) -> Tensor:
        """The images of codes."""
        return self.manifold.decode(z, y, *fixed)


@dataclass(frozen=True)
class MeasureLeak:
    """What a model reads of images that the decoders of the learned manifold of the cell made, see `leak`.

    Where the class manifolds are learned a second time, `fingerprint` tells what is read in the pictures from what is
    read of the network that made them, and they judge whether on-manifold examples still show their label. What is read
    of each decoder is kept in `leak.pt`.
    """

    settings: LeakSettings

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """A row for each share, one whether it is a leak, with the sentence that says so."""
        settings, name = self.settings, cell["manifold"]
        model, (manifold, threat) = trained.load_model(settings, cell), trained.threat_along(settings, name)
        classes = len(settings.source.classes)
        limit = min(settings.test_size, IMAGES)
        x, y = (part.to(device()) for part in settings.source.make(settings.root).tensors("test", limit=limit)[:2])
        measured = leak(model, manifold, x, y, num_classes=classes)
        moved = leak(model, Moved(manifold, threat.ball), x, y, num_classes=classes)
        rows = _rows(measured, SHARES) + _rows(moved, MOVED)
        found = "After a random move of the codes: " + moved.sentence if moved.leaks and not measured.leaks else ""
        flag = _flag(measured.leaks or moved.leaks, len(x))
        rows.append({"metric": "leaks", **flag, "sentence": found or measured.sentence})
        if weights_of(name) == JUDGE and measured.table is not None:
            other = leak(model, load_manifold(settings, name, JUDGE_SEED), x, y, num_classes=classes)
            both = Fingerprint(measured, other)
            rows.append({"metric": PROTOTYPE, **_share(both.prototype)})
            rows.append({"metric": "fingerprint", **_flag(both.found, len(x)), "sentence": both.sentence})
        if settings.judged:
            rows += self._still_valid(model, name)
        if measured.table is not None:
            save_artifact(folder / "leak.pt", {"table": torch.tensor(measured.table)})
        return rows

    def _still_valid(self, model: Any, name: str) -> list[Row]:
        """The shares of images and of their on-manifold examples that their own class explains best."""
        settings = replace(self.settings, attacked=min(self.settings.judged, self.settings.attacked))
        images, classes = trained.examples_along(model, name, settings).counted(), len(settings.source.classes)
        hits, judge = images.take(images.hit), load_manifold(settings, JUDGE, JUDGE_SEED)
        y = hits.y.to(device())
        return [
            {"metric": metric, **_share(Share.of(still_valid(judge, x.to(device()), y, num_classes=classes)))}
            for metric, x in ((VALID_BEFORE, hits.x), (VALID, hits.x_adv))
            if len(y)
        ]


def _rows(measured: Leak, names: Mapping[str, str]) -> list[Row]:
    shares = ((name, getattr(measured, field)) for field, name in names.items())
    return [{"metric": name, **_share(share)} for name, share in shares if share is not None]


def _share(share: Share) -> Row:
    return {"value": share.value, "low": share.low, "high": share.high, "count": share.n}


def _flag(value: bool, n: int) -> Row:
    return {"value": float(value), "low": float(value), "high": float(value), "count": n}
