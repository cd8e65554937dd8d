"""The mix stage against the bare tokenizer, on one core and on two; and how full the packed sequences are.

    python benchmarks/mixing.py

Segments of made-up documents with pairs go through the whole stage: read, rendered, tokenized, packed, written,
verified. The bare tokenizer is `encode_batch` on the very texts that the stage rendered, one batch after another, those
of the first segments.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import answer, documents, measure, save, write_model


def write_run(root: Path, segments: int, rows: int) -> None:
    """A finished synthesis run of documents of RefinedWeb's lengths, each with five pairs, in chains of two."""
    from ipt_stream import storage
    from ipt_stream.corpus.pair import Pair
    from ipt_stream.corpus.readers import InputConfig, resolve_shards
    from ipt_stream.ledger import LedgerWriter
    from ipt_stream.synthesis import segment
    from ipt_stream.synthesis.plan import RunPlan, save_plan, segment_id, segment_path
    from ipt_stream.synthesis.tally import COUNTS

    shard = root / "shard.jsonl"
    chosen = random.Random(0)
    known = " ".join(documents(2000, 500)).split()
    texts = []
    for _ in range(segments * rows):
        length = int(min(max(chosen.lognormvariate(5.5, 0.9), 30), 3000))
        start = chosen.randrange(len(known) - length)
        texts.append(" ".join(known[start : start + length]))
    shard.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shards = tuple(resolve_shards(InputConfig(shards=(str(shard),))))
    output = str(root / "segments")
    save_plan(output, RunPlan(shards, rows, 2, 1.0, 0))
    ledger = LedgerWriter(output)
    for number in range(segments):
        made = []
        for index in range(rows):
            row = number * rows + index
            words = texts[row].split()
            pairs = tuple(
                Pair(f"What stands beside {words[at]} in part {at}?", " ".join(words[at : at + 12]))
                for at in range(0, min(len(words), 50), 10)
            )
            made.append(segment.SegmentRow(
                document_id=f"shard.jsonl:{row}", source_id=None, source="shard.jsonl", row=row, piece=0,
                chain=index // 2, round=index % 2, text=texts[row], pairs=pairs, inherits=index % 2 == 1,
                status=segment.Status.AUGMENTED, reason="", prompt_tokens=1, cached_tokens=0, generated_tokens=1,
                generation="",
            ))  # fmt: skip
        content = segment.encode(made)
        path = segment_path(0, number)
        storage.publish_bytes(storage.join(output, path), content)
        ledger.append({
            "id": segment_id(0, number), "kind": "segment", "shard": 0, "number": number, "path": path,
            "sha256": hashlib.sha256(content).hexdigest(), "start_row": number * rows,
            **dict.fromkeys(COUNTS, 0), "rows": rows, "augmented": rows, "rejected": {}, "no_pairs": {}, "dropped": {},
            "started": 0.0, "seconds": 0.0,
        })  # fmt: skip
    end = {"id": "shard-000000", "kind": "shard", "shard": 0, "rows": segments * rows, "segments": segments}
    ledger.append({**end, "broken": None})


BARE_SEGMENTS = 6


def bare(path: str, core: int = 0) -> dict[str, Any]:
    """The tokenizer alone, on one core, on texts that the stage renders: those of the first segments."""
    folder = Path(path)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    from ipt_stream.mixture.sources import Making, SourceConfig, open_run, texts, units

    config = SourceConfig.model_validate({"kind": "augmented", "path": str(folder / "segments"), "passes": 1})
    work = itertools.islice(units("it", config, open_run(config.paths[0])), BARE_SEGMENTS)
    rendered = [text.text for unit in work for part in texts(unit, Making(0)) for text in part.texts]
    tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    started = time.perf_counter()
    tokens = 0
    for start in range(0, len(rendered), 256):
        batch = tokenizer.encode_batch(rendered[start : start + 256], add_special_tokens=False)
        tokens += sum(map(len, batch))
    return {"seconds": time.perf_counter() - started, "tokens": tokens}


def stage(path: str, cores: int) -> dict[str, Any]:
    """The whole stage as tasks on so many cores; the process tree may use no more. Time of writing, after Ray is up."""
    folder = Path(path)
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, set(allowed))
    import ray.data

    from ipt_stream.mixture import mix as stage_module
    from ipt_stream.mixture.mix import MixConfig, mix
    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray(cores)
    ray.data.range(cores * 4, override_num_blocks=cores * 4).map(lambda row: row).materialize()  # workers are up
    taken = []
    write = stage_module._write_source

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        write(*arguments)
        taken.append(time.perf_counter() - started)

    stage_module._write_source = timed
    with tempfile.TemporaryDirectory() as scratch:
        config = {
            "output": scratch, "tokenizer": str(folder / "model"), "sequence_length": 2048, "cores": cores,
            "sources": {"it": {"kind": "augmented", "path": str(folder / "segments"), "passes": 1}},
        }  # fmt: skip
        report = mix(MixConfig.model_validate(config))
    return {"seconds": sum(taken), "tokens": report.figures["it_tokens"]}


def main() -> None:
    """Measure the three, in turn."""
    if answer({"bare": bare, "stage": stage}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=24)
    parser.add_argument("--rows", type=int, default=2048, help="documents a segment; as many as by default")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"bare": [], "one": [], "two": []}
    beside = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder / "model")
        write_run(folder, options.segments, options.rows)
        for _ in range(options.times):
            found["bare"].append(measure("bare", scratch))
            with ThreadPoolExecutor(2) as pool:
                both = list(pool.map(lambda core: measure("bare", scratch, core), range(2)))
            beside.append(sum(result["tokens"] / result["seconds"] for result in both))
            found["one"].append(measure("stage", scratch, 1))
            found["two"].append(measure("stage", scratch, 2))
    speed = {way: statistics.median(f["tokens"] / f["seconds"] for f in results) for way, results in found.items()}
    save(
        "mixing",
        "The mix stage against the bare tokenizer",
        {
            "documents, tokens": f"{options.segments * options.rows:,}, {found['one'][0]['tokens']:,}",
            "tokens/s: the bare tokenizer, one core": round(speed["bare"]),
            "tokens/s: the stage, one core": round(speed["one"]),
            "tokens/s: the stage, two cores": round(speed["two"]),
            "tokens/s: two bare tokenizers, a core each": round(statistics.median(beside)),
            "stage / bare tokenizer, a core (wanted: 0.7)": round(speed["one"] / speed["bare"], 3),
            "two cores / one (wanted: 1.8)": round(speed["two"] / speed["one"], 3),
            "two bare tokenizers / one: what the machine's second core adds": round(
                statistics.median(beside) / speed["bare"], 3
            ),
        },
        f"Medians of {options.times} runs of each, in turn.",
    )


if __name__ == "__main__":
    main()
