"""Tables as plain values."""

import json
from typing import Any

MAX_CELLS = 1_000_000
"""Of a larger table only its text and HTML are shown."""


def columns(frame: Any) -> dict[str, list[Any]] | None:
    """The columns by their names. Times are ISO 8601, what is missing is null."""
    if frame.size > MAX_CELLS:
        return None
    table = json.loads(frame.to_json(orient="split", date_format="iso", default_handler=str))
    rows = table["data"]
    return {str(name): [row[place] for row in rows] for place, name in enumerate(frame.columns)}
