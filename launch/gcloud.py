"""Google Cloud's command line: what is run, what its errors mean, and what is tried again."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

# What gcloud prints → (kind, what to do about it). The first that fits counts.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    # Before a login's: where a token can't be renewed for want of a network, gcloud advises to log
    # in all the same.
    (
        r"Max retries exceeded|Failed to (resolve|establish)|Network is unreachable|"
        r"Name or service not known|name resolution|Connection (reset|refused|aborted)|"
        r"internal_failure|Backend Error",
        "transient",
        "",
    ),
    (
        r"active account|reauthenticat|invalid_grant|gcloud auth login|UNAUTHENTICATED",
        "login",
        "log in with: gcloud auth login",
    ),
    (
        r"SSH Key is not present in the SSH agent",
        "key",
        'for several workers: eval "$(ssh-agent)" && ssh-add ~/.ssh/google_compute_engine',
    ),
    (
        r"required property \[project\]|valid project|project .*not found",
        "project",
        "name the project with --project, or: gcloud config set project PROJECT",
    ),
    (
        r"SERVICE_DISABLED|has not been used in project|API .*not enabled",
        "api",
        "switch the API on with: gcloud services enable tpu.googleapis.com",
    ),
    (
        r"no more capacity|insufficient (reserved )?capacity|stockout",
        "capacity",
        "the zone has none free; wait, or take another zone or --spot",
    ),
    (
        r"per minute|rate.?limit",
        "transient",
        "too many requests",
    ),
    (
        r"quota",
        "quota",
        "ask for more (console: IAM & Admin > Quotas, Cloud TPU API), or free what is listed by: "
        "gcloud compute tpus queued-resources list",
    ),
    (
        r"invalid AcceleratorType|accelerator type .*(not found|not available|not supported)|"
        r"acceleratorTypes/\S+ (was )?not found",
        "type",
        "the zone doesn't have that type; those that it has: "
        "gcloud compute tpus accelerator-types list --zone=ZONE",
    ),
    (r"ALREADY_EXISTS|already exists", "exists", "take another name, or delete it first"),
    (
        r"PERMISSION_DENIED|not have permission|location .*not found|Location \S+ is not valid",
        "permission",
        "the zone may not exist or not be open to the project, or a role is missing "
        "(roles/tpu.admin)",
    ),
    (r"NOT_FOUND|not found", "absent", ""),
    (
        r"UNAVAILABLE|DEADLINE_EXCEEDED|\bINTERNAL:|internal error|HTTPError 5\d\d|Error 5\d\d|"
        r"timed? ?out|code.: 1[34]\b",
        "transient",
        "",
    ),
)
TPUS = ("compute", "tpus")
# Longer messages lose their middle: what went wrong is at one of the ends.
LONGEST_MESSAGE = 500
# What gcloud says of its own work on workers.
NOISE = re.compile(
    r"Using (ssh|scp) batch size|(SSH|SCP): Attempting|##### Command execution|Warning: Perm|"
    r"SSH key found in "
)


class CloudError(RuntimeError):
    """What gcloud could not do, in one line; `kind` says why.

    `repeated`: an earlier try failed in passing, and may have come through.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.repeated = False


class Gcloud:
    """Runs gcloud in one project and zone; with `dry`, only prints what it would run.

    A failure that may pass (`transient`) is tried `tries` times with pauses that double.
    """

    def __init__(
        self,
        project: str | None,
        zone: str,
        *,
        dry: bool = False,
        tries: int = 5,
        pause: float = 2.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self.project, self.zone, self.dry, self.say = project, zone, dry, say
        self.tries, self.pause = tries, pause

    def command(self, *words: str) -> list[str]:
        """Returns the whole command for words such as ("queued-resources", "describe", NAME)."""
        where = [f"--zone={self.zone}", *([f"--project={self.project}"] if self.project else [])]
        return ["gcloud", *TPUS, *words, *where, "--quiet"]

    def read(self, *words: str) -> str:
        """Runs a command to its end and returns its output; raises CloudError."""
        command = self.command(*words)
        if self.dry:
            self.say(shlex.join(command))
            return ""
        pause, repeated = self.pause, False
        for last in (*(False,) * (self.tries - 1), True):
            done = subprocess.run(
                [executable(), *command[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                # A terminal's Ctrl-C is for this program, which decides what it ends.
                start_new_session=True,
            )
            if not done.returncode:
                return done.stdout
            error = explain(done.stderr or done.stdout, words, done.returncode)
            error.repeated, repeated = repeated, True
            if error.kind != "transient" or last:
                raise error
            self.say(f"{error}; again in {pause:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 60.0)
        raise AssertionError("unreachable")

    def begin(self, *words: str) -> subprocess.Popen[bytes] | None:
        """Starts a command whose output is read as it comes; None in a dry run."""
        command = self.command(*words)
        if self.dry:
            self.say(shlex.join(command))
            return None
        return subprocess.Popen(
            [executable(), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def executable(name: str = "gcloud") -> str:
    """Returns the path of a program; raises CloudError with where to get it."""
    path = shutil.which(name)
    if path is None:
        where = {
            "gcloud": "https://cloud.google.com/sdk/docs/install",
            "kubectl": "gcloud components install kubectl",
        }[name]
        raise CloudError("missing", f"{name} is not on PATH; install it: {where}")
    return path


def explain(printed: str, words: Sequence[str], code: int = 1) -> CloudError:
    """Returns the error that gcloud's output stands for, in one line with what to do.

    kind `worker`: gcloud did its part, and a worker's own command ended with this exit code.
    """
    whole = _message(printed)
    text = whole
    if len(whole) > LONGEST_MESSAGE:
        text = f"{whole[: LONGEST_MESSAGE // 2]} … {whole[-LONGEST_MESSAGE // 2 :]}"
    # 255 is ssh's own. What a worker prints isn't about the cloud, whatever it looks like.
    own = "ERROR: (gcloud" in printed or "ERROR: gcloud" in printed
    if "ssh" in words[:2] and code != 255 and not own:
        return CloudError("worker", f"on a worker, exit code {code}: {text or 'no message'}")
    for pattern, kind, advice in _MEANINGS:
        if re.search(pattern, whole, re.IGNORECASE):
            return CloudError(kind, f"{text} ({advice})" if advice else text)
    return CloudError("other", text or f"gcloud {' '.join(words[:2])} failed without a message")


def _message(printed: str) -> str:
    """Returns what gcloud says went wrong: its ERROR lines, or a JSON message in them."""
    printed = "\n".join(line for line in printed.splitlines() if not NOISE.match(line))
    at = printed.find("ERROR:")
    text = printed[at:] if at >= 0 else printed
    inner = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', text)
    if inner:
        text = inner[1].replace('\\"', '"')
    # Below its message gcloud adds how the command is used, and what else could be run.
    for more in ("Usage: ", "To search the help", "If you would like to report", "Please run:"):
        text = text.split(f"\n{more}")[0]
    text = re.sub(r"^ERROR:\s*(\([\w.-]+\)\s*)?", "", text.strip())
    text = re.sub(r"\s*\[EID: \w+\]", "", text)
    return " ".join(text.split())


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that was begun, with all that it started."""
    for number in (15, 9):
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
