"""A manifold that is learned from data, with the bounds of its codes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from lightning_robust._checks import count
from lightning_robust._lightning import pl
from lightning_robust._modes import evaluating
from lightning_robust.manifolds.codes import truncated_normal
from lightning_robust.manifolds.losses import wide
from lightning_robust.manifolds.quality import CodeQuality


class Samples(NamedTuple):
    """Images that a manifold makes of random codes.

    Fields:
        x: (N, C, H, W) in [0, 1].
        y: int64 of shape (N,), the classes whose decoders made them.
        z: (N, Z), the codes.
    """

    x: Tensor
    y: Tensor
    z: Tensor


class LearnedManifold(pl.LightningModule, ABC):
    """What does not depend on the networks: the bounds of codes, sampling, and the evaluation.

    Args:
        latent: Z.
        num_classes: K.
        bound: codes are valid in [-bound, bound]; None: where the codes of the training data are.
    """

    code_low: Tensor
    code_high: Tensor

    def __init__(self, latent: int, num_classes: int, bound: float | None) -> None:
        super().__init__()
        self.latent, self.num_classes = latent, num_classes
        limit = -torch.inf if bound is None else bound  # low > high: not known yet
        self.register_buffer("code_low", torch.full((latent,), -limit))
        self.register_buffer("code_high", torch.full((latent,), limit))
        self._bound, self._bounded_at = bound, -1
        self._quality = CodeQuality()

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        """The codes (N, Z) of images (N, C, H, W) with labels (N,)."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The images (N, C, H, W) of codes (N, Z) with labels (N,)."""

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The box (low, high) of valid codes, both (Z,); None: not known yet, train the model or call `fit_bounds`."""
        return (self.code_low, self.code_high) if bool((self.code_low <= self.code_high).all()) else None

    def reconstruct(self, x: Tensor, y: Tensor) -> Tensor:
        """The images (N, C, H, W) of the codes of images: the paper's projection onto the manifold."""
        return self.decode(self.encode(x, y), y)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, bound: float = 2.0, seed: int = 0) -> Samples:
        """Images of random codes, standard normal within [-bound, bound].

        Args:
            n: N, the number of images.
            y: int64 of shape (N,), their classes; None: 0, 1, ..., K - 1, 0, 1, ...
            bound: the largest absolute value of a code's entry.
            seed: of the codes.
        """
        z = truncated_normal(n, self.latent, bound=bound, seed=seed).to(self.code_low)
        y = torch.arange(n, device=self.device) % self.num_classes if y is None else y.to(self.device)
        return Samples(self.decode(z, y), y, z)

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, y: Tensor, steps: int = 10) -> Tensor:
        """Images on the straight lines between codes.

        Args:
            start: (N, Z), the first codes.
            end: (N, Z), the last ones.
            y: int64 of shape (N,), the classes.
            steps: S, the number of images on each line, both ends included.

        Returns:
            (N, S, C, H, W).
        """
        weights = torch.linspace(0, 1, count("steps", steps)).to(start)[None, :, None]
        z = torch.lerp(start[:, None], end[:, None], weights)
        return self.decode(z.flatten(0, 1), y.repeat_interleave(z.shape[1])).unflatten(0, z.shape[:2])

    @torch.no_grad()
    def fit_bounds(self, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
        """Set `bounds` to the least and the greatest entry of the codes of data, in each dimension.

        Args:
            batches: of (x, y, ...).

        Returns:
            low and high, both (Z,).
        """
        low, high = torch.full_like(self.code_low, torch.inf), torch.full_like(self.code_low, -torch.inf)
        for x, y, *_ in batches:
            z = self.encode(x.to(self.device), y.to(self.device)).to(low)
            low, high = torch.minimum(low, z.amin(0)), torch.maximum(high, z.amax(0))
        self.code_low.copy_(low)
        self.code_high.copy_(high)
        return self.code_low, self.code_high

    # The bounds of the training codes

    def on_train_epoch_end(self) -> None:
        """Find the bounds of the codes, where there was no validation to find them before."""
        self._refresh_bounds()

    def on_validation_start(self) -> None:
        """Find the bounds of the codes at the end of an epoch, before checkpoints are written."""
        over = self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and over:
            self._refresh_bounds()

    def _refresh_bounds(self) -> None:
        """The bounds for the weights that this epoch ended with, the same on all processes."""
        step = self.trainer.global_step
        if self._bound is not None or self._bounded_at == step:
            return
        strategy, limit = self.trainer.strategy, self.trainer.num_training_batches
        batches = islice(self.trainer.train_dataloader, None if limit == float("inf") else int(limit))  # type: ignore[arg-type]
        if self.trainer.world_size > 1:
            for buffer in self._statistics():
                buffer.copy_(strategy.broadcast(buffer))
        with torch.random.fork_rng(devices=[]):
            self.fit_bounds(strategy.batch_to_device(batch, dataloader_idx=0) for batch in batches)
        if self.trainer.world_size > 1:
            self.code_low.copy_(cast(Tensor, self.all_gather(self.code_low)).amin(0))
            self.code_high.copy_(cast(Tensor, self.all_gather(self.code_high)).amax(0))
        self._bounded_at = step

    def _statistics(self) -> Iterable[Tensor]:
        """What codes depend on and each process has of its own."""
        return ()

    # Evaluation

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch."""
        x, y = batch[0], batch[1]
        z = self.encode(x, y)
        self._quality.update(x, self.decode(z, y), z)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the quality of codes and reconstructions."""
        self._log_quality("val")

    def on_test_epoch_end(self) -> None:
        """Log the quality of codes and reconstructions."""
        self._log_quality("test")

    def _log_quality(self, stage: str) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in self._quality.compute().items()}, sync_dist=True)
        self._quality.reset()


class EncoderDecoder(LearnedManifold):
    """One that has an encoder and a decoder, or some for each class; both are given labels, which they may ignore.

    Args:
        encoder: images (N, C, H, W) and labels (N,) to (N, 2 Z), the means of codes and the logarithms of their
            variances.
        decoder: codes (N, Z) and labels to the logits of images.
        latent: Z.
        num_classes: K.
        bound: as of LearnedManifold.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent: int, num_classes: int, bound: float | None
    ) -> None:
        super().__init__(latent, num_classes, bound)
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        """The codes of images, the means of their distributions, with the statistics of training and without noise.

        Args:
            x: (N, C, H, W).
            y: int64 of shape (N,), which class's encoder to take; ignored where one encoder is for all.

        Returns:
            (N, Z).
        """
        with evaluating(self.encoder):
            return self.encoder(x.to(self.code_low.dtype), y).chunk(2, dim=1)[0]

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The images of codes, with the statistics of training.

        Args:
            z: (N, Z).
            y: int64 of shape (N,), which class's decoder to take, or what it is told; ignored where K is 1.

        Returns:
            (N, C, H, W) in [0, 1], float32 at least; differentiable in z.
        """
        with evaluating(self.decoder):
            return torch.sigmoid(wide(self.decoder(z.to(self.code_low.dtype), y)))

    def _statistics(self) -> Iterable[Tensor]:
        return self.encoder.buffers()
