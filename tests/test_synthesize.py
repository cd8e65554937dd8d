"""The synthesize stage under real Ray Data, with scripted engines: nothing lost or doubled, every reason counted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from scripted import Script

from ipt_stream.errors import InputError, LedgerError, RejectionLimitExceeded
from ipt_stream.ledger import read_ledger
from ipt_stream.stage import finished_report
from ipt_stream.status import read_status
from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize
from ipt_stream.synthesis.plan import segment_id
from ipt_stream.synthesis.prompt import Shot, format_prompt
from ipt_stream.synthesis.results import list_segments, load_rows, load_segment
from ipt_stream.synthesis.segment import SegmentRow, Status
from ipt_stream.synthesis.tokens import load_tokenizer

DOCUMENTS = 53


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    import ray

    from ipt_stream.synthesis.ray_session import ensure_ray

    ensure_ray()
    yield
    ray.shutdown()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two JSON-lines shards; row 5 of the first is empty, row 6 is no JSON, row 11 is longer than any prompt."""
    folder = tmp_path / "shards"
    folder.mkdir()
    lines = [json.dumps({"text": f"the miller of town {n}. " * (1 + n % 3), "id": f"d{n}"}) for n in range(DOCUMENTS)]
    lines[5] = json.dumps({"text": " \n", "id": "d5"})
    lines[6] = "{broken"
    lines[11] = json.dumps({"text": "the old bridge of stone was built by a keeper. " * 60, "id": "d11"})
    (folder / "a.jsonl").write_text("\n".join(lines[:40]) + "\n")
    (folder / "b.jsonl").write_text("\n".join(lines[40:]) + "\n")
    return folder


def settings(shards: Path, output: Path, model: Path, **changes: Any) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate(
        {
            "input": {"shards": [str(shards)]},
            "output": str(output),
            "rounds": 3,
            "segment_documents": 8,
            "engine": {"model": str(model), "max_model_len": 320, "max_new_tokens": 64},
            **changes,
        }
    )


def rows_of(output: Path) -> list[SegmentRow]:
    return [row for reference in list_segments(str(output)) for row in load_rows(reference)]


def check_whole(output: Path, shards: Path) -> None:
    """Every readable document of the input is in exactly one place, with its own text."""
    texts: dict[str, str] = {}
    for shard in sorted(shards.iterdir()):
        for number, line in enumerate(shard.read_text().splitlines()):
            if line.startswith('{"') and json.loads(line)["text"].strip():
                texts[f"{shard.name}:{number}"] = json.loads(line)["text"]
    found: dict[str, str] = {}
    for reference in list_segments(str(output)):
        content = load_segment(reference)
        here: dict[str, str] = {}
        for example in content.examples:
            for document_id, shot in zip(example.document_ids, example.shots, strict=True):
                here[document_id] = here.get(document_id, "") + shot.text
        for raw in content.raw:
            assert raw.document_id not in here, "a document is raw or augmented, not both"
            here[raw.document_id] = raw.text
        assert not here.keys() & found.keys(), "a document is in one segment"
        found |= here
    assert found == texts


