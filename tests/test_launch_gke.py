"""JobSets: against JobSet's own schema, and what they ask for."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from launch import gke, manifest
from tests import tiny

SCHEMA = json.loads((tiny.REPO / "tests/data/jobset/schema.json").read_text())["schema"]
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def faults(value: object, schema: dict, place: str = "") -> list[str]:
    """Returns where a value isn't what the schema allows."""
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) else [f"{place}: neither number nor text"]
    exact = type(value) is TYPES.get(kind, type(value))
    if not exact:
        return [f"{place}: {value!r} is no {kind}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place}: {value!r} is none of {schema['enum']}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{place}: {value} is too small")
    if isinstance(value, dict):
        found += [f"{place}: without {k}" for k in schema.get("required", []) if k not in value]
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            below = known.get(key, others)
            # Kubernetes checks metadata itself.
            if below is None and place != ".metadata":
                found.append(f"{place}: no field {key}")
            elif below is not None:
                found += faults(item, below, f"{place}.{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += faults(item, schema["items"], f"{place}[{index}]")
    return found


def documents(capsys, *words: str) -> list[dict]:
    """Returns the objects that a command prints."""
    assert gke.main(words) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


PLAIN = ("tw", "--topology", "v5e-16", "--image", "registry/twjax:1")
RUN = ("--", "train", "c.gin", "--run-dir", "/mnt/twjax/tw")
FULL = ("--claim", "runs", "--queue", "research", "--spot", "--namespace", "ml", "--env", "A=b c",
        "--service-account", "trainer", "--setup", "echo 'a: b'\nls", "--slices", "2")  # fmt: skip


@pytest.mark.parametrize("more", [(), FULL, ("--bucket", "gs://mine/")])
def test_a_manifest_is_what_jobset_accepts(more, capsys):
    words = (*PLAIN, *more, *RUN)
    script, jobset = documents(capsys, *words)
    assert faults(jobset, SCHEMA) == []
    assert script["data"]["bootstrap.sh"] == manifest.SCRIPT.read_text()
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    names = [volume["name"] for volume in pod["volumes"]]
    (container,) = pod["containers"]
    assert [mount["name"] for mount in container["volumeMounts"]] == names
    assert pod["volumes"][0]["configMap"]["name"] == script["metadata"]["name"]
    # JobSets made with Kubernetes 1.34 and before want both.
    (rule,) = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # Without it no bucket can be opened from the host's network.
    for volume in pod["volumes"]:
        if "csi" in volume:
            assert pod["hostNetwork"]
            assert volume["csi"]["volumeAttributes"]["hostNetworkPodKSA"] == "true"


def test_the_schema_finds_what_is_wrong(capsys):
    _, jobset = documents(capsys, *PLAIN, *RUN)
    jobset["spec"]["failurePolicy"]["maxRestarts"] = "3"
    jobset["spec"]["failurePolicy"]["rules"][0]["action"] = "Hope"
    job = jobset["spec"]["replicatedJobs"][0]
    job["template"]["spec"]["paralelism"] = 1
    del job["name"]
    assert len(faults(jobset, SCHEMA)) == 4


@pytest.mark.parametrize(
    ("topology", "slices", "accelerator", "shape", "hosts", "chips"),
    [
        ("v5e-16", 1, "tpu-v5-lite-podslice", "4x4", 4, 4),
        ("v5e-8", 1, "tpu-v5-lite-podslice", "2x4", 1, 8),
        ("2xv5e-256", 2, "tpu-v5-lite-podslice", "16x16", 64, 4),
        ("v5p-128", 1, "tpu-v5p-slice", "4x4x4", 16, 4),
        ("v6e-256", 1, "tpu-v6e-slice", "16x16", 64, 4),
        ("v4-8", 1, "tpu-v4-podslice", "2x2x1", 1, 4),
        ("tpu7x-128", 1, "tpu7x", "4x4x4", 16, 4),
    ],
)
def test_slices_are_asked_for_by_gkes_names(
    topology, slices, accelerator, shape, hosts, chips, capsys
):
    _, jobset = documents(capsys, "tw", "--topology", topology, "--image", "i", *RUN)
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (job["replicas"], spec["parallelism"], spec["completions"]) == (slices, hosts, hosts)
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": shape,
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    names = {variable["name"] for variable in pod["containers"][0]["env"]}
    assert ("MEGASCALE_SLICE_ID" in names) == (slices > 1)


def test_several_slices_know_each_other_and_kueue_has_its_label(capsys):
    _, jobset = documents(capsys, *PLAIN, *FULL, *RUN)
    assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    (job,) = jobset["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert env["MEGASCALE_NUM_SLICES"] == "2"
    # The pod's name: JobSet, replicated job, its number, the pod's number; in the JobSet's domain.
    assert env["MEGASCALE_COORDINATOR_ADDRESS"] == f"tw-{job['name']}-0-0.tw"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"


def test_words_of_the_command_stay_words(capsys):
    odd = ["train", "$(HOME) `x` ; y", "è\n", "- a: b", "null", "{}", ""]
    _, jobset = documents(capsys, *PLAIN, "--", *odd)
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    args = job["template"]["spec"]["containers"][0]["args"]
    assert args[-len(odd) :] == ["train", "$$(HOME) `x` ; y", *odd[2:]]


def test_what_is_wrong_is_one_line(capsys):
    for words, told in (
        ((*PLAIN[:2], "v5e-17", *PLAIN[3:], *RUN), "v5e-16"),
        (("Tw", *PLAIN[1:], *RUN), "from a letter on"),
        ((*PLAIN, "--claim", "a", "--bucket", "b", *RUN), "one of them"),
        ((*PLAIN, "--git", "https://h/p", *RUN), "@REF"),
        ((*PLAIN[:2], "2xv5e-8", *PLAIN[3:], *RUN), "one each"),
        (PLAIN, "after --"),
    ):
        assert gke.main(words) == 1
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1


def test_apply_hands_the_manifest_to_kubectl(tmp_path, monkeypatch, capsys):
    words = (*PLAIN, "--namespace", "ml", "--apply")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gke.main((*words, *RUN)) == 1
    assert "gcloud components install kubectl" in capsys.readouterr().err
    # A stand-in that keeps what it is given, and then one whose cluster has no JobSet.
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@"; /bin/cat > {tmp_path}/given\n')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gke.main((*words, "--dry-run", *RUN)) == 0
    assert not (tmp_path / "given").exists()
    assert capsys.readouterr().out.startswith("kubectl apply --namespace=ml --filename=- <<'EOF'")
    assert gke.main((*words, *RUN)) == 0
    # What was applied costs money until it is deleted.
    assert capsys.readouterr().out.splitlines() == [
        "apply --namespace=ml --filename=-",
        "# 1 x 16 chips, 4 machines; from python -m launch.gke.",
        "# logs:   kubectl logs -n ml -f --prefix --max-log-requests 4 "
        "-l jobset.sigs.k8s.io/jobset-name=tw",
        "# delete: kubectl delete -n ml jobset/tw configmap/tw-bootstrap",
    ]
    kinds = [one["kind"] for one in yaml.safe_load_all((tmp_path / "given").read_text())]
    assert kinds == ["ConfigMap", "JobSet"]
    kubectl.write_text("#!/bin/sh\necho 'error: no matches for kind \"JobSet\"' >&2; exit 1\n")
    assert gke.main((*words, *RUN)) == 1
    assert "install JobSet in the cluster" in capsys.readouterr().err


def test_a_container_that_saved_and_goes_is_not_one_that_finished(tmp_path):
    # The bootstrap of the manifest, in an image that has twjax.
    program = tmp_path / "bin" / "twjax"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, signal, sys, time\nasked = []\n"
        "signal.signal(signal.SIGTERM, lambda *about: asked.append(1))\n"
        f"pathlib.Path({str(tmp_path / 'began')!r}).touch()\n"
        "while sys.argv[1] == 'wait' and not asked:\n    time.sleep(0.02)\n"
        "print('saved', *sys.argv[1:])\nsys.exit(int(sys.argv[2]))\n"
    )
    program.chmod(0o755)

    def container(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(manifest.SCRIPT), "run", "key", "", "", "--", *words],
            env={"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )

    for code in (0, 3):
        done = container("now", str(code))
        assert done.communicate(timeout=30)[0] == f"saved now {code}\n" and done.returncode == code
    (tmp_path / "began").unlink()
    going = container("wait", "0")
    until = time.monotonic() + 30
    while not (tmp_path / "began").exists() and time.monotonic() < until:
        time.sleep(0.02)
    going.send_signal(signal.SIGTERM)
    assert going.communicate(timeout=30)[0] == "saved wait 0\n"
    assert going.returncode == 75


def test_the_schema_names_its_licence():
    stored = json.loads(pathlib.Path(tiny.REPO, "tests/data/jobset/schema.json").read_text())
    assert "Apache-2.0" in stored["license"] and "kubernetes-sigs/jobset" in stored["source"]
