import copy
import math

import pytest
import torch

from lightning_robust.attacks import PGD, AffineSpace, LatentSpace, Linf, PixelSpace, Threat
from lightning_robust.attacks.pixel_space import round_toward
from lightning_robust.attacks.scope import modules_in
from lightning_robust.attacks.spaces import Chart
from tests.helpers import NORMALIZED, PIXEL_SPACES, SPACES, Plane, Z, batch, class_scores, images

every_space = pytest.mark.parametrize("name", SPACES)


def chart_of(name, dtype=torch.float32, n=6):
    x, y, code = batch(name, n, dtype=dtype)
    return x, evaluated(name).chart(x, y, code)


def evaluated(name):
    """The space of the list; a manifold as a copy in evaluation mode, as it is during an attack."""
    space = copy.deepcopy(SPACES[name].space)
    for network in modules_in(space):
        network.eval()
    return space


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@every_space
def test_a_chart_in_every_precision(name, dtype):
    x, chart = chart_of(name, dtype)
    assert chart.zero.shape == (6, *SPACES[name].shape)
    assert (chart.zero == 0).all()
    assert chart.zero.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    delta = (0.01 * torch.randn_like(chart.zero)).requires_grad_()
    for x_adv in (chart.decode(delta), chart.emit(delta.detach())):
        assert x_adv.shape == x.shape
        assert x_adv.dtype == dtype
    chart.decode(delta).float().square().sum().backward()
    assert (delta.grad.flatten(1).abs().amax(1) > 0).all()
    if not isinstance(SPACES[name].space, LatentSpace):
        assert torch.equal(chart.decode(chart.zero), x)
        assert torch.equal(chart.emit(chart.zero), x)


@every_space
def test_decode_treats_samples_alone(name):
    x, y, code = batch(name, dtype=torch.float64)
    space = evaluated(name)
    delta = 0.1 * torch.randn(6, *SPACES[name].shape, dtype=torch.float64)
    together = space.chart(x, y, code).decode(delta)
    parts = [batch(name, dtype=torch.float64)[i : i + 1] for i in range(6)]
    alone = [space.chart(*part).decode(delta[i : i + 1]) for i, part in enumerate(parts)]
    torch.testing.assert_close(torch.cat(alone), together)


@every_space
def test_clip_is_nearest_and_the_bounds_hold_zero(name):
    _, chart = chart_of(name)
    clipped = chart.clip(10 * torch.randn_like(chart.zero))
    assert chart.contains(clipped).all()
    assert torch.equal(chart.clip(clipped), clipped)
    assert torch.equal(chart.clip(chart.zero), chart.zero)
    direction = torch.randn_like(chart.zero)
    room = chart.room(clipped, direction)
    assert (room >= 0).all()
    if chart.lower is not None:
        assert chart.contains(clipped + direction.sign() * room, atol=1e-4).all()
        assert not chart.contains(clipped + direction.sign() * (room + 1e-3), atol=1e-4).any()
    else:
        assert room.isinf().all()


def test_a_chart_with_one_bound():
    chart = Chart(torch.zeros(1, 2), lambda d: d, lambda d: d, upper=torch.ones(1, 2))
    assert torch.equal(chart.clip(torch.tensor([[-5.0, 5.0]])), torch.tensor([[-5.0, 1.0]]))
    assert chart.contains(torch.tensor([[-5.0, 0.5]])).item()
    assert chart.room(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])).tolist() == [[1.0, math.inf]]


# pixels


def test_normalized_data_is_attacked_in_the_units_of_images():
    """The same network behind its own normalization layer finds the same adversarial images."""
    x, y = images(6, dtype=torch.float64), torch.zeros(6).long()
    mean, std = (torch.tensor(v).double().reshape(1, 3, 1, 1) for v in (NORMALIZED.mean, NORMALIZED.std))
    settings = {"steps": 5, "random_start": False}
    plain = PGD(Linf(0.1), **settings)(lambda z: class_scores((z - mean) / std), x, y)
    normalized = PGD(Threat(Linf(0.1), NORMALIZED), **settings)(class_scores, (x - mean) / std, y)
    torch.testing.assert_close(normalized * std + mean, plain)
    torch.testing.assert_close(NORMALIZED.pixels((x - mean) / std), x)
    torch.testing.assert_close(NORMALIZED.difference((x - mean) / std, normalized), plain - x)


def test_one_number_serves_all_channels():
    x = images(2)
    one, three = PixelSpace(mean=0.5, std=0.25), PixelSpace(mean=[0.5] * 3, std=[0.25] * 3)
    torch.testing.assert_close(one.pixels(x), three.pixels(x))


