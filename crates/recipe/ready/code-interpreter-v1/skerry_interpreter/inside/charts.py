"""What a Matplotlib figure shows, as data."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Wedge

from . import boxes
from .scales import described, is_guide, label_at, number, place, ticks

Chart = dict[str, Any]

DRAWN = {PathCollection: "scatter", Wedge: "pie", PathPatch: "box_and_whisker"}
"""What each thing that can be drawn is part of."""


def chart(figure: Figure) -> Chart | None:
    """The chart of a figure; of several, one that holds them all. None of one with nothing in it."""
    axes = figure.get_axes()
    if not any(one.has_data() for one in axes):
        return None
    if len(axes) == 1:
        return of_axes(axes[0])
    heading = getattr(figure, "_suptitle", None)
    title = heading.get_text() if heading else None
    return {"type": "superchart", "title": title, "elements": [of_axes(one) for one in axes]}


def of_axes(axes: Axes) -> Chart:
    """One chart."""
    kind = kind_of(axes)
    elements, more = KINDS.get(kind, nothing)(axes)
    return {"type": kind, "title": axes.get_title() or None, **more, "elements": elements}


def kind_of(axes: Axes) -> str:
    """What all that was drawn is. Parts of bars, such as their errors, are not looked at; nor are lines across, beside something else."""
    bars = [one for one in axes.containers if isinstance(one, BarContainer)]
    parts = {id(part) for container in axes.containers for part in container.get_children()}
    kinds = {"bar"} if bars else set()
    for one in [*axes.collections, *axes.patches]:
        if id(one) not in parts:
            known = (name for kind, name in DRAWN.items() if isinstance(one, kind))
            kinds.add(next(known, "unknown"))
    lines = [one for one in axes.get_lines() if id(one) not in parts]
    if lines and kinds != {"box_and_whisker"} and not (kinds and all(map(is_guide, lines))):
        kinds.add("line")
    return kinds.pop() if len(kinds) == 1 else "unknown"


def nothing(_axes: Axes) -> tuple[list[Chart], Chart]:
    """Of a chart that is not known only its title is."""
    return [], {}


def points(axes: Axes, label: str, xs: Any, ys: Any) -> Chart:
    """A row of points."""
    return {"label": label, "points": [(place(axes.xaxis, x), place(axes.yaxis, y)) for x, y in zip(xs, ys)]}


def line(axes: Axes) -> tuple[list[Chart], Chart]:
    """Lines."""
    elements = [points(axes, str(one.get_label()), one.get_xdata(orig=False), one.get_ydata(orig=False)) for one in axes.get_lines()]
    return elements, described(axes) | ticks(axes)


def scatter(axes: Axes) -> tuple[list[Chart], Chart]:
    """Points."""
    offsets = [(one, one.get_offsets()) for one in axes.collections]
    elements = [points(axes, str(one.get_label()), at[:, 0], at[:, 1]) for one, at in offsets]
    return elements, described(axes) | ticks(axes)


def bar(axes: Axes) -> tuple[list[Chart], Chart]:
    """Bars. Of those that lie, `x` is what stands at their foot."""
    elements = []
    groups = [one for one in axes.containers if isinstance(one, BarContainer)]
    lies = any(group.orientation == "horizontal" for group in groups)
    for index, group in enumerate(groups):
        name = str(group.get_label())
        name = f"Group {index}" if name.startswith("_") else name
        for one in group:
            if lies:
                label, value = label_at(axes.yaxis, one.get_y() + one.get_height() / 2), one.get_width()
            else:
                label, value = label_at(axes.xaxis, one.get_x() + one.get_width() / 2), one.get_height()
            elements.append({"label": label, "group": name, "value": number(value)})
    return elements, described(axes, swapped=lies)


def pie(axes: Axes) -> tuple[list[Chart], Chart]:
    """Wedges."""
    wedges = [one for one in axes.patches if isinstance(one, Wedge)]
    elements = [
        {"label": str(one.get_label()), "angle": number(abs(one.theta2 - one.theta1)), "radius": number(one.r)} for one in wedges
    ]
    return elements, {}


def box(axes: Axes) -> tuple[list[Chart], Chart]:
    """Boxes with their whiskers."""
    elements, lies = boxes.read(axes)
    return elements, described(axes, swapped=lies)


KINDS: dict[str, Callable[[Axes], tuple[list[Chart], Chart]]] = {
    "line": line,
    "scatter": scatter,
    "bar": bar,
    "pie": pie,
    "box_and_whisker": box,
}
