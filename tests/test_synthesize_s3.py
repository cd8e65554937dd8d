"""The synthesize stage on an object store that fails now and then: shards, model, segments, ledger and claim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from object_store import Store, environment, no_faults, now_and_then

from ipt_stream import storage
from ipt_stream.claim import read_claim
from ipt_stream.ledger import read_ledger
from ipt_stream.status import read_status
from ipt_stream.synthesis.results import list_segments, load_segment

DOCUMENTS = 120
DRIVER = """
import json, sys
from scripted import Script
from ipt_stream.progress import set_up_logging
from ipt_stream.synthesis.pipeline import SynthesizeConfig, synthesize
set_up_logging()
synthesize(SynthesizeConfig.model_validate(json.loads(sys.argv[1])), Script(delay_s=0.4))
"""


def test_a_run_on_a_failing_store_is_killed_and_resumed_and_loses_nothing(
    store: Store, tmp_path: Path, model_folder: Path
) -> None:
    texts = {}
    for shard in ("a", "b"):
        lines = [json.dumps({"text": f"the miller of town {shard}{n}. " * (1 + n % 3)}) for n in range(DOCUMENTS // 2)]
        storage.publish_bytes(f"{store.root}/in/{shard}.jsonl", "\n".join(lines).encode())
        texts |= {f"{shard}.jsonl:{n}": json.loads(line)["text"] for n, line in enumerate(lines)}
    for file in model_folder.iterdir():
        storage.publish_bytes(f"{store.root}/model/{file.name}", file.read_bytes())
    output = f"{store.root}/run"
    settings = {
        "input": {"shards": [f"{store.root}/in/*.jsonl"]},
        "output": output,
        "rounds": 3,
        "segment_documents": 6,
        "engine": {
            "model": f"{store.root}/model", "gpus": 0, "max_model_len": 320, "max_new_tokens": 64,
            "segments_in_flight": 2,
        },
    }  # fmt: skip
    variables = {**os.environ, **environment(store), "IPT_STREAM_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", DRIVER, json.dumps(settings)]
    store.script = now_and_then(seed=1, rate=0.05)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while sum(record["kind"] == "segment" for record in read_ledger(output)) < 3:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = {record["id"]: record for record in read_ledger(output)}
    assert read_status(output)["segments_done"] >= 3
    assert read_claim(output) is not None

    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert store.injected > 5, "the store did fail"
    store.script = no_faults
    after = {record["id"]: record for record in read_ledger(output)}
    assert {name: after[name] for name in before} == before
    found: dict[str, str] = {}
    for reference in list_segments(output):
        content = load_segment(reference)
        here = {
            document: shot.text
            for example in content.examples
            for document, shot in zip(example.document_ids, example.shots, strict=True)
        }
        here |= {raw.document_id: raw.text for raw in content.raw}
        assert not here.keys() & found.keys()
        found |= here
    assert found == texts
    assert read_status(output)["finished"]
    names = {stored.name for stored in storage.list_objects(f"{output}/segments")}
    assert len(names) == sum(record["kind"] == "segment" for record in after.values()) == DOCUMENTS // 6
