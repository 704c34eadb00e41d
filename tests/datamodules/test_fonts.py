import pytest
import torch
from scipy import stats

from lightning_robust._fonts import load_glyphs, render, theta_range
from lightning_robust.datamodules import Fonts, FontsCode

from .helpers import Recorder, trainer


def rows(module, part):
    return module.dataset(part).rows


def test_order_of_the_virtual_set():
    """Letter fastest, then font, then repetition, as in the paper."""
    indices = torch.tensor([0, 1, 9, 10, 9_999, 10_000, 1_119_999])
    _, y, code = Fonts().batch(indices)
    assert y.tolist() == [0, 1, 9, 0, 9, 0, 9]
    assert code.font.tolist() == [0, 0, 0, 1, 999, 0, 999]
    assert not torch.equal(code.theta[0], code.theta[5])


def test_images_are_what_the_code_says():
    x, y, code = Fonts("moderate").batch(range(0, 400, 7))
    assert isinstance(code, FontsCode)
    assert torch.equal(x, render(code.theta, y, code.font))
    assert x.shape == (58, 1, 28, 28)
    assert (x.dtype, y.dtype, code.theta.dtype, code.font.dtype) == (
        torch.float32,
        torch.int64,
        torch.float32,
        torch.int64,
    )


@pytest.mark.parametrize("difficulty", ["easy", "moderate", "hard"])
def test_parameters_are_uniform_in_their_range(difficulty):
    _, _, code = Fonts(difficulty).batch(range(2000))
    low, high = theta_range(difficulty).bounds()
    assert ((code.theta >= low) & (code.theta <= high)).all()
    for u in ((code.theta - low) / (high - low)).T.numpy():
        assert stats.kstest(u, "uniform").pvalue > 1e-4


def test_a_sample_is_the_same_alone_in_company_and_ever_again():
    together = Fonts().batch(range(100))
    alone = Fonts(train_size=50, subset="balanced", seed=9).batch([37])
    state = torch.random.get_rng_state()
    for a, b in zip((alone[0], alone[1], *alone[2]), (together[0], together[1], *together[2]), strict=True):
        assert torch.equal(a[0], b[37])
    assert torch.equal(torch.random.get_rng_state(), state)
    other = Fonts(theta_seed=1).batch([37])
    assert not torch.equal(other[2].theta, alone[2].theta)
    assert other[2].font == alone[2].font


def test_parts_of_the_paper():
    module = Fonts()
    assert torch.equal(rows(module, "train"), torch.arange(950_000))
    assert torch.equal(rows(module, "val"), torch.arange(950_000, 960_000))
    assert torch.equal(rows(module, "test"), torch.arange(960_000, 1_120_000))
    small = Fonts(train_size=2500, val_size=500, test_size=3000)
    assert torch.equal(rows(small, "train"), torch.arange(2500))
    assert torch.equal(rows(small, "val"), torch.arange(959_500, 960_000))
    assert torch.equal(rows(small, "test"), torch.arange(960_000, 963_000))
    assert len(rows(Fonts(val_size=0), "train")) == 960_000


