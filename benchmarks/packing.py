"""How full packed sequences are, on real documents, with both ways of packing.

    python benchmarks/packing.py --shards '../shared/data/pubmed/*.jsonl.zst' '../shared/data/web/*.parquet' \\
        --tokenizer out/shared_data/synthesizer/model
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

from common import save


def main() -> None:
    """Mix the documents twice."""
    from ipt_stream.mixture.mix import MixConfig, mix

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", nargs="+", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096])
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for length in options.lengths:
        for packing in ("concat", "best-fit"):
            with tempfile.TemporaryDirectory() as scratch:
                config = {
                    "output": scratch, "tokenizer": options.tokenizer, "sequence_length": length, "packing": packing,
                    "cores": 0, "sources": {"it": {"kind": "text", "path": options.shards, "passes": 1}},
                }  # fmt: skip
                found = mix(MixConfig.model_validate(config)).figures
            figures.setdefault("documents, tokens", f"{found['it_documents']:,}, {found['it_tokens']:,}")
            wanted = "99.9" if packing == "concat" else "99"
            real = 1 - float(found["it_padding"])
            figures[f"real tokens, {packing}, sequences of {length:,} (wanted: {wanted}%)"] = f"{real:.3%}"
    save("packing", "How full packed sequences are", figures)


if __name__ == "__main__":
    main()
