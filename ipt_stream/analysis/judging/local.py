"""A judge in vLLM on this machine: its answers are held to the JSON schema while they are generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ipt_stream.analysis.judging.asking import Answer, Question
from ipt_stream.analysis.local_model import LocalModel
from ipt_stream.synthesis.engine import EngineConfig
from ipt_stream.synthesis.prompt import neutralize

AT_ONCE = 256
"""Questions between which answers are kept."""


class LocalJudge:
    """The judge; use it in `with`.

    Raises:
        ConfigError, EngineError: as `LocalModel`.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config, self._model = config, LocalModel(config)

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The answers, some hundreds at a time. Raises `EngineError` where the engine fails."""
        model, limit = self._model, self._config.max_new_tokens
        fitting: list[tuple[int, str, Mapping[str, Any]]] = []
        for index, question in enumerate(questions):
            prompt = chat_prompt(model.tokenizer, model.begin, model.markers, question)
            if model.length(prompt) + limit > model.window:
                yield index, Answer("", 0, 0, "too long")
            else:
                fitting.append((index, prompt, question.schema))
        for start in range(0, len(fitting), AT_ONCE):
            part = fitting[start : start + AT_ONCE]
            prompts, schemas = [prompt for _, prompt, _ in part], [schema for *_, schema in part]
            for (index, _, _), reply in zip(part, model.generate(prompts, limit, schemas=schemas), strict=True):
                yield index, Answer(reply.text, reply.prompt_tokens, reply.generated_tokens)


def chat_prompt(tokenizer: Any, begin: str, markers: Sequence[str], question: Question) -> str:
    """The question in the model's chat template, or as plain text where it has none; special tokens in it stay text."""
    system, user = (neutralize(text, markers) for text in (question.system, question.user))
    if not tokenizer.chat_template:
        return f"{begin}{system}\n\n{user}\n\nJSON:"
    from jinja2.exceptions import TemplateError

    def rendered(messages: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    try:
        return rendered([{"role": "system", "content": system}, {"role": "user", "content": user}])
    except TemplateError:  # some templates know no system message
        return rendered([{"role": "user", "content": f"{system}\n\n{user}"}])
