"""Makes benchmarks/RESULTS.md, and the table in README.md, of what the scripts left in benchmarks/results/."""

from __future__ import annotations

import json
from pathlib import Path
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


HEADLINES = (
    ("tokens-per-gpu-day", "raw tokens a day", "raw tokens a day, this machine without a GPU", ""),
    ("engine-share", "stage / engine alone", "raw tokens/s: the stage / the engine alone", "0.95"),
    ("engine-share", "stage / round by round", "raw tokens/s: the stage / round-by-round batches", "1.4"),
    ("engine-share", "cached share of re-sent tokens: stage", "re-sent prompt tokens that the cache had, M=3", "0.95"),
    ("overhead", "documents of 300 words a second", "documents a second and core around the engine", "1,500"),
    ("resume", "seconds", "seconds to plan and resume 1,000,000 segments", "10"),
    ("mixing", "stage / bare tokenizer", "tokens/s: `mix` / the bare tokenizer, one core", "0.7"),
    ("mixing", "two cores / one (", "tokens/s: `mix` on two cores / on one", "1.8"),
    ("order", "constant shares: seconds", "seconds to order 100 million sequences of 8 sources", "60"),
    ("loading", "planned / Streaming", "samples/s: the planned order / Streaming's shuffle", "0.95"),
    ("contamination", "MB/s a core: Parquet (", "MB/s a core searched for 10,000 evaluation examples", "20"),
    ("report", "s to open it", "seconds to open a report of 10,000 examples", "3"),
)
"""What the README shows: record, how the figure's name begins, what the README calls it, what it is to be at least or
at most."""
START, END = "<!-- figures, by benchmarks/page.py -->\n", "<!-- end of figures -->\n"


def folders() -> tuple[Path, Path]:
    """Of the records at full length, and of those that are brief."""
    return HERE / "results", HERE / "results" / "brief"


def headlines() -> str:
    """The README's table, of the longest run of each."""
    rows = ["| figure | wanted | measured | command |", "| --- | --- | --- | --- |"]
    for name, begins, title, wanted in HEADLINES:
        files = [folder / f"{name}.json" for folder in folders()]
        record = next((json.loads(file.read_text()) for file in files if file.exists()), None)
        if record is None or "failed" in record:
            continue
        figure = next(value for key, value in record["figures"].items() if key.startswith(begins))
        rows.append(f"| {title} | {wanted} | {figure} | `{record['command']}` |")
    return "\n".join(rows) + "\n"


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
    """Write the page and the table."""
    parts = [HEAD]
    count = 0
    for title, folder in zip((LONG, BRIEF), folders(), strict=True):
        files = sorted(folder.glob("*.json"))
        if files:
            parts.append(title)
            parts.extend(section(json.loads(file.read_text())) for file in files)
            count += len(files)
    (HERE / "RESULTS.md").write_text("\n".join(parts))
    readme = HERE.parent / "README.md"
    if readme.exists():
        before, _, rest = readme.read_text().partition(START)
        _, found, after = rest.partition(END)
        if found:
            readme.write_text(f"{before}{START}\n{headlines()}\n{END}{after}")
    print(f"{HERE / 'RESULTS.md'}: {count} results")


if __name__ == "__main__":
    main()
