"""A real browser for pages: headless Chromium, without its own requests."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from typing import Any

import pytest

needed = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH")
SECONDS = 60

# What overflows its place, and texts of a chart that are cut off or lie on each other.
FAULTS = """(() => {
  const faults = [], gap = 1;
  const inside = (a, b) => a.left >= b.left - gap && a.right <= b.right + gap
    && a.top >= b.top - gap && a.bottom <= b.bottom + gap;
  for (const svg of document.querySelectorAll("svg")) {
    const name = svg.getAttribute("aria-label"), box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((t) => [t, t.getBoundingClientRect()]);
    texts.forEach(([a, one], i) => {
      if (!inside(one, box)) faults.push(`${name}: "${a.textContent}" is cut off`);
      for (const [b, other] of texts.slice(i + 1)) {
        const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        if (wide > 2 && high > 0.45 * Math.min(one.height, other.height))
          faults.push(`${name}: "${a.textContent}" lies on "${b.textContent}"`);
      }
    });
  }
  for (const node of document.querySelectorAll("figure, .card, .tiles li, p, h1, h2, h3, li")) {
    const box = node.getBoundingClientRect();
    if (box.width && (box.left < -gap || box.right > document.documentElement.clientWidth + gap))
      faults.push(`${node.tagName} "${node.textContent.slice(0, 40)}" leaves the page`);
  }
  for (const node of document.querySelectorAll(".balance .row")) {
    const texts = [...node.querySelectorAll("b, span")].map((t) => t.getBoundingClientRect());
    if (texts.some((t) => !inside(t, node.closest("figure").getBoundingClientRect())))
      faults.push(`balance: "${node.textContent}" is cut off`);
  }
  return faults;
})()"""


def command(user: pathlib.Path) -> list[str]:
    """Returns how Chromium is called; `user` is the folder of its profile."""
    found = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    found += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    return [*found, "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={user}"]


def dump(page: pathlib.Path, user: pathlib.Path, *options: str) -> str:
    """Returns a page's document after its scripts have run; their errors fail the test."""
    done = subprocess.run(
        [
            *command(user),
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=3000",
            *options,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


class Tab:
    """One tab, driven by the DevTools protocol over pipes.

    `said` is what the page has written to the console, and its errors; `asked` are the addresses
    that it has asked for, beside itself and `data:`.
    """

    def __init__(self, user: pathlib.Path):
        # Chromium reads commands from descriptor 3 and answers on 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        both = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(both[0], 3)
            os.dup2(both[1], 4)

        self._process = subprocess.Popen(
            [*command(user), "--remote-debugging-pipe", "about:blank"],
            preexec_fn=place,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs_in, theirs_out, *both):
            os.close(fd)
        self._number, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{part}.enable")

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._in)
        os.close(self._out)

    def open(self, page: pathlib.Path, *, width: int, dark: bool, scale: float = 1) -> float:
        """Opens a page in a window of a width; returns the seconds until it was drawn."""
        self._page = page.resolve().as_uri()
        size = {"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        began = time.perf_counter()
        self._call("Page.navigate", url=self._page)
        self._wait("Page.loadEventFired")
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.perf_counter() - began

    def run(self, script: str) -> Any:
        """Returns the value of a script, awaited."""
        found = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, selector: str = "html", place: int = 0) -> bytes:
        """Returns a PNG of one of the elements that a selector finds."""
        box = self.run(
            f"(() => {{ const found = document.querySelectorAll({json.dumps(selector)})[{place}], "
            "b = found.getBoundingClientRect(); "
            "return [b.x + scrollX, b.y + scrollY, b.width, b.height] })()"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _wait(self, event: str) -> None:
        while not any(e["method"] == event for e in self._events):
            self._read()

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium doesn't answer."
            more = os.read(self._in, 1 << 20)
            assert more, "Chromium has ended."
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        self._events.append(message)
        method, told = message["method"], message["params"]
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(told))
        elif method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith("data:") and url != self._page:
                self.asked.append(url)
