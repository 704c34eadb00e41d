"""A sheet of adversarial examples: what was changed, and what the model said before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import instance, number, sequence
from lightning_robust.plots.images import check_pair, difference_rgb, largest_difference, to_rgb
from lightning_robust.plots.rows import check_texts
from lightning_robust.plots.style import BAD, GOOD, GRID, INK, MUTED, shorten, text_inches, themed, wrap_evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Verdict = Literal["fooled", "attack failed", "wrong before"]

# In inches: around the sheet; the title; a heading of one line, and each further line; an image and the text under it.
_MARGIN, _TITLE, _HEAD, _LINE, _CELL, _TEXT = 0.15, 0.42, 0.62, 0.17, 0.86, 0.27
_GAP, _GROUP_GAP = 0.05, 0.28
_GROUP = 3 * _CELL + 2 * _GAP
_HEADING_CHARACTERS = 30
_TEXT_SIZE, _TRUE_SIZE = 8.0, 8.5
_VERDICT_COLOUR: dict[Verdict, str] = {"fooled": BAD, "attack failed": GOOD, "wrong before": MUTED}


@dataclass(frozen=True, kw_only=True)
class AttackedSamples:
    """Samples under one threat, with what the model said about them; one column group of a sheet.

    Args:
        name: of the threat (and the model, where these differ), the heading.
        x: clean images (N, C, H, W), C = 1 or 3, floating point.
        x_adv: adversarial images, of the same shape.
        y: true labels (N,), integers.
        before: predicted labels of ``x`` (N,), integers.
        after: predicted labels of ``x_adv`` (N,), integers.

    Raises:
        ValueError: if a shape or a type is another one.
    """

    name: str
    x: Tensor
    x_adv: Tensor
    y: Tensor
    before: Tensor
    after: Tensor

    def __post_init__(self) -> None:
        _checks.text("name", self.name, empty=True)
        check_pair(self.x, self.x_adv)
        for name, labels in (("y", self.y), ("before", self.before), ("after", self.after)):
            if instance(name, labels, Tensor, "a tensor (N,)").shape != self.x.shape[:1]:
                raise ValueError(
                    f"Expected argument `{name}` to have shape ({len(self.x)},), but got {tuple(labels.shape)}."
                )
            if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
                raise ValueError(f"Expected argument `{name}` to hold integers, but got {labels.dtype}.")

    def verdicts(self) -> tuple[Verdict, ...]:
        """For each sample: was the model fooled, did the attack fail, or was the model wrong before it?

        Example:
            >>> x, zero = torch.zeros(3, 1, 2, 2), torch.tensor([0, 0, 0])
            >>> AttackedSamples(
            ...     name="pgd", x=x, x_adv=x, y=zero, before=torch.tensor([0, 0, 1]), after=torch.tensor([1, 0, 1])
            ... ).verdicts()
            ('fooled', 'attack failed', 'wrong before')
        """
        return tuple(
            "wrong before" if before != y else "attack failed" if after == y else "fooled"
            for y, before, after in zip(self.y.tolist(), self.before.tolist(), self.after.tolist(), strict=True)
        )


def example_sheet(
    groups: Sequence[AttackedSamples],
    *,
    class_names: Sequence[str] | None = None,
    scale: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    title: str = "",
) -> Figure:
    """Samples down, threats across; under each threat the clean image, the adversarial one and their signed difference.

    Under the clean image stands the label predicted before, under the adversarial image the label predicted after,
    under the difference the verdict: *fooled*, *attack failed*, or *wrong before* (the model was wrong on the clean
    image, so there was nothing to attack). The frame of the adversarial image says the same: solid for fooled, dashed
    for failed, thin and grey for wrong before. The true label stands left of the row; where the groups' labels differ,
    left of each group.

    Args:
        groups: one for each threat, all with the same number of samples N.
        class_names: names of the K classes; without them labels are written as numbers.
        scale: the difference with full colour, in the images' units; by default the largest one of each group. The
            heading states it. See `difference_rgb` for the colours.
        low: the value shown as black.
        high: the value shown as white.
        title: above the figure.

    Raises:
        ValueError: if there is no group, groups differ in N, or a label has no class name.
    """
    groups = sequence("groups", groups, "a sequence of AttackedSamples")
    for i, group in enumerate(groups):
        instance(f"groups[{i}]", group, AttackedSamples, "an AttackedSamples")
    if class_names is not None:
        class_names = [
            _checks.text(f"class_names[{i}]", n) for i, n in enumerate(sequence("class_names", class_names, "names"))
        ]
    scale = None if scale is None else number("scale", scale, 0, above=True)
    check_texts(title=title)
    if not groups:
        raise ValueError("Expected argument `groups` to hold at least one AttackedSamples, but got none.")
    sizes = {group.name: len(group.x) for group in groups}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"Expected argument `groups` to have the same number of samples each, but got {sizes}.")
    names = [[_class_name(label, class_names) for label in group.y] for group in groups]
    shared = all(group_names == names[0] for group_names in names)
    names = [[shorten(name, _CELL, _TRUE_SIZE) for name in group_names] for group_names in names]
    labels_width = 0.15 + max(text_inches(text, _TRUE_SIZE) for group_names in names for text in ("true", *group_names))
    headings = [wrap_evenly(group.name, _HEADING_CHARACTERS) for group in groups]
    image_height = _CELL * max(group.x.shape[2] / group.x.shape[3] for group in groups)
    head = _HEAD + _LINE * max(heading.count("\n") for heading in headings) + (_TITLE if title else 0.0)
    pitch = _GROUP + (_GROUP_GAP if shared else _MARGIN + labels_width)
    width = _MARGIN + labels_width + pitch * (len(groups) - 1) + _GROUP + _MARGIN
    footnote = wrap_evenly(_meaning_of_colours(groups), int((width - 2 * _MARGIN) / 0.068))
    row_height = image_height + _TEXT
    foot = 0.3 + _LINE * footnote.count("\n")
    height = head + len(groups[0].x) * row_height + foot

    with themed():
        from matplotlib.figure import Figure

        sheet = _Inches(Figure(figsize=(width, height)))
        sheet.write(_MARGIN, height - 0.28, title, fontsize=12, fontweight="bold", ha="left")
        sheet.write(_MARGIN, foot / 2 - 0.02, footnote, fontsize=8, color=MUTED, ha="left")
        for g, group in enumerate(groups):
            left = _MARGIN + labels_width + g * pitch
            group_scale = largest_difference(group.x, group.x_adv) if scale is None else scale
            _draw_heading(sheet, headings[g], left, height - head, group_scale)
            images = (
                to_rgb(group.x, low, high),
                to_rgb(group.x_adv, low, high),
                difference_rgb(group.x, group.x_adv, group_scale),
            )
            for i, verdict in enumerate(group.verdicts()):
                bottom = height - head - i * row_height - image_height
                texts = (
                    _class_name(group.before[i], class_names),
                    "→ " + _class_name(group.after[i], class_names),
                    verdict,
                )
                _draw_sample(sheet, left, bottom, image_height, [image[i] for image in images], texts, verdict)
                if g == 0 or not shared:
                    middle = bottom + image_height / 2
                    sheet.write(
                        left - 0.1, middle, f"true\n{names[g][i]}", fontsize=_TRUE_SIZE, linespacing=1.4, ha="right"
                    )
    return sheet.figure


@dataclass(frozen=True)
class _Inches:
    """A figure on which places are given in inches from the lower left corner."""

    figure: Figure

    def place(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.figure.get_size_inches()
        return x / width, y / height

    def write(self, x: float, y: float, text: str, **look: Any) -> None:
        self.figure.text(*self.place(x, y), text, va="center", **look)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((*self.place(x, y), *self.place(width, height)))


def _draw_heading(sheet: _Inches, heading: str, left: float, bottom: float, scale: float) -> None:
    from matplotlib.lines import Line2D

    lines = 1 + heading.count("\n")
    sheet.write(left + _GROUP / 2, bottom + 0.38 + _LINE * lines / 2, heading, fontweight="bold", ha="center")
    ends = sheet.place(left, bottom + 0.31), sheet.place(left + _GROUP, bottom + 0.31)
    x, y = zip(*ends, strict=True)
    sheet.figure.add_artist(Line2D(x, y, color=MUTED, linewidth=0.8, transform=sheet.figure.transFigure))
    for c, text in enumerate(("clean", "adversarial", f"change ±{scale:.3g}")):
        middle = left + c * (_CELL + _GAP) + _CELL / 2
        sheet.write(middle, bottom + 0.15, text, fontsize=7.5, color=MUTED, ha="center")


def _draw_sample(
    sheet: _Inches,
    left: float,
    bottom: float,
    image_height: float,
    images: Sequence[Tensor],
    texts: Sequence[str],
    verdict: Verdict,
) -> None:
    """Clean, adversarial and difference image of one sample, each (3, H, W), with the texts under them."""
    looks: tuple[dict[str, Any], ...] = (
        {"color": INK},
        {"color": INK},
        {"color": _VERDICT_COLOUR[verdict], "fontweight": "bold" if verdict == "attack failed" else "normal"},
    )
    for c, (image, text, look) in enumerate(zip(images, texts, looks, strict=True)):
        axes = sheet.axes(left + c * (_CELL + _GAP), bottom, _CELL, image_height)
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_xlabel(shorten(text, _CELL + _GAP / 2, _TEXT_SIZE), fontsize=_TEXT_SIZE, labelpad=3, **look)
        _draw_frame(axes, verdict if c == 1 else None)


def _draw_frame(axes: Axes, verdict: Verdict | None) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(GRID if verdict is None else _VERDICT_COLOUR[verdict])
        spine.set_linewidth(2.0 if verdict in ("fooled", "attack failed") else 0.8)
        spine.set_capstyle("butt")
        spine.set_linestyle((0, (3.0, 2.0)) if verdict == "attack failed" else "-")


def _meaning_of_colours(groups: Sequence[AttackedSamples]) -> str:
    channels = {group.x.shape[1] for group in groups}
    grey = ["white is none, blue darker, red brighter"] if 1 in channels else []
    rgb = ["mid-grey is none, each channel by itself"] if 3 in channels else []
    return f"Change: {'; in colour images '.join(grey + rgb)}; full colour at the value in the heading."


def _class_name(label: Tensor, class_names: Sequence[str] | None) -> str:
    index = int(label)
    if class_names is None:
        return str(index)
    if not 0 <= index < len(class_names):
        raise ValueError(f"Expected argument `class_names` to name class {index}, but got {len(class_names)} names.")
    return class_names[index]
