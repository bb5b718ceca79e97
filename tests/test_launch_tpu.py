"""TPU VMs through a stand-in gcloud: what is asked for, said, repeated, and remembered."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from launch import gcloud, gke, request, tpu_vm
from tests import standin_gcloud, tiny
from tests.launch_side import SPOT, launch, stand_in_cloud, verbs, write_program  # noqa: F401
from twjax.cli import build_parser
from twjax.planning import prices
from twjax.planning.topology import parse_topology


def test_create_says_what_it_costs_and_waits(cloud, capsys):
    standin_gcloud.change(cloud, waiting=3)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    said = capsys.readouterr().out
    assert "8 chips at $0.92 a chip-hour" in said and "$7.37 an hour" in said
    states = re.findall(r"tw: (\w+)", said)
    assert states[-1] == "ACTIVE" and states[0] in ("WAITING_FOR_RESOURCES", "PROVISIONING")
    (call,) = [c for c in standin_gcloud.calls(cloud) if c[3] == "create"]
    assert {"--accelerator-type=v4-16", "--runtime-version=tpu-ubuntu2204-base"} <= set(call)
    assert {"--node-id=tw", "--spot", "--async"} <= set(call)
    assert launch("status", "tw") == 0
    assert "tw: READY" in capsys.readouterr().out
    assert launch("delete", "tw", "--poll", 0.1) == 0
    assert standin_gcloud.state(cloud, "tw") == "ABSENT"
    assert launch("status", "tw") == 1
    assert "isn't known here" in capsys.readouterr().err


def test_several_slices_are_one_request_with_a_node_each(cloud):
    two = ["--topology", "v5e-4", "--node-count", 2, *SPOT[2:-1]]
    assert launch("create", "tw", *two, "--reserved", "--no-wait") == 0
    (call,) = [c for c in standin_gcloud.calls(cloud) if c[3] == "create"]
    assert {"--accelerator-type=v5litepod-4", "--node-count=2", "--node-prefix=tw"} <= set(call)
    assert "--reserved" in call and not any(word.startswith("--node-id") for word in call)


def test_what_is_wrong_is_one_line_with_advice(cloud, monkeypatch, capsys):
    cases = [
        ("ERROR: (gcloud) You do not currently have an active account selected.", "gcloud auth"),
        ('{"code": 8, "message": "Quota \'TPUV4s\' exhausted. Limit 0"}', "Quotas"),
        ("PERMISSION_DENIED: Cloud TPU API has not been used in project 1", "services enable"),
        ('There is no more capacity in the zone "x"; [EID: 0xba]', "another zone"),
    ]
    for text, advice in cases:
        standin_gcloud.change(cloud, errors=[["queued-resources create", text]])
        assert launch("create", "tw", *SPOT, "--poll", 0.1) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and advice in said and "EID" not in said
    assert launch("create", "tw", "--topology", "v4-32", *SPOT[2:]) == 1
    assert "accelerator-types list" in capsys.readouterr().err
    assert launch("create", "tw", *SPOT[:3], "mars-1-a", *SPOT[4:]) == 1
    assert "zone may not exist" in capsys.readouterr().err
    assert launch("create", "tw", "--topology", "tpu7x-8", *SPOT[2:]) == 1
    assert "launch.gke" in capsys.readouterr().err
    for name in ("; rm -rf ~", "-x", "Tw", "../tw"):
        assert launch("status", f"./{name}" if name[0] == "-" else name) == 1
        assert "a letter" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nonexistent")
    assert launch("create", "tw", *SPOT) == 1
    assert "cloud.google.com/sdk/docs/install" in capsys.readouterr().err


def test_what_may_pass_is_tried_again(cloud, capsys):
    passing = "HTTPError 503: The service is currently unavailable. UNAVAILABLE"
    standin_gcloud.change(cloud, errors=[["queued-resources create", passing]] * 2)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    assert capsys.readouterr().out.count("again in") == 2
    assert verbs(cloud).count("queued-resources create") == 3


def test_a_usage_error_is_not_tried_again():
    printed = "ERROR: (gcloud.x) unrecognized arguments: --y\nUsage: gcloud [--internal]\n timeout"
    error = gcloud.explain(printed, ("queued-resources", "create"))
    assert (error.kind, str(error)) == ("other", "unrecognized arguments: --y")


NO_NETWORK = """ERROR: (gcloud.compute.tpus.queued-resources.describe) There was a problem \
refreshing your current auth tokens: HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): \
Max retries exceeded with url: /token (Caused by NameResolutionError("<HTTPSConnection \
object>: Failed to resolve 'oauth2.googleapis.com' ([Errno -2] Name or service not known)"))
Please run:

  $ gcloud auth login

