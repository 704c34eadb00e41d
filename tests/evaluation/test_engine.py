"""The engine: a verdict depends on the sample alone, whatever the batches, and on all attacks together."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_robust.attacks import L2, PGD, Linf, RandomSearch, apgd, margin, nearest_classes, targeted_margin
from lightning_robust.attacks.attack import Context
from lightning_robust.evaluation import Plan, Stage
from lightning_robust.evaluation._engine import Engine
from lightning_robust.evaluation._plan import stages_of
from lightning_robust.evaluation._pool import keys_of, pools
from lightning_robust.evaluation._reader import Reader
from lightning_robust.evaluation._record import Record

KEY, EPS, N, CLASSES = -2, 0.06, 40, 4
ATTACKS = {
    "margin": PGD(Linf(EPS), 3, gain=margin, random_start=False),
    "targets": PGD(Linf(EPS), 4, gain=(targeted_margin(2), targeted_margin(1)), restarts=2),
    "apgd": apgd(Linf(EPS), 6),
}
SEARCH = {"search": Stage(RandomSearch(Linf(EPS), 12), on="few")}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, CLASSES)).double()
    with torch.no_grad():
        network[3].bias -= network(torch.full((1, 1, 4, 4), 0.5).double())[0]
    return network


@pytest.fixture(scope="module")
def data(model):
    x = torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % CLASSES
    return x, y


def samples(data, places, size):
    for i in range(0, len(places), size):
        some = places[i : i + size]
        yield some, Reader().read((data[0][some], data[1][some]))


def run(model, data, attacks, places=None, *, read=13, change=None, **given):
    engine = Engine(model, stages_of(Plan(attacks)), key=KEY, **given)
    if change is not None:
        setattr(engine, change, True)
    for parts in pools(samples(data, list(range(N)) if places is None else places, read), whole=False):
        engine.run(parts)
    return engine


def verdicts(record):
    images = record.images()
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name in ("key", "label", "clean", "attack", "target", "restart", "step")
        for value in [getattr(images, name)]
    }


@pytest.fixture(scope="module")
def whole(model, data):
    return run(model, data, ATTACKS | SEARCH)


def test_something_is_at_stake(whole):
    images = whole.record.images()
    assert set(images.attack) >= {"", "margin", "targets"}
    assert not images.clean.all()
    assert max(images.restart) == 1


@pytest.mark.parametrize("given", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 7, "read": 1}, {"read": 40}])
def test_the_size_of_batches_changes_nothing(model, data, whole, given):
    record = run(model, data, ATTACKS | SEARCH, **given).record
    assert verdicts(record) == verdicts(whole.record)
    assert torch.equal(record.images().passes, whole.record.images().passes)


def test_the_order_changes_nothing(model, data, whole):
    places = torch.randperm(N, generator=torch.Generator().manual_seed(2)).tolist()
    assert verdicts(run(model, data, ATTACKS | SEARCH, places, batch_size=7).record) == verdicts(whole.record)


def test_shards_make_the_whole(model, data):
    events = []
    for shard in range(2):
        run(model, data, ATTACKS, list(range(shard, N, 2)), sink=events.extend)
    assert verdicts(Record(events)) == verdicts(run(model, data, ATTACKS).record)


@pytest.mark.parametrize("batches", [1, 4, 7, 12])
def test_an_interrupted_evaluation_ends_as_if_nothing_had_happened(model, data, whole, batches):
    events = []

    def sink(some):
        if len(calls) == batches:
            raise KeyboardInterrupt
        calls.append(len(some))
        events.extend(some)

    calls = []
    with pytest.raises(KeyboardInterrupt):
        run(model, data, ATTACKS | SEARCH, batch_size=15, sink=sink)
    again = []
    record = run(model, data, ATTACKS | SEARCH, batch_size=15, record=Record(events), sink=again.extend).record
    assert verdicts(record) == verdicts(whole.record)
    assert not {event[:3] for event in events} & {event[:3] for event in again}  # nothing is done twice


def test_a_finished_evaluation_makes_no_pass_but_for_attacks_that_do_not_apply(model, data, whole):
    again = run(model, data, ATTACKS | SEARCH, record=whole.record)
    survivors_outside_of_the_few = len([1 for row in whole.record.rows.values() if row.open])
    assert (again.backwards, again.forwards <= survivors_outside_of_the_few) == (0, True)


def test_the_verdict_of_a_plan_is_that_of_its_members_together(model, data):
    """Each member is run by itself, without the engine, on all samples and to its end."""
    x, y = data
    with torch.no_grad():
        logits = model(x)
    robust = logits.argmax(1) == y
    context = Context(key=KEY, logits=logits, targets=nearest_classes(model, x, y, Linf(EPS), logits))
    for attack in ATTACKS.values():
        with torch.no_grad():
            robust &= model(attack.thorough().run(model, x, y, context).x_adv).argmax(1) == y
    assert torch.equal(run(model, data, ATTACKS).record.images().robust, robust)


@pytest.mark.parametrize("change", ["_together", "_one_size"])
def test_batches_that_must_stay_whole_give_the_same(model, data, whole, change):
    counting = Counting(model)
    engine = run(counting, data, ATTACKS, change=change, batch_size=16)
    assert verdicts(engine.record) == verdicts(run(model, data, ATTACKS).record)
    assert change == "_one_size" or set(counting.numbers.sizes) == {16, 8}  # none has left


def test_full_attacks_see_all_that_is_right(model, data):
    engine = run(model, data, ATTACKS, full=True)
    x, y = data
    clean = model(x).argmax(1) == y
    for name, attack in ATTACKS.items():
        fooled = torch.cat(engine.seen.fooled[name], 1)
        assert fooled.shape == (attack.restarts, clean.sum())
        alone = attack.thorough().run(model, x, y, Context(key=KEY))
        assert torch.equal(fooled, alone.fooled[:, clean])
        assert torch.equal(engine.record.right(name), clean & (model(alone.x_adv).argmax(1) == y))


class _Both(torch.autograd.Function):
    """Counts passes from the inside."""

    @staticmethod
    def forward(ctx, x, counts):
        ctx.counts = counts
        counts.forwards += len(x)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.counts.backwards += len(grad)
        return grad, None


class Counting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.numbers = model, Numbers()

    def forward(self, x):
        self.numbers.sizes.append(len(x))
        return self.model(_Both.apply(x, self.numbers))


class Numbers:
    """No list: an attack puts those of a module back."""

    def __init__(self):
        self.forwards = self.backwards = 0
        self.sizes = []


def test_passes_are_those_that_the_model_makes(model, data):
    counting = Counting(model)
    engine = run(counting, data, ATTACKS | SEARCH, batch_size=7)
    assert (engine.forwards, engine.backwards) == (counting.numbers.forwards, counting.numbers.backwards)
    assert int(engine.record.images().passes.sum()) == engine.forwards + engine.backwards


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("out of memory")])
def test_batches_are_halved_where_memory_runs_out(model, data, whole, error):
    class Small(nn.Module):
        def forward(self, x):
            if len(x) > 9:
                raise error
            return model(x)

    engine = run(Small(), data, ATTACKS | SEARCH, batch_size=32)
    assert engine.batch_size == 8
    assert verdicts(engine.record) == verdicts(whole.record)

    class Hopeless(nn.Module):
        def forward(self, x):
            raise error

    with pytest.raises(type(error)):
        run(Hopeless(), data, ATTACKS)


def test_few_are_a_tenth_and_all_follow_where_one_breaks(model, data):
    def nothing(model, x, y):
        return x

    seen = []

    def breaks(model, x, y):
        seen.append(keys_of(x))
        return 1 - 2 * x

    events = []
    run(model, data, {"few": Stage(nothing, on="few")}, sink=events.extend)
    assert sum(event.stage == "few" for event in events) == 4  # of 37
    engine = run(model, data, {"few": Stage(breaks, on="few")})
    assert [len(keys) for keys in seen] == [4, 33]
    assert seen[0] == [key for key in keys_of(data[0]) if key in sorted(keys_of(data[0][3:]))[:4]]
    assert not set(engine.record.images().attack[3:]) - {"few", ""}


def test_on_right_also_sees_what_is_broken(model, data):
    events = []
    run(model, data, ATTACKS | {"last": Stage(PGD(Linf(EPS), 1), on="right")}, sink=events.extend)
    assert sum(event.stage == "last" for event in events) == N - 3


def test_examples_are_kept_and_found_again(model, data):
    events = []
    engine = run(model, data, ATTACKS, sink=events.extend, keep_examples=True)
    broken = [place for place, row in engine.record.rows.items() if row.broken_by]
    assert sorted(engine.seen.examples) == sorted(broken)
    x_adv = torch.stack([engine.seen.examples[place] for place in broken])
    assert (model(x_adv).argmax(1) != data[1][broken]).all()
    assert ((x_adv - data[0][broken]).abs() <= EPS * (1 + 1e-6)).all()
    again = run(model, data, ATTACKS, record=Record(events), keep_examples=True)
    assert all(torch.equal(again.seen.examples[place], engine.seen.examples[place]) for place in broken)


def test_parts_that_cannot_be_joined_stay_alone(model):
    """Images of two sizes, and batches that `forward` reads."""

    class Mean(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).mean(1) - 0.5, 0.5 - x.flatten(1).mean(1)], 1)

    batches = [(torch.rand(3, 1, n, n), torch.arange(3) % 2) for n in (4, 4, 5)]
    reader = Reader()
    (parts,) = pools([([3 * i, 3 * i + 1, 3 * i + 2], reader.read(b)) for i, b in enumerate(batches)], whole=False)
    assert [part.places for part in parts] == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]
    reading = Reader(forward=lambda module, batch: module(batch[0]))
    (parts,) = pools([([0, 1, 2], reading.read(batches[0])), ([3, 4, 5], reading.read(batches[1]))], whole=False)
    assert [(len(part), part.whole) for part in parts] == [(3, False)] * 2
    ((first,), *_) = pools([([0, 1, 2], reading.read(batches[0]))] * 2, whole=False, limit=1)
    assert len(first) == 3


def test_other_balls_and_outputs_without_classes(model, data):
    engine = run(model, data, {"l2": PGD(L2(0.3), 3, gain=margin, restarts=2)}, full=False)
    radii = engine.record.images().radius
    assert ((radii <= 0.3 * (1 + 1e-9)) | radii.isinf()).all()
    assert (radii[:3] == 0).all()


def test_what_returns_no_radius_has_that_of_its_threat(model, data):
    """The curve over the radius needs one; what an attack returns is checked to be within its threat."""

    class Silent(PGD):
        def run(self, *args, **kwargs):
            return replace(super().run(*args, **kwargs), radius=None)

    images = run(model, data, {"pgd": Silent(Linf(EPS), 5, gain=margin)}).record.images()
    broken = images.clean & ~images.robust
    assert broken.any()
    assert (images.radius[broken] == EPS).all()
    assert images.radius[images.robust].isinf().all()
