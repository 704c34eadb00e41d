"""Batches of other packages: the same numbers and weights as with plain tensors, and the user's batch as it was."""

import copy
from operator import attrgetter, itemgetter

import pytest
import torch
import torch.nn.functional as F
from callbacks_fakes import EPS, preloaded, same, state, trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation, evaluate, standard
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomSearch

CLASSES, BATCH = 3, 4


class User(pl.LightningModule):
    """A user's module.

    Args:
        net: Makes the network.
        logits: `(net, batch) -> logits`.
        target: `batch -> labels`.
    """

    def __init__(self, net, logits, target):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.logits, self.target, self.seen = net(), logits, target, []

    def _loss(self, batch):
        return F.cross_entropy(self.logits(self.net, batch), self.target(batch))

    def training_step(self, batch, batch_idx):
        self.seen.append(copy.deepcopy(batch))
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/own", self._loss(batch), batch_size=BATCH)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.5)


def run(module, load, input, target, folder, **training):  # noqa: A002
    """The module after a fit, and what was measured; the best checkpoint is read safely."""
    where = {"input": input, "target": target, "forward": lambda module, batch: module.logits(module.net, batch)}
    attacks = {"linf": PGD(Linf(EPS), steps=3, restarts=2), "weak": PGD(Linf(EPS / 4), steps=1)}
    evaluation = RobustEvaluation(attacks, **where)
    best = pl.callbacks.ModelCheckpoint(folder, monitor="val/robust_acc", mode="max", save_top_k=1)
    robust = AdversarialTraining(PGD(Linf(EPS), steps=2), **where, **training)
    torch.manual_seed(1)
    trainer(evaluation, robust, best, enable_checkpointing=True).fit(module, load(), load())
    assert "callbacks" in torch.load(best.best_model_path, weights_only=True)
    return module, dict(evaluation.results)


def assert_same(ours, plain, read):
    """The same weights, results and inputs.

    Args:
        ours: Of a run with batches of another package.
        plain: Of a run with plain tensors.
        read: `batch -> input`, a plain tensor, for our batches and for plain ones.
    """
    (module, results), (reference, expected) = ours, plain
    assert results == expected
    assert {type(value) for value in results.values()} <= {float, int}
    assert same(state(module), state(reference))
    for batch, wanted in zip(module.seen, reference.seen, strict=True):
        assert torch.equal(read[0](batch), read[1](wanted))


def assert_attacked(x_adv, x, clean=0):
    """Within the ball, and moved but for the first `clean` samples."""
    change = (x_adv - x).abs().flatten(1).amax(1)
    assert not change[:clean].any()
    assert bool((change[clean:] > 0).all())
    assert float(change.max()) <= EPS + 1e-6


def volumes():
    return torch.rand(3 * BATCH, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def volume_net():
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES))


