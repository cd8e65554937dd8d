"""What tests share: a small tokenizer and model made on the spot, and scripted engines for the logic around one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from object_store import Store

# A busy one takes long for an example, or for drawing it, now and then.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SHARED = Path(os.environ.get("IPT_STREAM_SHARED", Path(__file__).parents[2] / "shared")) / "data"

# Engines scripted in tests are made in Ray's workers.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(
    os.pathsep
)

# Files with real engines, clusters and faults, which share a process, and those that take long beside them.
SLOW = [
    "end_to_end",
    "faults",
    "benchmark",
    "cluster",
    "synthesize",
    "evaluate_domain",
]
LONG = ["pretrain_ranks", "job", "synthesize_s3", "tune_ranks", "instruct_ranks", "pretrain", "engine"]
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes of as many threads as cores stand in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"

WORDS = ["the", "river", "bridge", "miller", "keeper", "of", "a", "by", "old", "who", "what", "was", "built", "town"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Slow files share one process, so that engines and clusters stay out of each other's way; others go by file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.split("::", 1)[0]).stem.removeprefix("test_")
            return "slow" if name in SLOW else name

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow and long files first; the order within a file stays."""
    place = {f"test_{name}": number for number, name in enumerate(SLOW + LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("real data is not here: set IPT_STREAM_SHARED to a folder that holds data/")
    return SHARED


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An S3 server of this test alone, with an empty bucket: what s3:// URLs reach."""
    from object_store import reach, serve

    with serve() as proxy, reach(proxy, monkeypatch) as reached:
        yield reached


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Mistral model of 0.2M parameters with its byte-level BPE tokenizer."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from ipt_stream.tuning.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("model")
    texts = [" ".join(WORDS), "<s> <CON> x </CON>\n\n<QUE> y? <ANS> z </END></s>"] * 20
    tokenizer = train_tokenizer(texts, 400)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        sliding_window=None,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    return folder
