"""Box plots: which line belongs to which box, and what it says of it."""

from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch

from .scales import label_at, number

Points = list[tuple[float, float]]
"""Each along the values, then across them."""


@dataclass
class Box:
    """One box. Where it has no whisker or median, it ends there itself."""

    low: float
    high: float
    left: float
    right: float
    least: float | None = None
    most: float | None = None
    median: float | None = None
    outliers: list[float] = field(default_factory=list)

    def holds(self, points: Points) -> bool:
        """The points stand over it."""
        return all(self.left <= across <= self.right for _, across in points)

    def take(self, points: Points, is_loose: bool) -> None:
        """Learns from a line."""
        along = [value for value, _ in points]
        if is_loose:
            self.outliers += along
        elif len(points) == 2 and along[0] == along[1]:
            spans = abs(points[0][1] - points[1][1]) > 0.9 * (self.right - self.left)
            if spans and self.low <= along[0] <= self.high:
                self.median = along[0]
        elif len(points) == 2 and max(along) <= self.low:
            self.least = min(along)
        elif len(points) == 2 and min(along) >= self.high:
            self.most = max(along)

    def element(self, label: str) -> dict[str, Any]:
        """As it is told."""
        return {
            "label": label,
            "min": number(self.low if self.least is None else self.least),
            "first_quartile": number(self.low),
            "median": number(self.low if self.median is None else self.median),
            "third_quartile": number(self.high),
            "max": number(self.high if self.most is None else self.most),
            "outliers": [number(one) for one in self.outliers],
        }


def read(axes: Axes) -> tuple[list[dict[str, Any]], bool]:
    """All boxes, and whether they lie."""
    corners = [patch.get_path().vertices for patch in axes.patches if isinstance(patch, PathPatch)]
    lines = [(rounded(line.get_data()), line.get_linestyle() in ("None", "")) for line in axes.get_lines()]
    lies = not any(len(points) == 2 and points[0][1] == points[1][1] and stands_in(points, corners) for points, _ in lines)
    boxes = []
    for corner in corners:
        (left, low), (right, high) = rounded(((corner[:, 0].min(), corner[:, 0].max()), (corner[:, 1].min(), corner[:, 1].max())))
        boxes.append(Box(left, right, low, high) if lies else Box(low, high, left, right))
    for points, is_loose in lines:
        seen = points if lies else [(y, x) for x, y in points]
        for box in boxes:
            if seen and box.holds(seen):
                box.take(seen, is_loose)
    axis = axes.yaxis if lies else axes.xaxis
    return [box.element(label_at(axis, (box.left + box.right) / 2)) for box in boxes], lies


def rounded(data: Any) -> Points:
    """Points whose last digits do not keep equal ones apart."""
    return [(float(f"{x:.10g}"), float(f"{y:.10g}")) for x, y in zip(*data)]


def stands_in(points: Points, corners: list[Any]) -> bool:
    """A level line from side to side of a box: its median, if the boxes stand."""
    (left, level), (right, _) = sorted(points)
    return any(
        abs(corner[:, 0].min() - left) < 1e-6
        and abs(corner[:, 0].max() - right) < 1e-6
        and corner[:, 1].min() - 1e-9 <= level <= corner[:, 1].max() + 1e-9
        for corner in corners
    )
