"""`evaluate` gives the numbers of the callback without a Trainer, from any model and any data."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset

from lightning_robust import PGD, Linf, RobustEvaluation, evaluate
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack, Box, binary_correct, binary_margin, expectation, margin
from lightning_robust.attacks.attack import Outcome
from lightning_robust.datamodules import Fonts
from lightning_robust.evaluation import Plan, Report, standard
from lightning_robust.evaluation.ledger import Ledger, header_of, join
from lightning_robust.models import RobustClassifier, standard_net
from tests.helpers import Killed

X, Y = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
ATTACKS = {"near": PGD(Linf(0.01), steps=2), "far": PGD(Linf(0.02), steps=2)}


def linear(classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    module, data = RobustClassifier(standard_net()), Fonts("easy", train_size=400, test_size=60, batch_size=20)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    pl.Trainer(max_epochs=5, limit_val_batches=0, enable_model_summary=False, **quiet).fit(module, data)
    return module, data


def test_the_numbers_are_those_of_the_callback(trained):
    module, data = trained
    starts = {f"start {seed}": PGD(Linf(0.05), 1, rel_step_size=0.3, seed=seed) for seed in range(5)}
    attacks = ATTACKS | starts
    callback = RobustEvaluation(attacks)
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", callbacks=[callback])
    trainer.test(module, data, verbose=False)
    report = evaluate(module, data, attacks, progress=False)
    expected, intervals = callback.results, callback.intervals
    assert report.n == expected["test/n"] == 60
    assert report.clean_acc.value == pytest.approx(expected["test/clean_acc"], abs=1e-7)
    assert report.robust_acc.value == pytest.approx(expected["test/robust_acc"], abs=1e-7)
    assert (report.robust_acc.low, report.robust_acc.high) == pytest.approx(intervals["test/robust_acc"], abs=1e-7)
    for name in attacks:
        assert report.right[name].double().mean().item() == pytest.approx(expected[f"test/robust_acc_{name}"], abs=1e-7)
    assert 0 < report.robust_acc.value < report.clean_acc.value  # the comparison would be of zeros otherwise
    assert len({int(report.right[name].sum()) for name in starts}) > 1, "other starts, other numbers"


def test_any_data_and_any_model(trained):
    module, data = trained
    x, y, _ = data.tensors("test", limit=60)
    whole = evaluate(module, data, ATTACKS, progress=False)
    rows = [{"image": image, "label": int(label)} for image, label in zip(x, y, strict=True)]
    others = [
        evaluate(module, (x, y), ATTACKS, batch_size=17, progress=False),
        evaluate(module.network, DataLoader(TensorDataset(x, y), batch_size=20), ATTACKS, progress=False),
        evaluate(module, TensorDataset(x, y[:, None]), ATTACKS, batch_size=20, progress=False),
        evaluate(lambda x: module(x), [(x[:30], y[:30]), (x[30:], y[30:])], ATTACKS, progress=False),
        evaluate(module, DataLoader(rows, batch_size=20), ATTACKS, input="image", target="label", progress=False),
    ]
    module.eval()
    for report in others:
        assert torch.equal(report.labels, y)
        for name in ("clean", *ATTACKS):
            assert torch.equal(report.right[name], whole.right[name])


def test_the_first_samples_and_a_single_attack(trained):
    module, data = trained
    whole = evaluate(module, data, ATTACKS, progress=False)
    report = evaluate(module, data, ATTACKS["near"], max_samples=31, progress=False)
    assert (report.n, list(report.right)) == (31, ["clean", "attack"])
    assert torch.equal(report.right["attack"], whole.right["near"][:31])
    assert torch.equal(report.labels, whole.labels[:31])


def test_a_plan_and_labels_of_another_kind():
    class Plan:
        attacks = {"margin": PGD(Linf(0.1), steps=2, gain=binary_margin)}  # noqa: RUF012

    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), torch.rand(12, 1, 4, 4)
    y = (torch.arange(12) % 2).float()[:, None]
    report = evaluate(model, (x, y), Plan(), correct=binary_correct, progress=False)
    assert report.labels is None
    assert list(report.right) == ["clean"]
    assert list(report.attacks) == ["margin"]
    assert torch.equal(report.right["clean"], ((model(x) > 0).float() == y)[:, 0])
    with pytest.raises(ValueError, match="labels that are classes"):
        report.per_class()


def test_the_model_is_as_it_was(trained):
    module = copy.deepcopy(trained[0]).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    evaluate(module, trained[1], ATTACKS["near"], max_samples=10, progress=False)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Object:
    """No module, and calls one."""

    __slots__ = ("net", "noise")

    def __init__(self, net, noise=0.0):
        self.net, self.noise = net, noise

    def __call__(self, *args):
        return self.net(args[-1] if len(args) == 1 else args[1][0]) + self.noise * torch.rand(1)


def test_an_object_that_holds_a_network_is_what_the_network_is():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 2))
    net[1].running_mean += 0.5
    before, stream = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    known = evaluate(net, (X, Y), ATTACKS["far"], progress=False)
    for model, given in ((Object(net), {}), (linear(2), {"forward": Object(net)})):
        torch.set_rng_state(stream)
        report = evaluate(model, (X, Y), ATTACKS["far"], progress=False, **given)
        assert torch.equal(report.images.gain.nan_to_num(), known.images.gain.nan_to_num())
        with pytest.raises(ValueError, match="answers the same input differently"):
            evaluate(Object(net, noise=1.0), (X, Y), ATTACKS["far"], progress=False)
        assert torch.equal(torch.get_rng_state(), stream)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_gradient_mode_of_the_caller_does_not_matter(tmp_path, mode):
    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    data = x, balanced()(x).argmax(1)
    whole = evaluate(balanced(), data, PLAN, batch_size=9, progress=False)
    killed, model = Killed(balanced(), 60), Killed(balanced())
    with mode():
        inside = x.clone(), data[1].clone()
        with pytest.raises(KeyboardInterrupt):
            evaluate(killed, inside, PLAN, batch_size=9, out=tmp_path, progress=False)
        again = evaluate(model, inside, PLAN, batch_size=9, out=tmp_path, progress=False)
        assert same(whole, again)
        assert same(whole, Report.load(tmp_path))
    again.write(tmp_path / "outside")


@pytest.mark.gpu
def test_the_model_goes_to_the_device_and_back():
    module = linear(2)
    seen = []
    module.register_forward_pre_hook(lambda m, args: seen.append(args[0].device.type))
    report = evaluate(module, (X, Y), PGD(Linf(0.1), 1), device="cuda", progress=False)
    assert set(seen) == {"cuda"}
    assert {p.device.type for p in module.parameters()} == {report.right["clean"].device.type} == {"cpu"}
    kept = linear(2).cuda()
    assert torch.equal(evaluate(lambda x: kept(x), (X, Y), PGD(Linf(0.1), 1), progress=False).labels, Y)


def test_a_model_is_not_moved_without_need():
    class Fixed(nn.Linear):
        def to(self, *args, **kwargs):
            raise AssertionError

    for device in (None, "cpu"):
        assert evaluate(Fixed(4, 2), (torch.rand(3, 4), Y[:3]), PGD(Linf(0.1), 1), device=device, progress=False).n == 3


@pytest.mark.parametrize("n", [1, 8])
def test_a_model_without_parameters_that_is_always_wrong(n):
    attack, y = PGD(Linf(0.1), 1, gain=margin), X[:n].flatten(1)[:, :2].argmax(1)
    report = evaluate(lambda x: -x.flatten(1)[:, :2], (X[:n], y), attack, progress=False)
    assert (report.n, report.clean_acc.value, report.robust_acc.value) == (n, 0, 0)
    assert "0.0 %" in report.page().html()


def test_yes_no_labels():
    attack = PGD(Linf(0.1), 1, gain=binary_margin)
    for y in (Y.bool()[:, None], Y[:, None], Y.float()[:, None]):
        report = evaluate(linear(1), (X, y), attack, correct=binary_correct, progress=False)
        assert (report.labels is None) == y.is_floating_point()
        assert torch.equal(report.right["clean"], (linear(1)(X)[:, 0] > 0) == Y.bool())
    with pytest.raises(ValueError, match=r"y.long\(\)"):
        evaluate(linear(2), (X, Y.bool()), PGD(Linf(0.1), 1), progress=False)


def test_one_logit_has_a_dimension_or_none():
    threat, given = Linf(0.1), {"correct": binary_correct, "progress": False}
    stages = standard(threat, gain=binary_margin).attacks
    plan = Plan({name: stages[name] for name in ("target 1", "apgd", "search")})
    for attacks in (PGD(threat, 3, gain=binary_margin), plan):
        one, other = (
            evaluate(model, (X, Y), attacks, keep_examples=True, **given)
            for model in (linear(1), nn.Sequential(linear(1), nn.Flatten(0)))
        )
        assert same(one, other)
        assert one.indicators == other.indicators
        assert torch.equal(one.images.examples, other.images.examples)


@pytest.mark.parametrize("max_samples", [None, 5])
def test_a_forward_that_reads_other_fields(max_samples):
    rows = [{"image": x, "label": y, "shift": torch.eye(2)[y]} for x, y in zip(X, 1 - Y, strict=True)]
    report = evaluate(
        linear(2),
        DataLoader(rows, batch_size=3),
        PGD(Linf(0.1), 1),
        input="image",
        target="label",
        forward=lambda model, batch: model(batch["image"]) + 100 * batch["shift"],
        per_sample=["shift"],
        max_samples=max_samples,
        progress=False,
    )
    assert (report.n, report.robust_acc.value) == (max_samples or 8, 1)


def test_a_data_module_has_one_test_dataloader():
    class Data(pl.LightningDataModule):
        loaders = 1

        def test_dataloader(self):
            return [DataLoader(TensorDataset(X, Y), batch_size=4)] * self.loaders

    data = Data()
    assert torch.equal(evaluate(linear(2), data, PGD(Linf(0.1), 1), progress=False).labels, Y)
    data.loaders = 2
    with pytest.raises(ValueError, match="one test dataloader, but got 2"):
        evaluate(linear(2), data, PGD(Linf(0.1), 1), progress=False)


def test_doubts_are_warned_of_and_reported():
    model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(8, 1, 4, 4), torch.arange(8) % 3

    def soft(x):
        return model(x).softmax(1)

    with pytest.warns(UserWarning, match="outputs are probabilities"):
        report = evaluate(soft, (x, y), PGD(Linf(0.1), steps=1, gain=margin), progress=False)
    assert any("outputs are probabilities" in text for text in report.warnings)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data": (torch.rand(4, 1, 4, 4), torch.zeros(3).long())}, "as many labels as inputs"),
        ({"data": []}, "`data` to have samples"),
        ({"data": (X.numpy(), Y.numpy())}, r"pair of tensors .*got ndarray and ndarray.*torch.as_tensor\(x\)"),
        ({"data": (X, Y.tolist())}, r"got Tensor and list.*torch.as_tensor\(y\)"),
        ({"data": [X, None]}, r"got Tensor and NoneType.*\[\(x, y\)\]"),
        ({"data": [(X[0], 3)] * 2}, r"list of samples.*DataLoader\(data"),
        ({"data": [(X[0], torch.tensor(3))]}, r"list of samples.*DataLoader\(data"),
        ({"data": 3}, "`data` to be a pair of tensors"),
        ({"data": torch.rand(4, 1, 4, 4)}, "`data` to be a pair of tensors"),
        ({"model": 3}, "`model` to be a function"),
        ({"model": nn.Module()}, "Module defines no `forward`"),
        ({"model": nn.Bilinear(2, 2, 2)}, r"forward\(x\) of Bilinear.*'input2'.*forward=lambda"),
        ({"model": nn.Linear}, "the class Linear. Did you mean"),
        ({"attacks": {}}, "at least one attack"),
        ({"attacks": {"robust": PGD(Linf(0.1), 1)}}, "no attack of the name 'robust': .*another name"),
        ({"data": nn.Sequential()}, "`data` to be a pair of tensors"),
        ({"device": "nowhere"}, "`device` to be a device of this machine, but got 'nowhere'"),
        ({"attacks": Linf(0.1)}, "is a ball: did you mean"),
        ({"max_samples": 0}, "`max_samples`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"data": (torch.rand(4, 1, 4, 4) * 255, torch.zeros(4).long())}, r"images in \[0, 1\]"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, match):
    valid = {
        "model": nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
        "data": (torch.rand(4, 1, 4, 4), torch.zeros(4).long()),
        "attacks": PGD(Linf(0.1), 1),
    }
    with pytest.raises((ValueError, TypeError), match=match):
        evaluate(**(valid | change), progress=False)


PLAN = Plan({"margin": PGD(Linf(0.03), 1, gain=margin), "pgd": PGD(Linf(0.1), 4, restarts=2)})


def balanced():
    """A model at whose boundary a gray image lies."""
    model = linear(2)
    with torch.no_grad():
        model[1].bias -= model(torch.full((1, 1, 4, 4), 0.5))[0]
    return model


def same(one, other):
    return one.images.attack == other.images.attack and torch.equal(one.images.step, other.images.step)


@pytest.mark.parametrize("share", [0.8, 0.87, 0.95])
def test_an_evaluation_that_was_killed_goes_on(tmp_path, share):
    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    data, model = (x, balanced()(x).argmax(1)), Killed(balanced())
    whole = evaluate(model, data, PLAN, batch_size=9, progress=False)
    assert set(whole.images.attack) >= {"", "pgd"}
    forwards = int(share * next(model.count))
    with pytest.raises(KeyboardInterrupt):
        evaluate(Killed(balanced(), forwards), data, PLAN, batch_size=9, out=tmp_path, progress=False)
    assert not (tmp_path / "report.json").exists()
    again = evaluate(Killed(balanced()), data, PLAN, batch_size=7, out=tmp_path, progress=False)
    assert same(whole, again)
    assert (tmp_path / "report.html").exists()
    finished = evaluate(Killed(balanced()), data, PLAN, batch_size=9, out=tmp_path, progress=False)
    assert same(whole, finished)
    assert sum(finished.passes) < sum(whole.passes)
    assert Report.load(tmp_path).images.attack == whole.images.attack


SIZES = []  # what a model holds is put back after an attack


class Full(nn.Module):
    """Its memory is full with more than 16 samples and their gradients, and with more than 24 without."""

    def __init__(self):
        super().__init__()
        self.model = balanced()

    def forward(self, x):
        SIZES.append(len(x))
        if len(x) > (16 if x.requires_grad else 24):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(x)


@pytest.mark.parametrize(("batch_size", "largest"), [(4, 4), (250, 64)])
def test_questions_take_no_more_memory_than_attacks(tmp_path, batch_size, largest):
    """Those of the first run and of one that goes on."""
    x = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    data = x, balanced()(x).argmax(1)
    usual = evaluate(balanced(), data, PLAN, progress=False)
    for _ in range(2):
        SIZES.clear()
        report = evaluate(Full(), data, PLAN, batch_size=batch_size, out=tmp_path, progress=False)
        assert max(size for size in SIZES if size <= 64) == largest  # the engine begins with a batch
        assert max(SIZES) <= max(batch_size, largest)
        assert same(usual, report)
        assert not report.flagged
        assert {one.name for one in report.indicators} == {one.name for one in usual.indicators}


def test_memory_that_is_full_with_one_sample_ends_an_evaluation():
    class Hopeless(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Hopeless(), (X, Y), PLAN, progress=False)


def test_processes_share_the_samples(tmp_path):
    data = (torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(3)), torch.arange(20) % 2)
    whole = evaluate(linear(2), data, PLAN, progress=False)
    shards = [evaluate(linear(2), data, PLAN, out=tmp_path, shard=(i, 2), progress=False) for i in range(2)]
    assert [shard.n for shard in shards] == [10, 10]
    assert shards[1].images.key == whole.images.key[1::2]
    assert same(whole, Report.load(tmp_path))


def test_processes_that_would_see_other_orders_are_refused(tmp_path):
    """Shuffled, the shards hold some samples twice and others not at all; with a generator the order is the same."""
    data = TensorDataset(X, Y)
    shuffled = DataLoader(data, 3, shuffle=True)
    for loader in (shuffled, DataLoader(data, 3, sampler=DistributedSampler(data, 2, 0))):
        with pytest.raises(ValueError, match="one order in all processes"):
            evaluate(linear(2), loader, PLAN, shard=(0, 2), progress=False)
    assert evaluate(linear(2), shuffled, PLAN, progress=False).n == 8
    for i in range(2):
        same_order = DataLoader(data, 3, shuffle=True, generator=torch.Generator().manual_seed(0))
        evaluate(linear(2), same_order, PLAN, out=tmp_path, shard=(i, 2), progress=False)
    assert len(set(Report.load(tmp_path).images.key)) == 8


def test_a_process_without_samples_in_a_batch():
    def forward(module, batch):
        return module(batch[0])

    reports = [
        evaluate(linear(2), (X, Y), PLAN, forward=forward, batch_size=1, shard=(i, 2), progress=False) for i in range(2)
    ]
    assert [report.n for report in reports] == [4, 4]


class Shifted(nn.Module):
    """A network behind a shift that is no parameter."""

    def __init__(self, shift):
        super().__init__()
        self.network, self.shift, self.calls = balanced(), shift, 0

    def forward(self, x):
        return self.network(x - torch.as_tensor(self.shift).reshape(1, -1, 1, 1))


@pytest.mark.parametrize("shifts", [(0.1, 0.2), ((0.1,), (0.2,)), (torch.tensor([0.1]), torch.tensor([0.2]))])
def test_results_of_a_model_with_other_numbers_are_not_mixed(tmp_path, shifts):
    one, other = map(Shifted, shifts)
    evaluate(one, (X, Y), PLAN, out=tmp_path, progress=False)
    one.calls += 1
    evaluate(one, (X, Y), PLAN, out=tmp_path, progress=False)
    with pytest.raises(ValueError, match="`model` was"):
        evaluate(other, (X, Y), PLAN, out=tmp_path, progress=False)


class Trained(pl.LightningModule):
    """A network with the settings of its training."""

    def __init__(self, lr, mean=(0.0,)):
        super().__init__()
        self.network, self.lr, self.mean = balanced(), lr, mean

    def forward(self, x):
        return self.network(x - torch.as_tensor(self.mean).reshape(1, -1, 1, 1))


def test_numbers_of_a_training_do_not_matter(tmp_path):
    """A learning rate of a LightningModule, and what was best so far, which no constructor took."""
    evaluate(Trained(0.1), (X, Y), PLAN, out=tmp_path / "lr", progress=False)
    evaluate(Trained(0.2), (X, Y), PLAN, out=tmp_path / "lr", progress=False)
    with pytest.raises(ValueError, match="`model` was"):
        evaluate(Trained(0.1, (0.2,)), (X, Y), PLAN, out=tmp_path / "lr", progress=False)
    for best in (0.0, 0.7, torch.tensor(0.8)):
        model = Shifted((0.1,))
        model.best = best
        evaluate(model, (X, Y), PLAN, out=tmp_path / "best", progress=False)


def test_results_of_another_function_are_not_mixed(tmp_path):
    def mean(sign):
        return lambda x: sign * torch.stack([x.flatten(1).mean(1) - 0.5, 0.5 - x.flatten(1).mean(1)], 1)

    evaluate(mean(1), (X, Y), PLAN, out=tmp_path, progress=False)
    again = evaluate(mean(1), (X, Y), PLAN, out=tmp_path, progress=False)
    spent = int(again.images.passes.sum())
    assert again.about["resumed"].startswith(f"{spent:,} passes")
    assert again.passes_text().endswith(f"{spent / 8:.1f} per image in the attacks")
    with pytest.raises(ValueError, match="`settings` was"):
        evaluate(mean(2), (X, Y), PLAN, out=tmp_path, progress=False)


class Signed(nn.Module):
    """A network with a state that no constructor took."""

    def __init__(self):
        super().__init__()
        self.network, self.state, self.calls = balanced(), [1], 0

    def forward(self, x):
        return self.state[0] * self.network(x)


def test_results_of_a_model_that_answers_otherwise_are_not_mixed(tmp_path):
    """Neither weights nor settings tell: the outputs without an attack do, and right and wrong of older ledgers."""
    model, data = Signed(), (X, Y)
    evaluate(model, data, PLAN, out=tmp_path, progress=False)
    model.calls += 1
    evaluate(model, data, PLAN, batch_size=3, out=tmp_path, progress=False)
    model.state[0] = 2
    with pytest.raises(ValueError, match="8 of the first 8 samples have other outputs"):
        evaluate(model, data, PLAN, out=tmp_path, progress=False)
    path = tmp_path / "ledger-0-of-1.jsonl"
    header, events = (
        header_of(tmp_path),
        [event._replace(gain=math.nan) if event.stage == "clean" else event for event in join(tmp_path)],
    )
    path.unlink()
    with Ledger.open(tmp_path, header) as older:
        older.add(events)
    evaluate(model, data, PLAN, out=tmp_path, progress=False)
    model.state[0] = -1
    with pytest.raises(ValueError, match="8 of the first 8 samples are right in one"):
        evaluate(model, data, PLAN, out=tmp_path, progress=False)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = balanced()

    def forward(self, x):
        return self.network(x + 0.1 * torch.randn_like(x))


@pytest.mark.filterwarnings("ignore")
def test_a_model_in_expectation_goes_on_in_other_batches_and_with_as_many_draws(tmp_path):
    """Its draws belong to places in a batch, so its outputs differ a little there."""
    evaluate(expectation(Noisy(), 8), (X, Y), PLAN, batch_size=8, out=tmp_path, progress=False)
    evaluate(expectation(Noisy(), 8), (X, Y), PLAN, batch_size=3, out=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"`settings` was .*draws=8.* and is .*draws=9"):
        evaluate(expectation(Noisy(), 9), (X, Y), PLAN, out=tmp_path, progress=False)


class Normed(nn.Module):
    """A network that subtracts the mean of the batch, and no other."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 4)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_outputs_depend_on_the_batch_goes_on(tmp_path):
    torch.manual_seed(0)
    model, x = Normed(), torch.rand(100, 1, 4, 4)
    data = (x, model(x).argmax(1))
    evaluate(model, data, PGD(Linf(0.01), 1), out=tmp_path, progress=False)
    evaluate(model, data, PGD(Linf(0.01), 1), out=tmp_path, progress=False)


