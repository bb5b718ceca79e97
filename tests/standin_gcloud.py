"""A stand-in for gcloud: its grammar, its queued resources, and workers that are local processes.

`install(folder)` puts a `gcloud` into `folder/bin`. What it knows lies in `folder`: `cloud.json`
(queued resources), `plan.json` (how long states last, errors to give), `calls.jsonl`, and a home
folder a worker. The grammar is that of Google Cloud SDK 528; where a gcloud is installed, a test
compares them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

# Command → (positionals, flags with a value, flags without, exactly one group of each, required).
WIDE = {"--project", "--format", "--verbosity", "--account"}, {"--quiet", "-q"}
GRAMMAR = {
    ("queued-resources", "create"): (
        1,
        {"--zone", "--accelerator-type", "--topology", "--type", "--runtime-version", "--node-id",
         "--node-count", "--node-prefix", "--data-disk", "--description", "--labels", "--metadata",
         "--metadata-from-file", "--network", "--range", "--scopes", "--service-account",
         "--subnetwork", "--tags", "--valid-after-duration", "--valid-after-time",
         "--valid-until-duration", "--valid-until-time", "--reservation-host-folder",
         "--reservation-host-organization", "--reservation-host-project"},
        {"--async", "--guaranteed", "--internal-ips", "--reserved", "--shielded-secure-boot",
         "--spot"},
        [("--accelerator-type", "--topology"), ("--node-id", "--node-count")],
        ["--runtime-version"],
    ),
    ("queued-resources", "describe"): (1, {"--zone"}, set(), [], []),
    ("queued-resources", "delete"): (1, {"--zone"}, {"--async", "--force"}, [], []),
    ("queued-resources", "list"): (
        0, {"--zone", "--filter", "--limit", "--page-size", "--sort-by"}, {"--uri"}, [], []),
    ("tpu-vm", "describe"): (1, {"--zone"}, set(), [], []),
    ("tpu-vm", "ssh"): (
        1,
        {"--zone", "--worker", "--command", "--output-directory", "--ssh-flag", "--ssh-key-file",
         "--ssh-key-expiration", "--ssh-key-expire-after", "--strict-host-key-checking"},
        {"--dry-run", "--force-key-file-overwrite", "--internal-ip", "--plain"},
        [],
        [],
    ),
    ("tpu-vm", "scp"): (
        None,
        {"--zone", "--worker", "--scp-flag", "--ssh-key-file", "--ssh-key-expiration",
         "--ssh-key-expire-after", "--strict-host-key-checking"},
        {"--compress", "--dry-run", "--force-key-file-overwrite", "--internal-ip", "--plain",
         "--recurse"},
        [],
        [],
    ),
}  # fmt: skip
# Types of the one zone there is, and the machines of a slice.
ZONE = "us-central2-b"
HOSTS = {"v4-8": 1, "v4-16": 2, "v5litepod-4": 1, "v5litepod-8": 1}
DEVICES = 4


class Refused(Exception):
    """What gcloud prints as an error, and its exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def install(folder: pathlib.Path, **plan: object) -> None:
    """Puts `gcloud` into `folder/bin`; `plan` has seconds of states, and `errors` to give."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "gcloud"
    program.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -E '{__file__}' '{folder}' \"$@\"\n", encoding="utf-8"
    )
    program.chmod(0o755)
    change(folder, **{"waiting": 0.3, "provisioning": 0.3, "leaving": 0.3, "errors": []} | plan)


def change(folder: pathlib.Path, **plan: object) -> None:
    """Changes the plan."""
    path = folder / "plan.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    _replace(path, old | plan)


def _replace(path: pathlib.Path, value: dict) -> None:
    """Writes JSON at once: others read it at any time."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(json.dumps(value))
    new.replace(path)


def calls(folder: pathlib.Path) -> list[list[str]]:
    """Returns the words of all commands that were run."""
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def state(folder: pathlib.Path, name: str) -> str:
    """Returns a queued resource's state now."""
    with _cloud(folder) as cloud:
        return cloud[name]["state"] if name in cloud else "ABSENT"


