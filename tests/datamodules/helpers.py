"""What the tests of data modules share."""

from itertools import chain

import torch

from lightning_robust._lightning import pl


class Recorder(pl.LightningModule):
    """A classifier that keeps the batches it was given."""

    def __init__(self, features=784, classes=10):
        super().__init__()
        self.linear = torch.nn.Linear(features, classes)
        self.seen = {"train": [], "val": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return torch.nn.functional.cross_entropy(self.linear(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.seen["val"].append(batch)

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch)

    def predict_step(self, batch, batch_idx):
        return batch[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**kwargs):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(**{"accelerator": "cpu", "enable_checkpointing": False, **quiet, **kwargs})


def numbered(n, classes=10, shape=(1, 4, 4)):
    """Float images whose first pixel is their number / 1000."""
    images = torch.zeros(n, *shape)
    images.flatten(1)[:, 0] = torch.arange(n) / 1000
    return images, torch.arange(n) % classes


def numbers(batches):
    """The numbers of the images in each batch."""
    return [(x.flatten(1)[:, 0] * 1000).round().int().tolist() for x, *_ in batches]


def flat(lists):
    return list(chain.from_iterable(lists))
