"""A queued resource's states: waiting for it, running on it, having it again when it is lost."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable

from launch.gcloud import CloudError, Gcloud
from launch.request import Request, Store
from launch.workers import Outcome, Workers

# https://docs.cloud.google.com/tpu/docs/queued-resources
LOST = ("SUSPENDED", "FAILED")
ABSENT = "ABSENT"
# A TPU VM in one of these doesn't come back by itself.
DEAD_NODES = ("PREEMPTED", "TERMINATED", "STOPPED", "DELETING")
LONGEST_PAUSE = 600.0
# An attempt that has run so long didn't fail at its start.
SOUND_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Look:
    """A queued resource's state, and why it is so where Google Cloud says it."""

    state: str
    reason: str = ""


class Pod:
    """One request's queued resource, its workers, and its file."""

    def __init__(
        self, store: Store, gcloud: Gcloud, poll: float = 30.0, say: Callable[[str], None] = print
    ) -> None:
        self.store, self.gcloud, self.poll, self.say = store, gcloud, poll, say
        self.request, _ = store.read()
        self.workers = Workers(gcloud, self.request, poll)
        self._told = ""

    @property
    def name(self) -> str:
        return self.request.name

    def look(self) -> Look:
        """Returns the state; ABSENT when there is no such queued resource."""
        try:
            printed = self.gcloud.read(
                "queued-resources", "describe", self.name, "--format=json(name,state)"
            )
        except CloudError as error:
            if error.kind == "absent":
                return Look(ABSENT)
            raise
        if self.gcloud.dry:
            return Look("ACTIVE")
        state = json.loads(printed).get("state", {})
        failed = state.get("failedData", {}).get("error", {}).get("message", "")
        return Look(state.get("state", "STATE_UNSPECIFIED"), failed)

    def create(self) -> bool:
        """Asks for the queued resource; False where one of this name is there already."""
        self.say(self.request.cost_line())
        if self.gcloud.dry:
            self.gcloud.read(*self.request.creation(), "--async")
            return True
        request, before = self.store.read()
        # Noted first: what is asked for costs money, also if this program ends before the answer.
        self.store.note("asked for", created=before.created + 1)
        try:
            self.gcloud.read(*self.request.creation(), "--async")
        except CloudError as error:
            if error.kind == "exists" and error.repeated:
                return True
            if error.kind != "transient":
                self.store.write(request, before)
            if error.kind != "exists":
                raise
            return False
        return True

    def delete(self, wait: bool = True) -> None:
        """Deletes the queued resource and its machines; returns when they are gone."""
        words = ["queued-resources", "delete", self.name, "--force"]
        try:
            self.gcloud.read(*words, *([] if wait else ["--async"]))
        except CloudError as error:
            if error.kind != "absent":
                raise
        if not self.gcloud.dry:
            self.store.note("deleted")
            while wait and self.look().state != ABSENT:
                time.sleep(self.poll)

    def wait(self) -> Look:
        """Returns the first state that lasts, telling each change."""
        while True:
            try:
                look = self.look()
            except CloudError as error:
                if error.kind != "transient":
                    raise
                self.say(str(error))
            else:
                self.tell(look)
                if look.state in ("ACTIVE", ABSENT, *LOST):
                    return look
            time.sleep(self.poll)

    def tell(self, look: Look) -> None:
        """Prints a state once."""
        text = look.state + (f": {look.reason}" if look.reason else "")
        if text != self._told and not self.gcloud.dry:
            self._told = text
            self.say(f"{time.strftime('%H:%M:%S')} {self.name}: {text}")

    def run(self) -> Outcome:
        """Installs, starts the remembered command (or joins it) and prints its log to the end."""
        _, progress = self.store.read()
        self.workers.prepare(progress.attempt)
        self.workers.start(progress.attempt, progress.command, progress.env)
        return self.workers.follow(progress.attempt, self.say, self.gone)

    def gone(self, sure: bool) -> bool:
        """Whether the machines are lost or about to be; `sure` asks for each of them too."""
        try:
            look = self.look()
            if look.state != "ACTIVE":
                self.tell(look)
                return True
            return sure and any(state in DEAD_NODES for state in self.node_states())
        except CloudError as error:
            # This machine may have no network; the others go on.
            if error.kind != "transient":
                raise
            self.say(str(error))
            return False

    def node_states(self) -> list[str]:
        """Returns the states of the TPU VMs; one that isn't there is TERMINATED."""
        states = []
        for node in self.request.nodes:
            try:
                state = self.gcloud.read("tpu-vm", "describe", node, "--format=value(state)")
            except CloudError as error:
                if error.kind != "absent":
                    raise
                state = "TERMINATED"
            states.append(state.strip())
        return states


