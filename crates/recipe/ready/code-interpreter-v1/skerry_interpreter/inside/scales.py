"""Axes: their labels, and what numbers on them mean."""

import math
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryConverter
from matplotlib.dates import _SwitchableDateConverter, num2date
from matplotlib.lines import Line2D

UNIT = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
SCALES = {"linear", "log", "symlog", "logit", "function", "functionlog", "asinh"}


def number(value: Any) -> float | None:
    """A number without the noise of its last digits; none where JSON has none."""
    value = float(value)
    return float(f"{value:.10g}") if math.isfinite(value) else None


def scale(axis: Axis) -> str:
    """What its numbers are."""
    converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
    if isinstance(converter, _SwitchableDateConverter):
        return "datetime"
    if isinstance(converter, StrCategoryConverter):
        return "categorical"
    name = str(axis.get_scale())
    return name if name in SCALES else "unknown"


def place(axis: Axis, value: Any) -> str | float | None:
    """What a number on an axis means: a time, a name, or itself."""
    match scale(axis):
        case "datetime":
            return str(num2date(value).isoformat())
        case "categorical":
            names = {index: name for name, index in axis.units._mapping.items()}
            return names.get(value, number(value))
    return number(value)


def label_at(axis: Axis, value: float) -> str:
    """The name of the tick there, or the number."""
    for tick, text in zip(axis.get_ticklocs(), axis.get_ticklabels()):
        if math.isclose(tick, value, abs_tol=1e-9) and text.get_text():
            return str(text.get_text())
    return f"{value:.6g}"


def described(axes: Axes, swapped: bool = False) -> dict[str, Any]:
    """The labels of both axes, and the units that stand in them in brackets."""
    labels = [axes.get_xlabel() or None, axes.get_ylabel() or None]
    if swapped:
        labels.reverse()
    units = [UNIT.search(label or "") for label in labels]
    x_unit, y_unit = (unit.group(1) if unit else None for unit in units)
    return {"x_label": labels[0], "y_label": labels[1], "x_unit": x_unit, "y_unit": y_unit}


def ticks(axes: Axes) -> dict[str, Any]:
    """The ticks of both axes."""
    said: dict[str, Any] = {}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        is_time = scale(axis) == "datetime"
        said[f"{name}_ticks"] = [place(axis, tick) if is_time else number(tick) for tick in axis.get_ticklocs()]
        said[f"{name}_tick_labels"] = [text.get_text() for text in axis.get_ticklabels()]
        said[f"{name}_scale"] = scale(axis)
    return said


def is_guide(line: Line2D) -> bool:
    """A straight line across, which shows no data."""
    xs, ys = line.get_data()
    return len(xs) == 2 and (xs[0] == xs[1] or ys[0] == ys[1])
