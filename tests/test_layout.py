"""The package is laid out in the order in which data flows: no module imports one that comes later, none is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ipt_stream"
ORDER = [
    "corpus", "synthesis", "benchmark", "simulation", "tuning", "baselines", "mixture", "training", "evaluation",
    "analysis",
]  # fmt: skip
HEAVY = {"torch", "transformers", "vllm", "ray", "composer", "streaming", "lm_eval", "datasets", "numba", "pyarrow"}


def imported(module: Path) -> set[str]:
    """The subpackages that a module imports, at its top or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipt_stream"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names}


@pytest.mark.parametrize("part", ORDER)
def test_no_module_imports_one_that_comes_later(part: str) -> None:
    later = set(ORDER[ORDER.index(part) + 1 :])
    wrong = {str(file.relative_to(PACKAGE)): imported(file) & later for file in (PACKAGE / part).rglob("*.py")}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_command_line_and_all_settings_import_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ipt_stream.cli import main\nfrom ipt_stream.verbs import VERBS\n"
        "import ipt_stream.status, ipt_stream.recipe\n"
        "for verb in VERBS.values(): verb.load_config_class()\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_modules_say_what_they_are() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), file
