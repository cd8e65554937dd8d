"""`make bench`: every benchmark of its table is there and takes its arguments, and one that fails stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

PARSE = """
import argparse, json, runpy, sys
sys.path.insert(0, {folder!r})
import all as table
from ipt_stream import config
class Parsed(Exception): pass
def then_stop(parse):
    def parsed(*args, **named):
        parse(*args, **named)
        raise Parsed
    return parsed
argparse.ArgumentParser.parse_args = then_stop(argparse.ArgumentParser.parse_args)
config.load_config = then_stop(config.load_config)  # of scripts that take a configuration
wrong = {{}}
for bench in table.BENCHES:
    if not bench.script.is_file():
        wrong[bench.name] = "no such script"
        continue
    sys.argv = [str(bench.script), *bench.arguments]
    try:
        runpy.run_path(str(bench.script), run_name="__main__")
        wrong[bench.name] = "it did not parse its arguments"
    except Parsed:
        pass
    except SystemExit as error:
        wrong[bench.name] = f"it refuses its arguments: {{error.code}}"
names = [bench.result for bench in table.BENCHES]
minutes = sum(bench.minutes for bench in table.BENCHES)
print(json.dumps({{"wrong": wrong, "results": names, "minutes": minutes}}))
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_every_benchmark_of_the_table_is_there_and_takes_its_arguments() -> None:
    done = python(PARSE.format(folder=str(BENCHMARKS)))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == {}
    assert len(set(found["results"])) == len(found["results"])
    assert found["minutes"] < 40


RUN = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import all as table, common, page
table.HERE = common.HERE = page.HERE = Path(sys.argv[1])
table.LOGS = Path(sys.argv[1], "logs")
table.PATIENCE = 0
names = sys.argv[2:]
sys.argv = ["all.py"]
sys.exit(table.main([table.Bench(name, "What " + name + " is", (), 0.1, name) for name in names]))
"""
GOOD = """
import json, os, pathlib
record = {"title": "Good", "command": "python good.py", "date": "today", "machine": "m", "versions": {"ray": "1"},
          "python": "3", "figures": {"one": 1}, "notes": ""}
folder = pathlib.Path(os.environ["IPT_STREAM_BENCHMARK_RESULTS"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "good.json").write_text(json.dumps(record))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder like `benchmarks/` with a benchmark that works, one that fails and one that writes nothing."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text("print('so far so good')\nraise ValueError('no such model')\n")
    (folder / "silent.py").write_text("print('all is well')\n")
    return folder


def test_one_that_fails_is_on_the_page_and_the_others_run(bench: Path) -> None:
    stale = bench / "results" / "brief" / "silent.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    done = python(RUN.format(folder=str(BENCHMARKS)), str(bench), "bad", "silent", "good")
    assert done.returncode == 1, done.stderr
    assert "1 of 3  bad" in done.stdout and "3 of 3  good" in done.stdout and "1 done, 2 failed" in done.stdout
    page = (bench / "RESULTS.md").read_text()
    assert "## What bad is" in page and "**Failed**: exit code 1: ValueError: no such model" in page
    assert "**Failed**: it wrote no silent.json: all is well" in page
    assert "## Good" in page and "| one | 1 |" in page and "`python good.py`, today, in 0.0 min" in page
    assert "`python benchmarks/bad.py`" in page
    assert "# In brief, by `make bench`" in page and "# At full length" not in page


def test_all_that_work_end_with_0_and_a_name_that_is_none_is_refused(bench: Path) -> None:
    assert python(RUN.format(folder=str(BENCHMARKS)), str(bench), "good").returncode == 0
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "all.py"), "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no benchmark is called nonsense" in done.stderr


def test_the_readme_shows_what_the_results_say() -> None:
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import page; print(page.headlines(), end='')"
    table = python(code).stdout
    assert table.count("\n") > 5, "a table with some figures"
    assert table in (BENCHMARKS.parent / "README.md").read_text(), "run python benchmarks/page.py"