def test_an_image_slightly_out_of_range_stays_where_it_is():
    x = torch.tensor([[1.0005, -0.0005, 0.5]])
    chart = PixelSpace().chart(x, torch.zeros(1))
    PixelSpace().check(x)
    assert torch.equal(chart.clip(torch.tensor([[0.1, -0.1, 0.1]])), torch.tensor([[0.0, 0.0, 0.1]]))
    torch.testing.assert_close(chart.clip(torch.tensor([[-0.1, 0.1, 0.1]])), torch.tensor([[-0.1, 0.1, 0.1]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rounding_is_turned_towards_the_clean_input(dtype):
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(100_000, generator=generator) - 1).to(dtype)
    x[:10] = 0
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    delta = (0.1 * torch.randn(100_000, generator=generator)).to(wide)
    delta[10:20] = 0
    delta[20:200] *= 1e-6
    naive = (x.to(wide) + delta).to(dtype)
    x_adv = round_toward(naive, x, delta)
    assert ((x_adv.double() - x.double()).abs() <= delta.double().abs()).all()
    assert (x_adv[10:20] == x[10:20]).all()
    spacing = torch.finfo(dtype).eps * torch.maximum(x.abs(), naive.abs()).double() + torch.finfo(dtype).tiny
    assert ((x_adv.double() - naive.double()).abs() <= spacing).all(), "by one number at most"
    if dtype in (torch.bfloat16, torch.float16):
        assert ((naive.double() - x.double()).abs() > delta.double().abs()).any(), "the trap that this is about"


@pytest.mark.parametrize("space", PIXEL_SPACES)
def test_check_finds_double_and_missing_normalization(space):
    case = SPACES[space].space
    right = SPACES[space].inputs(images(4))
    case.check(right)
    case.check(right.bfloat16())
    wrong = {
        "pixels": [(right - 0.5) / 0.25, right * 255],
        "bytes": [right * 255, -right],
        "normalized": [right / 0.25],
    }
    for x in wrong[space]:
        with pytest.raises(ValueError, match=r"Expected images in \[0, (1|255)\], but got values in \[.*\]\. \w+"):
            case.check(x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": 1.0}, r"`low` to be less than `high`, but got low=1.0, high=1.0"),
        ({"mean": 0.5}, r"`mean` and `std` to come together, but got mean=0.5, std=None"),
        ({"std": 0.5}, r"`mean` and `std` to come together"),
        ({"mean": 0.5, "std": 0.0}, r"`std` to be a number greater than 0, but got 0.0"),
        ({"mean": 0.5, "std": (0.1, -0.1, 0.1)}, r"`std\[1\]` to be a number greater than 0"),
    ],
    ids=str,
)
def test_pixel_space_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        PixelSpace(**wrong)


def test_a_mean_per_channel_must_fit_the_images():
    with pytest.raises(ValueError, match=r"`mean` to be a number or one per channel \(3\), but got 2 values"):
        PGD(Threat(Linf(0.1), PixelSpace(mean=(0.5, 0.5), std=1.0)))(class_scores, images(2), torch.zeros(2).long())


# latent codes


def test_the_code_is_the_given_one_else_encoded():
    x, y, code = batch("latent_code")
    manifold = Plane().eval()
    space = LatentSpace(manifold)
    zero = torch.zeros(6, Z)
    torch.testing.assert_close(space.chart(x, y, code).decode(zero), manifold.decode(code, y))
    torch.testing.assert_close(space.chart(x, y).decode(zero), manifold.decode(manifold.encode(x, y), y))


def test_only_the_first_entry_of_a_tuple_moves():
    x, y, (z, shift) = batch("latent_tuple")
    manifold = Plane().eval()
    for code in ((z, shift), [z, shift]):
        chart = LatentSpace(manifold).chart(x, y, code)
        delta = torch.randn(6, Z)
        torch.testing.assert_close(chart.decode(delta), manifold.decode(z + delta, y) + shift)
    torch.testing.assert_close(LatentSpace(manifold).chart(x, y, (z,)).decode(delta), manifold.decode(z + delta, y))


@pytest.mark.parametrize("bounds", [(-0.5, 0.25), (torch.full((Z,), -0.5), [0.25] * Z)], ids=["numbers", "tensors"])
def test_bounds_of_the_space_or_of_the_manifold(bounds):
    x, y, code = batch("latent_code")
    own = LatentSpace(Plane((-0.5, 0.25)))
    for space in (own, LatentSpace(Plane(), bounds=bounds), LatentSpace(Plane((-9, 9)), bounds=bounds)):
        chart = space.chart(x, y, code)
        moved = code + chart.clip(10 * torch.randn(6, Z))
        start_inside = (code >= -0.5) & (code <= 0.25)
        assert (moved[start_inside] >= -0.5 - 1e-6).all()
        assert (moved[start_inside] <= 0.25 + 1e-6).all()
        assert torch.equal(chart.clip(chart.zero), chart.zero), "a code out of bounds may stay"


@pytest.mark.parametrize("bounds", [(1.0, -1.0), (0.0, 0.5, 1.0), (math.nan, 1.0), ([0.0, 2.0], [1.0, 1.0])], ids=str)
def test_bounds_that_cannot_be_meant_are_refused(bounds):
    with pytest.raises(ValueError, match=r"`bounds` to be .*, but got"):
        LatentSpace(Plane(), bounds=bounds)


@pytest.mark.parametrize(
    ("code", "got"),
    [
        (torch.zeros(5, Z), r"torch.float32 \(5, 7\)"),
        (torch.zeros(6), r"torch.float32 \(6,\)"),
        (torch.zeros(6, Z).long(), r"torch.int64 \(6, 7\)"),
        (("z", 1), "str"),
    ],
    ids=["short", "flat", "integers", "text"],
)
def test_a_code_that_does_not_fit_is_refused(code, got):
    x, y, _ = batch()
    with pytest.raises(ValueError, match=rf"code to be a float tensor of shape \(N, Z\) with N=6, but got {got}"):
        LatentSpace(Plane()).chart(x, y, code)


def test_a_manifold_has_two_methods():
    for wrong, name in ((object(), "encode"), (torch.nn.Linear(2, 2), "encode")):
        with pytest.raises(TypeError, match=rf"`manifold` to have a method `{name}`, but got {type(wrong).__name__}"):
            LatentSpace(wrong)


def test_the_manifold_is_evaluated_whatever_its_mode():
    x, y, _ = batch("latent_code")
    evaluation, training = Plane().eval(), Plane().train()
    for options in ({}, {"mode": "train"}):
        attacked = [
            PGD(Threat(Linf(0.3), LatentSpace(m)), **options)(class_scores, x, y) for m in (evaluation, training)
        ]
        assert torch.equal(*attacked)
    assert training.dropout.training
    assert not evaluation.dropout.training


def test_adversarial_examples_are_on_the_manifold():
    x, y, code = batch("latent_code")
    manifold = Plane().eval()
    x_adv = PGD(Threat(Linf(0.3), LatentSpace(manifold)))(class_scores, x, y, code=code)
    again = manifold.decode(manifold.encode(x_adv, y), y)
    torch.testing.assert_close(again, x_adv, rtol=1e-4, atol=1e-4)


# affine maps


def test_affine_parameters_one_by_one():
    """Each of the six does what its name says, seen on a gradient image, in the units of the documentation."""
    u = torch.linspace(-1, 1, 21)
    v, h = torch.meshgrid(u, u, indexing="ij")
    ramps = torch.stack([h, v])[None] / 4 + 0.5
    chart = AffineSpace(0.5, 0.5, 0.5, 1.0).chart(ramps, torch.zeros(1))
    middle = (slice(None), slice(None), slice(7, 14), slice(7, 14))

    def seen(index, value):
        delta = torch.zeros(1, 6)
        delta[0, index] = value
        out = (chart.decode(delta)[middle] - 0.5) * 4
        return out[0, 0], out[0, 1]

    h, v = h[7:14, 7:14], v[7:14, 7:14]
    expected = {
        0: (h + 0.2, v),
        1: (h, v + 0.2),
        2: (h + 0.2 * v, v),
        3: (h, v + 0.2 * h),
        4: (1.2 * h, 1.2 * v),
        5: (math.cos(0.2) * h - math.sin(0.2) * v, math.sin(0.2) * h + math.cos(0.2) * v),
    }
    for index, (a, b) in expected.items():
        image = seen(index, 0.2)
        torch.testing.assert_close(image[0], a, rtol=0, atol=1e-5)
        torch.testing.assert_close(image[1], b, rtol=0, atol=1e-5)


def test_affine_bounds():
    space = AffineSpace(translation=(-0.1, 0.2), shear=0.3, scale=(0.8, 1.5), rotation=0.4)
    chart = space.chart(images(2), torch.zeros(2))
    torch.testing.assert_close(chart.lower[0], torch.tensor([-0.1, -0.1, -0.3, -0.3, -0.2, -0.4]))
    torch.testing.assert_close(chart.upper[1], torch.tensor([0.2, 0.2, 0.3, 0.3, 0.5, 0.4]))


def test_affine_images_stay_in_range():
    x = images(64)
    chart = AffineSpace(0.5, 0.5, 0.5, 1.0).chart(x, torch.zeros(64))
    out = chart.emit(chart.clip(torch.randn(64, 6)))
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"translation": -0.1}, "translation"),
        ({"shear": (0.1, 0.2)}, "shear"),
        ({"rotation": math.nan}, "rotation"),
        ({"scale": (1.1, 1.2)}, "scale"),
        ({"scale": 1.0}, "scale"),
        ({"scale": (-0.5, 1.5)}, "scale"),
    ],
    ids=str,
)
def test_affine_ranges_that_cannot_be_meant_are_refused(wrong, name):
    with pytest.raises(ValueError, match=rf"Expected argument `{name}` to be .*, but got"):
        AffineSpace(**wrong)


def test_affine_maps_want_images():
    with pytest.raises(ValueError, match=r"Expected images of shape \(N, C, H, W\), but got \(3, 4\)"):
        PGD(Threat(Linf(0.1), AffineSpace()))(class_scores, torch.rand(3, 4), torch.zeros(3).long())


def test_data_without_a_range_is_attacked_without_a_doubt():
    line, x = PixelSpace(-math.inf, math.inf), 100 * torch.randn(8, 5)
    line.check(x)
    assert line.doubts(Linf(1e-3), x) == []
    with pytest.raises(ValueError, match="NaN"):
        line.check(x * math.nan)
