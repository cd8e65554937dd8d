"""lm-eval itself: a Hugging Face folder as its language model, and one task asked of it.

Importing this imports lm-eval, torch and transformers; import it inside functions, after `quiet.calm_libraries`.

lm-eval's own `HFLM` does the scoring. `MeteredLM` adds what it lacks for many short questions on few cores; answers are
the same up to rounding:

- texts are tokenized in batches, each once (lm-eval: one call a text, contexts once a choice);
- a batch holds a number of *tokens* (longest sequences first), not only a number of sequences;
- logits are computed for the positions of the continuations alone: with 32,000 words and a few million parameters the
  others cost more than the model does;
- what doesn't fit the model's window is cut from the left and counted, continuations too, which lm-eval asserts to fit.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate as run_lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ipt_stream.errors import EvaluationError
from ipt_stream.evaluation.tasks import Kind, Task, lm_eval_config
from ipt_stream.progress import meter

TEXTS_A_BATCH = 2048
BOOTSTRAP_ITERATIONS = 200

Encoded = tuple[tuple[str, str], list[int], list[int]]  # (context, continuation), and the tokens of each


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one task.

    Attributes:
        metrics: lm-eval's numbers, `metric` and `metric_stderr`; standard errors it doesn't know are left out.
        samples: lm-eval's record of every question.
        shots: solved questions before each one.
        truncated: how many questions had a choice that didn't fit the model's window.
        seconds: time from the first prompt built to the last answer scored.
    """

    metrics: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]]
    shots: int
    truncated: int
    seconds: float


