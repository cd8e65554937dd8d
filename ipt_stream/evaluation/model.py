"""A Hugging Face folder as lm-eval's language model.

Importing this imports lm-eval, torch and transformers; import it inside functions, after `quiet.calm_libraries`.

`MeteredLM` is lm-eval's own `HFLM` with another way to score continuations, for many short questions on few cores.
Likelihoods are the same up to rounding:

- a context is computed once for all its choices (`branches`), where the model's attention takes a mask;
- a batch holds a number of *tokens*, not of sequences;
- logits are computed for the predicted positions alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.branches import Tree, batches, grow
from ipt_stream.evaluation.metered import Metered
from ipt_stream.evaluation.metrics import Likelihood


class MeteredLM(Metered, HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """`HFLM` with shared contexts and batches by tokens.

    Attributes:
        shares: whether a context is computed once for its choices; not where the model's attention takes no mask.
    """

    def __init__(self, folder: str, *, batch_size: int, batch_tokens: int, **settings: Any) -> None:
        super().__init__(pretrained=folder, batch_size=batch_size, **settings)
        self.set_up(room=self.max_length + 1)  # the last token is never an input
        self._most_trees, self._most_tokens = batch_size, batch_tokens
        accepted = inspect.signature(self.model.forward).parameters
        self._trims = "logits_to_keep" in accepted
        config = self.model.config.get_text_config()
        sliding = getattr(config, "sliding_window", None)
        self.shares = (
            {"attention_mask", "position_ids"} <= accepted.keys()
            and getattr(config, "_attn_implementation", None) == "sdpa"
            and (sliding is None or sliding >= self.max_length)
        )

    def close(self) -> None:
        """Give the weights' memory back."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _score_all(self, requests: Sequence[tuple[list[int], list[int]]]) -> Iterator[dict[int, Likelihood]]:
        for batch in batches(grow(requests, self.shares), self._most_trees, self._most_tokens):
            found = zip(batch, self._score(batch), strict=True)
            yield {
                request: score for tree, scores in found for request, score in zip(tree.requests, scores, strict=True)
            }

    @torch.no_grad()  # not inference mode: while it is trained on several ranks, what is gathered here stays
    def _score(self, batch: Sequence[Tree]) -> list[list[Likelihood]]:
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
        scores = map(Likelihood, sums, greedy, lengths)
        return [[next(scores) for _ in tree.choices] for tree in batch]

    def _most_generated(self, settings: Mapping[str, Any]) -> int:
        return int(normalize_gen_kwargs(dict(settings), self.max_gen_toks)["max_gen_toks"])

    def _generate_all(
        self, prompts: Sequence[list[int]], settings: Mapping[str, Any], most: int
    ) -> Iterator[dict[int, str]]:
        sampling = dict(normalize_gen_kwargs(dict(settings), self.max_gen_toks))
        sampling.pop("max_gen_toks")
        stop = handle_stop_sequences(
            sampling.pop("until"), eos=self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        )
        for chosen in _by_width(prompts, most, self._most_trees, self._most_tokens):
            width = len(prompts[chosen[0]])
            before = [width - len(prompts[index]) for index in chosen]
            padding = self.tokenizer.pad_token_id
            inputs = [[padding] * blank + prompts[index] for blank, index in zip(before, chosen, strict=True)]
            mask = [[0] * blank + [1] * (width - blank) for blank in before]
            with torch.no_grad():
                made = self._model_generate(
                    context=torch.tensor(inputs, device=self.device),
                    attention_mask=torch.tensor(mask, device=self.device),
                    max_length=width + most,
                    stop=stop,
                    **sampling,
                )
            texts = [self.tok_decode(tokens) for tokens in made[:, width:].tolist()]
            yield {
                index: postprocess_generated_text(text, stop, None) for index, text in zip(chosen, texts, strict=True)
            }


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


def _by_width(prompts: Sequence[list[int]], most: int, most_prompts: int, most_tokens: int) -> Iterator[list[int]]:
    """Indices of `prompts`, widest first, in batches of at most so many prompts and tokens, padding and answers too."""
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        if batch and (len(batch) == most_prompts or (len(batch) + 1) * (len(prompts[batch[0]]) + most) > most_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _padded(rows: Sequence[list[int]], width: int, padding: int, device: Any) -> torch.Tensor:
    """`rows`, filled up on the right: (rows, width)."""
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows], device=device)
