"""The published clients at their pinned versions, installed once into the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skerry" / "e2b"


@dataclass(frozen=True)
class Client:
    """One package at one version, with all that it needs, by the hashes in its lock file."""

    name: str

    @property
    def lock(self) -> Path:
        folder = PINS / self.name
        python = folder / "requirements.txt"
        return python if python.exists() else folder / "package-lock.json"

    @property
    def is_python(self) -> bool:
        return self.lock.suffix == ".txt"

    @property
    def folder(self) -> Path:
        """Where it is installed; another lock file is another folder."""
        return CACHE / f"{self.name}-{hashlib.sha256(self.lock.read_bytes()).hexdigest()[:12]}"

    def install(self) -> None:
        """Downloads and installs it, unless it is there."""
        if self.folder.exists():
            return
        print(f"installing {self.name}", file=sys.stderr)
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=CACHE))
        try:
            self._install_into(fresh)
            fresh.chmod(0o755)
            # Two at once: the one that comes later finds it there.
            if not self.folder.exists():
                fresh.rename(self.folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _install_into(self, folder: Path) -> None:
        if self.is_python:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
            command = [*pip, "--target", str(folder), "--require-hashes", "--no-deps", "--requirement", str(self.lock)]
        else:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(PINS / self.name / file, folder)
            command = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run(command, check=True, env=system_authorities() | os.environ)


def system_authorities() -> dict[str, str]:
    """Has pip and npm trust whom the machine trusts, as curl and cargo do; each brings a list of its own."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    return {"PIP_CERT": str(bundle), "NODE_EXTRA_CA_CERTS": str(bundle)} if bundle.exists() else {}


def by_version(client: str) -> tuple[str, list[int]]:
    """The order of clients, in which 2.7 comes before 2.20."""
    family, _, version = client.rpartition("-")
    return family, [int(part) for part in version.split(".")]


CLIENTS = {path.name: Client(path.name) for path in sorted(PINS.iterdir())}
