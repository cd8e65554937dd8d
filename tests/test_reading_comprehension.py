"""The rule-based baseline: what each pattern finds, that responses are the text's own, and that any text is bounded."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipt_stream.baselines.reading_comprehension.causes import split_cause
from ipt_stream.baselines.reading_comprehension.keywords import Keywords, words
from ipt_stream.baselines.reading_comprehension.mining import MOST_PER_TASK, Mined, Task, mine, mine_tasks
from ipt_stream.baselines.reading_comprehension.passage import read
from ipt_stream.baselines.reading_comprehension.sentences import READ_CHARACTERS, split_sentences
from ipt_stream.corpus.pair import Pair
from ipt_stream.mixture.render import render, take_apart
from ipt_stream.synthesis.prompt import Shot
from ipt_stream.synthesis.results import Example

MILL = "The sluice drove the millstone that ground the flour. "
SAMPLE = [MILL * 2] * 3 + ["The miller spoke with the keeper of the bridge about this and that."] * 97
KEYWORDS = Keywords.of(SAMPLE)

CHOICES = (Task.INFERENCE, Task.COMPARISON)
VERBATIM = (Task.SUMMARY, Task.WORDS, Task.COMPLETION)

PARTS = [
    MILL, "The river rose in the night. ", "However, the mill stood still. ", "In other words, it cost a lot to run. ",
    "Likewise, the baker rose early. ", "The bridge was shut because the river had risen. ", "As a result, few came. ",
    "Because of the flood, the mill stood still. ", "The Old Mill at Harrow\n", "What of the mill?\n", "\n\n", "\r\n",
    ". ", "Dr. ", "e.g. ", "3. 5", "日本語の文です。", "Ещё одно предложение о мельнице. ", "İß ǅ ", "\u2028", "\x1c",
    "<QUE> ", " <ANS> ", "</END>", "\nOptions:\n- a\n- b", "\nLet's think step by step.", "- ", '"', "(", "because ",
    "Therefore, ",
]  # fmt: skip
TEXTS = st.text(max_size=300) | st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=25).map("".join)


def sentences(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text)]


@pytest.mark.parametrize(
    ("task", "text", "instruction", "response"),
    [
        (
            Task.SUMMARY,
            "The Old Mill at Harrow\nHarrow has a mill. It is old. Nobody knows who built it. Its wheel turns still.",
            "Sum the text up in one line.",
            "The Old Mill at Harrow",
        ),
        (
            Task.WORDS,
            "It was old. The sluice drove the millstone that ground the flour.",
            "From these key words, build a sentence about the text's subject.\nsluice, drove, ground, millstone, flour",
            "The sluice drove the millstone that ground the flour.",
        ),
        (
            Task.INFERENCE,
            "The river rose in the night. However, the mill did not stand still.",
            "We read: The river rose in the night.\nIs it to be expected, then, that this holds? "
            "The mill did not stand still.\nOptions:\n- Yes\n- No\n- It can't be said",
            "No",
        ),
        (
            Task.CAUSE,
            "The old bridge was closed because the river had risen.",
            "According to the text, what is so because the river had risen?",
            "The old bridge was closed.",
        ),
        (
            Task.PARAPHRASE,
            "Moreover, the mill ran at a loss. In other words, it cost more than it earned.",
            "Restate the sentence: The mill ran at a loss.",
            "It cost more than it earned.",
        ),
        (
            Task.COMPARISON,
            "The miller rose early each day. Likewise, the baker rose before the sun.",
            "Compare.\nFirst: The miller rose early each day.\nSecond: The baker rose before the sun."
            "\nOptions:\n- The second is like the first\n- The second is unlike the first",
            "The second is like the first",
        ),
        (
            Task.COMPLETION,
            "The wheel was mended in the spring of that year, and it turned. It stood still when the frost came again.",
            "What comes next, after this?\nThe wheel was mended in the spring of that year, and it turned.",
            "It stood still when the frost came again.",
        ),
    ],
)
def test_each_task_by_an_example(task: Task, text: str, instruction: str, response: str) -> None:
    found = [one.pair for one in mine_tasks(text, KEYWORDS, 0, "a:0") if one.task is task]
    assert found == [Pair(instruction, response)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained! Was it cold? It was.", ["It rained!", "Was it cold?", "It was."]),
        ("Dr. A. B. Hall et al. came on Jan. 5 (cf. Fig. 3). He left.", 2),
        ("It is 3.5 m wide, i.e. 7. 8 % more. The rest is not.", 2),
        ("He came at 5 p.m. The mill was shut. It stood in the U.S. Army's yard.", 3),
        ("So it ends.The next begins. See www.Mill.Com or Node.Js now.", ["So it ends.", "The next begins.", 0]),
        ("It was so (in 1980).AIM: The aim was this.", ["It was so (in 1980).", "AIM: The aim was this."]),
        ("He sat. Then he said no. The sun rose.", 3),
        ('"Who is it?" he asked. "It is I." She left.', ['"Who is it?" he asked.', '"It is I."', "She left."]),
        ("1. Take flour. 2. Take salt.", ["1. Take flour.", "2. Take salt."]),
        ("Wait... what? E. coli grows... So it does.", ["Wait... what?", "E. coli grows...", "So it does."]),
        ("今日は晴れ。明日は雨！", ["今日は晴れ。", "明日は雨！"]),
        ("A title\nA line of text.\r\n\r\nAnd more", ["A title", "A line of text.", "And more"]),
        ("", []),
        (" \n\t\n", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str] | int) -> None:
    found = sentences(text)
    if isinstance(expected, int):
        assert len(found) == expected, found
    else:
        assert len(found) == len(expected)
        assert all(one in (0, other) for one, other in zip(expected, found, strict=True)), found


def test_lines_broken_at_a_width_are_joined_and_others_are_not() -> None:
    wrapped = (
        "The miller of Harrow was an old man when the\nriver rose for the last time, and nobody was\n"
        "there to help him. He shut the sluice, went\nhome and slept.\n\nNothing more is known."
    )
    assert sentences(wrapped) == [
        "The miller of Harrow was an old man when the river rose for the last time, and nobody was there to help him.",
        "He shut the sluice, went home and slept.",
        "Nothing more is known.",
    ]
    listed = "Flour of the best kind from the mill\nSalt\nWater from the well\nYeast"
    assert sentences(listed) == listed.split("\n")


@given(TEXTS)
def test_sentences_are_the_text_without_white_space_between_them(text: str) -> None:
    found = split_sentences(text)
    assert "".join("".join(sentence.text for sentence in found).split()) == "".join(text.split())
    for sentence in found:
        assert " ".join(text[sentence.start : sentence.end].split()) == sentence.text


BODY = " Harrow has a mill. The mill is old. Nobody knows who built it. Its wheel turns still, they say."


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (f"The Mill at Harrow\n{BODY}", "The Mill at Harrow"),
        (f"The mill of Harrow and its wheel.\n{BODY}", "The mill of Harrow and its wheel"),
        (f"[The mill of Harrow and its wheel.]\n{BODY}", "The mill of Harrow and its wheel"),
        (f"Who built the mill of Harrow?\n{BODY}", "Who built the mill of Harrow?"),
        (f"The mill of Harrow and its wheel.\n{BODY}\n{BODY * 2}", None),  # the first sentence of a web page
        (f"This is the mill of Harrow and its wheel.\n{BODY}", None),
        (f"Do you know who built the mill of Harrow?\n{BODY}", None),
        (f"Seen in the Mill at Harrow:\n{BODY}", None),
        (f"By a writer whom nobody read\n{BODY}", None),  # none of its words come again
        (f"The Mill at Harrow{BODY}", None),
        ("The Mill at Harrow\nHarrow has a mill.", None),
        ("The Mill at Harrow", None),
    ],
)
def test_a_title_is_a_short_first_line_of_which_the_body_speaks(text: str, title: str | None) -> None:
    assert read(text).title == title


@pytest.mark.parametrize(
    ("sentence", "halves"),
    [
        ("The mill shut because the river had risen.", ("because the river had risen", "The mill shut.")),
        ("Because the river had risen, it was shut.", ("because the river had risen", "It was shut.")),
        ("Due to the flood, the mill was shut.", ("due to the flood", "The mill was shut.")),
        ("The mill was shut because of the flood.", ("because of the flood", "The mill was shut.")),
        ("The toll is low, mainly because few pay it.", None),
        ("It is because the river rose that it was shut.", None),
        ("It was shut because of what was in it.", None),
        ("Because of rain, hail, and snow, the mill was shut.", None),
        ("It was shut because it rained, and we went.", None),
        ("It shut (because the river had risen).", None),
        ('He said "it was shut because the river had risen".', None),
        ("Was it shut because the river had risen?", None),
        ("It was shut because.", None),
        ("because because because.", None),
    ],
)
def test_a_cause_is_split_off_only_where_both_halves_stand_alone(sentence: str, halves: tuple[str, str] | None) -> None:
    assert split_cause(sentence) == halves


def test_a_keyword_comes_again_in_the_few_texts_that_have_it() -> None:
    kept = [
        word for word in ("sluice", "Millstone", "flour", "drove", "keeper", "the", "that") if KEYWORDS.is_keyword(word)
    ]
    assert kept == ["sluice", "Millstone", "flour", "drove"]
    assert not any(Keywords.of(SAMPLE[:2]).is_keyword(word) for word in ("sluice", "the", ""))
    assert words("The miller’s wheel didn't turn.") == ["miller", "wheel", "turn"]
    once = Keywords.of([MILL] * 3 + SAMPLE[3:])
    assert not once.is_keyword("sluice"), "it never comes again"


@settings(max_examples=25)
@given(st.lists(st.lists(TEXTS, max_size=3), max_size=3))
def test_keywords_of_parts_merge_to_those_of_the_whole_in_any_order(parts: list[list[str]]) -> None:
    whole = Keywords.of(text for part in parts for text in part)
    forth, back = Keywords.of(()), Keywords.of(())
    for part in parts:
        forth, back = forth.merge(Keywords.of(part)), Keywords.of(part).merge(back)
    assert forth == whole == back
    assert len(whole.once) == len(Keywords.of(()).once), "memory does not grow"


@settings(max_examples=300)
@given(TEXTS, st.integers(), TEXTS, st.integers(0, 12))
@example("".join(PARTS) * 3, 0, "", 99)
@example("\ud800 lone. \udfff Surrogates. ", 0, "\ud800", 5)
def test_any_text_yields_few_good_pairs_always_the_same(text: str, seed: int, name: str, most: int) -> None:
    found = mine_tasks(text, KEYWORDS, seed, name, most)
    assert found == mine_tasks(text, KEYWORDS, seed, name, most)
    assert mine(text, KEYWORDS, seed, name, most) == tuple(one.pair for one in found)
    assert len(found) <= most
    assert max(Counter(one.task for one in found).values(), default=0) <= MOST_PER_TASK
    asked = [one.pair.instruction.casefold() for one in found]
    assert len({*asked}) == len(asked)
    for one in found:
        check(text, one)


def check(text: str, one: Mined) -> None:
    assert one.pair.instruction.strip() and one.pair.response.strip()
    if one.task in VERBATIM:
        assert one.pair.response in text
    if one.task in CHOICES:
        assert one.pair.response in take_apart(one.pair).options


@given(TEXTS, st.integers(0, 99))
def test_what_is_mined_is_rendered(text: str, seed: int) -> None:
    pairs = mine(text, KEYWORDS, seed, "a:0")
    rendered = render(Example("a:0#0", "a", ("a:0",), (Shot(text, pairs),)), seed)
    assert text in rendered
    for pair in pairs:
        assert take_apart(pair).question in rendered


def test_all_tasks_come_before_any_comes_twice() -> None:
    text = "".join(PARTS[:8]) + "The cat sat by the mill. Therefore, the mice were gone for good. " + MILL
    tasks = [one.task for one in mine_tasks(text, KEYWORDS, 0, "a:0", 5)]
    assert len({*tasks}) == 5
    assert Task.WORDS not in [one.task for one in mine_tasks(text, None, 0, "a:0", 99)]
    assert len({mine(text, KEYWORDS, seed, "a:0") for seed in range(9)}) > 1, "the seed chooses"
    assert len({mine(text, KEYWORDS, 0, f"a:{row}") for row in range(9)}) > 1, "the document chooses"


def test_texts_in_other_languages_yield_titles_and_completions() -> None:
    text = (
        "Die alte Mühle am Fluss\nAm Fluss steht eine Mühle. Sie ist alt. Niemand weiß, wer diese Mühle gebaut hat. "
        "Das Rad dreht sich noch heute, weil das Wasser nie versiegt. Im Herbst kommen die Kinder aus der Stadt."
    )
    assert {one.task for one in mine_tasks(text, KEYWORDS, 0, "a:0")} == {Task.SUMMARY, Task.COMPLETION}


@pytest.mark.parametrize(
    "part",
    ["a. ", "A! ", ". ", "because because ", "The mill shut because it rained. ", "(", '"', "\n", "\n\n.", " ", "x",
     "1. ", "The mill is what it is. However, it is what it was. ", "a-", "A b c d e f g.\n", "。", "\ud800", "Dr. "],
)  # fmt: skip
def test_time_is_bounded_whatever_the_text(part: str) -> None:
    text = part * (5 * 2**20 // len(part))
    began = time.process_time()
    mine(text, Keywords.of([text]), 0, "a:0")
    assert time.process_time() - began < 3


@settings(max_examples=15)
@given(TEXTS)
def test_nothing_is_read_beyond_the_bound(text: str) -> None:
    long = MILL * (READ_CHARACTERS // len(MILL) + 1)
    assert mine(long + text, KEYWORDS, 0, "a:0") == mine(long, KEYWORDS, 0, "a:0")


def texts(shared: Path) -> Iterator[tuple[str, list[str]]]:
    import pyarrow.parquet as pq
    import zstandard

    pages = [pq.read_table(file, columns=["content"])["content"] for file in sorted((shared / "web").glob("*.parquet"))]
    yield "web", [text for column in pages for text in column.to_pylist()]
    abstracts = []
    for file in sorted((shared / "pubmed").glob("*.zst")):
        with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as content:
            abstracts += [json.loads(line)["text"] for line in io.TextIOWrapper(content, "utf-8")]
    yield "pubmed", abstracts


def test_real_texts_yield_pairs_of_all_kinds(shared_data: Path) -> None:
    least = {
        "web": {Task.COMPLETION: 500, Task.WORDS: 500, Task.INFERENCE: 60, Task.CAUSE: 50, Task.SUMMARY: 8,
                Task.COMPARISON: 4, Task.PARAPHRASE: 2},
        "pubmed": {Task.COMPLETION: 600, Task.WORDS: 1400, Task.SUMMARY: 800, Task.INFERENCE: 200, Task.CAUSE: 30,
                   Task.COMPARISON: 25},
    }  # fmt: skip
    for name, documents in texts(shared_data):
        keywords = Keywords.of(documents)
        counts: Counter[Task] = Counter()
        for row, text in enumerate(documents):
            found = mine_tasks(text, keywords, 0, f"{name}:{row}")
            counts.update(one.task for one in found)
            for one in found:
                check(text, one)
        assert {task: counts[task] for task, wanted in least[name].items() if counts[task] < wanted} == {}, counts
        assert counts.total() > 2 * len(documents)
