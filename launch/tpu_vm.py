"""TPU VMs by queued resources: ask for them, run a twjax command on all workers, keep it going.

  python -m launch.tpu_vm create tw --topology v5e-16 --zone us-central1-a --project P --spot
  python -m launch.tpu_vm watch tw --wheel twjax-0.1-py3-none-any.whl -- \\
      train configs/runs/cpt_taiwan.gin --run-dir /mnt/runs/taiwan
  python -m launch.tpu_vm logs|status|stop|delete tw

NAME is the queued resource. What was asked for and run is remembered in a file
(~/.config/twjax/launch/NAME.json, or below --state), with which any machine can go on. --dry-run
prints every command and runs none. docs/launching.md goes from nothing to a run.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence

from launch.gcloud import CloudError, Gcloud
from launch.request import Progress, Request, Store, git_requirement, wheel_requirement
from launch.watching import Pod, Watch, foreign


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    args = _parser().parse_args(words)
    # A terminal that closes and a scheduler that stops this are like Ctrl-C: nothing is deleted.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        code = _SUBCOMMANDS[args.subcommand](args, command)
        if code or args.subcommand != "create":
            print(_left_behind(args), end="")
        return code
    except KeyboardInterrupt:
        print(f"\n{_left_behind(args)}", end="", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except (CloudError, ValueError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())
        print(f"launch.tpu_vm {args.subcommand}: error: {text}", file=sys.stderr)
        if not isinstance(error, ValueError):
            print(_left_behind(args), end="", file=sys.stderr)
        return 1


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _left_behind(args: argparse.Namespace) -> str:
    """Returns what goes on costing when this program ends, and how to go on; maybe nothing."""
    if args.dry_run or args.subcommand not in ("create", "run", "watch", "delete"):
        return ""
    try:
        store = Store(args.name, args.state)
        request, progress = store.read()
    except (ValueError, OSError):
        return ""
    if not progress.created:
        return ""
    state = f" --state {shlex.quote(args.state)}" if args.state else ""
    again = f"python -m launch.tpu_vm {{}} {args.name}{state}"
    how = "is left as it is: it waits, runs and costs as before"
    if args.subcommand == "delete":
        how = "may be there still, and then costs as before"
    return (
        f"{args.name} {how}, {request.hourly()} while it is ACTIVE.\n"
        f"  go on:  {again.format('watch')}\n"
        f"  delete: {again.format('delete')}\n"
    )


def _create(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = Store(args.name, args.state)
    if store.exists() and store.read()[1].created:
        raise ValueError(f"{args.name} is known already ({store.path}); take another name.")
    request = _request(args)
    if args.dry_run:
        gcloud = _gcloud(args, request)
        print(request.cost_line())
        gcloud.read(*request.creation(), "--async")
        return 0
    store.write(request, Progress())
    pod = _pod(args, store)
    try:
        made = pod.create()
    finally:
        if not store.read()[1].created:
            store.forget()
    if not made:
        raise RuntimeError(foreign(pod.request))
    if args.no_wait:
        return 0
    return 0 if pod.wait().state == "ACTIVE" else 1


def _run(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = _remember(args, command)
    store.hold()
    pod = _pod(args, store)
    look = pod.look()
    if look.state != "ACTIVE":
        raise RuntimeError(f"{args.name} is {look.state}, not ACTIVE; `watch` waits for it.")
    outcome = pod.run()
    if args.dry_run:
        return 0
    _, progress = store.read()
    if outcome.kind == "done":
        store.note("finished", finished=True)
    else:
        store.note(f"{outcome.kind} {outcome.where}".strip(), attempt=progress.attempt + 1)
    return {"done": 0, "asked": 0, "stopped": 75}.get(outcome.kind, outcome.code or 1)


def _watch(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = _remember(args, command)
    store.hold()
    pod = _pod(args, store)
    try:
        code = Watch(pod, args.failures, args.recreations).run()
    except FileNotFoundError:
        if store.exists():
            raise
        raise RuntimeError(f"{args.name} was deleted while it was watched.") from None
    if code == 0 and args.delete and store.read()[1].finished:
        pod.delete()
        store.forget()
    return code


def _logs(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = Store(args.name, args.state)
    pod = _pod(args, store)
    _, progress = store.read()
    outcome = pod.workers.follow(progress.attempt, print, pod.gone)
    return 0 if outcome.kind in ("done", "asked") else outcome.code or 1


def _status(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = Store(args.name, args.state)
    pod = _pod(args, store)
    request, progress = store.read()
    look = pod.look()
    print(f"{args.name}: {look.state}{f': {look.reason}' if look.reason else ''}")
    print(f"{request.topology} {request.way} in {request.zone}, created {progress.created} times")
    print(request.cost_line())
    if progress.command:
        print(f"command: twjax {shlex.join(progress.command)} (attempt {progress.attempt})")
    for event in progress.events[-5:]:
        print(f"  {event['time']} {event['what']}")
    if look.state == "ACTIVE":
        for node, state in zip(request.nodes, pod.node_states(), strict=True):
            print(f"{node}: {state or 'asked in a dry run'}")
        for line in pod.workers.states() if progress.command else ():
            print(line)
    return 0


def _stop(args: argparse.Namespace, command: Sequence[str]) -> int:
    _pod(args, Store(args.name, args.state)).workers.stop()
    return 0


def _delete(args: argparse.Namespace, command: Sequence[str]) -> int:
    store = Store(args.name, args.state)
    pod = _pod(args, store)
    request, progress = store.read()
    if progress.created:
        print(
            f"deletes {args.name}: {request.topology} in {request.zone}, {request.hourly()}. What "
            "lies on the machines' own disks is lost."
        )
        pod.delete(wait=not args.no_wait)
    if not args.dry_run:
        store.forget()
        print(f"{args.name} is {'asked to be deleted' if args.no_wait else 'deleted'}.")
    return 0


def _list(args: argparse.Namespace, command: Sequence[str]) -> int:
    gcloud = Gcloud(args.project, args.zone, dry=args.dry_run)
    print(gcloud.read("queued-resources", "list"), end="")
    return 0


def _remember(args: argparse.Namespace, command: Sequence[str]) -> Store:
    """Returns the file of a request, with what the command line changes in it."""
    store = Store(args.name, args.state)
    wanted = _wanted(args) if hasattr(args, "topology") else {}
    if store.exists() or "topology" not in wanted:
        old, progress = store.read()
    else:
        old, progress = _request(args), Progress()
    request = dataclasses.replace(old, **wanted)
    if progress.created and _cloud(request) != _cloud(old):
        raise ValueError(
            f"{args.name} was asked for otherwise: {shlex.join(_cloud(old))}; leave that out, or "
            "delete it first, or take another name."
        )
    request = dataclasses.replace(request, **_installation(args))
    if not request.requirement:
        raise ValueError("say what to install: --wheel FILE or --git URL@REF.")
    # Before there are machines that cost.
    for file in (*([request.wheel] if request.wheel else []), *request.files):
        if not os.path.exists(file):
            raise FileNotFoundError(f"{file}: no such file on this machine.")
    words = tuple(command) or progress.command
    env = tuple(args.env) if command or args.env else progress.env
    changed = bool(progress.command) and (words, env) != (progress.command, progress.env)
    if changed and progress.created and not (progress.finished or args.replace):
        raise ValueError(
            f"{args.name} has another command (twjax {shlex.join(progress.command)}); "
            "--replace ends it and starts this one."
        )
    if changed or (args.subcommand == "run" and progress.finished):
        progress = dataclasses.replace(progress, attempt=progress.attempt + 1, finished=False)
    progress = dataclasses.replace(progress, command=words, env=env)
    if not progress.command:
        raise ValueError("give the twjax command after --, e.g. -- train CONFIG --run-dir DIR.")
    if args.dry_run:
        store = _in_memory(store)
    store.write(request, progress)
    return store


def _cloud(request: Request) -> list[str]:
    """Returns what Google Cloud is asked for, and where."""
    where = [
        f"--zone={request.zone}",
        *([f"--project={request.project}"] if request.project else []),
    ]
    return [*request.creation()[3:], *where]


class _Memory(Store):
    """A request that a dry run remembers for itself only."""

    kept: tuple[Request, Progress]

    def exists(self) -> bool:
        return hasattr(self, "kept")

    def read(self) -> tuple[Request, Progress]:
        return self.kept

    def write(self, request: Request, progress: Progress) -> None:
        self.kept = (request, progress)

    def hold(self) -> None:
        pass


def _in_memory(store: Store) -> _Memory:
    memory = _Memory(store.name, str(store.folder))
    if store.exists():
        memory.write(*store.read())
    return memory


def _wanted(args: argparse.Namespace) -> dict:
    """Returns the fields of a request that say what to ask Google Cloud for, those given."""
    topology = args.topology
    if topology and args.node_count > 1:
        topology = f"{args.node_count}x{topology}"
    way = "spot" if args.spot else "reserved" if args.reserved else "on-demand" if topology else ""
    fields = {
        "topology": topology,
        "zone": args.zone,
        "project": args.project,
        "way": way,
        "runtime": args.runtime_version,
        "price": args.price,
        "flags": tuple(args.gcloud_flag),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", ())}


def _request(args: argparse.Namespace) -> Request:
    wanted = _wanted(args)
    if not args.topology or not args.zone:
        raise ValueError("--topology and --zone say what to ask for.")
    return Request(**{"name": args.name, "project": None, **wanted})


def _installation(args: argparse.Namespace) -> dict:
    """Returns the fields of a request that the command line gives."""
    given: dict = {}
    if args.wheel:
        given["requirement"], given["wheel"] = wheel_requirement(args.wheel, args.extra)
    elif args.git:
        given["requirement"], given["wheel"] = git_requirement(args.git, args.extra), None
    if args.setup is not None:
        given["setup"] = args.setup
    if args.copy:
        given["files"] = tuple(os.path.abspath(file) for file in args.copy)
    for pair in args.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", pair, re.DOTALL):
            raise ValueError(f"--env {pair}: give NAME=VALUE.")
    return given


def _gcloud(args: argparse.Namespace, request: Request) -> Gcloud:
    return Gcloud(request.project, request.zone, dry=args.dry_run, pause=min(args.poll, 2.0))


def _pod(args: argparse.Namespace, store: Store) -> Pod:
    return Pod(store, _gcloud(args, store.read()[0]), args.poll, _say)


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.tpu_vm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    told = {
        "create": "ask for TPU VMs and wait until they are there",
        "run": "install twjax on all workers, run a command, print its log",
        "watch": "as run, and create, re-create after a loss, go on until the command has ended",
        "logs": "print what the command says, from its start",
        "status": "what there is, what it costs, what each worker does",
        "stop": "let the command save and end; the machines stay",
        "delete": "delete the machines and forget NAME",
        "list": "all queued resources of a zone",
    }
    for name, text in told.items():
        one = commands.add_parser(name, help=text, description=text)
        if name == "list":
            one.add_argument("--zone", required=True)
            one.add_argument("--project")
            one.set_defaults(name="", state=None)
        else:
            one.add_argument("name", metavar="NAME")
            one.add_argument("--state", metavar="DIR", help="where NAME.json is kept")
        one.add_argument("--dry-run", action="store_true", help="print the commands; run none")
        one.add_argument(
            "--poll", type=float, default=30.0, metavar="S", help="seconds between looks (30)"
        )
        if name in ("create", "watch"):
            _add_creation(one)
        if name in ("run", "watch"):
            _add_running(one)
        if name in ("create", "delete"):
            one.add_argument("--no-wait", action="store_true", help="return at once")
    watch = commands.choices["watch"]
    watch.add_argument("--failures", type=int, default=3, help="in a row, before giving up (3)")
    watch.add_argument("--recreations", type=int, help="losses, before giving up (no limit)")
    watch.add_argument("--delete", action="store_true", help="delete the machines at a good end")
    return parser


def _add_creation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topology", metavar="TYPE", help="v5e-16, v5p-128, 2xv6e-256 …")
    parser.add_argument("--node-count", type=int, default=1, metavar="N", help="equal slices")
    parser.add_argument("--zone")
    parser.add_argument("--project")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--spot", action="store_true", help="cheaper, may be taken away at any time")
    way.add_argument("--reserved", action="store_true", help="from your reservation")
    parser.add_argument("--runtime-version", default="", metavar="V", help="image of the VMs")
    parser.add_argument("--price", type=float, metavar="USD", help="what a chip-hour costs you")
    parser.add_argument(
        "--gcloud-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="passed on to the creation, e.g. --gcloud-flag=--network=mine",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--wheel", metavar="FILE", help="install this wheel (pip wheel --no-deps .)"
    )
    source.add_argument("--git", metavar="URL@REF", help="install from a git repository")
    parser.add_argument("--extra", default="tpu", help="extra of twjax to install (tpu)")
    parser.add_argument("--setup", metavar="COMMAND", help="shell command, once a boot: mounts")
    parser.add_argument(
        "--copy", action="append", default=[], metavar="FILE", help="to the workers' home folder"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--replace", action="store_true", help="end another command that runs")


_SUBCOMMANDS = {
    "create": _create,
    "run": _run,
    "watch": _watch,
    "logs": _logs,
    "status": _status,
    "stop": _stop,
    "delete": _delete,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
