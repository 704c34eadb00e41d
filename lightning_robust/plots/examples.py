"""A sheet of adversarial examples: what was changed, and what the model said before and after."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import instance, sequence
from lightning_robust.plots._style import COLORS, GRID, INK, MUTED, new_figure, style
from lightning_robust.plots.images import check_pair, difference_rgb, largest_difference, to_rgb
from lightning_robust.plots.rows import check_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Verdict = Literal["fooled", "attack failed", "wrong before"]

_VERDICT_COLOR: dict[Verdict, str] = {"fooled": COLORS[1], "attack failed": COLORS[0], "wrong before": MUTED}
_CELL, _LINE, _LETTER = 0.92, 0.23, 0.072  # inches: the width of an image, a line of text, a letter of a label
_MOST_LETTERS = 12  # of a label under an image


@dataclass(frozen=True, kw_only=True)
class AttackedSamples:
    """Samples under one threat, with what the model said about them; one column group of a sheet.

    Args:
        name: of the threat (and the model, where these differ), the heading.
        x: images before the attack (N, C, H, W), C = 1 or 3, floating point.
        x_adv: adversarial images, of the same shape.
        y: true labels (N,), integers.
        before: predicted labels of `x` (N,), integers.
        after: predicted labels of `x_adv` (N,), integers.
        start: what `x` is, the heading of its column.

    Raises:
        ValueError: a shape or a type is another one.
    """

    name: str
    x: Tensor
    x_adv: Tensor
    y: Tensor
    before: Tensor
    after: Tensor
    start: str = "clean"

    def __post_init__(self) -> None:
        _checks.text("name", self.name, empty=True)
        _checks.text("start", self.start)
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
    """Samples down, threats across; under each threat the image before, that after, and their signed difference.

    Left of the image before stands the true label, under it the label predicted before, under the adversarial image the
    label predicted after, under the difference the verdict: *fooled*, *attack failed*, or *wrong before* (the model was
    wrong on the image before, so there was nothing to attack). The frame of the adversarial image says the same: solid
    for fooled, dashed for failed, thin and gray for wrong before.

    Args:
        groups: one for each threat, all with the same number of samples N.
        class_names: names of the K classes; without them labels are written as numbers.
        scale: the difference with full color, in the images' units; by default the largest one of each group. The
            heading states it. See `difference_rgb` for the colors.
        low: the value shown as black.
        high: the value shown as white.
        title: above the figure.

    Raises:
        ValueError: there is no group, groups differ in N, or a label has no class name.
    """
    groups = sequence("groups", groups, "a sequence of AttackedSamples")
    for i, group in enumerate(groups):
        instance(f"groups[{i}]", group, AttackedSamples, "an AttackedSamples")
    if class_names is not None:
        names = sequence("class_names", class_names, "names")
        class_names = [_checks.text(f"class_names[{i}]", name) for i, name in enumerate(names)]
    scale = None if scale is None else _checks.number("scale", scale, 0, above=True)
    check_texts(title=title)
    if not groups:
        raise ValueError("Expected argument `groups` to hold at least one AttackedSamples, but got none.")
    sizes = {group.name: len(group.x) for group in groups}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"Expected argument `groups` to have the same number of samples each, but got {sizes}.")

    height_of_image = _CELL * max(group.x.shape[2] / group.x.shape[3] for group in groups)
    letters = max(len(_class_name(label, class_names)) for group in groups for label in group.y)
    width = len(groups) * (3 * _CELL + 0.2 + _LETTER * max(4, letters))
    note = textwrap.fill(_meaning_of_colors(groups), int(15 * width))
    headings = [textwrap.fill(group.name, 34) for group in groups]
    lines = 2 + bool(title) + max(heading.count("\n") for heading in headings) + note.count("\n")
    height = len(groups[0].x) * (height_of_image + _LINE) + (lines + 1) * _LINE
    with style():
        figure = new_figure(width, height)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)  # type: ignore[union-attr, call-arg]
        parts = figure.subfigures(1, len(groups), squeeze=False).flat
        for part, group, heading in zip(parts, groups, headings, strict=True):
            part.suptitle(heading, fontsize=10, fontweight="bold")
            _draw_group(part, group, class_names, scale, low, high)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=MUTED)
    return figure


def _draw_group(
    part: SubFigure,
    group: AttackedSamples,
    class_names: Sequence[str] | None,
    scale: float | None,
    low: float,
    high: float,
) -> None:
    scale = largest_difference(group.x, group.x_adv) if scale is None else scale
    columns = to_rgb(group.x, low, high), to_rgb(group.x_adv, low, high), difference_rgb(group.x, group.x_adv, scale)
    panels = part.subplots(len(group.x), 3, squeeze=False)
    for axes, heading in zip(panels[0], (group.start, "adversarial", f"change ±{scale:.3g}"), strict=True):
        axes.set_title(heading, loc="center", fontsize=7.5, fontweight="normal", color=MUTED, pad=3)
    for i, verdict in enumerate(group.verdicts()):
        true, before, after = (_class_name(labels[i], class_names) for labels in (group.y, group.before, group.after))
        color = _VERDICT_COLOR[verdict]
        for axes, images in zip(panels[i], columns, strict=True):
            _draw_image(axes, images[i])
        panels[i, 0].set_ylabel(f"true\n{true}", rotation=0, ha="right", va="center", fontsize=8)
        panels[i, 0].set_xlabel(before, fontsize=8, labelpad=2, color=INK)
        panels[i, 1].set_xlabel(f"→ {after}", fontsize=8, labelpad=2, color=INK)
        bold = "bold" if verdict == "attack failed" else "normal"
        panels[i, 2].set_xlabel(verdict, fontsize=8, labelpad=2, color=color, fontweight=bold)
        dash = (0, (3.0, 2.0)) if verdict == "attack failed" else "-"
        thickness = 0.8 if verdict == "wrong before" else 2.0
        panels[i, 1].spines[:].set(color=color, linewidth=thickness, linestyle=dash, capstyle="butt")


def _draw_image(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=GRID, linewidth=0.8)


def _meaning_of_colors(groups: Sequence[AttackedSamples]) -> str:
    channels = {group.x.shape[1] for group in groups}
    gray = ["white is none, blue darker, red brighter"] if 1 in channels else []
    rgb = ["mid-gray is none, each channel by itself"] if 3 in channels else []
    return f"Change: {'; in color images '.join(gray + rgb)}; full color at the value in the heading."


def _class_name(label: Tensor, class_names: Sequence[str] | None) -> str:
    index = int(label)
    if class_names is None:
        return str(index)
    if not 0 <= index < len(class_names):
        raise ValueError(f"Expected argument `class_names` to name class {index}, but got {len(class_names)} names.")
    name = class_names[index]
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1].rstrip()}…"