class Chosen(nn.Module):
    """A network that a setting chooses."""

    def __init__(self, which, how="plain"):
        super().__init__()
        self.networks, self.which, self.how = nn.ModuleList([balanced(), linear(2)]), which, how

    def forward(self, x):
        return self.networks[self.which](x)


def boxed(first):
    widths = torch.zeros(1, 32, 32)
    widths[0, first : first + 4] = 0.1
    return Plan({"pgd": PGD(Box(widths), 1)})


def held(steps):
    inner = PGD(Linf(0.1), steps)
    return Plan({"own": lambda model, x, y: inner(model, x, y)})


def raised(gain):
    return Plan({"pgd": PGD(Linf(0.1), 1, gain=gain)})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ([{"model": Chosen(which)} for which in (0, 1)], "which=0.*which=1"),
        ([{"model": Chosen(0, how)} for how in ("plain", "strong")], "how='plain'.*how='strong'"),
        ([{"attacks": boxed(first), "data": (torch.rand(4, 1, 32, 32), Y[:4])} for first in (9, 20)], "`attacks` was"),
        ([{"attacks": held(steps)} for steps in (1, 2)], "`attacks` was"),
        ([{"attacks": raised(g)} for g in (lambda z, y: z[:, 0], lambda z, y: z[:, 1])], "`attacks` was"),
        ([{"correct": c} for c in (lambda z, y: z[:, 0] > 0, lambda z, y: z[:, 0] > 1)], "`reads` was"),
    ],
)
def test_results_of_other_settings_are_not_mixed(tmp_path, change, match):
    one, other = ({"model": lambda x: x.flatten(1)[:, :2], "data": (X, Y), "attacks": PLAN} | some for some in change)
    if "data" in other:
        other["data"] = one["data"]
    evaluate(**one, out=tmp_path, progress=False)
    evaluate(**one, out=tmp_path, progress=False)
    with pytest.raises(ValueError, match=match):
        evaluate(**other, out=tmp_path, progress=False)


