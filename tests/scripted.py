"""Engines that do as they are told: for tests of the logic around the real one. Importable by Ray's workers."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipt_stream.synthesis.engine import EngineConfig, EngineDied, Generation, Pulse, RequestFailed
from ipt_stream.synthesis.tokens import load_tokenizer


@dataclass(slots=True)
class Script:
    """What the scripted engine does.

    Attributes:
        answer: the text it generates, whatever it is asked; `{n}` becomes the number of prompt tokens.
        fail: rows (by the number in the request id) whose requests fail, always.
        fail_once: rows whose first attempt fails.
        empty: rows for which it generates nothing.
        delay_s: how long a request takes, at most.
        die_marker: a file; while it is absent, the engine dies on its third request, and makes it.
        log: a file that gets the id of every request, in order of completion.
    """

    answer: str = "<QUE> how long is it? <ANS> {n} tokens </END>\n\n<QUE> who was it? <ANS> the miller </END>"
    fail: tuple[int, ...] = ()
    fail_once: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    delay_s: float = 0.0
    die_marker: str = ""
    log: str = ""

    def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> ScriptedEngine:
        return ScriptedEngine(self, config)


class ScriptedEngine:
    def __init__(self, script: Script, config: EngineConfig) -> None:
        self.script = script
        self.tokenizer = load_tokenizer(config.model).tokenizer
        self.has_logprobs = config.response_logprobs
        self.requests: list[tuple[str, list[int]]] = []
        self.random = random.Random(0)

    async def generate(self, request_id: str, token_ids: list[int], priority: int = 0) -> Generation:
        self.requests.append((request_id, token_ids))
        number = len(self.requests)
        script = self.script
        place, attempt = request_id.rsplit(".", 1)
        row = int(place.split("/")[1].split(".")[0])
        await asyncio.sleep(self.random.random() * script.delay_s)
        if script.die_marker and number == 3 and not Path(script.die_marker).exists():
            Path(script.die_marker).touch()
            raise EngineDied("the script says so")
        if row in script.fail or (row in script.fail_once and attempt == "0"):
            raise RequestFailed(f"row {row} fails by script")
        if script.log:
            with Path(script.log).open("a") as file:
                file.write(f"{request_id} {os.getpid()} {time.time()}\n")
        text = "" if row in script.empty else script.answer.replace("{n}", str(len(token_ids)))
        ids = tuple(self.tokenizer(text, add_special_tokens=False).input_ids)
        return Generation(ids, 0, tuple(-token / 1000 for token in ids) if self.has_logprobs else None)

    def pulse(self) -> Pulse:
        return Pulse(steps=len(self.requests))

    def facts(self) -> dict[str, Any]:
        return {"engine": "scripted"}

    def kill(self) -> None:
        pass

    def shutdown(self) -> None:
        pass
