"""Questions to a judge, and what came back: each answer kept on disk, unreadable ones asked again, all of it counted.

    question --key--> cache? --no--> judge --publish--> cache
                        `--yes---------------------------`--> read --unreadable--> the same question, next attempt

An answer is kept under a hash of who was asked what, for which time, and is published as soon as it is there: what was
ended, or failed in its midst, goes on without paying twice. Answers that can't be read are kept too: they were paid
for.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ipt_stream import storage
from ipt_stream.analysis.judging.settings import JudgeSettings
from ipt_stream.errors import EvaluationError, InputError
from ipt_stream.progress import log, meter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked.

    Attributes:
        system: what it is to do; the same for all questions of a kind, so that caches hold it.
        user: what it is to judge, set apart as data.
        schema: JSON schema of the answer: an object of which every property is required.
    """

    system: str
    user: str
    schema: Mapping[str, Any]

    def key(self, identity: Mapping[str, Any], attempt: int) -> str:
        """The name of the answer of the judge of that identity, 64 hex digits."""
        content = [identity, self.system, self.user, self.schema, attempt]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        text: what the judge said; empty where it said nothing.
        tokens_in: tokens of the question, as the judge counts them.
        tokens_out: tokens of the answer.
        problem: why there is no answer (`refused`, `too long`, `malformed`); empty where there is one. Such are kept
            where they were paid for.
    """

    text: str
    tokens_in: int
    tokens_out: int
    problem: str = ""


class Judge(Protocol):
    """Who can be asked."""

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The answer to each question by its index, in any order, as they come.

        Raises:
            EvaluationError: nobody answers, for long, or the judge may not be asked.
        """
        ...


OpenJudge = Callable[[JudgeSettings], AbstractContextManager[Judge]]


@dataclass(slots=True)
class Bill:
    """What was asked, and what it cost.

    Attributes:
        questions: questions that were to be answered.
        asked: requests that were answered now.
        cached: answers that were there before.
        unreadable: questions whose answers can't be read, however often they were asked.
        problems: questions without an answer, by reason.
        tokens_in: tokens of all questions, those answered before too.
        tokens_out: tokens of all answers, those from before too.
        tokens_in_now: of the questions asked now.
        tokens_out_now: of their answers.
    """

    questions: int = 0
    asked: int = 0
    cached: int = 0
    unreadable: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_in_now: int = 0
    tokens_out_now: int = 0

    def count(self, answer: Answer, now: bool) -> None:
        """Count one answer that was, or once was, paid for."""
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out
        if now:
            self.asked += 1
            self.tokens_in_now += answer.tokens_in
            self.tokens_out_now += answer.tokens_out
        else:
            self.cached += 1

    def cost(self, settings: JudgeSettings) -> float:
        """What all answers cost by the endpoint's prices, those from before too; 0 for a local model."""
        found = settings.endpoint
        return 0.0 if found is None else (self.tokens_in * found.price_in + self.tokens_out * found.price_out) / 1e6


@dataclass(slots=True)
class Asked(Generic[T]):
    """What became of each question: what its answer was read as, or why there is none."""

    values: list[T | None]
    reasons: list[str]
    bill: Bill


def cache_of(settings: JudgeSettings, output: str) -> str:
    """Where the answers are kept, for an analysis in `output`."""
    if settings.cache is not None:
        return settings.cache
    return storage.join(posixpath.dirname(output.rstrip("/")), "judge")


def ask_all(
    questions: Sequence[Question],
    settings: JudgeSettings,
    cache: str,
    read: Callable[[Question, str], T | None],
    open_judge: OpenJudge,
) -> Asked[T]:
    """Have all `questions` answered; the judge is only opened where an answer is not there yet.

    Args:
        questions: what is asked.
        settings: who is asked, and how often.
        cache: directory of the answers.
        read: what an answer says, or None where it can't be read.
        open_judge: gives the judge of the settings.

    Raises:
        EvaluationError: the judge does not answer, or has an answer to none of many questions.
        InputError: a kept answer was altered.
    """
    identity = settings.identity()
    done: Asked[T] = Asked([None] * len(questions), [""] * len(questions), Bill(questions=len(questions)))
    open_ = list(range(len(questions)))
    for attempt in range(settings.attempts):
        missing: list[tuple[int, str]] = []
        for index in open_:
            key = questions[index].key(identity, attempt)
            known = _kept(cache, key)
            if known is None:
                missing.append((index, key))
            else:
                done.bill.count(known, now=False)
                done.values[index], done.reasons[index] = _read(read, questions[index], known)
        if missing:
            _ask(questions, missing, settings, cache, read, open_judge, done)
        open_ = [index for index in open_ if done.reasons[index] in ("unreadable", "malformed")]
        if not open_:
            break
    for reason in filter(None, done.reasons):
        done.bill.problems[reason] = done.bill.problems.get(reason, 0) + 1
    done.bill.unreadable = done.bill.problems.pop("unreadable", 0)
    if len(questions) and all(done.reasons):
        raise EvaluationError(
            f"the judge {settings.name()} gave no answer that can be read",
            wanted=f"answers to {len(questions):,} questions",
            got=", ".join(f"{count:,} {reason}" for reason, count in _counted(done.reasons)),
            fix="see the log; another model, or response_format where the endpoint has no structured output",
        )
    return done


def _ask(
    questions: Sequence[Question],
    missing: Sequence[tuple[int, str]],
    settings: JudgeSettings,
    cache: str,
    read: Callable[[Question, str], T | None],
    open_judge: OpenJudge,
    done: Asked[T],
) -> None:
    with open_judge(settings) as judge, meter("judge", len(missing), "answers") as shown:
        for place, answer in judge.ask([questions[index] for index, _ in missing]):
            index, key = missing[place]
            done.bill.count(answer, now=True)
            if not answer.problem or answer.tokens_in + answer.tokens_out:
                storage.publish_json(_path(cache, key), asdict(answer))
            done.values[index], done.reasons[index] = _read(read, questions[index], answer)
            shown.update(1, {"unreadable": sum(map(bool, done.reasons))})


def _read(read: Callable[[Question, str], T | None], question: Question, answer: Answer) -> tuple[T | None, str]:
    if answer.problem:
        return None, answer.problem
    value = read(question, answer.text)
    if value is None:
        log.debug("an answer can't be read: %.200r", answer.text)
        return None, "unreadable"
    return value, ""


def _kept(cache: str, key: str) -> Answer | None:
    path = _path(cache, key)
    if not storage.exists(path):
        return None
    try:
        return Answer(**storage.read_json(path))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no judge's answer", got=str(error), fix="remove it, to ask again") from error


def _path(cache: str, key: str) -> str:
    return storage.join(cache, key[:2], f"{key}.json")


def _counted(reasons: Sequence[str]) -> list[tuple[str, int]]:
    return [(reason, reasons.count(reason)) for reason in sorted(set(reasons))]


def open_judge(settings: JudgeSettings) -> AbstractContextManager[Judge]:
    """The judge of `settings`. Raises `ConfigError` or `EngineError` where it can't be had."""
    if settings.endpoint is not None:
        from ipt_stream.analysis.judging.endpoint import EndpointJudge

        return EndpointJudge(settings.endpoint)
    from ipt_stream.analysis.judging.local import LocalJudge

    assert settings.local is not None  # JudgeSettings holds one of the two
    return LocalJudge(settings.local)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, or that stands alone in it, in a fence or after a thought; None without one."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        found = json.loads(text[start : end + 1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
