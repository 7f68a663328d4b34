"""Which public methods the installed client has, and which of them a test really called, with the client's code left alone."""

import inspect
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Iterator

import e2b

try:
    # It has all that the other has, and a sandbox of its own.
    import e2b_code_interpreter as client
except ImportError:
    client = e2b

# What a program speaks to; the rest of the exports are data, errors and the client's own transport.
CLASSES = (
    "Sandbox SandboxPaginator SnapshotPaginator CommandHandle CommandInputHandle WatchHandle Template Volume Secret SecretPaginator"
).split()
# Classes that are no exports but what these properties give.
PARTS = ("files", "commands", "pty", "git")
FUNCTIONS = "get_signature default_build_logger wait_for_file wait_for_port wait_for_process wait_for_timeout wait_for_url".split()


def surface(flavour: str) -> dict[CodeType, str]:
    """The code of every public method, with its name as a user knows it."""
    prefix = "Async" if flavour == "async" else ""
    if client is not e2b:
        sandbox = getattr(client, prefix + "Sandbox")
        return {code: f"Sandbox.{name}" for name, code in _methods(sandbox) if name in vars(sandbox)}
    classes = {name: getattr(e2b, prefix + name) for name in CLASSES if hasattr(e2b, prefix + name)}
    for part in PARTS:
        if isinstance(found := inspect.getattr_static(classes["Sandbox"], part, None), property):
            given = inspect.get_annotations(found.fget, eval_str=True)["return"]
            classes[f"sandbox.{part}"] = given
    if "Template" in classes:
        from e2b.template import main

        classes["TemplateBuilder"] = main.TemplateBuilder
    methods = {code: f"{shown}.{name}" for shown, one in classes.items() for name, code in _methods(one)}
    functions = {name: getattr(e2b, name) for name in FUNCTIONS if hasattr(e2b, name)}
    return methods | {found.__code__: name for name, found in functions.items()}


def _methods(owner: type) -> Iterator[tuple[str, CodeType]]:
    for name in dir(owner):
        if name.startswith("_"):
            continue
        found: Any = inspect.getattr_static(owner, name)
        if isinstance(found, (classmethod, staticmethod)):
            yield name, inspect.unwrap(found.__func__).__code__
        elif inspect.isfunction(found):
            yield name, inspect.unwrap(found).__code__
        elif hasattr(found, "_instance_fn"):
            # The same of a volume.
            yield name, inspect.unwrap(found._instance_fn).__code__
            yield f"{name}(id)", inspect.unwrap(getattr(found._static_fn, "__func__", found._static_fn)).__code__
        elif hasattr(found, "class_method_name"):
            # One name, two methods: of a sandbox, and of the class with an id.
            yield name, inspect.unwrap(found.method).__code__
            by_id = inspect.getattr_static(owner, found.class_method_name)
            yield f"{name}(id)", inspect.unwrap(getattr(by_id, "__func__", by_id)).__code__


class Calls:
    """Notes which of these methods are called while it is told to listen."""

    def __init__(self, flavour: str):
        self.names = surface(flavour)
        self._heard: set[str] = set()

    def __enter__(self) -> set[str]:
        self._heard = set()
        sys.setprofile(self._note)
        threading.setprofile(self._note)
        return self._heard

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (name := self.names.get(frame.f_code)):
            self._heard.add(name)
