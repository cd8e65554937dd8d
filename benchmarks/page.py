"""Makes benchmarks/RESULTS.md of what the scripts left in benchmarks/results/."""

from __future__ import annotations

import json

from common import HERE

HEAD = """# Results

Made by `python benchmarks/page.py` from the files in `results/`, each written by the command that is named with it.
Figures are medians where a script says so; compare those of one section with each other, machines differ.
"""


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    for file in sorted((HERE / "results").glob("*.json")):
        record = json.loads(file.read_text())
        versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        rows = "\n".join(f"| {name} | {value} |" for name, value in record["figures"].items())
        parts.append(
            f"## {record['title']}\n\n`{record['command']}`, {record['date']}\n\n"
            f"{record['machine']}; Python {record['python']}, {versions}\n\n"
            f"| figure | value |\n| --- | --- |\n{rows}\n" + (f"\n{record['notes']}\n" if record["notes"] else "")
        )
    (HERE / "RESULTS.md").write_text("\n".join(parts))
    print(f"{HERE / 'RESULTS.md'}: {len(parts) - 1} results")


if __name__ == "__main__":
    main()
