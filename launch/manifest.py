"""JobSets for GKE: one or several TPU slices that run a twjax command, as Kubernetes objects.

https://jobset.sigs.k8s.io, https://docs.cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any

from twjax.config import ConfigError
from twjax.planning.topology import Topology, parse_topology

# What GKE calls the chips: the label cloud.google.com/gke-tpu-accelerator of its nodes.
ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "tpu7x": "tpu7x",
}
SCRIPT = pathlib.Path(__file__).with_name("bootstrap.sh")
JOB = "slice"
MOUNT = "/mnt/twjax"
# A machine that is taken away gives its pods less; others get this long to save.
GRACE_SECONDS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What to run, on which slices, with which storage."""

    name: str
    topology: str
    image: str
    command: tuple[str, ...]
    requirement: str = ""
    setup: str = ""
    env: tuple[str, ...] = ()
    namespace: str = ""
    queue: str = ""
    spot: bool = False
    restarts: int = 10
    claim: str = ""
    bucket: str = ""
    service_account: str = ""

    def __post_init__(self) -> None:
        # With what Kubernetes appends, a pod's name must stay below 64 characters.
        names = [("NAME", self.name), ("--namespace", self.namespace), ("--queue", self.queue)]
        names += [("--claim", self.claim), ("--service-account", self.service_account)]
        for option, text in names:
            if (text or option == "NAME") and not re.fullmatch(
                r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", text
            ):
                raise ConfigError(
                    f"{option} {text!r}: up to 40 of a-z, 0-9 and -, from a letter on."
                )
        if self.claim and self.bucket:
            raise ConfigError("--claim and --bucket: one of them is mounted.")
        if not self.command:
            raise ConfigError(
                "give the twjax command after --, e.g. -- train CONFIG --run-dir DIR."
            )
        shape = self.shape
        if shape.num_slices > 1 and shape.num_hosts == shape.num_slices:
            # https://docs.cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice
            raise ConfigError(
                f"--topology {self.topology}: GKE joins slices of several machines only; these "
                "have one each. Take one larger slice."
            )
        if self.restarts < 0:
            raise ConfigError("--restarts: 0 or more.")

    @property
    def shape(self) -> Topology:
        return parse_topology(self.topology)


def objects(job: Job) -> list[dict[str, Any]]:
    """Returns the Kubernetes objects: the bootstrap script, and the JobSet."""
    metadata: dict[str, Any] = {"name": job.name}
    if job.namespace:
        metadata["namespace"] = job.namespace
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": f"{job.name}-bootstrap"},
        "data": {"bootstrap.sh": SCRIPT.read_text(encoding="utf-8")},
    }
    metadata = dict(metadata)
    if job.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": job.queue}
    # A slice's pods go to one node pool, and no other slice's do.
    metadata["annotations"] = {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.restarts,
                "rules": [
                    {
                        # Preemption and maintenance are nobody's fault and aren't counted.
                        "name": "disrupted",
                        "action": "RestartJobSetAndIgnoreMaxRestarts",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "replicatedJobs": [
                {"name": JOB, "replicas": job.shape.num_slices, "template": {"spec": _job(job)}}
            ],
        },
    }
    return [script, jobset]


def _job(job: Job) -> dict[str, Any]:
    hosts = job.shape.num_hosts // job.shape.num_slices
    spec: dict[str, Any] = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        # One pod that fails ends the slice: the others only wait for it.
        "backoffLimit": 0,
        "podFailurePolicy": {
            # The status is the default, but JobSets of before Kubernetes 1.35 refuse to go without.
            "rules": [
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "template": {"spec": _pod(job)},
    }
    if job.bucket:
        spec["template"]["metadata"] = {"annotations": {"gke-gcsfuse/volumes": "true"}}
    return spec


def _pod(job: Job) -> dict[str, Any]:
    shape = job.shape
    chips = shape.host_shape[0] * shape.host_shape[1] * shape.host_shape[2]
    selector = {
        "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[shape.chip.name],
        "cloud.google.com/gke-tpu-topology": "x".join(map(str, shape.shape)),
    }
    volumes: list[dict[str, Any]] = [
        {"name": "bootstrap", "configMap": {"name": f"{job.name}-bootstrap"}}
    ]
    mounts = [{"name": "bootstrap", "mountPath": "/opt/twjax", "readOnly": True}]
    if job.claim:
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": job.claim}})
    if job.bucket:
        # Without the last, a pod on the host's network has no identity to open the bucket with.
        attributes = {
            "bucketName": job.bucket,
            "mountOptions": "implicit-dirs",
            "hostNetworkPodKSA": "true",
        }
        csi = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}
        volumes.append({"name": "runs", "csi": csi})
    if job.claim or job.bucket:
        mounts.append({"name": "runs", "mountPath": MOUNT})
    container = {
        "name": "twjax",
        "image": job.image,
        "command": ["bash", "/opt/twjax/bootstrap.sh"],
        "args": [_literal(word) for word in _arguments(job)],
        "env": _environment(job),
        # TPU runtime, and between slices.
        "ports": [{"containerPort": 8471}, {"containerPort": 8080}],
        "securityContext": {"privileged": True},
        "resources": {"limits": {"google.com/tpu": chips}},
        "volumeMounts": mounts,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": selector,
        "containers": [container],
        "volumes": volumes,
    }
    if job.service_account:
        pod["serviceAccountName"] = job.service_account
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
        tolerated = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}
        pod["tolerations"] = [{**tolerated, "effect": "NoSchedule"}]
    return pod