class MeteredLM(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """`HFLM` with batched tokenization, batches by tokens, logits where needed, and a meter."""

    def __init__(self, folder: str, *, batch_size: int, batch_tokens: int, **settings: Any) -> None:
        super().__init__(pretrained=folder, batch_size=batch_size, softmax_dtype="float32", **settings)
        self.label = "evaluate"
        self.truncated: set[tuple[str | None, int | None]] = set()  # (task, question)
        self._most_sequences, self._most_tokens = batch_size, batch_tokens
        self._window = self.max_length
        self._known: dict[str, list[int]] = {}
        self._kept = 0
        self._can_keep = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        """The tokens of `string`, from the batch tokenized last where it is in there."""
        if add_special_tokens is None and (known := self._known.get(string)) is not None:
            return known
        return list(super().tok_encode(string, add_special_tokens=add_special_tokens, **settings))

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """`(log likelihood, is greedy)` of every request's continuation, in order; both as lm-eval defines them."""
        encoded: list[Encoded] = []
        for start in range(0, len(requests), TEXTS_A_BATCH):
            part = requests[start : start + TEXTS_A_BATCH]
            self._tokenize({text for request in part for text in _texts(*request.args)})
            for request in part:
                context, continuation, cut = self._encode(*request.args)
                encoded.append((request.args, context, continuation))
                if cut:
                    self.truncated.add((request.task_name, request.doc_id))
        self._known = {}
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(encoded)
        with meter(self.label, len(encoded), "answers") as shown:
            for batch in self._batches(encoded):
                for index, answer in zip(batch, self._score([encoded[i] for i in batch]), strict=True):
                    answers[index] = answer
                shown.update(len(batch))
        return answers

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

    def _batches(self, requests: Sequence[Encoded]) -> Iterator[list[int]]:
        """Indices of `requests`, longest first, in batches of at most so many sequences and tokens, padding included.

        Requests that differ in their last token alone are neighbours and count as one: lm-eval runs them once.
        """
        tokens = [tuple(context + continuation) for _, context, continuation in requests]
        batch: list[int] = []
        inputs: list[tuple[int, ...]] = []
        for index in sorted(range(len(requests)), key=lambda i: (-len(tokens[i]), tokens[i])):
            new = tokens[index][:-1]
            if not inputs or new != inputs[-1]:
                if inputs and ((len(inputs) + 1) * len(inputs[0]) > self._most_tokens or self._is_full(inputs)):
                    yield batch
                    batch, inputs = [], []
                inputs.append(new)
            batch.append(index)
        if batch:
            yield batch

    def _is_full(self, inputs: Sequence[tuple[int, ...]]) -> bool:
        return len(inputs) >= self._most_sequences

    def _score(self, requests: Sequence[Encoded]) -> list[tuple[float, bool]]:
        """lm-eval's scores of one batch."""
        longest = max(len(context) + len(continuation) for _, context, continuation in requests) - 1
        self._kept = longest + 1 - min(len(context) for _, context, _ in requests)
        self.batch_size_per_gpu = len(requests)
        found: list[tuple[float, bool]] = self._loglikelihood_tokens(list(requests), disable_tqdm=True)
        self._kept = 0
        return found

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        """Logits (batch, kept, vocabulary) of the last positions; lm-eval counts from the end, so it finds its own."""
        if not self._kept or not self._can_keep:
            return super()._model_call(inps, attn_mask=attn_mask, labels=labels)
        with torch.inference_mode():
            return self.model(inps, use_cache=False, logits_to_keep=self._kept).logits


def default_device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(name: str, folder: str, **settings: Any) -> MeteredLM:
    """The model in `folder` as lm-eval's language model. Raises `EvaluationError` where it can't be loaded."""
    try:
        model = MeteredLM(folder, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EvaluationError(f"model {name} can't be loaded from {folder}", got=str(error)) from error
    if model.prefix_token_id is None:
        raise EvaluationError(f"the tokenizer of model {name} has neither BOS nor EOS", fix=f"set one in {folder}")
    return model


def ask(model: MeteredLM, task: Task, seed: int) -> Answers:
    """Let `model` answer `task`; shots are drawn with `seed`.

    Raises:
        EvaluationError: the task can't be built, or the model's likelihoods are not numbers.
    """
    started = time.monotonic()
    tasks = _build(task, seed)
    model.label = task.name
    model.truncated.clear()
    # Standard errors of means have a formula; the others are bootstrapped, 100,000 times by default.
    found = run_lm_eval(lm=model, task_dict=tasks, limit=task.limit, bootstrap_iters=BOOTSTRAP_ITERATIONS)
    samples = [sample for part in found["samples"].values() for sample in part]
    if any(isinstance(value, float) and math.isnan(value) for s in samples for value in _likelihoods(s)):
        raise EvaluationError(
            f"task {task.name} has no result", wanted="log likelihoods", got="NaN", fix="check the model's weights"
        )
    if task.name not in found["results"]:
        raise EvaluationError(
            f"{task.name} has no result of its own", fix=f"name its tasks: {', '.join(tasks['tasks'])}"
        )
    metrics = {_metric(key): value for key, value in found["results"][task.name].items() if "," in key}
    shots = found["n-shot"].get(task.name, task.shots or 0)
    return Answers(
        metrics={key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))},
        samples=samples,
        shots=int(shots),
        truncated=len(model.truncated),
        seconds=time.monotonic() - started,
    )


def _build(task: Task, seed: int) -> dict[str, Any]:
    """`task` as lm-eval's `evaluate` takes it."""
    if task.kind is not Kind.LM_EVAL:
        tasks: dict[str, Any] = {"tasks": {task.name: ConfigurableTask(config=lm_eval_config(task))}}
    else:
        try:
            tasks = dict(TaskManager().load([task.name]))
        except (OSError, ValueError, RuntimeError) as error:
            raise EvaluationError(f"lm-eval can't load its task {task.name}", got=str(error)) from error
        except KeyError as error:
            raise EvaluationError(f"lm-eval has no task {task.name}", fix="see `lm_eval ls tasks`") from error
    for one in tasks["tasks"].values():
        shots = one.get_config("num_fewshot") if task.shots is None else task.shots
        one.set_config("num_fewshot", shots or 0)
        one.set_fewshot_seed(seed)
    return tasks


def _texts(context: str, continuation: str) -> tuple[str, str]:
    """The two texts that lm-eval encodes for a pair: all of it, and the context without the spaces at its end."""
    return context + continuation, context.rstrip()


def _metric(key: str) -> str:
    """`acc,none` is `acc`: lm-eval names the filter that answers went through, mostly none."""
    return key.removesuffix(",none")


def _likelihoods(sample: Mapping[str, Any]) -> list[Any]:
    return [response[0][0] for response in sample["resps"] if isinstance(response[0], tuple)]
