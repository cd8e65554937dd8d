"""A judge behind an HTTP endpoint that speaks OpenAI's chat completions, through OpenAI's own client."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from ipt_stream.analysis.judging.asking import Answer, Question
from ipt_stream.analysis.judging.settings import EndpointSettings, ResponseFormat
from ipt_stream.errors import ConfigError, EvaluationError
from ipt_stream.progress import log

REFUSED = (400, 413, 422, 451)
"""Statuses that are about one question: it is too long, or its content may not be asked about."""
DENIED = (401, 402, 403, 404, 405)
"""Statuses that are about all of them."""


class EndpointJudge:
    """The judge; use it in `with`.

    Raises:
        ConfigError: there is no key in the environment.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        from openai import OpenAI

        key = ""
        if settings.key_variable is not None:
            key = os.environ.get(settings.key_variable, "")
            if not key:
                raise ConfigError(
                    f"no key for {settings.base_url}",
                    wanted=f"it in the environment variable {settings.key_variable}",
                    got="none there",
                    fix="export it, name another in judge.endpoint.key_variable, or set that to null",
                )
        self._settings, self._key = settings, key
        self._client = OpenAI(
            base_url=settings.base_url,
            api_key=key or "none",
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )
        self._told = False

    def __enter__(self) -> EndpointJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The answers as they come.

        Raises:
            EvaluationError: the endpoint does not answer after all tries, or answers nobody.
        """
        stopping = threading.Event()
        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="judge")
        places = {pool.submit(self._one, question, stopping): index for index, question in enumerate(questions)}
        failed: EvaluationError | None = None
        try:
            for future in as_completed(places):
                try:
                    answer = future.result()
                except EvaluationError as error:
                    failed = failed or error  # what is under way will be paid for: it is waited for and kept
                    continue
                if answer is not None:
                    yield places[future], answer
            if failed is not None:
                raise failed
        finally:
            stopping.set()
            pool.shutdown()

    def _one(self, question: Question, stopping: threading.Event) -> Answer | None:
        """The answer to one question; None where it is not asked any more. A failure ends the asking."""
        import openai

        if stopping.is_set():
            return None
        try:
            found: Any = self._client.chat.completions.create(**self._request(question))
        except openai.APIStatusError as error:
            if error.status_code in REFUSED:
                self._tell(error)
                return Answer("", 0, 0, "refused")
            stopping.set()
            raise self._failed(error, denied=error.status_code in DENIED) from error
        except (openai.APIConnectionError, openai.APITimeoutError) as error:
            stopping.set()
            raise self._failed(error, denied=False) from error
        except (openai.APIError, ValueError) as error:  # an answer that is not JSON, or of another form
            self._tell(error)
            return Answer("", 0, 0, "malformed")
        return _answer(found)

    def _request(self, question: Question) -> dict[str, Any]:
        settings = self._settings
        request: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}],
        }
        if settings.max_tokens is not None:
            request["max_tokens"] = settings.max_tokens
        if settings.temperature is not None:
            request["temperature"] = settings.temperature
        if settings.response_format is ResponseFormat.JSON_SCHEMA:
            schema = {"name": "judgement", "strict": True, "schema": dict(question.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif settings.response_format is ResponseFormat.JSON_OBJECT:
            request["response_format"] = {"type": "json_object"}
        if settings.extra:
            request["extra_body"] = settings.extra
        return request

    def _tell(self, error: Exception) -> None:
        """Log the first of what may be many."""
        if not self._told:
            self._told = True
            log.warning("judge: %s", self._clean(error))

    def _failed(self, error: Exception, denied: bool) -> EvaluationError:
        settings = self._settings
        fix = (
            f"check base_url, model and the key in {settings.key_variable}"
            if denied
            else "run again when it answers: what was answered is kept; raise retries or timeout_s, lower concurrency"
        )
        return EvaluationError(
            f"the judge at {settings.base_url} does not answer", wanted=settings.model, got=self._clean(error), fix=fix
        )

    def _clean(self, error: Exception) -> str:
        """What went wrong, without the key."""
        text = f"{type(error).__name__}: {error}"[:500]
        return text.replace(self._key, "***") if self._key else text


def _answer(found: Any) -> Answer:
    """What a completion holds; endpoints differ in what they leave out."""
    choices = getattr(found, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    usage = getattr(found, "usage", None)
    tokens_in, tokens_out = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    if message is None:
        return Answer("", tokens_in, tokens_out, "malformed")
    if getattr(message, "refusal", None):
        return Answer("", tokens_in, tokens_out, "refused")
    content = getattr(message, "content", None)
    return Answer(content if isinstance(content, str) else "", tokens_in, tokens_out)


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else 0
