"""docs/e2b-methods.md: every public method of the clients, and at which version it works, made from what the suites did."""

import json
import sys
from collections import defaultdict
from pathlib import Path

from .clients import CLIENTS, by_version
from .jobs import Report

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/e2b-methods.md"
LANGUAGES = {
    "python": "Python",
    "node": "JavaScript",
    "interpreter-python": "Python, code interpreter",
    "interpreter-node": "JavaScript, code interpreter",
}
# Why methods are not there, by how their names begin.
REASONS: list[dict] = json.loads((Path(__file__).parent / "reasons.json").read_text())
HEAD = """# Methods of the E2B SDKs

Made by `tests/e2b/run --all --interpreter` from what the published, unmodified clients did in its suites against a real server: do not edit. A method has a ✓
where a test called it in that version and passed, in Python with the sync and the async client. – : this version has no such method. Version 1 runs by a
domain, later ones by addresses; the newest ones run in both ways. A run that leaves clients out leaves their columns as they are.
"""


def write(reports: list[Report]) -> int:
    """Writes the columns of these clients; says what no test calls."""
    columns = _columns(reports)
    if _is_lacking(columns):
        return 1
    told = _read(PAGE.read_text())
    PAGE.write_text(_page({name: told[name] for name in CLIENTS if name in told} | columns))
    return 0


def compare(reports: list[Report]) -> int:
    """Says where the page tells something else; says what no test calls."""
    columns = _columns(reports)
    if _is_lacking(columns):
        return 1
    told = _read(PAGE.read_text())
    stale = [client for client, column in columns.items() if told.get(client) != column]
    for client in stale:
        print(f"{PAGE.name} is stale for {client}: `make test-e2b` writes it", file=sys.stderr)
    return 1 if stale else 0


def _is_lacking(columns: dict[str, dict[str, str | None]]) -> bool:
    lacking = [f"{client}: {method}" for client, column in columns.items() for method, cell in column.items() if cell is None]
    for thing in lacking:
        print(f"no test calls {thing}", file=sys.stderr)
    return bool(lacking)


def _columns(reports: list[Report]) -> dict[str, dict[str, str | None]]:
    clients = dict.fromkeys(report.job.client for report in reports if report.methods)
    return {client: _column(reports, client) for client in clients}


def _column(reports: list[Report], client: str) -> dict[str, str | None]:
    """For each method its cell; `None` where nothing is known of it."""
    ways: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        if report.job.client == client:
            for method, came in report.methods.items():
                ways[method].add(came)
    return {method: _cell(client, method, came) for method, came in ways.items()}


def _cell(client: str, method: str, came: set[str]) -> str | None:
    for number, reason in enumerate(REASONS, 1):
        if client == reason.get("client", client) and method.startswith(tuple(reason["methods"])):
            return f"[{number}]"
    return "✓" if came == {"passed"} else None


def _page(columns: dict[str, dict[str, str | None]]) -> str:
    parts = [HEAD]
    for language, title in LANGUAGES.items():
        names = sorted((name for name in columns if name.rpartition("-")[0] == language), key=by_version)
        chosen = {name.rpartition("-")[2]: columns[name] for name in names}
        parts.append(f"\n## {title}\n\n| method | {' | '.join(chosen)} |\n|---|{':-:|' * len(chosen)}\n")
        methods = sorted({method for column in chosen.values() for method in column}, key=str.lower)
        for method in methods:
            cells = " | ".join(column.get(method) or "–" for column in chosen.values())
            parts.append(f"| `{method}` | {cells} |\n")
    parts.append("\n## Why not\n\n")
    parts += [f"{number}. {reason['why']}\n" for number, reason in enumerate(REASONS, 1)]
    return "".join(parts)


def _read(page: str) -> dict[str, dict[str, str]]:
    """The columns of a page that was written so."""
    columns: dict[str, dict[str, str]] = {}
    for language, title in LANGUAGES.items():
        table = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
        head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
        for at, version in enumerate(head[1:], 1):
            column = {row[0].strip("`"): row[at] for row in rows if row[at] != "–"}
            columns[f"{language}-{version}"] = column
    return columns
