"""The analysis: examples are read, the corpus is searched part by part, and the table is put beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ipt_stream import storage
from ipt_stream.analysis.contamination.corpus import Corpus, open_corpus
from ipt_stream.analysis.contamination.examples import EvaluationExample, identity, read_all
from ipt_stream.analysis.contamination.settings import ContaminationSettings
from ipt_stream.analysis.fan_out import read_results, work_through
from ipt_stream.analysis.inputs import Inputs
from ipt_stream.analysis.part import Headline, Part, Plot, Series, Table, publish_part
from ipt_stream.stage import Figure, Stage, StageReport, run_once

if TYPE_CHECKING:
    from ipt_stream.analysis.contamination.results import Contamination, View
    from ipt_stream.analysis.contamination.scan import Sought

VERB = "analyze-contamination"
PAPER: Mapping[str, tuple[int, int, int, int]] = {
    "arc_easy": (2376, 5, 5, 0), "arc_challenge": (1172, 3, 4, 1), "boolq": (3270, 144, 144, 0),
    "siqa": (1954, 0, 0, 0), "winogrande": (1267, 0, 0, 0), "piqa": (1838, 3, 3, 0), "openbook_qa": (500, 0, 0, 0),
    "hellaswag": (10042, 4, 4, 0), "mmlu": (14042, 20, 22, 2),
}  # fmt: skip
"""Table 9: examples, found in raw corpora, in augmented corpora, and introduced by pairs."""
COLUMNS = ("task", "examples", "searched", "raw", "augmented", "introduced by pairs", "in pairs", "documents")
HOW = "ipt-stream analyze, section contamination; the places are in hits.jsonl"


def analyze_contamination(inputs: Inputs, settings: ContaminationSettings, output: str) -> StageReport:
    """Search the corpus for evaluation examples. Reads `inputs.synthesis`, and `inputs.world` where it is asked for.

    Raises:
        ConfigError: there is nothing to search, or nothing to search for.
        InputError: an input is not what it should be.
        EvaluationError: a task can't be had.
        LedgerError: the output belongs to other settings.
    """
    corpus = open_corpus(inputs.synthesis, settings.shards)
    examples = read_all(settings, inputs.world)
    made_from = {**settings.method(), "examples": identity(examples), "corpus": corpus.listing}
    return run_once(output, VERB, made_from, lambda stage: _analyze(settings, corpus, examples, stage))


def _analyze(
    settings: ContaminationSettings, corpus: Corpus, examples: Sequence[EvaluationExample], stage: Stage
) -> StageReport:
    from ipt_stream.analysis.contamination.results import gather, summary
    from ipt_stream.analysis.contamination.scan import scan

    output = stage.output
    sought, letters = prepare(settings, examples)
    work_through(
        output, corpus.parts, scan, sought, cores=settings.cores, size_bytes=corpus.size_bytes, name="contamination"
    )
    results = read_results(output, corpus.parts)
    found = gather(results, examples, letters, sought, settings.minimum_characters, output)
    storage.publish_json(storage.join(output, "contamination.json"), summary(found, settings.method()))
    publish_part(output, _part(settings, found))
    return stage.finish(_figures(found), _lines(found))


def prepare(settings: ContaminationSettings, examples: Sequence[EvaluationExample]) -> tuple[Sought, list[int]]:
    """What is searched for, and how many letters and digits each example has."""
    import numpy as np

    from ipt_stream.analysis.contamination.patterns import Drawing, build_ngrams, build_patterns, name_patterns
    from ipt_stream.analysis.contamination.scan import Sought

    drawing = Drawing(
        settings.substrings, settings.substring_characters, settings.minimum_characters, settings.seed,
        settings.ignore_case,
    )  # fmt: skip
    folded = [drawing.fold(example.text) for example in examples]
    patterns = build_patterns(name_patterns(folded, [example.name for example in examples], drawing))
    words = settings.ngram_words
    ngrams = None if words is None else build_ngrams((example.text for example in examples), words)
    numbers = {task: number for number, task in enumerate(dict.fromkeys(example.task for example in examples))}
    tasks = np.array([numbers[example.task] for example in examples], np.int32)
    sought = Sought(
        patterns, ngrams, tasks, settings.ignore_case, settings.ngram_share, settings.examples_a_document
    )  # fmt: skip
    return sought, [len(text) for text in folded]


def _figures(found: Contamination) -> dict[str, Figure]:
    total, counts = found.total, found.counts
    figures: dict[str, Figure] = {
        "examples": total.examples,
        "examples_searched": total.substring.searched,
        "contaminated_raw": total.substring.raw,
        "contaminated_augmented": total.substring.augmented,
        "contaminated_by_pairs": total.substring.introduced,
        "documents": counts.get("documents", 0),
        "contaminated_documents": counts.get("contaminated", 0),
        "broken_shards": len(set(found.broken)),
    }
    if total.ngrams is not None:
        figures |= {"ngrams_raw": total.ngrams.raw, "ngrams_augmented": total.ngrams.augmented}
    return figures


def _lines(found: Contamination) -> tuple[str, ...]:
    total, documents = found.total, found.counts.get("documents", 0)
    seen = total.substring
    lines = [
        f"contamination: {seen.augmented:,} of {seen.searched:,} examples by substrings"
        f" ({seen.raw:,} in raw text, {seen.introduced:,} by pairs alone)",
        f"documents that hold any: {found.counts.get('contaminated', 0):,} of {documents:,}",
    ]
    if total.ngrams is not None:
        lines.insert(1, f"by n-grams: {total.ngrams.augmented:,} of {total.ngrams.searched:,}")
    if total.too_short:
        lines.append(f"examples too short to be searched for: {total.too_short:,}")
    return (*lines, *sorted(set(found.broken)))


def _part(settings: ContaminationSettings, found: Contamination) -> Part:
    total = found.total
    seen = total.substring
    documents = found.counts.get("documents", 0)
    searched = f"{seen.searched:,} examples, {documents:,} documents"
    searched += f"; {total.too_short:,} examples too short to be searched for" if total.too_short else ""
    substrings = _substrings_how(settings, found)
    headlines = (
        Headline("contaminated examples", _share(seen.augmented, seen.searched), searched, how=substrings),
        Headline("of them introduced by pairs", f"{seen.introduced:,}", "in augmented text and not in raw text",
                 how=substrings),
        Headline("contaminated documents", _share(found.counts.get("contaminated", 0), documents), "by either view",
                 how="Documents that hold an example by substrings or by n-grams, in their text or in their pairs; "
                 "contaminated.jsonl lists them."),
    )  # fmt: skip
    tables = [_table(settings, found)]
    if total.ngrams is not None:
        tables.append(_ngram_table(settings, found))
    if found.hits:
        tables.append(_hits_table(found))
    return Part(
        name="contamination",
        title="Contamination",
        about=(
            "Evaluation examples against raw text, augmented text and pairs: by substrings of letters and digits, as in"
            " the GPT-4 report (appendix C), and by word n-grams."
        ),
        headlines=headlines,
        tables=tuple(tables),
        plots=(_plot(settings, found),),
    )


def _substrings_how(settings: ContaminationSettings, found: Contamination) -> str:
    """The method, and where it is not quite the GPT-4 report's."""
    case = ", case ignored" if settings.ignore_case else ""
    letters = settings.substring_characters
    return (
        f"Letters and digits alone{case}: of each example {settings.substrings} substrings of {letters}, drawn with"
        f" seed {settings.seed}, or all of it where it is shorter; one that is found counts. One deviation from the"
        f" GPT-4 report: examples of fewer than {settings.minimum_characters} letters and digits (setting"
        f" minimum_characters; here {found.total.too_short:,}) are not searched for, as a few common words are found"
        f" everywhere. {HOW}"
    )


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.2%})" if whole else f"{part:,}"