def test_results_of_another_evaluation_are_not_mixed(tmp_path):
    evaluate(linear(2), (X, Y), PLAN, out=tmp_path, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    for change, match in (
        ({"seed": 1}, "`seed` was 0 and is 1"),
        ({"model": other}, "`model` was"),
        ({"attacks": Plan({"pgd": PGD(Linf(0.04), 5)})}, "`attacks` was"),
        ({"data": (X.flip(0), Y)}, "`data` was"),
        ({"data": [(X.flip(0), Y)]}, "`data` was .* and is None"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(**({"model": linear(2), "data": (X, Y), "attacks": PLAN} | change), out=tmp_path, progress=False)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    loader, shuffled = [(X, Y)], [(X.flip(0), Y.flip(0))]
    evaluate(linear(2), loader, PLAN, out=tmp_path / "loader", progress=False)
    with pytest.raises(ValueError, match="sample 0 is another one"):
        evaluate(linear(2), shuffled, PLAN, out=tmp_path / "loader", progress=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match="without a report"):
        evaluate(linear(2), loader, PLAN, out=tmp_path / "own", progress=False)


class Far(Attack):
    """An attack that leaves the set that it declares."""

    threat = Linf(0.1)

    def run(self, model, x, y, context=None):
        return Outcome(1 - x)


def test_what_a_refused_evaluation_left_is_replaced(tmp_path):
    wrong = {
        "range": {"data": (X * 9, Y)},
        "attack": {"attacks": Plan({"far": Far()})},
        "model": {"model": lambda x: torch.ones(len(x), 2)},
    }
    for name, change in wrong.items():
        with pytest.raises(ValueError, match="Expected"):
            evaluate(**{"model": linear(2), "data": (X, Y), "attacks": PLAN} | change, out=tmp_path, progress=False)
        assert not (tmp_path / "report.json").exists(), name
    evaluate(linear(2), (X, Y), PLAN, out=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"Expected argument `out` to hold a ledger.*`seed` was 0 and is 1"):
        evaluate(linear(2), (X, Y), PLAN, out=tmp_path, seed=1, progress=False)
    refused = tmp_path / "refused"
    with pytest.raises(ValueError, match="Expected"):
        evaluate(linear(2), (X * 9, Y), PLAN, out=refused, progress=False)
    (refused / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match="`out` to be a folder without a report"):
        evaluate(linear(2), (X, Y), PLAN, out=refused, progress=False)


def test_examples_on_request():
    model = balanced()
    images = evaluate(model, (X, model(X).argmax(1)), PLAN, keep_examples=True, progress=False).images
    assert images.examples.shape == X.shape
    wrong = model(images.examples).argmax(1) != model(X).argmax(1)
    assert torch.equal(wrong, ~images.robust)
    assert 0 < wrong.sum() < 8
    assert torch.equal(images.examples[~wrong], X[~wrong])


class Net(pl.LightningModule):
    def __init__(self, classes=2):
        super().__init__()
        self.save_hyperparameters()
        self.network = linear(classes)

    def forward(self, x):
        return self.network(x)


def test_a_checkpoint_is_a_model(tmp_path):
    net = Net(classes=3)
    nn.init.normal_(net.network[1].weight)
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_model_summary=False)
    trainer.strategy.connect(net)
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    torch.save([1], tmp_path / "list.ckpt")
    torch.save({"state_dict": [1]}, tmp_path / "lists.ckpt")
    (tmp_path / "broken.ckpt").write_text("no weights")
    data, expected = (X, Y), evaluate(net, (X, Y), PLAN, progress=False)
    for path, model_class in (("net.ckpt", Net), ("weights.pt", Net(classes=3)), ("net.ckpt", Net(classes=3))):
        assert same(evaluate(str(tmp_path / path), data, PLAN, model_class=model_class, progress=False), expected)
    for path, model_class, error, match in (
        ("weights.pt", Net, ValueError, "`model` to hold the weights of Net"),
        ("net.ckpt", None, TypeError, "`model_class` to be the class"),
        ("net.ckpt", nn.Linear, ValueError, "`model_class` to be made of what"),
        ("none.ckpt", Net, FileNotFoundError, "`model` to be a model.*none.ckpt"),
        ("broken.ckpt", Net, ValueError, "`model` to be a file of weights"),
        ("list.ckpt", Net, TypeError, "`model` to hold a state dict"),
        ("lists.ckpt", Net(), TypeError, "`model` to hold a state dict"),
    ):
        with pytest.raises(error, match=match):
            evaluate(tmp_path / path, data, PLAN, model_class=model_class, progress=False)


def test_what_an_attack_may_not_return_is_refused_by_name():
    for name, attack, match in (
        ("shape", lambda model, x, y: x[:, :, :2], "to return inputs of shape"),
        ("nan", lambda model, x, y: x / 0, "`nan` to return finite inputs"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate(linear(2), (X, Y), Plan({name: attack}), progress=False)
    with pytest.warns(UserWarning, match="`own` declares no perturbation set"):
        evaluate(linear(2), (X, Y), Plan({"own": lambda model, x, y: x + 0.01}), progress=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shard": (2, 2)}, r"`shard\[0\]`"),
        ({"shard": 2}, "`shard` to be a pair"),
        ({"seed": 0.5}, "`seed`"),
        ({"keep_examples": 3}, "`keep_examples`"),
        ({"model_class": nn.Linear}, "`model_class` to be None"),
        ({"out": 3}, "`out`"),
    ],
)
def test_arguments_are_checked(change, match):
    with pytest.raises((ValueError, TypeError), match=match):
        evaluate(linear(2), (X, Y), PLAN, progress=False, **change)


# ------------------------------------------------------------------------------------------- a cut of data in order

CUT = torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(90) // 45
FAIR = torch.randperm(90, generator=torch.Generator().manual_seed(1)).tolist()


class Lazy(Dataset):
    """What is read, one by one, and an error where somebody reads on."""

    def __init__(self, rows=range(90), last=90):
        self.rows, self.last = list(rows), last

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        if i >= self.last:
            raise OSError("a damaged file")
        return CUT[0][self.rows[i]], CUT[1][self.rows[i]]


def cut_of(data, max_samples=40, **kwargs):
    """Is a cut of it doubted? In the report, in the table and in a warning alike."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = evaluate(linear(2), data, PGD(Linf(2.0), 1), max_samples=max_samples, progress=False, **kwargs)
    said = [
        "sorted_cut" in " ".join(str(one.message) for one in caught),
        "sorted_cut" in report.table(),
        "sorted_cut" in " ".join(report.warnings),
        "sorted_cut" in [one.name for one in report.flagged],
    ]
    assert len(set(said)) == 1
    assert len({one.name for one in report.indicators}) == len(report.indicators)
    return said[0]


def test_a_cut_of_sorted_data_is_doubted():
    """Of 40 samples all have one label: what comes after them tells. Where nothing withstands, it stands too."""
    assert cut_of(CUT)
    assert cut_of(Lazy(), batch_size=20)
    assert cut_of(DataLoader(Lazy(), batch_size=8, num_workers=0))
    assert cut_of(CUT, 80)
    assert not cut_of(CUT, None)
    assert not cut_of(CUT, 90)  # all of it
    for size in (40, 60):  # of one class, which what is left out tells, and of two
        assert cut_of(DataLoader(Lazy(), size, drop_last=True), None)
        assert not cut_of(DataLoader(Lazy(FAIR), size, drop_last=True), None)
    assert not cut_of(DataLoader(Lazy(), 45, drop_last=True), None)
    assert not cut_of((CUT[0][:40], CUT[1][:40]))  # of one class, and whole
    assert not cut_of((CUT[0][FAIR], CUT[1][FAIR]))
    assert not cut_of(Subset(Lazy(), FAIR), batch_size=20)
    assert not cut_of(DataLoader(Lazy(), 20, shuffle=True, generator=torch.Generator().manual_seed(0)))


def test_what_is_left_out_is_no_reason_to_stop_and_draws_nothing():
    linear(2)
    before = torch.get_rng_state()
    loader = DataLoader(Lazy(last=40), batch_size=20, generator=torch.Generator())
    assert not cut_of(loader)  # nothing is known of the others
    assert torch.equal(torch.get_rng_state(), before)
    assert cut_of([[CUT[0][:60], CUT[1][:60]]])  # batches of anything: what was read is known


def test_a_cut_is_doubted_by_all_processes_and_after_a_stop(tmp_path):
    for _ in range(2):
        (tmp_path / "one" / "report.json").unlink(missing_ok=True)
        assert cut_of(CUT, out=tmp_path / "one")
    assert "sorted_cut" in str(Report.load(tmp_path / "one").warnings)
    for i in range(2):
        assert cut_of(CUT, out=tmp_path / "two", shard=(i, 2))
    joined = Report.load(tmp_path / "two")
    assert [one.name for one in joined.flagged] == ["sorted_cut"]
    assert "sorted_cut: `max_samples`" in " ".join(joined.warnings)
    for i in range(2):
        cut_of((CUT[0][FAIR], CUT[1][FAIR]), out=tmp_path / "fair", shard=(i, 2))
    assert "sorted_cut" not in " ".join(Report.load(tmp_path / "fair").warnings)


def test_what_the_attacks_were_is_read_from_ledgers_and_compared(tmp_path):
    """Unfinished is another thing than other attacks."""
    x = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    data = x, balanced()(x).argmax(1)
    killed = Plan({"margin": PLAN.attacks["margin"], "pgd: x; y": PLAN.attacks["pgd"]})
    model = Killed(balanced())
    whole = evaluate(model, data, killed, batch_size=4, progress=False)
    model = Killed(balanced(), next(model.count) - 3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data, killed, batch_size=4, out=tmp_path, progress=False)
    with pytest.warns(UserWarning, match="not come to its end"):
        report = Report.load(tmp_path)
    assert report.attacks == whole.attacks
    notes = report.compare(whole).notes
    assert not any("differ in" in note for note in notes)
    assert "not come to its end" in notes[0]


def test_two_evaluations_that_read_otherwise_are_compared_with_a_note():
    def inverted(module, batch):
        return -module(batch[0])

    usual = evaluate(linear(2), (X, Y), PLAN, progress=False)
    other = evaluate(linear(2), (X, Y), PLAN, forward=inverted, progress=False)
    assert any("`forward`" in note for note in usual.compare(other).notes)
    assert not any("differ" in note for note in usual.compare(usual).notes)
