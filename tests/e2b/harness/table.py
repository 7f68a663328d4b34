"""docs/e2b-methods.md: every public method of the clients, and at which version it works, made from what the suites did."""

import json
import sys
from collections import defaultdict
from pathlib import Path

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

Made by `make test-e2b` from what the published, unmodified clients did in its suites against a real server: do not edit. A method has a ✓ where a test
called it in that version and passed, in Python with the sync and the async client. – : this version has no such method. Python 1.11.1 runs by a domain,
the others by addresses; the newest ones run in both ways.
"""


def check(reports: list[Report], write: bool) -> int:
    """Says what no test calls; writes the page, or says where it tells something else."""
    columns = {name: _column(reports, name) for name in _clients(reports)}
    lacking = [f"{client}: {method}" for client, column in columns.items() for method, cell in column.items() if cell is None]
    for thing in lacking:
        print(f"no test calls {thing}", file=sys.stderr)
    if lacking:
        return 1
    if write:
        PAGE.write_text(_page(columns))
        return 0
    told = _read(PAGE.read_text())
    stale = [client for client, column in columns.items() if told.get(client) != column]
    for client in stale:
        print(f"{PAGE.name} is stale for {client}: `make test-e2b` writes it", file=sys.stderr)
    return 1 if stale else 0


def _clients(reports: list[Report]) -> list[str]:
    return list(dict.fromkeys(report.job.client for report in reports if report.methods))


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
        chosen = {name.removeprefix(f"{language}-"): column for name, column in columns.items() if name.startswith(f"{language}-")}
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
