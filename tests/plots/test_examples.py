import numpy as np
import pytest
import torch
from matplotlib.text import Text

from lightning_robust.plots import AttackedSamples, difference_rgb, example_sheet

NAMES = ("zero", "one", "two")
Y = torch.tensor([0, 1, 2, 0])
BEFORE = torch.tensor([0, 1, 2, 1])
AFTER = torch.tensor([2, 1, 0, 1])


def group(name="pgd", channels=1, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, channels, 6, 5, generator=generator)
    x_adv = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return AttackedSamples(
        **{"name": name, "x": x, "x_adv": x_adv, "y": Y, "before": BEFORE, "after": AFTER, **changes}
    )


def cells(figure, groups):
    """Axes by (group, sample, column)."""
    parts = [part.axes for part in figure.subfigs]
    assert [len(axes) for axes in parts] == [4 * 3] * groups
    return {(g, i // 3, i % 3): axes for g, part in enumerate(parts) for i, axes in enumerate(part)}


def texts_of(figure):
    return {text.get_text() for text in figure.findobj(Text) if text.get_text()}


def pixels(axes):
    return torch.from_numpy(np.asarray(axes.images[0].get_array())).permute(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_at_their_places(channels):
    groups = [group("first", channels, 0), group("second", channels, 1)]
    shown = cells(example_sheet(groups, scale=0.2), 2)
    for g, members in enumerate(groups):
        for i in range(4):
            assert torch.equal(pixels(shown[g, i, 0]), members.x[i].expand(3, -1, -1))
            assert torch.equal(pixels(shown[g, i, 1]), members.x_adv[i].expand(3, -1, -1))
            assert torch.equal(pixels(shown[g, i, 2]), difference_rgb(members.x, members.x_adv, 0.2)[i])
    corner = {place: axes.get_window_extent() for place, axes in shown.items()}
    assert corner[0, 0, 0].x0 < corner[0, 0, 1].x0 < corner[0, 0, 2].x0 < corner[1, 0, 0].x0
    assert corner[0, 0, 0].y0 > corner[0, 1, 0].y0 > corner[0, 3, 0].y0


def test_the_image_before_is_called_what_it_is():
    figure = example_sheet([group(), group("codes", start="reconstruction")], scale=0.2)
    assert [part.axes[0].get_title() for part in figure.subfigs] == ["clean", "reconstruction"]


def test_labels_verdicts_and_frames():
    members = group()
    assert members.verdicts() == ("fooled", "attack failed", "fooled", "wrong before")
    figure = example_sheet([members], class_names=NAMES)
    shown = cells(figure, 1)
    for i, verdict in enumerate(members.verdicts()):
        texts = [shown[0, i, c].get_xlabel() for c in range(3)]
        assert texts == [NAMES[BEFORE[i]], f"→ {NAMES[AFTER[i]]}", verdict]
        frame = shown[0, i, 1].spines["left"]
        assert (frame.get_linewidth() > 1) == (verdict != "wrong before")
        assert (frame.get_linestyle() == "-") == (verdict != "attack failed")
        assert shown[0, i, 0].spines["left"].get_linewidth() < 1
    assert [shown[0, i, 0].get_ylabel() for i in range(4)] == [f"true\n{NAMES[label]}" for label in Y]


def test_labels_are_numbers_without_names_and_long_names_are_cut():
    assert cells(example_sheet([group()]), 1)[0, 2, 0].get_xlabel() == "2"
    long = cells(example_sheet([group()], class_names=["a very long class name"] * 3), 1)[0, 0, 0].get_xlabel()
    assert long.endswith("…")
    assert "a very long class name".startswith(long[:-1])


def test_headings_state_the_scale():
    members = group("the threat", x_adv=group().x + 0.125)
    assert {"The title", "the threat", "change ±0.125"} <= texts_of(example_sheet([members], title="The title"))
    assert "change ±0.5" in texts_of(example_sheet([members], scale=0.5))


@pytest.mark.parametrize(("channels", "n_groups"), [(3, 1), (1, 3)])
def test_no_text_overlaps_another_or_is_cut(channels, n_groups):
    groups = [group(f"a rather long name of threat {i}, PGD-40", channels) for i in range(n_groups)]
    figure = example_sheet(groups, class_names=["automobile", "a very long class name", "cat"], title="A title")
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in figure.findobj(Text) if t.get_text()]
    width, height = figure.bbox.size
    assert [a for a, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height] == []
    images = [axes.get_window_extent(renderer) for axes in cells(figure, n_groups).values()]
    assert [a for a, box in boxes for image in images if box.overlaps(image)] == []
    assert [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)] == []
    assert min(image.width for image in images) > 0.7 * figure.dpi


def test_inputs_are_left_as_they_were():
    members = group(x=group().x.requires_grad_())
    before = members.x.detach().clone(), members.x_adv.clone()
    example_sheet([members])
    assert torch.equal(members.x, before[0])
    assert torch.equal(members.x_adv, before[1])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="at least one AttackedSamples"):
        example_sheet([])
    short = {name: tensor[:2] for name, tensor in vars(group()).items() if name != "name"}
    with pytest.raises(ValueError, match="same number of samples"):
        example_sheet([group("a"), group("b", **short)])
    with pytest.raises(ValueError, match="`class_names` to name class 2, but got 2 names"):
        example_sheet([group()], class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"`after` to have shape \(4,\), but got \(3,\)"):
        group(after=AFTER[:3])
    with pytest.raises(ValueError, match=r"`y` to hold integers, but got torch\.float32"):
        group(y=Y.float())
    with pytest.raises(ValueError, match=r"`before` to hold integers, but got torch\.bool"):
        group(before=BEFORE.bool())
