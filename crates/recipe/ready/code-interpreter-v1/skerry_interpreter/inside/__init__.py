"""What the Python kernel loads: results as data and as charts, and variables of the environment for one execution."""

import os
import sys
from typing import Any

from IPython.core.formatters import BaseFormatter, catch_format_error
from traitlets import ObjectName, Unicode

before: dict[str, str | None] = {}
"""What `leave` sets back."""


class DataFormatter(BaseFormatter):
    """Tables as columns of plain values."""

    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):
    """Figures as what they show."""

    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = dict

    @catch_format_error
    def __call__(self, obj: Any) -> dict[str, Any] | None:
        """What is registered for figures is taken away by Matplotlib when it chooses their formats, so they are known here."""
        matplotlib = sys.modules.get("matplotlib.figure")
        if matplotlib is not None and isinstance(obj, matplotlib.Figure):
            from .charts import chart

            return chart(obj)
        return super().__call__(obj)


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython. Neither pandas nor Matplotlib is loaded before the user does so."""
    data = DataFormatter(parent=shell.display_formatter)
    data.for_type_by_name("pandas.core.frame", "DataFrame", columns_of)
    shell.display_formatter.formatters["e2b/data"] = data
    shell.display_formatter.formatters["e2b/chart"] = ChartFormatter(parent=shell.display_formatter)


def columns_of(frame: Any) -> dict[str, Any] | None:
    """A table's columns."""
    from .data import columns

    return columns(frame)


def enter(env: dict[str, str]) -> None:
    """Sets variables of the environment."""
    before.update({name: os.environ.get(name) for name in env})
    os.environ.update(env)


def leave() -> None:
    """Sets them back."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    before.clear()
