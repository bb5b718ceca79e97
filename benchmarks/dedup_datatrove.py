"""CPU seconds of datatrove's four MinHash stages; run by `dedup.py` in datatrove's environment.

    python dedup_datatrove.py FOLDER        FOLDER/in/*.jsonl are the documents

The signatures include loading jieba's dictionary, about a second; imports aren't counted.
"""

from __future__ import annotations

import json
import resource
import sys

from datatrove.executor import LocalPipelineExecutor  # type: ignore
from datatrove.pipeline.dedup import (  # type: ignore
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig  # type: ignore
from datatrove.pipeline.readers import JsonlReader  # type: ignore
from datatrove.pipeline.writers import JsonlWriter  # type: ignore

LANGUAGE = "cmn_Hani"


def seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> int:
    folder = sys.argv[1]
    config = MinhashConfig()  # Word 5-grams, 14 × 8, xxhash: FineWeb-2's.
    stages = {
        "signatures": [
            JsonlReader(f"{folder}/in"),
            MinhashDedupSignature(f"{folder}/signatures", config=config, language=LANGUAGE),
        ],
        "buckets": [
            MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config)
        ],
        "cluster": [MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config)],
        "filter and write": [
            JsonlReader(f"{folder}/in"),
            MinhashDedupFilter(f"{folder}/remove"),
            JsonlWriter(f"{folder}/out"),
        ],
    }
    taken = {}
    for name, pipeline in stages.items():
        tasks = config.num_buckets if name == "buckets" else 1
        executor = LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{name}"
        )
        start = seconds()
        executor.run()
        taken[name] = seconds() - start
    print(json.dumps(taken))
    return 0


if __name__ == "__main__":
    sys.exit(main())
