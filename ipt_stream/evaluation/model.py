"""A Hugging Face folder as lm-eval's language model.

Importing this imports lm-eval, torch and transformers; import it inside functions, after `quiet.calm_libraries`.

`MeteredLM` is lm-eval's own `HFLM` with another way to score continuations, for many short questions on few cores.
Likelihoods are the same up to rounding:

- texts are tokenized in batches, each once (lm-eval: one call a text, contexts once a choice);
- a context is computed once for all its choices (`branches`), where the model's attention takes a mask;
- a batch holds a number of *tokens*, not of sequences;
- logits are computed for the predicted positions alone;
- what doesn't fit the model's window is cut from the left and counted, continuations too, which lm-eval asserts to fit.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.branches import Tree, batches, grow
from ipt_stream.progress import meter

TEXTS_A_BATCH = 2048

Answer = tuple[float, bool]  # log likelihood, and whether it is the greedy continuation


class MeteredLM(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """`HFLM` with batched tokenization, shared contexts, batches by tokens, and a meter.

    Attributes:
        label: what the meter shows.
        shares: whether a context is computed once for its choices; not where the model's attention takes no mask.
        truncated: (task, question) of those that didn't fit the window; the caller clears it.
    """

    def __init__(self, folder: str, *, batch_size: int, batch_tokens: int, **settings: Any) -> None:
        super().__init__(pretrained=folder, batch_size=batch_size, **settings)
        self.label = "evaluate"
        self.truncated: set[tuple[str | None, int | None]] = set()
        self._most_trees, self._most_tokens = batch_size, batch_tokens
        self._window = self.max_length
        self._known: dict[str, list[int]] = {}
        accepted = inspect.signature(self.model.forward).parameters
        self._trims = "logits_to_keep" in accepted
        config = self.model.config.get_text_config()
        sliding = getattr(config, "sliding_window", None)
        self.shares = (
            {"attention_mask", "position_ids"} <= accepted.keys()
            and getattr(config, "_attn_implementation", None) == "sdpa"
            and (sliding is None or sliding >= self._window)
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        """The tokens of `string`, from the batch tokenized last where it is in there."""
        if add_special_tokens is None and (known := self._known.get(string)) is not None:
            return known
        return list(super().tok_encode(string, add_special_tokens=add_special_tokens, **settings))

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[Answer]:
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
        before = before or [self.prefix_token_id]
        cut = len(before) + len(scored) > self._window + 1  # the last token is never an input
        scored = scored[-self._window :]
        return before[-(self._window + 1 - len(scored)) :], scored, cut

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = True,
        override_bs: int | None = None,
    ) -> list[Answer]:
        """The answers to requests that are tokens already: lm-eval's rolling windows come this way."""
        return self._answer([(context, continuation) for _, context, continuation in requests])

    def _answer(self, requests: Sequence[tuple[list[int], list[int]]]) -> list[Answer]:
        answers: list[Answer] = [(0.0, False)] * len(requests)
        with meter(self.label, len(requests), "answers") as shown:
            for batch in batches(grow(requests, self.shares), self._most_trees, self._most_tokens):
                found = self._score(batch)
                for tree, scores in zip(batch, found, strict=True):
                    for request, answer in zip(tree.requests, scores, strict=True):
                        answers[request] = answer
                shown.update(sum(len(scores) for scores in found))
        return answers

    @torch.inference_mode()
    def _score(self, batch: Sequence[Tree]) -> list[list[Answer]]:
        """The answers to each tree's choices."""
        width = max(tree.width() for tree in batch)
        extra: dict[str, Any] = {}
        if any(len(tree.choices) > 1 for tree in batch):
            branch = _padded([tree.branches() for tree in batch], width, -1, self.device)  # (batch, width)
            causal = torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
            seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])  # (batch, query, key)
            extra["attention_mask"] = (seen & causal)[:, None]
            extra["position_ids"] = _padded([tree.positions() for tree in batch], width, 0, self.device)
        skipped = min(len(tree.context) for tree in batch) - 1 if self._trims else 0
        if self._trims:
            extra["logits_to_keep"] = width - skipped
        inputs = _padded([tree.inputs() for tree in batch], width, 0, self.device)
        logits = self.model(input_ids=inputs, use_cache=False, **extra).logits  # (batch, width - skipped, vocabulary)
        rows, columns, targets, lengths = [], [], [], []
        for number, tree in enumerate(batch):
            for choice, places in zip(tree.choices, tree.predictors(), strict=True):
                rows += [number] * len(choice)
                columns += [place - skipped for place in places]
                targets += choice
                lengths.append(len(choice))
        wanted = torch.tensor(targets, device=self.device)
        predicted = logits[torch.tensor(rows), torch.tensor(columns)].float()  # (all tokens of all choices, vocabulary)
        chosen = predicted.gather(1, wanted[:, None])[:, 0] - predicted.logsumexp(1)
        sums = [float(part.sum()) for part in chosen.cpu().split(lengths)]
        greedy = [bool(part.all()) for part in (predicted.argmax(1) == wanted).cpu().split(lengths)]
        scores = iter(zip(sums, greedy, strict=True))
        return [[next(scores) for _ in tree.choices] for tree in batch]


def load_model(name: str, folder: str, **settings: Any) -> MeteredLM:
    """The model in `folder` as lm-eval's language model. Raises `EvaluationError` where it can't be loaded."""
    try:
        model = MeteredLM(folder, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EvaluationError(f"model {name} can't be loaded from {folder}", got=str(error)) from error
    if model.prefix_token_id is None:
        raise EvaluationError(f"the tokenizer of model {name} has neither BOS nor EOS", fix=f"set one in {folder}")
    return model


def default_device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _texts(context: str, continuation: str) -> tuple[str, str]:
    """The two texts that lm-eval encodes for a pair: all of it, and the context without the spaces at its end."""
    return context + continuation, context.rstrip()


def _padded(rows: Sequence[list[int]], width: int, padding: int, device: Any) -> torch.Tensor:
    """`rows`, filled up on the right: (rows, width)."""
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows], device=device)