to obtain new credentials.
"""
EXPIRED = """ERROR: (gcloud.compute.tpus.queued-resources.describe) There was a problem refreshing \
your current auth tokens: ('invalid_grant: Token has been expired or revoked.', {'error': 'x'})
Please run:

  $ gcloud auth login

to obtain new credentials.
"""
MINUTE = (
    "ERROR: (gcloud.compute.tpus.queued-resources.describe) RESOURCE_EXHAUSTED: Quota exceeded for "
    "quota metric 'Queries' and limit 'Queries per minute' of service 'tpu.googleapis.com'."
)


@pytest.mark.parametrize(
    ("printed", "kind"), [(NO_NETWORK, "transient"), (EXPIRED, "login"), (MINUTE, "transient")]
)
def test_no_network_is_no_reason_to_log_in(printed, kind):
    # As Google Cloud SDK 528 prints them.
    error = gcloud.explain(printed, ("queued-resources", "describe"))
    assert error.kind == kind and "Please run" not in str(error)


def test_what_a_worker_says_is_told_to_its_end_and_is_not_the_clouds_error():
    hosts = 64
    opening = f"Using ssh batch size of 1. Attempting to SSH into 1 nodes with a total of {hosts}\n"
    opening += "".join(f"SSH: Attempting to connect to worker {n}...\n" for n in range(hosts))
    printed = f"{opening}mount.nfs: Connection timed out\nDisk quota exceeded\n"
    error = gcloud.explain(printed, ("tpu-vm", "ssh"), 32)
    assert (error.kind, str(error)) == (
        "worker",
        "on a worker, exit code 32: mount.nfs: Connection timed out Disk quota exceeded",
    )
    long = "".join(f"built part {n}\n" for n in range(500)) + "g++ is missing\n"
    said = str(gcloud.explain(opening + long, ("tpu-vm", "ssh"), 1))
    assert said.endswith("g++ is missing") and len(said) < 600
    # What ssh and gcloud themselves cannot do is the cloud's.
    unreachable = "ssh: connect to host 10.0.0.2 port 22: Connection timed out\n"
    assert gcloud.explain(opening + unreachable, ("tpu-vm", "ssh"), 255).kind == "transient"
    unknown = "ERROR: (gcloud.compute.tpus.tpu-vm.ssh) NOT_FOUND: Resource was not found"
    assert gcloud.explain(unknown, ("tpu-vm", "ssh")).kind == "absent"


def test_watch_gives_up_where_waiting_does_not_help(cloud, tmp_path, capsys):
    wheel = write_program(tmp_path)
    words = ["watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.1, "--", "x", "y"]
    standin_gcloud.change(cloud, errors=[["*", "You do not have an active account selected."]])
    assert launch(*words) == 1
    assert "gcloud auth login" in capsys.readouterr().err
    # Capacity comes and goes, and a request that failed is deleted and made again.
    standin_gcloud.change(cloud, provisioned="FAILED")
    full = ["queued-resources create", 'There is no more capacity in the zone "x"']
    standin_gcloud.change(cloud, errors=[full])
    assert launch(*words[:2], "--recreations", 1, *words[9:]) == 1
    said = capsys.readouterr()
    assert "no more capacity" in said.out and "lost again (FAILED)" in said.err
    assert verbs(cloud)[-3:] == [f"queued-resources {v}" for v in ("create", "delete", "create")]


def dry_commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith("gcloud ")]


def every_command(tmp_path, capsys) -> list[list[str]]:
    """Returns what a dry run of all subcommands prints, for one slice and for several."""
    wheel = write_program(tmp_path)
    found = []
    for topology in ("v4-16", "2xv5e-4"):
        way = ["--topology", topology, *SPOT[2:], "--dry-run"]
        assert launch("create", "tw", *way) == 0
        assert launch("watch", "tw", *way, "--wheel", wheel, "--", "train", "x; y") == 0
    store = request.Store("tw")
    asked = request.Request(name="tw", project="p", zone=standin_gcloud.ZONE, topology="v4-16")
    store.write(asked, request.Progress(command=("train", "x"), attempt=2))
    before = store.path.read_bytes()
    for words in (("status",), ("logs",), ("stop",), ("delete",), ("run", "--wheel", str(wheel))):
        assert launch(words[0], "tw", *words[1:], "--dry-run") == 0
    assert launch("list", "--zone", standin_gcloud.ZONE, "--project", "p", "--dry-run") == 0
    assert store.path.read_bytes() == before
    found += dry_commands(capsys.readouterr().out)
    kinds = {" ".join(words[3:5]) for words in found}
    assert kinds == {" ".join(kind) for kind in standin_gcloud.GRAMMAR}
    return found


def test_a_dry_run_prints_what_would_be_run_and_runs_nothing(cloud, tmp_path, capsys):
    commands = every_command(tmp_path, capsys)
    assert not standin_gcloud.calls(cloud)
    for words in commands:
        standin_gcloud._parse(words[1:])


REAL = next(
    (p for p in ("/usr/bin/gcloud", "/snap/bin/gcloud") if pathlib.Path(p).exists()), None
) or shutil.which("gcloud")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="no gcloud is installed")
def test_a_real_gcloud_knows_these_commands(cloud, tmp_path, capsys):
    # Without a login it reads the command and stops there: 2 is its exit code for a wrong one.
    own = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path / "sdk"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    by_kind = {
        (*words[3:5], "--node-count=2" in words): words for words in every_command(tmp_path, capsys)
    }
    wrong = ["gcloud", "compute", "tpus", "queued-resources", "describe", "tw", "--bogus"]
    for words in (*by_kind.values(), wrong):
        done = subprocess.run(
            [str(REAL), *words[1:]], env=own, capture_output=True, text=True, check=False
        )
        if words is wrong:
            assert done.returncode == 2 and "unrecognized" in done.stderr
        else:
            assert done.returncode == 1 and "active account" in done.stderr, (words, done.stderr)


def test_the_file_of_a_request_is_all_there_is(cloud, tmp_path):
    wheel = write_program(tmp_path)
    assert launch("create", "tw", *SPOT, "--price", 1.5, "--no-wait", "--poll", 0.1) == 0
    stored = json.loads((tmp_path / "state" / "tw.json").read_text())
    assert stored["request"]["price"] == 1.5 and stored["progress"]["created"] == 1
    assert request.Store("tw").read()[0].cost_line().startswith("cost: 8 chips at $1.50")
    held = request.Store("tw")
    held.hold()
    assert launch("run", "tw", "--wheel", wheel, "--", "x") == 1


def test_the_commands_of_the_page_parse():
    text = (tiny.REPO / "docs" / "launching.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^python -m (launch\.\w+) ([^#>\n]*)", text, re.M)
    parsers = {"launch.tpu_vm": tpu_vm._parser(), "launch.gke": gke._parser()}
    seen = set()
    for module, rest in lines:
        words = shlex.split(rest)
        own, _, command = " ".join(words).partition(" -- ")
        if module in parsers:
            parsers[module].parse_args(words[: words.index("--")] if "--" in words else words)
            seen.add(own.split()[0] if module == "launch.tpu_vm" else "gke")
        if command:
            build_parser().parse_args(command.split())
    assert seen == {*tpu_vm._SUBCOMMANDS, "gke"}


def test_prices_are_those_of_the_page_and_the_region():
    text = (tiny.REPO / "docs" / "launching.md").read_text()
    assert prices.DATE in text
    row = re.search(r"^\| on demand.*$", text, re.M)
    assert row is not None
    shown = [float(cell) for cell in row[0].split("|")[2:-1]]
    regions = ("us-central2", "us-central1", "us-central1", "us-central1")
    names = ("v4", "v5e", "v5p", "v6e")
    assert shown == [prices.PRICES[n][r][0] for n, r in zip(names, regions, strict=True)]
    pod = parse_topology("2xv5p-128")
    known = prices.cost(pod, "us-east5-a", spot=True)
    assert known is not None and known.chips == 128
    assert known.of(2) == pytest.approx(128 * 1.68 * 2)
    assert prices.cost(pod, "us-east5-a", own=2.0) == prices.Cost(128, 2.0, "your price")
    assert prices.cost(pod, "mars-1-a") is None
    assert prices.cost(parse_topology("tpu7x-8"), "us-central1-a") is None
    for of in prices.PRICES.values():
        assert all(spot is None or 0 < spot < full for full, spot in of.values())
