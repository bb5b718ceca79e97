"""A twjax command on TPU slices of a GKE cluster: prints JobSet manifests, or applies them.

  python -m launch.gke tw --topology 2xv5e-256 --image IMAGE --claim runs \\
      -- train configs/runs/cpt_taiwan.gin --run-dir /mnt/twjax/taiwan > tw.yaml
  python -m launch.gke tw … --apply

The pods run the same bootstrap script as TPU VMs. The cluster needs JobSet (and Kueue for --queue)
and a node pool a slice; docs/launching.md has the commands. A JobSet that ends badly, is preempted
or moved starts again and the run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from launch import manifest
from launch.gcloud import CloudError, executable
from launch.request import git_requirement


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints or applies the manifest; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    args = _parser().parse_args(words)
    try:
        job = _job(args, command)
        text = render(job)
        if args.apply and not args.dry_run:
            _apply(text, args.namespace, args.context)
            print("\n".join(_header(job)))
            return 0
        if args.apply:
            print(shlex.join(_kubectl(args.namespace, args.context)), "<<'EOF'")
        print(text, end="")
        if args.apply:
            print("EOF")
        return 0
    except KeyboardInterrupt:
        print(
            f"\nit may have been applied; look with: kubectl get jobset {args.name}",
            file=sys.stderr,
        )
        return 130
    except (CloudError, ValueError, OSError) as error:
        print(f"launch.gke: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def render(job: manifest.Job) -> str:
    """Returns the manifest as YAML, with what made it and how its log is read."""
    documents = [manifest.yaml(one) for one in manifest.objects(job)]
    return "\n".join(_header(job)) + "\n" + "---\n".join(documents)


def _header(job: manifest.Job) -> list[str]:
    shape = job.shape
    space = f" -n {job.namespace}" if job.namespace else ""
    selector = f"jobset.sigs.k8s.io/jobset-name={job.name}"
    return [
        f"# {shape.num_slices} x {shape.num_chips // shape.num_slices} chips, "
        f"{shape.num_hosts} machines; from python -m launch.gke.",
        f"# logs:   kubectl logs{space} -f --prefix --max-log-requests {shape.num_hosts} "
        f"-l {selector}",
        f"# delete: kubectl delete{space} jobset/{job.name} configmap/{job.name}-bootstrap",
    ]


def _kubectl(namespace: str, context: str) -> list[str]:
    where = [f"--namespace={namespace}"] if namespace else []
    where += [f"--context={context}"] if context else []
    return ["kubectl", "apply", *where, "--filename=-"]


def _apply(text: str, namespace: str, context: str) -> None:
    command = _kubectl(namespace, context)
    done = subprocess.run(
        [executable("kubectl"), *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, end="")
    if done.returncode:
        said = " ".join(done.stderr.split())
        if 'no matches for kind "JobSet"' in said:
            said += " (install JobSet in the cluster: https://jobset.sigs.k8s.io/docs/installation)"
        raise CloudError("other", said or "kubectl failed without a message")


def _job(args: argparse.Namespace, command: Sequence[str]) -> manifest.Job:
    for pair in args.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", pair, re.DOTALL):
            raise ValueError(f"--env {pair}: give NAME=VALUE.")
    requirement = args.requirement
    if args.git:
        requirement = git_requirement(args.git, "tpu")
    return manifest.Job(
        name=args.name,
        topology=args.topology if args.slices == 1 else f"{args.slices}x{args.topology}",
        image=args.image,
        command=tuple(command),
        requirement=requirement,
        setup=args.setup,
        env=tuple(args.env),
        namespace=args.namespace,
        queue=args.queue,
        spot=args.spot,
        restarts=args.restarts,
        claim=args.claim,
        bucket=args.bucket.removeprefix("gs://").rstrip("/"),
        service_account=args.service_account,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.gke",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="of the JobSet")
    add("--topology", required=True, metavar="TYPE", help="v5e-16, v5p-128, 2xv6e-256 …")
    add("--slices", type=int, default=1, metavar="N", help="equal slices")
    add("--image", required=True, help="container image, with Python 3.11 to 3.13 and bash")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--git", default="", metavar="URL@REF", help="install twjax from there")
    source.add_argument(
        "--requirement", default="", help="what pip installs; without it the image has twjax"
    )
    add("--setup", default="", metavar="COMMAND", help="shell command before the run")
    add("--env", action="append", default=[], metavar="NAME=VALUE")
    add("--namespace", default="")
    add("--context", default="", help="kubectl's")
    add("--queue", default="", help="Kueue's LocalQueue")
    add("--spot", action="store_true", help="on spot nodes")
    add("--restarts", type=int, default=10, help="after failures; losses of machines don't count")
    add("--claim", default="", help=f"PersistentVolumeClaim, mounted at {manifest.MOUNT}")
    add("--bucket", default="", help=f"bucket, mounted by Cloud Storage FUSE at {manifest.MOUNT}")
    add("--service-account", default="", help="Kubernetes service account of the pods")
    add("--apply", action="store_true", help="kubectl apply instead of printing")
    add("--dry-run", action="store_true", help="with --apply: print the command, run none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
