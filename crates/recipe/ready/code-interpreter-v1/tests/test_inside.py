"""Figures and tables as data."""

import unittest
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402

from skerry_interpreter.inside.charts import chart  # noqa: E402
from skerry_interpreter.inside.data import columns  # noqa: E402


class Charts(unittest.TestCase):
    """One figure each."""

    def setUp(self) -> None:
        self.figure, self.axes = plt.subplots()
        self.addCleanup(plt.close, "all")

    def chart(self) -> dict[str, Any]:
        found = chart(self.figure)
        assert found is not None
        return found

    def test_nothing(self) -> None:
        self.assertIsNone(chart(self.figure))

    def test_lines(self) -> None:
        self.axes.plot([1, 2], [3, float("nan")], label="l")
        self.axes.set(title="T", xlabel="Time (s)", ylabel="Way [m]", yscale="log")
        found = self.chart()
        said = {name: found[name] for name in ("type", "title", "x_label", "x_unit", "y_unit", "x_scale", "y_scale")}
        self.assertEqual(
            said,
            {"type": "line", "title": "T", "x_label": "Time (s)", "x_unit": "s", "y_unit": "m", "x_scale": "linear", "y_scale": "log"},
        )
        self.assertEqual(found["elements"], [{"label": "l", "points": [(1.0, 3.0), (2.0, None)]}])

    def test_times_and_names(self) -> None:
        self.axes.plot(pd.to_datetime(["2024-01-01", "2024-01-02"]), ["a", "b"])
        found = self.chart()
        self.assertEqual((found["x_scale"], found["y_scale"]), ("datetime", "categorical"))
        self.assertEqual(found["elements"][0]["points"], [("2024-01-01T00:00:00+00:00", "a"), ("2024-01-02T00:00:00+00:00", "b")])

    def test_points_beside_a_line_across(self) -> None:
        self.axes.scatter([1, 2], [3, 4], label="s")
        self.axes.axhline(2)
        found = self.chart()
        self.assertEqual((found["type"], found["elements"]), ("scatter", [{"label": "s", "points": [(1.0, 3.0), (2.0, 4.0)]}]))

    def test_bars_that_stand_and_lie(self) -> None:
        self.axes.bar(["a", "b"], [3, 4], label="g", yerr=[1, 1])
        self.axes.set_xlabel("who")
        standing = self.chart()
        self.assertEqual((standing["type"], standing["x_label"]), ("bar", "who"))
        self.assertEqual(standing["elements"][1], {"label": "b", "group": "g", "value": 4.0})
        self.figure, self.axes = plt.subplots()
        self.axes.barh(["a", "b"], [3, 3])
        self.axes.set_ylabel("who")
        lying = self.chart()
        self.assertEqual((lying["x_label"], lying["elements"][1]), ("who", {"label": "b", "group": "Group 0", "value": 3.0}))

    def test_a_pie(self) -> None:
        self.axes.pie([1, 3], labels=["p", "q"])
        self.assertEqual(self.chart()["elements"][1], {"label": "q", "angle": 270.0, "radius": 1.0})

    def test_boxes_that_stand_and_lie(self) -> None:
        for stands in (True, False):
            self.figure, self.axes = plt.subplots()
            self.axes.boxplot([[1, 2, 3, 4, 20], [2, 3, 4, 5, 6]], labels=["A", "B"], patch_artist=True, vert=stands)
            found = self.chart()
            self.assertEqual(found["type"], "box_and_whisker")
            self.assertEqual(
                found["elements"][0],
                {"label": "A", "min": 1.0, "first_quartile": 2.0, "median": 3.0, "third_quartile": 4.0, "max": 4.0, "outliers": [20.0]},
            )

    def test_several_and_what_is_not_known(self) -> None:
        self.figure, (left, right) = plt.subplots(1, 2)
        left.plot([1, 2])
        right.imshow([[1, 2], [3, 4]])
        self.figure.suptitle("both")
        found = self.chart()
        self.assertEqual((found["type"], found["title"]), ("superchart", "both"))
        self.assertEqual([one["type"] for one in found["elements"]], ["line", "unknown"])


class Tables(unittest.TestCase):
    """One table each."""

    def test_columns(self) -> None:
        table = pd.DataFrame({"n": [1, None], "when": pd.to_datetime(["2024-01-01", None]), 3: ["x", "y"]})
        self.assertEqual(columns(table), {"n": [1.0, None], "when": ["2024-01-01T00:00:00.000", None], "3": ["x", "y"]})

    def test_too_much(self) -> None:
        self.assertIsNone(columns(pd.DataFrame({"n": range(1_000_001)})))