@pytest.mark.parametrize("subset", ["first", "balanced"])
@pytest.mark.parametrize("split", ["transformation", "family"])
def test_training_sets_are_nested_balanced_and_apart(subset, split):
    whole = Fonts(split=split)
    parts = [Fonts(train_size=n, subset=subset, split=split) for n in (10, 500, 20_000)]
    for module in parts:
        train = rows(module, "train")
        assert len(train) == module.train_size
        assert (train % 10).bincount().tolist() == [len(train) // 10] * 10
        assert torch.equal(rows(module, "val"), rows(whole, "val"))
        assert torch.isin(train, rows(whole, "train")).all()
        assert torch.equal(rows(parts[-1], "train")[: len(train)], train)
    everything = torch.cat([rows(whole, part) for part in ("train", "val", "test")])
    assert len(everything.unique()) == len(everything)


def test_balanced_subsets_depend_on_the_seed_and_reach_all_fonts():
    first, second = (rows(Fonts(train_size=20_000, subset="balanced", seed=s), "train") for s in (0, 1))
    assert not torch.equal(first.sort().values, second.sort().values)
    assert len((first // 10 % 1000).unique()) == 1000
    assert len((first // 10_000).unique()) == 95


def test_families_are_held_out_as_a_whole():
    family = load_glyphs().family
    module = Fonts(split="family")
    seen, unseen = (family[(rows(module, part) // 10 % 1000).unique()].unique() for part in ("train", "test"))
    assert not torch.isin(seen, unseen).any()
    assert len(seen) + len(unseen) == 360
    assert len(unseen) == 72
    assert set(family[rows(module, "val") // 10 % 1000].tolist()) <= set(seen.tolist())
    assert (rows(module, "test") % 10).bincount().unique().numel() == 1
    assert len(rows(module, "val")) == 10_000
    other = Fonts(split="family", seed=1)
    assert not torch.equal(rows(other, "test"), rows(module, "test"))
    assert len(rows(Fonts(split="family", held_out=0.5), "test")) > 2 * len(rows(module, "test"))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"difficulty": "impossible"}, "`difficulty` to be one of .* but got 'impossible'"),
        ({"subset": "random"}, "`subset` to be .* but got 'random'"),
        ({"split": "font"}, "`split` to be .* but got 'font'"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Fonts(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"train_size": 950_001}, "`train_size` to be at most 950000, but got 950001"),
        ({"test_size": 160_001}, "`test_size` to be at most 160000, but got 160001"),
        ({"val_size": 960_000}, "`val_size` to be at most 959999, but got 960000"),
        (
            {"train_size": 15, "subset": "balanced"},
            "`train_size` to be a positive multiple .*, 10, but got 15",
        ),
    ],
)
def test_more_than_there_is(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Fonts(**kwargs).setup("fit")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.float32),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
    ],
)
def test_batches_in_the_precision_of_the_trainer(precision, dtype):
    model, module = Recorder(), Fonts(train_size=250, val_size=100, test_size=100)
    lightning = trainer(max_epochs=1, precision=precision)
    lightning.fit(model, datamodule=module)
    lightning.test(model, datamodule=module, verbose=False)
    assert [len(y) for _, y, _ in model.seen["train"]] == [100, 100, 50]
    for batches in model.seen.values():
        for x, y, code in batches:
            assert x.dtype == dtype
            assert (y.dtype, code.font.dtype, code.theta.dtype) == (torch.int64, torch.int64, torch.float32)
            assert torch.equal(x, render(code.theta, y, code.font).to(dtype))
    _, y, code = Fonts().batch(range(250))
    thetas = torch.cat([code.theta for _, _, code in model.seen["train"]])
    assert torch.equal(thetas.sort(0).values, code.theta.sort(0).values)


@pytest.mark.gpu
def test_cuda_makes_the_same_samples():
    cpu, cuda = (Fonts().batch(torch.arange(300, device=device)) for device in ("cpu", "cuda"))
    assert torch.equal(cuda[2].theta.cpu(), cpu[2].theta)
    assert torch.equal(cuda[1].cpu(), cpu[1])
    torch.testing.assert_close(cuda[0].cpu(), cpu[0], atol=1e-4, rtol=0)


def test_loaders_make_batches_without_a_trainer_and_after_one():
    module = Fonts(train_size=30, val_size=10, test_size=20, batch_size=20)
    x, y, code = next(iter(module.test_dataloader()))
    for batch in (module.tensors("test", limit=100), module.batch(range(960_000, 960_020))):
        assert torch.equal(x, batch[0])
        assert torch.equal(y, batch[1])
        assert torch.equal(code.theta, batch[2].theta)
    expected = [x for x, *_ in module.train_dataloader()]
    model = Recorder()
    trainer(max_epochs=1).fit(model, module.train_dataloader())
    assert all(torch.equal(x, batch[0]) for x, batch in zip(expected, model.seen["train"], strict=True))
    trainer(max_epochs=1).fit(model, datamodule=module)
    assert isinstance(module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0), tuple)
