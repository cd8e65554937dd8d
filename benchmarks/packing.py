"""How full packed sequences are, with both ways of packing; without --shards on made-up documents, else on yours.

    python benchmarks/packing.py
    python benchmarks/packing.py --shards '../shared/data/pubmed/*.jsonl.zst' '../shared/data/web/*.parquet' \\
        --tokenizer out/shared_data/synthesizer/model

concat pads the last sequence of a source and no other. Of fewer than 1,000 sequences that one is more than 0.1%, and
may keep a small source below 99.9% by itself; so how full all the others are, as written, is a figure of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from common import documents, save, write_model


def write_texts(folder: Path, count: int) -> Path:
    """A shard of made-up documents whose lengths are distributed as RefinedWeb's."""
    chosen = random.Random(0)
    known = " ".join(documents(2000, 500)).split()
    shard = folder / "texts.jsonl"
    with shard.open("w") as file:
        for _ in range(count):
            length = int(min(max(chosen.lognormvariate(5.5, 0.9), 30), 3000))
            start = chosen.randrange(len(known) - length)
            file.write(json.dumps({"text": " ".join(known[start : start + length])}) + "\n")
    return shard


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Each length with both ways of packing."""
    from ipt_stream.mixture.mix import MixConfig, mix

    figures: dict[str, Any] = {}
    for length in options.lengths:
        for packing in ("concat", "best-fit"):
            with tempfile.TemporaryDirectory() as scratch:
                config = {
                    "output": scratch, "tokenizer": options.tokenizer, "sequence_length": length, "packing": packing,
                    "cores": 0, "sources": {"it": {"kind": "text", "path": options.shards, "passes": 1}},
                }  # fmt: skip
                found = mix(MixConfig.model_validate(config)).figures
                before_last = real_before_last(Path(scratch)) if packing == "concat" else None
            figures.setdefault("documents, tokens", f"{found['it_documents']:,}, {found['it_tokens']:,}")
            wanted = "99.9" if packing == "concat" else "99"
            real = 1 - float(found["it_padding"])
            name = f"real tokens, {packing}, sequences of {length:,}"
            figures[f"{name} (wanted: {wanted}%)"] = f"{real:.3%} of {found['it_sequences']:,} sequences"
            if before_last is not None:
                figures[f"{name}, without the last one"] = f"{before_last:.3%}"
    return figures


def real_before_last(mixture: Path) -> float:
    """The share of positions that are real tokens in all sequences of a mixture's source `it` but the last."""
    import numpy as np
    from streaming import StreamingDataset

    from ipt_stream.mixture.pack import padding
    from ipt_stream.mixture.plan import load_plan

    written = StreamingDataset(local=str(mixture / "sources" / "it"), batch_size=1, shuffle=False)
    rows = np.stack([written[index]["tokens"] for index in range(len(written) - 1)])
    return 1 - float(padding(rows, load_plan(str(mixture)).eos_token_id).mean())


def main() -> None:
    """Mix the documents with both, for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", nargs="+")
    parser.add_argument("--tokenizer", help="of those shards; without both, made-up ones")
    parser.add_argument("--documents", type=int, default=3000, help="made up, of RefinedWeb's lengths")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096])
    options = parser.parse_args()
    if (options.shards is None) != (options.tokenizer is None):
        parser.error("--shards and --tokenizer belong together")
    made_up = options.shards is None
    with tempfile.TemporaryDirectory() as made:
        if made_up:
            options.shards = [str(write_texts(Path(made), options.documents))]
            options.tokenizer = str(write_model(Path(made, "model")))
        figures = measure_all(options)
    notes = f"{options.documents:,} made-up documents. " if made_up else ""
    notes += "concat pads the last sequence alone: below 1,000 of them that one may cost more than 0.1%."
    save("packing", "How full packed sequences are", figures, notes)


if __name__ == "__main__":
    main()