def foreign(request: Request) -> str:
    """Returns why a queued resource that nobody asked for from here is left alone."""
    return (
        f"there is a queued resource {request.name} in {request.zone} already, which was not asked "
        "for from here; take another name, or bring its file with --state."
    )


class Watch:
    """Keeps a command going until it has ended well: waits, runs, re-creates, runs again."""

    def __init__(self, pod: Pod, failures: int = 3, recreations: int | None = None) -> None:
        self.pod, self.failures, self.recreations = pod, failures, recreations
        self._failed = 0
        self._recreated = 0
        self._pause = pod.poll
        # Whether it has been there since it was last asked for.
        self._seen = False

    def run(self) -> int:
        """Returns 0 when the command has ended well or the user has stopped it."""
        pod = self.pod
        if pod.gcloud.dry:
            return self._dry()
        while True:
            _, progress = pod.store.read()
            if progress.finished:
                pod.say(f"{pod.name}: finished already. Delete it, or it goes on costing.")
                return 0
            try:
                code = self._round()
            except CloudError as error:
                if error.kind not in ("capacity", "transient"):
                    raise
                pod.say(str(error))
                self._rest()
            else:
                if code is not None:
                    return code

    def _round(self) -> int | None:
        """Does what the state asks for; returns the exit code when all is over."""
        pod = self.pod
        look = pod.look()
        if look.state == ABSENT:
            if self._seen:
                raise RuntimeError(
                    f"{pod.name} was deleted while it was watched; it isn't asked for again. "
                    "`watch` anew does that."
                )
            if not pod.create():
                # Something of it is still being deleted.
                self._rest()
            return None
        if not pod.store.read()[1].created:
            pod.store.forget()
            raise RuntimeError(foreign(pod.request))
        self._seen = True
        pod.tell(look)
        if look.state in LOST:
            self._lost(look)
        elif look.state != "ACTIVE":
            pod.wait()
        elif any(state in DEAD_NODES for state in pod.node_states()):
            self._lost(Look("SUSPENDED", "its machines are gone"))
        else:
            return self._attempt()
        return None

    def _lost(self, look: Look) -> None:
        """Deletes what is left, so that the next round asks for it anew."""
        pod = self.pod
        if self.recreations is not None and self._recreated >= self.recreations:
            raise RuntimeError(f"{pod.name} was lost again ({look.state}); --recreations is spent.")
        pod.store.note(f"lost: {look.state} {look.reason}".strip())
        pod.say(f"{pod.name} is lost ({look.state}); it is deleted and asked for again.")
        pod.delete()
        self._seen = False
        self._recreated += 1
        if look.state == "FAILED":
            self._rest()

    def _rest(self) -> None:
        self.pod.say(f"again in {self._pause:.0f} s")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _attempt(self) -> int | None:
        """Runs the command once; returns the exit code when that was the last time."""
        pod, began = self.pod, time.monotonic()
        try:
            outcome = pod.run()
        except CloudError as error:
            # Machines that go away while they are prepared are no failure of the command.
            if error.kind in ("login", "key", "project", "api", "missing", "transient"):
                raise
            outcome = Outcome("stopped" if pod.gone(True) else "failed", 1, str(error))
        _, progress = pod.store.read()
        if outcome.kind == "done":
            pod.store.note("finished", finished=True)
            return 0
        if outcome.kind == "asked":
            pod.store.note("stopped by the user")
            pod.say(f"{pod.name}: stopped; the same command goes on from there.")
            return 0
        pod.store.note(f"{outcome.kind} {outcome.where}".strip(), attempt=progress.attempt + 1)
        if outcome.kind == "failed":
            self._failed = 1 + (self._failed if time.monotonic() - began < SOUND_SECONDS else 0)
            if self._failed >= self.failures:
                pod.say(f"{pod.name}: failed {self._failed} times in a row ({outcome.where}).")
                return outcome.code or 1
            self._rest()
        else:
            self._pause = pod.poll
            time.sleep(min(pod.poll, 10.0))
        return None

    def _dry(self) -> int:
        pod = self.pod
        pod.look()
        pod.say("# when there is none:")
        pod.create()
        pod.say("# when it is ACTIVE:")
        pod.node_states()
        pod.run()
        pod.say("# when it is SUSPENDED or FAILED, before all of this again:")
        pod.delete()
        return 0