def _table(settings: ContaminationSettings, found: Contamination) -> Table:
    paper = ("paper: examples", "paper: raw", "paper: augmented", "paper: pairs")
    rows = []
    for name, result in (*found.tasks.items(), ("all", found.total)):
        seen = result.substring
        ours = (name, result.examples, seen.searched, *_counts(seen))
        rows.append((*ours, *PAPER.get(name, (None, None, None, None))))
    return Table(
        title="Contaminated examples, by substrings",
        columns=(*COLUMNS, *paper),
        rows=tuple(rows),
        paper=paper,
        note=(
            f"Table 9. {settings.substrings} random substrings of {settings.substring_characters} letters and digits an"
            " example, all of it where it is shorter. Not searched for, unlike in the GPT-4 report:"
            f" {found.total.too_short:,} examples of fewer than {settings.minimum_characters}. Introduced by pairs: in"
            " augmented text and not in raw text, which is what the paper calls in synthesized pairs."
            " Documents: those that hold an example of the task."
        ),
        how=_substrings_how(settings, found),
    )  # fmt: skip


def _ngram_table(settings: ContaminationSettings, found: Contamination) -> Table:
    rows = [
        (name, result.examples, result.ngrams.searched, *_counts(result.ngrams))
        for name, result in (*found.tasks.items(), ("all", found.total))
        if result.ngrams is not None
    ]
    return Table(
        title=f"Contaminated examples, by {settings.ngram_words}-grams",
        columns=COLUMNS,
        rows=tuple(rows),
        note=(
            f"An example counts when {settings.ngram_share:.0%} of its different {settings.ngram_words}-grams of words"
            " are found, in any documents; a document counts when it holds as many itself. Searched: those with so many"
            " words."
        ),
        how=f"Hashes of all runs of so many words, case and punctuation ignored, in every text and pair. {HOW}",
    )


def _counts(view: View) -> tuple[int, int, int, int, int]:
    return view.raw, view.augmented, view.introduced, view.pairs, view.documents


def _hits_table(found: Contamination) -> Table:
    columns = ("document_id", "example", "kind", "where", "pair", "offset", "matches", "text")
    return Table(
        title="Where they are",
        columns=("document", *columns[1:]),
        rows=tuple(tuple(hit[column] for column in columns) for hit in found.hits),
        note="The first places; all are in hits.jsonl. Offsets count characters, in the text or in the pair.",
        how=HOW,
    )


def _plot(settings: ContaminationSettings, found: Contamination) -> Plot:
    names = tuple(found.tasks)
    series = []
    for label, key in (("raw text", "raw"), ("augmented text", "augmented")):
        views = [result.substring for result in found.tasks.values()]
        series.append(Series(label, names, tuple(getattr(v, key) / max(v.searched, 1) for v in views)))
    return Plot(
        title="Contaminated examples, by substrings",
        kind="bar",
        x_label="task",
        y_label="share of the examples searched for",
        series=tuple(series),
        percent=True,
        how=_substrings_how(settings, found),
    )
