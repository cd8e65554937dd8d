"""What both backends share: texts to tokens, cut to the model's window and counted, BOS where it is wanted, a meter.

`Metered` goes before one of lm-eval's model classes, which brings the tokenizer and the model:

- texts are tokenized in batches, each once (lm-eval: one call a text, contexts once a choice);
- what doesn't fit the window is cut from the left and counted, continuations too, which lm-eval asserts to fit;
- a likelihood knows of how many tokens it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.metrics import Likelihood
from ipt_stream.progress import meter

TEXTS_A_BATCH = 2048

if TYPE_CHECKING:

    class _LanguageModel:
        """What `Metered` needs of the class that it goes before."""

        tokenizer: Any
        add_bos_token: bool | None
        prefix_token_id: int
        max_length: int
        max_gen_toks: int

        def tok_encode(self, string: Any, add_special_tokens: bool | None = None, **settings: Any) -> Any: ...

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]: ...

else:
    _LanguageModel = object


class Metered(_LanguageModel):
    """Scoring and generation for lm-eval, from requests to tokens and back.

    Attributes:
        label: what the meter shows.
        bos: whether every prompt begins with BOS, even where the tokenizer adds none.
        truncated: (task, question) of those that didn't fit the window; the caller clears it.
    """

    label: str
    bos: bool
    truncated: set[tuple[str | None, int | None]]
    _known: dict[str, list[int]]
    _room: int

    def set_up(self, room: int) -> None:
        """Begin, with room for so many tokens of context and continuation together."""
        self.label, self.bos, self.truncated = "evaluate", False, set()
        self._known, self._room = {}, room

    @abstractmethod
    def close(self) -> None:
        """Give back what the model holds."""

    @abstractmethod
    def _score_all(self, requests: Sequence[tuple[list[int], list[int]]]) -> Iterator[dict[int, Likelihood]]:
        """The likelihood of each (context, continuation) by its index, a batch at a time, in any order."""

    @abstractmethod
    def _generate_all(
        self, prompts: Sequence[list[int]], settings: Mapping[str, Any], most: int
    ) -> Iterator[dict[int, str]]:
        """What follows each prompt, at most `most` tokens, by its index, a batch at a time, in any order."""

    @abstractmethod
    def _most_generated(self, settings: Mapping[str, Any]) -> int:
        """The most tokens that lm-eval's generation settings allow."""

    def tok_encode(self, string: Any, add_special_tokens: bool | None = None, **settings: Any) -> Any:
        """The tokens of `string`, from the batch tokenized last where it is in there."""
        if add_special_tokens is None and isinstance(string, str) and (known := self._known.get(string)) is not None:
            return known
        return super().tok_encode(string, add_special_tokens=add_special_tokens, **settings)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[Likelihood]:
        """The answer to each request, a (context, continuation) pair of texts, in order."""
        encoded = []
        for start in range(0, len(requests), TEXTS_A_BATCH):
            part = requests[start : start + TEXTS_A_BATCH]
            self._tokenize({text for request in part for text in _texts(*request.args)})
            for request in part:
                context, continuation, cut = self._encode(*request.args)
                encoded.append((context, continuation))
                if cut:
                    self.truncated.add((request.task_name, request.doc_id))
        self._known = {}
        return self._answer(encoded)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = True,
        override_bs: int | None = None,
    ) -> list[Likelihood]:
        """The answers to requests that are tokens already: lm-eval's rolling windows come this way."""
        return self._answer([(context, continuation) for _, context, continuation in requests])

    def _answer(self, requests: Sequence[tuple[list[int], list[int]]]) -> list[Likelihood]:
        answers: dict[int, Likelihood] = {}
        with meter(self.label, len(requests), "answers") as shown:
            for batch in self._score_all(requests):
                answers |= batch
                shown.update(len(batch))
        return [answers[index] for index in range(len(requests))]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """What follows each request's text, up to a stop string or the most tokens that it allows, in order.

        Raises:
            EvaluationError: the window has no room for a prompt and that many tokens.
        """
        groups: dict[str, list[int]] = {}  # by settings: a task has one, several tasks may differ
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(index)
        texts: dict[int, str] = {}
        with meter(self.label, len(requests), "answers") as shown:
            for indices in groups.values():
                settings = requests[indices[0]].args[1]
                most = self._most_generated(settings)
                prompts = [self._prompt(requests[index], most) for index in indices]
                for batch in self._generate_all(prompts, settings, most):
                    texts |= {indices[place]: text for place, text in batch.items()}
                    shown.update(len(batch))
        return [texts[index] for index in range(len(requests))]

    def _tokenize(self, texts: set[str]) -> None:
        """Fill the memory that `tok_encode` looks into, with what it would have given for each text."""
        first = self.tokenizer.decode(self.prefix_token_id)
        plain = sorted(text for text in texts if not text.startswith(first))
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        ids = self.tokenizer(plain, return_attention_mask=False, **special)["input_ids"] if plain else []
        self._known = dict(zip(plain, ids, strict=True))

    def _encode(self, context: str, continuation: str) -> tuple[list[int], list[int], bool]:
        """Tokens of the context and of the continuation, at least one each, and whether they were cut to the window."""
        if context.strip():
            before, scored = self._encode_pair(context, continuation)
        else:
            before, scored = [], self.tok_encode(context + continuation, add_special_tokens=False)
        if not scored:  # the tokenizer merged the continuation into the context's last token
            *before, last = self.tok_encode(context + continuation)
            scored = [last]
        before = self._with_bos(before) or [self.prefix_token_id]
        cut = len(before) + len(scored) > self._room
        scored = scored[-(self._room - 1) :]
        return before[-(self._room - len(scored)) :], scored, cut

    def _prompt(self, request: Any, most: int) -> list[int]:
        """A prompt's tokens, at least one, cut so that `most` more fit the window."""
        room = self.max_length - most
        if room < 1:
            raise EvaluationError(
                f"task {request.task_name} can't be generated",
                wanted=f"a window of more than the {most:,} tokens that an answer may have",
                got=f"{self.max_length:,}",
                fix="raise max_length, or take a model with a longer window",
            )
        tokens = self._with_bos(self.tok_encode(request.args[0])) or [self.prefix_token_id]
        if len(tokens) > room:
            self.truncated.add((request.task_name, request.doc_id))
        return tokens[-room:]

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return tokens if not self.bos or bos is None or tokens[:1] == [bos] else [bos, *tokens]


def _texts(context: str, continuation: str) -> tuple[str, str]:
    """The two texts that lm-eval encodes for a pair: all of it, and the context without the spaces at its end."""
    return context + continuation, context.rstrip()