def preempt(folder: pathlib.Path, name: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Takes the machines away: their processes end, the state goes to SUSPENDED, disks are gone."""
    with _cloud(folder) as cloud:
        own = cloud[name]
        own.update(state="SUSPENDING", since=time.time())
        own["nodes"] = {node: dict(of, state="PREEMPTED") for node, of in own["nodes"].items()}
        homes = [home for node in own["nodes"].values() for home in node["homes"]]
    kill(homes, number)


def kill(homes: list[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Signals every process of these workers."""
    for status in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            words = status.read_bytes().split(b"\0")
            if any(f"HOME={home}".encode() in words for home in homes):
                os.kill(int(status.parent.name), number)


@contextlib.contextmanager
def _cloud(folder: pathlib.Path):
    """The queued resources, with the states that time has brought; changes are kept."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "cloud.json"
        cloud = json.loads(path.read_text()) if path.exists() else {}
        plan = json.loads((folder / "plan.json").read_text())
        for name in list(cloud):
            _advance(folder, cloud, name, plan)
        yield cloud
        path.write_text(json.dumps(cloud))


def _advance(folder: pathlib.Path, cloud: dict, name: str, plan: dict) -> None:
    own = cloud[name]
    for now, after, seconds in (
        ("WAITING_FOR_RESOURCES", "PROVISIONING", plan["waiting"]),
        ("PROVISIONING", plan.get("provisioned", "ACTIVE"), plan["provisioning"]),
        ("SUSPENDING", "SUSPENDED", plan["leaving"]),
        ("DELETING", "", plan["leaving"]),
    ):
        if own["state"] != now or time.time() < own["since"] + seconds:
            continue
        own.update(state=after, since=own["since"] + seconds)
        if after == "ACTIVE":
            own["nodes"] = _machines(folder, own)
        if after in ("", "SUSPENDED"):
            for node in own["nodes"].values():
                kill(node["homes"])
                for home in node["homes"]:
                    shutil.rmtree(home, ignore_errors=True)
        if not after:
            del cloud[name]
            return


def _machines(folder: pathlib.Path, own: dict) -> dict:
    """Returns the TPU VMs of a queued resource: a home folder a worker, none used before."""
    hosts = HOSTS[own["type"]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = {}
    for index, node in enumerate(own["node_ids"]):
        homes = []
        for worker in range(hosts):
            home = folder / "homes" / f"{node}-w-{worker}-{time.time_ns()}"
            home.mkdir(parents=True)
            homes.append(str(home))
        first = index * hosts
        nodes[node] = {"state": "READY", "homes": homes, "first": first, "port": port}
    return nodes


def _parse(words: list[str]) -> tuple[tuple[str, str], list[str], dict[str, str]]:
    command = (words[2], words[3]) if len(words) > 3 else ("", "")
    if words[:2] != ["compute", "tpus"] or command not in GRAMMAR:
        raise Refused(f"Invalid choice: '{words[-1] if words else ''}'.", 2)
    count, valued, plain, one_of, required = GRAMMAR[command]
    positionals: list[str] = []
    flags: dict[str, str] = {}
    rest = list(words[4:])
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            positionals.append(word)
            continue
        flag, given, value = word.partition("=")
        if flag in plain | WIDE[1] and not given:
            flags[flag] = "true"
        elif flag in valued | WIDE[0]:
            if not given and not rest:
                raise Refused(f"argument {flag}: expected one argument", 2)
            flags[flag] = value if given else rest.pop(0)
        else:
            raise Refused(f"unrecognized arguments: {word}", 2)
    if count is not None and len(positionals) > count:
        raise Refused(f"unrecognized arguments: {positionals[count]}", 2)
    if len(positionals) < (2 if count is None else count):
        raise Refused("argument: Must be specified.", 2)
    for flag in required:
        if flag not in flags:
            raise Refused(f"argument {flag}: Must be specified.", 2)
    for group in one_of:
        if sum(flag in flags for flag in group) != 1:
            raise Refused(f"Exactly one of ({' | '.join(group)}) must be specified.", 2)
    if "--zone" not in flags:
        raise Refused("Failed to find attribute [zone].")
    if "--project" not in flags:
        raise Refused("The required property [project] is not currently set.")
    return command, positionals, flags


def _planned_error(folder: pathlib.Path, command: tuple[str, str]) -> None:
    """Raises the next error that the plan has for this command, and takes it off the plan."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        plan = json.loads((folder / "plan.json").read_text())
        for index, (which, text) in enumerate(plan["errors"]):
            if which in (" ".join(command), "*"):
                del plan["errors"][index]
                _replace(folder / "plan.json", plan)
                raise Refused(text)


def _main(folder: pathlib.Path, words: list[str]) -> int:
    command, positionals, flags = _parse(words)
    with open(folder / "calls.jsonl", "a") as log:
        log.write(json.dumps(words) + "\n")
    _planned_error(folder, command)
    if flags["--zone"] != ZONE:
        raise Refused(f"PERMISSION_DENIED: Location {flags['--zone']} is not valid")
    if command == ("queued-resources", "list"):
        with _cloud(folder) as cloud:
            print("NAME ZONE STATE")
            for name, own in cloud.items():
                print(name, ZONE, own["state"])
        return 0
    if command[0] == "queued-resources":
        return _queued(folder, command[1], positionals[0], flags)
    return _machine(folder, command[1], positionals, flags)


def _queued(folder: pathlib.Path, verb: str, name: str, flags: dict[str, str]) -> int:
    full = f"projects/{flags['--project']}/locations/{ZONE}/queuedResources/{name}"
    with _cloud(folder) as cloud:
        if verb == "create":
            if name in cloud:
                raise Refused(f"ALREADY_EXISTS: Resource '{full}' already exists")
            if flags.get("--accelerator-type") not in HOSTS:
                raise Refused("INVALID_ARGUMENT: CloudTpu received an invalid AcceleratorType")
            count = int(flags.get("--node-count", 1))
            if "--node-count" in flags and count <= 1:
                raise Refused("Invalid value for [--node-count]: must be greater than 1")
            prefix = flags.get("--node-prefix", name)
            ids = [f"{prefix}-{number}" for number in range(count)] if count > 1 else (
                [flags["--node-id"]])  # fmt: skip
            cloud[name] = {"state": "WAITING_FOR_RESOURCES", "since": time.time(), "nodes": {},
                           "type": flags["--accelerator-type"], "node_ids": ids,
                           "spot": "--spot" in flags}  # fmt: skip
            return 0
        if name not in cloud:
            raise Refused(f"NOT_FOUND: Resource '{full}' was not found")
        own = cloud[name]
        if verb == "describe":
            told: dict = {"state": own["state"]}
            if own["state"] == "FAILED":
                told["failedData"] = {"error": {"code": 8, "message": "no more capacity"}}
            _print({"name": full, "state": told}, flags.get("--format", ""))
            return 0
        if own["state"] not in ("SUSPENDED", "FAILED") and "--force" not in flags:
            raise Refused(f"FAILED_PRECONDITION: {name} is {own['state']}: can't be deleted")
        own.update(state="DELETING", since=time.time())
    while "--async" not in flags and state(folder, name) != "ABSENT":
        time.sleep(0.05)
    return 0


def _print(resource: dict, form: str) -> None:
    if form.startswith("json"):
        print(json.dumps(resource))
    elif form == "value(state)":
        print(resource["state"])
    elif form == "value(state.state)":
        print(resource["state"]["state"])
    else:
        raise Refused(f"Unknown format [{form}].")


def _machine(folder: pathlib.Path, verb: str, places: list[str], flags: dict[str, str]) -> int:
    name = places[-1].partition(":")[0]
    with _cloud(folder) as cloud:
        found = [own["nodes"][name] for own in cloud.values() if name in own["nodes"]]
        total = sum(len(n["homes"]) for own in cloud.values() if name in own["nodes"]
                    for n in own["nodes"].values())  # fmt: skip
    if not found:
        raise Refused(f"NOT_FOUND: Resource 'projects/p/locations/{ZONE}/nodes/{name}' not found")
    node = found[0]
    if verb == "describe":
        _print({"state": node["state"]}, flags.get("--format", ""))
        return 0
    if node["state"] != "READY":
        raise Refused(f'This TPU has state "{node["state"]}" and is currently unavailable.')
    which = flags.get("--worker", "0")
    numbers = range(len(node["homes"])) if which == "all" else [int(which)]
    if verb == "scp":
        for number in numbers:
            target = pathlib.Path(node["homes"][number], places[-1].partition(":")[2])
            for source in places[:-1]:
                shutil.copy(source, target)
        return 0
    codes: dict[int, int] = {}

    def one(number: int) -> None:
        home = node["homes"][number]
        for _ in range(10):
            print(f"SSH: Attempting to connect to worker {number}...", file=sys.stderr, flush=True)
            codes[number] = 255
            with contextlib.suppress(FileNotFoundError):
                codes[number] = subprocess.run(
                    ["bash", "-c", flags["--command"]],
                    cwd=home,
                    env=_environment(folder, node, number, total),
                    stdin=subprocess.DEVNULL,
                    check=False,
                ).returncode
            if codes[number] >= 0 or not os.path.isdir(home):
                return
            # As gcloud does where ssh itself ends with 255: the same command again.
            codes[number] = 255
            print("Retrying: SSH command error: exited with return code [255].", file=sys.stderr)
            time.sleep(0.2)

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next((code for _, code in sorted(codes.items()) if code), 0)


def _environment(folder: pathlib.Path, node: dict, number: int, total: int) -> dict[str, str]:
    """Returns a worker's environment: a Python, CPU devices, a metadata server."""
    tools = folder / "tools" / f"{number}"
    if not tools.exists():
        tools.mkdir(parents=True)
        (tools / "curl").write_text(
            f'#!/bin/sh\ncase "$*" in *agent-worker-number*) echo {number};; *) exit 22;; esac\n'
        )
        (tools / "curl").chmod(0o755)
        python = tools / f"python3.{sys.version_info.minor}"
        python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        python.chmod(0o755)
    own = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": node["homes"][number],
        # The wheel is installed for real; what it needs is there already.
        "PYTHONPATH": ":".join(path for path in sys.path if path.endswith("-packages")),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(DEVICES),
    }
    if total > 1:
        # What a TPU VM's metadata tells JAX.
        own["TWJAX_COORDINATOR"] = f"127.0.0.1:{node['port']}"
        own["TWJAX_NUM_PROCESSES"] = str(total)
        own["TWJAX_PROCESS_ID"] = str(node["first"] + number)
    return own


if __name__ == "__main__":
    try:
        sys.exit(_main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
    except Refused as refused:
        where = ".".join(["gcloud", *[w for w in sys.argv[2:6] if not w.startswith("-")]])
        print(f"ERROR: ({where}) {refused}", file=sys.stderr)
        sys.exit(refused.code)