def _arguments(job: Job) -> list[str]:
    key = hashlib.sha256(job.requirement.encode()).hexdigest()[:16]
    return ["run", key, job.requirement, job.setup, *job.env, "--", *job.command]


def _environment(job: Job) -> list[dict[str, Any]]:
    """Returns what the bootstrap and, for several slices, the TPU runtime want to know.

    GKE itself tells a slice's workers of each other (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES).
    """
    found: list[dict[str, Any]] = [{"name": "TWJAX_HOME", "value": "/tmp/twjax"}]
    if job.shape.num_slices > 1:
        label = "metadata.labels['jobset.sigs.k8s.io/job-index']"
        first = f"{job.name}-{JOB}-0-0.{job.name}"
        found += [
            {"name": "MEGASCALE_NUM_SLICES", "value": str(job.shape.num_slices)},
            {"name": "MEGASCALE_SLICE_ID", "valueFrom": {"fieldRef": {"fieldPath": label}}},
            {"name": "MEGASCALE_COORDINATOR_ADDRESS", "value": first},
        ]
    return found


def _literal(word: str) -> str:
    """Keeps Kubernetes from replacing $(NAME) in an argument."""
    return word.replace("$(", "$$(")


def yaml(value: Any, indent: int = 0) -> str:
    """Returns YAML of objects of dicts, lists, strings, numbers and booleans.

    Every string is quoted as JSON, which is YAML, but for those of several lines.
    """
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{_key(key)}:{_below(item, indent)}" for key, item in value.items())
    if isinstance(value, list):
        # The dash takes the place of the item's first indent.
        return "".join(f"{pad}- {_item(item, indent)}" for item in value)
    return f"{pad}{_scalar(value)}\n"


def _item(item: Any, indent: int) -> str:
    return yaml(item, indent + 1).lstrip(" ") if item or not isinstance(item, (dict, list)) else (
        f"{json.dumps(item)}\n")  # fmt: skip


def _below(item: Any, indent: int) -> str:
    if isinstance(item, (dict, list)) and item:
        return "\n" + yaml(item, indent + 1)
    if isinstance(item, str) and "\n" in item and item.endswith("\n") and item[0] not in " \n":
        pad = "  " * (indent + 1)
        lines = "".join(f"{pad}{line}\n" if line else "\n" for line in item[:-1].split("\n"))
        return f" |\n{lines}"
    return f" {_scalar(item)}\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z][\w./-]*", key) else json.dumps(key)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