def test_monai_meta_tensors(tmp_path):
    data = pytest.importorskip("monai.data")
    x, results = volumes(), []
    for meta in (True, False):

        def load(meta=meta):
            images = [data.MetaTensor(one, meta={"file": f"{i}.nii"}) if meta else one for i, one in enumerate(x)]
            rows = [{"image": image, "label": i % CLASSES} for i, image in enumerate(images)]
            return DataLoader(rows, BATCH, collate_fn=data.list_data_collate)

        module = User(volume_net, lambda net, batch: net(batch["image"]), itemgetter("label"))
        results.append(run(module, load, "image", "label", tmp_path / str(meta), fraction=0.5))
    assert_same(*results, (lambda batch: batch["image"].as_tensor(), itemgetter("image")))
    for batch, clean in zip(results[0][0].seen, 2 * x.split(BATCH), strict=True):
        assert type(batch["image"]) is data.MetaTensor
        assert all(name.endswith(".nii") for name in batch["image"].meta["file"])
        assert_attacked(batch["image"].as_tensor(), clean, BATCH // 2)


def test_torch_geometric_graphs(tmp_path):
    data = pytest.importorskip("torch_geometric.data")
    layers = pytest.importorskip("torch_geometric.nn")
    loaders = pytest.importorskip("torch_geometric.loader")
    generator = torch.Generator().manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 4, 4]])
    edges = torch.cat([edges, edges.flip(0)], 1)
    graphs = [
        data.Data(x=torch.rand(5, 4, generator=generator), y=(torch.arange(5) + i) % CLASSES, edge_index=edges)
        for i in range(6)
    ]
    before = copy.deepcopy(graphs)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = layers.GCNConv(4, 8), layers.GCNConv(8, CLASSES)

        def forward(self, x, edge_index):
            return self.last(self.first(x, edge_index).tanh(), edge_index)

    def load():
        return loaders.DataLoader(graphs, batch_size=2)

    def load_plain():
        return preloaded([{"x": batch.x, "y": batch.y, "edge_index": batch.edge_index} for batch in load()])

    ours, plain = (
        run(
            User(Net, lambda net, batch: net(batch["x"], batch["edge_index"]), itemgetter("y")),
            load,
            "x",
            "y",
            tmp_path / load.__name__,
        )
        for load in (load, load_plain)
    )
    assert_same(ours, plain, (attrgetter("x"), itemgetter("x")))
    for batch, clean in zip(ours[0].seen, 2 * list(load()), strict=True):
        assert type(batch) is type(clean)
        assert torch.equal(batch.ptr, clean.ptr)
        assert_attacked(batch.x, clean.x)
    assert all(torch.equal(graph.x, kept.x) for graph, kept in zip(graphs, before, strict=True))
    where = {"input": "x", "target": "y", "forward": lambda module, batch: module.logits(module.net, batch)}
    module = ours[0].requires_grad_(False)
    report = evaluate(module, load(), standard(Linf(0.5)), progress=False, **where)
    callback = RobustEvaluation({"plan": PGD(Linf(0.5), 10), "search": RandomSearch(Linf(0.5), 20)}, **where)
    trainer(callback).validate(module, load(), verbose=False)
    assert report.n == callback.results["val/n"] == 30
    assert report.robust_acc.value <= callback.results["val/robust_acc"] <= report.clean_acc.value


def tensordict():
    package = pytest.importorskip("tensordict")
    return lambda x, y: package.TensorDict({"image": x, "label": y}, batch_size=[len(x)]), itemgetter


def tensorclass():
    package = pytest.importorskip("tensordict")

    @package.tensorclass
    class Images:
        image: torch.Tensor
        label: torch.Tensor

    return lambda x, y: Images(image=x, label=y, batch_size=[len(x)]), attrgetter


def batch_feature():
    package = pytest.importorskip("transformers")
    return lambda x, y: package.BatchFeature({"image": x, "label": y}), itemgetter


def attrs():
    package = pytest.importorskip("attrs")
    frozen = package.make_class("Images", ["image", "label"], frozen=True)
    return frozen, attrgetter


def pydantic():
    package = pytest.importorskip("pydantic")

    class Images(package.BaseModel):
        model_config = package.ConfigDict(arbitrary_types_allowed=True)
        image: torch.Tensor
        label: torch.Tensor

    return lambda x, y: Images(image=x, label=y), attrgetter


def tv_tensor():
    package = pytest.importorskip("torchvision.tv_tensors")
    return lambda x, y: {"image": package.Image(x), "label": y}, itemgetter


@pytest.mark.parametrize("kind", [tensordict, tensorclass, batch_feature, attrs, pydantic, tv_tensor])
def test_records(kind, tmp_path):
    make, getter = kind()
    x, y = volumes(), torch.arange(3 * BATCH) % CLASSES
    pairs = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    packed, plain = [make(*pair) for pair in pairs], [{"image": x, "label": y} for x, y in pairs]
    results = []
    for batches, read in ((packed, getter), (plain, itemgetter)):
        module = User(volume_net, lambda net, batch, read=read: net(read("image")(batch)), read("label"))
        folder = tmp_path / str(len(results))
        results.append(run(module, lambda made=batches: preloaded(made), "image", "label", folder, fraction=0.5))

    def plainly(batch):
        return getter("image")(batch).as_subclass(torch.Tensor)

    assert_same(*results, (plainly, itemgetter("image")))
    for batch, (clean, _) in zip(results[0][0].seen, 2 * pairs, strict=True):
        assert type(batch) is type(packed[0])
        assert_attacked(plainly(batch), clean, BATCH // 2)
    assert all(torch.equal(plainly(batch), clean) for batch, (clean, _) in zip(packed, pairs, strict=True))
