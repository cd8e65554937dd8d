"""Whether synthesized pairs help a language model with a task on the same text (paper, section 5.1, figure 5).

The model is asked a gold instruction of a text, with pairs between the two:

    {text}

    Question: {instruction of a pair}
    Answer: {its response}

    Question: {the gold instruction}
    Answer:

and the pairs are none, gold ones of a different text, or those that each synthesizer made of this text. Three scores:
F1 of what it answers against the gold answer (the paper's way: it generates), the log probability of the gold answer a
token, and, where there are options, whether the gold one has the highest of them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from ipt_stream.analysis.local_model import Model
from ipt_stream.config import Settings
from ipt_stream.corpus.pair import COT_ANSWER, COT_REQUEST, OPTIONS_HEADER, Pair
from ipt_stream.draw import pick, seeded
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.prompt import neutralize
from ipt_stream.tuning.pairs import TuningExample
from ipt_stream.tuning.quality import token_f1

WITHOUT, RANDOM = "no pairs", "random pairs"
_STOP = ("\n\n", "\nQuestion:")


class HelpfulnessSettings(Settings):
    """The language model that is to be helped, and how much it is asked."""

    model: EngineConfig
    """The model and how its engine runs it; the paper takes the base model of its synthesizer."""
    questions: int = Field(200, ge=1)
    """Questions of the seen sources, and as many of the unseen ones: at most one a text."""
    max_new_tokens: int = Field(64, ge=1)
    """Tokens of an answer at most."""


@dataclass(frozen=True, slots=True)
class Helped:
    """What the model answered to one question with one kind of pairs.

    Attributes:
        group: `seen` or `unseen`.
        source: the data set of the text.
        pairs: which pairs were in the prompt: `no pairs`, `random pairs`, or a synthesizer's name.
        given: how many.
        f1: of its answer against the gold one.
        log_probability: of the gold answer, the mean of its tokens, natural logarithm.
        right: whether the gold option is the likeliest a token; None where there are no options.
    """

    group: str
    source: str
    pairs: str
    given: int
    f1: float
    log_probability: float
    right: bool | None


@dataclass(frozen=True, slots=True)
class Question:
    """A gold pair as a question about its text.

    Attributes:
        group: `seen` or `unseen`.
        example: the text and its gold pairs.
        instruction: the gold instruction, without the request to think.
        answer: the gold answer, without the thought.
        options: of multiple choice, where the answer is one of them.
    """

    group: str
    example: TuningExample
    instruction: str
    answer: str
    options: tuple[str, ...]


def as_question(group: str, example: TuningExample, pair: Pair) -> Question:
    """`pair` asked directly: without its thought."""
    instruction = pair.instruction.removesuffix(COT_REQUEST)
    listed = instruction.partition(OPTIONS_HEADER)[2]
    options = tuple(line.removeprefix("- ").strip() for line in listed.splitlines() if line.strip())
    answer = _final(pair.response)
    return Question(group, example, instruction, answer, options if answer in options else ())


def help_prompt(text: str, pairs: Sequence[Pair], instruction: str) -> str:
    """What the model is given: the text, the pairs, the question, with a blank line between each."""
    asked = [f"Question: {pair.instruction}\nAnswer: {pair.response}" for pair in pairs]
    return "\n\n".join([text, *asked, f"Question: {instruction}\nAnswer:"])


def random_pairs(question: Question, examples: Sequence[TuningExample], seed: int) -> tuple[Pair, ...]:
    """The gold pairs of another text, drawn by the question's; none where there is no other."""
    others = [item for item in examples if item.document != question.example.document]
    name = f"random pairs:{question.example.document}:{question.instruction}"
    return pick(seeded(seed, name), others).pairs if others else ()


def measure_help(
    model: Model,
    questions: Sequence[Question],
    pairs: Mapping[str, Sequence[Sequence[Pair]]],
    max_new_tokens: int,
) -> tuple[list[Helped], int]:
    """What `model` answers to each question with each kind of pairs, and how many questions don't fit its window.

    Args:
        model: the language model.
        questions: what it is asked.
        pairs: by their kind, those for each question. Where all of them don't fit, the last ones are left out.
        max_new_tokens: tokens of an answer at most.
    """
    asked: list[tuple[Question, str, int, str]] = []
    left_out = 0
    for number, question in enumerate(questions):
        spare = 2 + max([max_new_tokens, *(model.length(f" {text}") for text in (question.answer, *question.options))])
        prompts = {kind: _fitting(model, question, given[number], spare) for kind, given in pairs.items()}
        if any(prompt is None for prompt in prompts.values()):
            left_out += 1
            continue
        asked += [(question, kind, *prompt) for kind, prompt in prompts.items() if prompt is not None]
    texts = [prompt for *_, prompt in asked]
    answers = model.generate(texts, max_new_tokens, _STOP)
    gold = model.score([(prompt, _plain(model, f" {question.answer}")) for question, *_, prompt in asked])
    options = [(at, option) for at, (question, *_) in enumerate(asked) for option in question.options]
    scores = model.score([(texts[at], _plain(model, f" {option}")) for at, option in options])
    chosen: dict[int, list[tuple[float, str]]] = {}
    for (at, option), score in zip(options, scores, strict=True):
        chosen.setdefault(at, []).append((score.a_token(), option))
    found = []
    for at, (question, kind, given, _) in enumerate(asked):
        best = max(chosen[at], key=lambda item: item[0])[1] if at in chosen else None
        found.append(
            Helped(
                group=question.group,
                source=question.example.source,
                pairs=kind,
                given=given,
                f1=token_f1(_final(answers[at].text.strip()), question.answer),
                log_probability=gold[at].a_token(),
                right=None if best is None else best == question.answer,
            )
        )
    return found, left_out


def to_json(found: Sequence[Helped]) -> list[dict[str, Any]]:
    """The records as JSON holds them."""
    return [asdict(item) for item in found]


def _fitting(model: Model, question: Question, pairs: Sequence[Pair], spare: int) -> tuple[int, str] | None:
    """The prompt with as many of `pairs` as fit, and how many these are; None where not even the text does."""
    for count in range(len(pairs), -1, -1):
        text = help_prompt(question.example.context, pairs[:count], question.instruction)
        prompt = model.begin + _plain(model, text)
        if model.length(prompt) + spare <= model.window:
            return count, prompt
    return None


def _plain(model: Model, text: str) -> str:
    """`text` in which the model's special tokens stay text."""
    return neutralize(text, model.markers)


def _final(response: str) -> str:
    """The answer of a response: what follows the thought, where there is one."""
    return response.rpartition(COT_ANSWER)[2].strip()
