"""How fast a corpus is searched for 10,000 evaluation examples on one core, and in how much memory.

    python benchmarks/contamination.py

Documents of made-up words, of RefinedWeb's lengths, in JSON lines, in Parquet and in the segments of a synthesis run,
some with an evaluation example planted in them. Each is searched by both views, substrings and 13-grams, in a process
of its own that may use one core. Compiling the loops (a few seconds a process) is not counted; reading is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import answer, documents, measure, save
from mixing import write_run

EXAMPLES = 10_000
PLANTED_EVERY = 50  # documents


def evaluation_examples(folder: Path) -> list[str]:
    """Questions of 20 to 120 words; written where they are not there yet."""
    file = folder / "examples.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(EXAMPLES, (20, 120), seed=7)))
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


def write_corpus(folder: Path, megabytes: int, shard_megabytes: int, form: str) -> int:
    """Shards of documents; gives how many evaluation examples were planted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = random.Random(0)
    known = " ".join(documents(2000, 500)).split()
    examples = evaluation_examples(folder)
    target = folder / f"{form}-{megabytes}"
    target.mkdir()
    written = 0
    planted: set[int] = set()
    for number in range(-(-megabytes // shard_megabytes)):
        texts, size = [], 0
        while size < shard_megabytes * 1_000_000:
            length = int(min(max(chosen.lognormvariate(5.5, 0.9), 30), 3000))
            start = chosen.randrange(len(known) - length)
            words = known[start : start + length]
            written += 1
            if written % PLANTED_EVERY == 0 and len(planted) < EXAMPLES:
                words[length // 2 : length // 2] = [examples[len(planted)]]
                planted.add(len(planted))
            texts.append(" ".join(words))
            size += len(texts[-1])
        if form == "parquet":
            pq.write_table(pa.table({"text": texts}), target / f"{number:05d}.parquet", compression="zstd")
        else:
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
            (target / f"{number:05d}.jsonl").write_text(lines)
    return len(planted)


def search(path: str, corpus: str, ngram_words: int | None) -> dict[str, Any]:
    """Search all parts of a corpus, on one core."""
    folder = Path(path)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from ipt_stream.analysis.contamination.analyze import prepare
    from ipt_stream.analysis.contamination.corpus import SearchedDocument, open_corpus
    from ipt_stream.analysis.contamination.examples import read_all
    from ipt_stream.analysis.contamination.scan import scan, search_documents
    from ipt_stream.analysis.contamination.settings import ContaminationSettings
    from ipt_stream.corpus.readers import InputConfig
    from ipt_stream.stage import _peak_memory_mb

    of_run = corpus == "run"
    settings = ContaminationSettings.model_validate({
        "examples": {"made": {"path": str(folder / "examples.jsonl"), "columns": ["text"]}},
        "shards": None if of_run else InputConfig(shards=(str(folder / corpus),)), "ngram_words": ngram_words,
    })  # fmt: skip
    started = time.perf_counter()
    sought, _ = prepare(settings, read_all(settings, None))
    search_documents([SearchedDocument("warm", "Some words. " * 100, ())], "run", sought)
    prepared_s = time.perf_counter() - started
    parts = open_corpus(str(folder / "segments") if of_run else None, settings.shards).parts
    started, size, found, count = time.perf_counter(), 0, set(), 0
    for part in parts:
        result = scan(part, sought)
        size += result["counts"]["bytes"]
        count += result["counts"]["documents"]
        found |= {example for examples in result["examples"].values() for example in examples}
    seconds = time.perf_counter() - started
    return {
        "megabytes_a_second": size / 1e6 / seconds, "megabytes": size / 1e6, "found": len(found), "documents": count,
        "peak_mb": _peak_memory_mb(), "prepared_s": prepared_s,
    }  # fmt: skip


def main() -> None:
    """Measure each corpus, in turn, and memory at two sizes."""
    if answer({"search": search}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--large", type=int, default=400, help="megabytes of the corpus that memory is compared at")
    parser.add_argument("--shard-megabytes", type=int, default=25)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    small, large = f"parquet-{options.megabytes}", f"parquet-{options.large}"
    lines = f"jsonl-{options.megabytes}"
    found: dict[str, list[dict[str, Any]]] = {small: [], lines: [], "run": [], "substrings alone": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        planted = write_corpus(folder, options.megabytes, options.shard_megabytes, "parquet")
        write_corpus(folder, options.megabytes, options.shard_megabytes, "jsonl")
        write_run(folder, max(options.megabytes // 2, 1), 512)
        for _ in range(options.times):
            for corpus, results in found.items():
                alone = corpus == "substrings alone"
                results.append(measure("search", scratch, small if alone else corpus, None if alone else 13))
        write_corpus(folder, options.large, options.shard_megabytes, "parquet")
        big = measure("search", scratch, large, 13)
    speed = {way: statistics.median(f["megabytes_a_second"] for f in results) for way, results in found.items()}
    less = found[small][0]
    save(
        "contamination",
        "Searching a corpus for 10,000 evaluation examples, on one core",
        {
            "examples, searched by 3 substrings of 50 characters and by 13-grams": f"{EXAMPLES:,}",
            "examples planted, and found by substrings": f"{planted:,}, {less['found']:,}",
            "MB/s a core: Parquet (wanted: 20)": round(speed[small], 1),
            "MB/s a core: JSON lines (wanted: 20)": round(speed[lines], 1),
            "MB/s a core: segments with pairs (wanted: 20)": round(speed["run"], 1),
            "MB/s a core: Parquet, substrings alone": round(speed["substrings alone"], 1),
            "MB searched, peak memory in MB": f"{less['megabytes']:.0f}, {less['peak_mb']}",
            "MB searched, peak memory in MB: a larger corpus (wanted: the same)":
                f"{big['megabytes']:.0f}, {big['peak_mb']}",
            "seconds to prepare the search": round(less["prepared_s"], 1),
        },
        f"Medians of {options.times} runs of each, in turn; MB of text and pairs in UTF-8.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
