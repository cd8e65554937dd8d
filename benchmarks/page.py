"""Makes benchmarks/RESULTS.md of what the scripts left in benchmarks/results/."""

from __future__ import annotations

import json
from typing import Any

from common import HERE

HEAD = """# Results

Made by `make bench`, which runs the benchmarks that need no GPU one after another (`benchmarks/all.py`), each so
briefly that all take less than 40 minutes, and then makes this page of the files in `results/` and `results/brief/`;
`python benchmarks/page.py` makes the page alone. Each was written by the command that is named with it. Figures are
medians where a script says so; compare those of one section with each other, machines differ. What runs of other sizes
would come to is in [SCALE.md](SCALE.md).
"""
LONG = "# At full length, each by its own command\n"
BRIEF = "# In brief, by `make bench`\n"


def section(record: dict[str, Any]) -> str:
    """A benchmark's part of the page."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    took = f", in {record['minutes']:.1f} min" if "minutes" in record else ""
    head = (
        f"## {record['title']}\n\n`{record['command']}`, {record['date']}{took}\n\n"
        f"{record['machine']}; Python {record['python']}, {versions}\n\n"
    )
    if "failed" in record:
        return f"{head}**Failed**: {record['failed']}\n"
    rows = "\n".join(f"| {name} | {value} |" for name, value in record["figures"].items())
    return f"{head}| figure | value |\n| --- | --- |\n{rows}\n" + (f"\n{record['notes']}\n" if record["notes"] else "")


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    count = 0
    for title, folder in ((LONG, HERE / "results"), (BRIEF, HERE / "results" / "brief")):
        files = sorted(folder.glob("*.json"))
        if files:
            parts.append(title)
            parts.extend(section(json.loads(file.read_text())) for file in files)
            count += len(files)
    (HERE / "RESULTS.md").write_text("\n".join(parts))
    print(f"{HERE / 'RESULTS.md'}: {count} results")


if __name__ == "__main__":
    main()