@pytest.mark.usefixtures("ray_session")
class TestSynthesize:
    def test_a_local_session_has_no_processes_that_only_a_cluster_needs(self) -> None:
        started = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        assert any("gcs_server" in command for command in started)
        assert not [command for command in started if re.search(r"monitor\.py|dashboard\.py", command)]

    def test_conservation_and_counts(self, shards: Path, tmp_path: Path, model_folder: Path) -> None:
        output = tmp_path / "run"
        report = synthesize(settings(shards, output, model_folder), Script(empty=(3,), fail_once=(8,)))
        figures = report.figures
        assert figures["documents_in"] == DOCUMENTS
        assert (figures["rejected"], figures["augmented"], figures["raw"]) == (2, DOCUMENTS - 4, 2)  # row 3 of a and b
        assert figures["segments"] == 5 + 2
        check_whole(output, shards)
        assert any(line.startswith("rejected: bad_json 1, empty 1") for line in report.lines)
        assert read_status(str(output))["documents_done"] == DOCUMENTS

        rows = rows_of(output)
        by_id: dict[str, list[SegmentRow]] = {}
        for row in rows:
            by_id.setdefault(row.document_id, []).append(row)
        long = by_id["a.jsonl:11"]
        assert [row.piece for row in long] == list(range(len(long)))
        assert len(long) > 1, "a document longer than the budget is cut"
        assert max(row.prompt_tokens for row in rows) <= 320 - 64
        assert by_id["a.jsonl:3"][0].status is Status.NO_PAIRS
        assert by_id["a.jsonl:8"][0].status is Status.AUGMENTED, "a request that fails once is tried again"

        again = synthesize(settings(shards, output, model_folder), Script(answer="never asked"))
        assert again.skipped
        assert again.figures == figures
        with pytest.raises(LedgerError, match=r"rounds was 3, is 2"):
            synthesize(settings(shards, output, model_folder, rounds=2), Script())
        assert all(row.response_logprobs is not None for row in rows)
        assert all(len(row.response_logprobs or ()) == len(row.pairs) for row in rows)
        engine = {"model": str(model_folder), "max_model_len": 320, "max_new_tokens": 64, "response_logprobs": False}
        with pytest.raises(LedgerError, match=r"engine\.response_logprobs was True, is None"):
            synthesize(settings(shards, output, model_folder, engine=engine), Script())

    def test_prompts_are_the_inherited_shots_and_the_text(
        self, shards: Path, tmp_path: Path, model_folder: Path
    ) -> None:
        """Rebuild every prompt from the segment file: its length, and whether it inherits, follow from the rows."""
        output = tmp_path / "run"
        synthesize(settings(shards, output, model_folder, segment_documents=64), Script())
        tokenizer = load_tokenizer(str(model_folder)).tokenizer
        rows = sorted(rows_of(output), key=lambda row: (row.source, row.chain, row.round, row.piece))
        running: list[Shot] = []
        chain = ("", -1)
        for row in rows:
            if (row.source, row.chain) != chain:
                running, chain = [], (row.source, row.chain)
            with_all = tokenizer(format_prompt(running, row.text), add_special_tokens=False).input_ids
            assert row.inherits == bool(running and len(with_all) <= 320 - 64)
            if not row.inherits:
                running = []
            prompt = tokenizer(format_prompt(running, row.text), add_special_tokens=False).input_ids
            assert row.prompt_tokens == len(prompt)
            assert row.pairs[0].response == f"{len(prompt)} tokens", "the engine saw just that prompt"
            running.append(Shot(row.text, row.pairs))
        assert any(row.inherits and row.round == 2 for row in rows)

    def test_a_fraction_is_converted_and_the_rest_stays_raw(
        self, shards: Path, tmp_path: Path, model_folder: Path
    ) -> None:
        """And log-probabilities that were not asked for are not there."""
        output = tmp_path / "run"
        engine = {"model": str(model_folder), "max_model_len": 320, "max_new_tokens": 64, "response_logprobs": False}
        figures = synthesize(settings(shards, output, model_folder, fraction=0.3, engine=engine), Script()).figures
        assert {row.response_logprobs for row in rows_of(output)} == {None}
        assert 0 < int(figures["augmented"]) < DOCUMENTS / 2
        assert figures["raw_unselected"] == figures["raw"] == DOCUMENTS - 2 - int(figures["augmented"])
        check_whole(output, shards)

    def test_failed_requests_are_rejected_by_name_and_limited(
        self, shards: Path, tmp_path: Path, model_folder: Path
    ) -> None:
        output = tmp_path / "run"
        config = settings(shards, output, model_folder, limits={"rejected_share": 0.05})
        for _ in range(2):  # finished, but told again each time it is asked
            with pytest.raises(RejectionLimitExceeded, match=r"failed 2"):
                synthesize(config, Script(fail=(2,)))
        records = _records(output)
        assert records[segment_id(0, 0)]["rejected"] == {"empty": [5], "bad_json": [6], "failed": [2]}
        assert records[segment_id(1, 0)]["rejected"] == {"failed": [2]}

    def test_a_broken_shard_gives_its_readable_rows_and_is_reported(
        self, shards: Path, tmp_path: Path, model_folder: Path
    ) -> None:
        import zstandard

        whole = zstandard.ZstdCompressor().compress(
            "".join(json.dumps({"text": f"page {n} {os.urandom(200).hex()}"}) + "\n" for n in range(2000)).encode()
        )
        (shards / "c.jsonl.zst").write_bytes(whole[: len(whole) // 2])
        output = tmp_path / "run"
        with pytest.raises(RejectionLimitExceeded, match="1 shards were broken"):
            synthesize(settings(shards, output, model_folder), Script())
        allowed = settings(shards, output, model_folder, limits={"broken_shards": 1})
        figures = synthesize(allowed, Script()).figures
        assert figures["broken_shards"] == 1
        assert int(figures["documents_in"]) > DOCUMENTS + 100
        assert read_status(str(output))["broken_shards"] == 1

    def test_a_dead_engine_is_replaced_and_nothing_is_lost(
        self, shards: Path, tmp_path: Path, model_folder: Path
    ) -> None:
        output = tmp_path / "run"
        script = Script(die_marker=str(tmp_path / "died"), log=str(tmp_path / "log"))
        report = synthesize(settings(shards, output, model_folder), script)
        assert (tmp_path / "died").exists(), "the engine did die"
        workers = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
        assert report.figures["rejected"] == 2
        assert len(workers) >= 1
        check_whole(output, shards)

    def test_engines_between_bounds_lose_nothing(self, shards: Path, tmp_path: Path, model_folder: Path) -> None:
        output = tmp_path / "run"
        engine = {"model": str(model_folder), "max_model_len": 320, "max_new_tokens": 64, "replicas": [1, 2]}
        script = Script(delay_s=0.1, log=str(tmp_path / "log"))
        figures = synthesize(settings(shards, output, model_folder, engine=engine, segment_documents=4), script).figures
        assert (figures["documents_in"], figures["rejected"], figures["segments"]) == (DOCUMENTS, 2, 10 + 4)
        check_whole(output, shards)
        workers = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
        assert 1 <= len(workers) <= 2
        assert len(list((output / "engines").iterdir())) >= len(workers), "each has told what it is"

    def test_bad_input_is_refused_before_any_engine_starts(self, tmp_path: Path, model_folder: Path) -> None:
        def no_engine(*_: object) -> Any:
            raise AssertionError("an engine was started")

        with pytest.raises(InputError, match="no input matches"):
            synthesize(settings(tmp_path / "none.jsonl", tmp_path / "run", model_folder), no_engine)
        assert not (tmp_path / "run").exists()

    def test_an_altered_segment_file_is_found_out(self, shards: Path, tmp_path: Path, model_folder: Path) -> None:
        output = tmp_path / "run"
        synthesize(settings(shards, output, model_folder), Script())
        reference = list_segments(str(output))[0]
        Path(reference.path).write_bytes(Path(reference.path).read_bytes()[:-1] + b"x")
        with pytest.raises(InputError, match="was altered"):
            load_segment(reference)


DRIVER = """
import sys
from pathlib import Path
from scripted import Script
from test_synthesize import settings
from ipt_stream.synthesis.pipeline import synthesize
shards, output, model = map(Path, sys.argv[1:])
print(synthesize(settings(shards, output, model), Script(delay_s=0.6)).lines)
"""


def test_told_to_stop_while_it_starts_it_ends_well(shards: Path, tmp_path: Path, model_folder: Path) -> None:
    """The run is claimed, and Ray is being started: no engine is there yet, and none is waited for."""
    output = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(shards), str(output), str(model_folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (output / "driver.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"stopped early: signal {signal.SIGTERM}" in said
    assert not (output / "driver.json").exists()
    assert finished_report(str(output)) is None and _records(output) == {}


def _records(output: Path) -> dict[str, Any]:
    return {record["id"]: dict(record) for record in read_ledger(str(output))}
