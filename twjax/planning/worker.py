"""Compiles one plan in a process of its own, which can be ended: `python -m twjax.planning.worker`.

Reads one line of JSON (`config`, `set`, `topology`, `quick`, `cache`, `output`) from its input
and writes the plan, or why there is none, to the file `output`. It ends when its input is closed:
no compilation outlives the one who asked for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import threading


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from twjax.planning.topology import parse_topology, set_environment

    set_environment()
    from twjax import config, storage
    from twjax.planning.cache import PlanCache
    from twjax.planning.compile import CompilerError, plan

    run = config.load(config.Run, [asked["config"]], asked["set"]).value
    cache = asked["cache"] and PlanCache(pathlib.Path(asked["cache"]))
    try:
        made = plan(run, parse_topology(asked["topology"]), quick=asked["quick"], cache=cache)
        answer = {"plan": dataclasses.asdict(made)}
    except (CompilerError, ValueError) as error:
        answer = {"error": str(error)}
    storage.write_json(asked["output"], answer)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
