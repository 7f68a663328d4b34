"""Test processes: which there are, and running them side by side."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .clients import CLIENTS, by_version
from .server import Server

SUITES = Path(__file__).resolve().parents[1]
# One process that hangs must not hang all.
LIMIT_SECONDS = 600
# What is tested of each family of clients.
SUITE_OF = {
    "python": "python", "node": "node", "cli": "cli", "openai-agents": "openai-agents", "langchain-e2b": "langchain", "computesdk": "computesdk",
    "interpreter-python": "python/test_code_interpreter.py", "interpreter-node": "node",
}  # fmt: skip
FLAVOURS = {"python": ("sync", "async"), "interpreter-python": ("sync", "async")}
NEWEST = ("python-2.63.0", "node-2.51.0", "interpreter-python-2.11.5", "interpreter-node-2.8.0")
# These know no other way to a server that is not the cloud.
ONLY_BY_DOMAIN = ("python-1.11.1", "interpreter-python-1.5.2")


@dataclass(frozen=True)
class Job:
    """One test process: a suite with a client, in one flavour of it (`sync` or `async` in Python), by addresses or by a domain."""

    client: str
    suite: str
    flavour: str = ""
    domain: bool = False

    @property
    def name(self) -> str:
        mode = "by domain" if self.domain else ""
        return " ".join(filter(None, (self.suite, self.client, self.flavour, mode)))

    @property
    def needs_interpreter(self) -> bool:
        """Whether it starts sandboxes of the template for the code interpreter."""
        return self.client.startswith("interpreter-")


@dataclass
class Report:
    """How a job ended, and for each method of the client what came of it."""

    job: Job
    passed: bool
    methods: dict[str, str] = field(default_factory=dict)


def plan(everything: bool) -> list[Job]:
    """The jobs of a run, the longest first."""
    jobs = []
    for name in sorted(CLIENTS, key=by_version):
        family = name.rpartition("-")[0]
        if not everything and name not in NEWEST:
            continue
        flavours = FLAVOURS.get(family, ("",))
        jobs += [Job(name, SUITE_OF[family], flavour, mode) for flavour in flavours for mode in modes(name, everything)]
    jobs.append(Job(NEWEST[0], "wire"))
    return jobs


def modes(client: str, everything: bool) -> list[bool]:
    """Whether by a domain."""
    if client in ONLY_BY_DOMAIN:
        return [True]
    return [False, True] if everything and client in NEWEST else [False]


def run_all(jobs: list[Job], server: Server, at_once: int, tests: str) -> list[Report]:
    """Runs them all; the output of each is shown when it ends."""
    env = os.environ | {"SKERRY_URL": server.url, "SKERRY_API_KEY": server.key}
    exported = {domain: server.env(domain) for domain in (False, True)}
    env |= {"SKERRY_E2B_TESTS": tests, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    shown = threading.Lock()

    def one(job: Job) -> Report:
        report, output = run(job, env | exported[job.domain])
        with shown:
            print(f"{'ok    ' if report.passed else 'FAILED'} {job.name}: {last_line(output)}", file=sys.stderr)
            if not report.passed:
                print(output, file=sys.stderr)
        return report

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, jobs))


def run(job: Job, env: dict[str, str]) -> tuple[Report, str]:
    """Runs one."""
    client = CLIENTS[job.client]
    with tempfile.TemporaryDirectory(prefix="skerry-e2b-") as folder:
        report = Path(folder, "report.json")
        env = env | {"SKERRY_E2B_FLAVOUR": job.flavour, "SKERRY_E2B_REPORT": str(report), "TMPDIR": folder}
        env["SKERRY_E2B_VERSION"] = job.client.rpartition("-")[2]
        if client.is_python:
            tests = ["-k", env["SKERRY_E2B_TESTS"]] if env["SKERRY_E2B_TESTS"] else []
            options = ["-q", "--tb=short", "-p", "no:cacheprovider", *tests]
            command = [sys.executable, "-m", "pytest", *options, str(SUITES / job.suite)]
            env["PYTHONPATH"] = f"{SUITES / 'names'}:{client.folder}"
        else:
            # Modules are looked for beside the file that imports them.
            suite = Path(folder, job.suite)
            shutil.copytree(SUITES / job.suite, suite)
            for name in ("package.json", "node_modules"):
                Path(folder, name).symlink_to(client.folder / name)
            command = ["node", "--import", str(SUITES / "names/lookup.mjs"), "--import", "tsx", str(suite / "all.ts")]
        try:
            done = subprocess.run(
                command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=LIMIT_SECONDS,
            )  # fmt: skip
            passed, output = done.returncode == 0, done.stdout
        except subprocess.TimeoutExpired as late:
            passed, output = False, f"{(late.stdout or b'').decode(errors='replace')}\nno end in {LIMIT_SECONDS} s"
        methods = json.loads(report.read_text()) if report.exists() else {}
    return Report(job, passed, methods), output


def last_line(output: str) -> str:
    return output.strip().rpartition("\n")[2]
