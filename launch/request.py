"""What is asked of Google Cloud for one run, and the file that remembers it.

The file is all that another machine, or the same one after a restart, needs to go on.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pathlib
import re
import time
from typing import IO, Any

from twjax import storage
from twjax.config import ConfigError
from twjax.planning.prices import Cost, cost
from twjax.planning.topology import Topology, parse_topology

FOLDER = "TWJAX_LAUNCH_STATE"
WAYS = ("on-demand", "spot", "reserved")
# https://docs.cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A queued resource of one or several slices, and what its workers install."""

    name: str
    project: str | None
    zone: str
    topology: str
    way: str = "on-demand"
    runtime: str = ""
    price: float | None = None
    flags: tuple[str, ...] = ()
    requirement: str = ""
    wheel: str | None = None
    setup: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"NAME {self.name!r}: up to 40 of a-z, 0-9 and -, from a letter on.")
        for option, text in (("--zone", self.zone), ("--project", self.project)):
            if text is not None and not re.fullmatch(r"[a-z][a-z0-9.:-]*", text):
                raise ConfigError(f"{option} {text!r} is none of Google Cloud's names.")
        if self.way not in WAYS:
            raise ConfigError(f"{self.way!r}: one of {', '.join(WAYS)}.")
        if self.shape.chip.name not in RUNTIMES:
            raise ConfigError(
                f"{self.topology}: the Cloud TPU API has no {self.shape.chip.name}; GKE has "
                "(python -m launch.gke)."
            )
        if self.price is not None and not 0 <= self.price < 1e6:
            raise ConfigError(f"--price {self.price}: dollars a chip-hour.")

    @property
    def shape(self) -> Topology:
        return parse_topology(self.topology)

    @property
    def slices(self) -> int:
        return self.shape.num_slices

    @property
    def nodes(self) -> list[str]:
        """The TPU VMs' names, a slice each."""
        if self.slices == 1:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(self.slices)]

    @property
    def workers(self) -> int:
        """Machines of all slices."""
        return self.shape.num_hosts

    @property
    def accelerator_type(self) -> str:
        """The name that gcloud has for one slice."""
        shape = self.shape
        kind = "v5litepod" if shape.chip.name == "v5e" else shape.chip.name
        return f"{kind}-{shape.num_chips // shape.num_slices * shape.chip.unit}"

    @property
    def cost(self) -> Cost | None:
        if self.way == "reserved" and self.price is None:
            return None
        return cost(self.shape, self.zone, self.way == "spot", self.price)

    def cost_line(self) -> str:
        """Returns what it will cost in one sentence, or how to say it."""
        if (known := self.cost) is not None:
            return f"cost: {known.line()} Charged while it is ACTIVE, whether it trains or not."
        chips = self.shape.num_chips
        return (
            f"cost: {chips:,} chips at a price that isn't known here "
            f"({self.way}, {self.topology} in {self.zone}); give yours with --price."
        )

    def hourly(self) -> str:
        """Returns what an hour costs, in words."""
        known = self.cost
        return f"${known.of(1):,.2f} an hour" if known is not None else "its price"

    def creation(self) -> list[str]:
        """Returns the words of the command that asks for it."""
        kind = {"on-demand": [], "spot": ["--spot"], "reserved": ["--reserved"]}[self.way]
        if self.slices == 1:
            nodes = [f"--node-id={self.name}"]
        else:
            nodes = [f"--node-count={self.slices}", f"--node-prefix={self.name}"]
        return [
            "queued-resources",
            "create",
            self.name,
            f"--accelerator-type={self.accelerator_type}",
            f"--runtime-version={self.runtime or RUNTIMES[self.shape.chip.name]}",
            *nodes,
            *kind,
            *self.flags,
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far it is: the command of the run, and what has happened."""

    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    attempt: int = 0
    created: int = 0
    finished: bool = False
    events: tuple[dict[str, Any], ...] = ()


class Store:
    """The file of one request, `FOLDER/NAME.json`."""

    def __init__(self, name: str, folder: str | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"NAME {name!r}: up to 40 of a-z, 0-9 and -, the first a letter.")
        chosen = folder or os.environ.get(FOLDER) or "~/.config/twjax/launch"
        self.folder = storage.local_folder(chosen).expanduser()
        self.path = self.folder / f"{name}.json"
        self.name = name
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> tuple[Request, Progress]:
        """Returns what is remembered; the error says where it was looked for."""
        if not self.path.exists():
            raise FileNotFoundError(
                f"{self.name} isn't known here: there is no {self.path}. Copy the file from the "
                "machine that created it, or name its folder with --state."
            )
        stored = storage.read_json(self.path)
        return _build(Request, stored["request"]), _build(Progress, stored["progress"])

    def write(self, request: Request, progress: Progress) -> None:
        """Remembers, atomically; for the user's eyes, as a command's environment may be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        value = {"request": dataclasses.asdict(request), "progress": dataclasses.asdict(progress)}
        mask = os.umask(0o077)
        try:
            storage.write_json(self.path, value)
        finally:
            os.umask(mask)

    def note(self, what: str, **change: Any) -> Progress:
        """Changes the progress, adds an event to it, and writes both."""
        request, progress = self.read()
        event = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "what": what}
        progress = dataclasses.replace(progress, events=(*progress.events, event), **change)
        self.write(request, progress)
        return progress

    def forget(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)

    def hold(self) -> None:
        """Keeps a second `run` or `watch` of the same name away, on this machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / f".{self.name}.lock", "w", encoding="ascii")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process of this machine already runs or watches {self.name}."
            ) from None


def _build(kind: type, stored: dict[str, Any]) -> Any:
    """Returns the dataclass of what JSON gave, in which tuples are lists."""
    known = {field.name for field in dataclasses.fields(kind)}
    values = {key: value for key, value in stored.items() if key in known}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def wheel_requirement(path: str, extra: str) -> tuple[str, str]:
    """Returns (what pip installs on the worker, where the wheel lies here)."""
    wheel = pathlib.Path(path)
    if not re.fullmatch(r"twjax-[A-Za-z0-9_.+!-]+\.whl", wheel.name):
        raise ConfigError(f"--wheel {path}: not a wheel of twjax (twjax-VERSION-….whl).")
    if not wheel.is_file():
        raise FileNotFoundError(
            f"--wheel {path}: no such file; build one with: pip wheel --no-deps ."
        )
    return f"./{wheel.name}[{extra}]" if extra else f"./{wheel.name}", str(wheel.resolve())


def git_requirement(reference: str, extra: str) -> str:
    """Returns what pip installs for URL@REF."""
    if not re.fullmatch(r"(https|ssh)://[^\s@]+(@[^\s@]+)?@[A-Za-z0-9._/+-]+", reference):
        raise ConfigError(f"--git {reference}: give https://HOST/PATH@REF, with a tag or a commit.")
    return f"twjax{f'[{extra}]' if extra else ''} @ git+{reference}"
