"""The results of all parts, put together: which examples are in the corpus, where, and by which documents."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ipt_stream import storage
from ipt_stream.analysis.contamination.examples import EvaluationExample
from ipt_stream.analysis.contamination.scan import ACROSS, KINDS, NGRAMS, PAIRS, PLACES, RAW, SUBSTRING, Sought

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HITS, CONTAMINATED, EXAMPLES = "hits.jsonl", "contaminated.jsonl", "examples.jsonl"
SHOWN_HITS = 40


@dataclass(frozen=True, slots=True)
class View:
    """How many examples of a task one way of comparing finds.

    Attributes:
        searched: examples that can be compared this way.
        raw: those that are in raw text.
        augmented: those that are in augmented text: raw text with the pairs.
        introduced: those that are in augmented text and not in raw text (the paper's "in synthesized pairs").
        pairs: those that are in the pairs themselves.
        documents: documents that hold an example of the task.
    """

    searched: int
    raw: int
    augmented: int
    introduced: int
    pairs: int
    documents: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task, and what of it is in the corpus.

    Attributes:
        examples: how many it has.
        too_short: those with too few letters and digits to be searched for.
        substring: found by substrings.
        ngrams: found by word n-grams; None where they were not asked for.
    """

    examples: int
    too_short: int
    substring: View
    ngrams: View | None


@dataclass(frozen=True, slots=True)
class Contamination:
    """What the whole corpus comes to.

    Attributes:
        counts: documents, those with pairs, pairs, bytes of both; contaminated documents, and those by kind.
        tasks: by name.
        total: all tasks together.
        hits: the first places, as `hits.jsonl` has them.
        broken: shards that could not be read to their end.
    """

    counts: Mapping[str, int]
    tasks: Mapping[str, TaskResult]
    total: TaskResult
    hits: Sequence[Mapping[str, Any]]
    broken: Sequence[str]


def gather(
    results: Iterable[Mapping[str, Any]],
    examples: Sequence[EvaluationExample],
    letters: Sequence[int],
    sought: Sought,
    minimum: int,
    output: str,
) -> Contamination:
    """Put `results` together, one at a time, and publish the lists of places, documents and examples to `output`.

    Args:
        results: of `scan`, in the order of the corpus.
        examples: all that was searched for.
        letters: how many letters and digits each has.
        sought: what was searched for.
        minimum: how many an example must have.
        output: the analysis' directory.
    """
    import numpy as np

    found = {where: np.zeros(len(examples), bool) for where in PLACES}
    grams = {where: np.zeros(0 if sought.ngrams is None else sought.ngrams.count, bool) for where in PLACES}
    counts: Counter[str] = Counter()
    documents: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    hits: list[Mapping[str, Any]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        lists = [os.path.join(scratch, name) for name in (HITS, CONTAMINATED)]
        places, contaminated = (open(path, "wb") for path in lists)
        with places, contaminated:
            for result in results:
                counts.update(result["counts"])
                broken += result["broken"]
                for where in PLACES:
                    found[where][result["examples"][where]] = True
                    grams[where][result["ngrams"][where]] = True
                for kind in KINDS:
                    documents[kind].update(dict(result["documents"][kind]))
                for place in result["places"]:
                    place["example"] = examples[place["example"]].name
                    hits += [place] * (len(hits) < SHOWN_HITS)
                    places.write(_line(place))
                    keys = ("document_id", "corpus", "example", "kind", "where")
                    contaminated.write(_line({key: place[key] for key in keys}))
        for name, path in zip((HITS, CONTAMINATED), lists, strict=True):
            storage.publish_file(storage.join(output, name), path)
    shares = None if sought.ngrams is None else _shares(sought, grams)
    _publish_examples(output, examples, found, shares, sought)
    views = {SUBSTRING: (np.array(letters) >= minimum, _seen(found[RAW], found[PAIRS], found[ACROSS]))}
    if shares is not None and sought.ngrams is not None:
        reached = {where: share >= sought.ngram_share for where, share in shares.items()}
        views[NGRAMS] = (sought.ngrams.totals > 0, (reached[RAW], reached[ACROSS], reached[PAIRS]))
    names = list(dict.fromkeys(example.task for example in examples))
    tasks = {
        name: _task(sought.tasks == number, views, {kind: documents[kind][number] for kind in KINDS})
        for number, name in enumerate(names)
    }
    total = _task(np.ones(len(examples), bool), views, {kind: counts[kind] for kind in KINDS})
    return Contamination(dict(counts), tasks, total, hits, broken)


def _seen(raw: Any, pairs: Any, across: Any) -> tuple[Any, Any, Any]:
    """Which examples are in raw text, in augmented text, and in pairs."""
    return raw, raw | pairs | across, pairs


def _shares(sought: Sought, grams: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.float64]]:
    """The share of each example's n-grams that are in raw text, in pairs and, as `augmented`, in all; 0 without any."""
    import numpy as np

    ngrams = sought.ngrams
    if ngrams is None:
        return {}
    ngram = np.repeat(np.arange(ngrams.count), np.diff(ngrams.owners.first))
    held = {RAW: grams[RAW], PAIRS: grams[PAIRS], ACROSS: grams[RAW] | grams[PAIRS] | grams[ACROSS]}
    size = ngrams.totals.size
    return {
        where: np.bincount(ngrams.owners.examples[mask[ngram]], minlength=size) / np.maximum(ngrams.totals, 1)
        for where, mask in held.items()
    }


def _task(of_task: Any, views: Mapping[str, tuple[Any, Any]], documents: Mapping[str, int]) -> TaskResult:
    made = {}
    for kind, (searched, (raw, augmented, pairs)) in views.items():
        made[kind] = View(
            searched=int((of_task & searched).sum()),
            raw=int((of_task & raw).sum()),
            augmented=int((of_task & augmented).sum()),
            introduced=int((of_task & augmented & ~raw).sum()),
            pairs=int((of_task & pairs).sum()),
            documents=documents[kind],
        )
    count = int(of_task.sum())
    return TaskResult(count, count - made[SUBSTRING].searched, made[SUBSTRING], made.get(NGRAMS))


def _publish_examples(
    output: str,
    examples: Sequence[EvaluationExample],
    found: Mapping[str, NDArray[np.bool_]],
    shares: Mapping[str, NDArray[np.float64]] | None,
    sought: Sought,
) -> None:
    """Publish the examples that are in the corpus either way, so that scores can be had without them."""
    lines = []
    for number, example in enumerate(examples):
        raw, augmented, pairs = _seen(*(bool(found[where][number]) for where in PLACES))
        record: dict[str, Any] = {"example": example.name, "task": example.task, "number": example.number}
        record["substring"] = {"raw": raw, "augmented": augmented, "pairs": pairs}
        counts = augmented
        if shares is not None:
            record["ngrams"] = {where: round(float(share[number]), 4) for where, share in shares.items()}
            counts = counts or bool(shares[ACROSS][number] >= sought.ngram_share)
        if counts:
            lines.append(_line(record))
    storage.publish_bytes(storage.join(output, EXAMPLES), b"".join(lines))


def summary(found: Contamination, method: Mapping[str, Any]) -> dict[str, Any]:
    """`contamination.json`."""
    return {
        "method": dict(method),
        "corpus": dict(found.counts),
        "broken": list(found.broken),
        "tasks": {name: asdict(result) for name, result in found.tasks.items()},
        "total": asdict(found.total),
    }


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
