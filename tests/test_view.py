"""`view` shows what training sees: the texts that went in, where documents end, and nothing that a terminal obeys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixture_world import EOS, document_text, make_questions, make_run, make_tokenizer, pairs_of
from object_store import Store

from ipt_stream import storage
from ipt_stream.cli import main
from ipt_stream.config import build
from ipt_stream.corpus.pair import Pair
from ipt_stream.errors import ConfigError, InputError, MixtureError
from ipt_stream.mixture.mds import TEXT_COLUMNS, publish_mds
from ipt_stream.mixture.mix import MixConfig, mix
from ipt_stream.mixture.order import training_order
from ipt_stream.mixture.pack import concat, join
from ipt_stream.mixture.plan import load_plan
from ipt_stream.synthesis.results import list_segments, load_segment
from ipt_stream.view import read_view
from ipt_stream.view.items import Item, Kind, Part, View
from ipt_stream.view.sequences import Decoder, load_decoder
from ipt_stream.view.shards import open_mds
from ipt_stream.view.show import escape, format_view

LENGTH = 64
DOCUMENTS = 60
ALL = 1_000_000
WILD = "\x1b[31mred\x1b[0m\x07 a\u202eb\u200bc \x9b2J\r\n-- </s> (id 1): end of a document\n\ttab ."


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_run(root, documents=DOCUMENTS)
    make_questions(root)
    make_tokenizer(root)
    (root / "wild.jsonl").write_text(json.dumps({"text": WILD}) + "\n")
    return root


def make_mixture(world: Path, output: Path, **changes: Any) -> Path:
    sources: dict[str, Any] = {
        "augmented": {"kind": "augmented", "path": str(world / "segments"), "passes": 1},
        "raw": {"kind": "raw", "path": str(world / "segments"), "passes": 2.5},
        "general": {"kind": "pairs", "path": str(world / "general.jsonl"), "passes": 2},
        "wild": {"kind": "text", "path": str(world / "wild.jsonl"), "passes": 1},
    }
    settings = {"sources": sources, "tokenizer": str(world / "tokenizer"), "sequence_length": LENGTH}
    settings |= {"shard_bytes": 2048, "text_mds": True, "output": str(output), "cores": 0}
    mix(build(MixConfig, {**settings, **changes}, "test"))
    return output


@pytest.fixture(scope="module")
def mixture(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mixture(world, tmp_path_factory.mktemp("mixture"))


@pytest.fixture
def copied(mixture: Path, tmp_path: Path) -> Path:
    """The mixture again, to be spoiled."""
    return shutil.copytree(mixture, tmp_path / "copied")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read whole."""
    reads: list[str] = []
    read = storage.read_bytes

    def noted(path: str) -> bytes:
        reads.append(path.rpartition("/")[2])
        return read(path)

    monkeypatch.setattr(storage, "read_bytes", noted)
    return reads


def with_streaming(directory: Path, place: Path) -> list[dict[str, Any]]:
    """All samples of an MDS directory, in order, by Streaming's own reader."""
    from streaming.base.compression import decompress
    from streaming.base.format import reader_from_json

    found: list[dict[str, Any]] = []
    for shard in json.loads((directory / "index.json").read_text())["shards"]:
        stored = shard["zip_data"] or shard["raw_data"]
        packed = (directory / stored["basename"]).read_bytes()
        place.mkdir(exist_ok=True)
        (place / shard["raw_data"]["basename"]).write_bytes(decompress("zstd", packed) if shard["zip_data"] else packed)
        found += reader_from_json(str(place), "", shard)
    return found


def documents_of(items: list[Item] | tuple[Item, ...]) -> list[str]:
    """The texts between the borders of consecutive sequences."""
    texts = [""]
    for part in (part for item in items for part in item.parts):
        if part.kind is Kind.TEXT:
            texts[-1] += part.text or ""
        elif part.kind is Kind.BORDER:
            texts.append("")
    assert texts.pop() == "", "the last document of a source is ended"
    return texts


def texts(item: Item, kind: Kind = Kind.TEXT) -> list[str]:
    return [part.text or "" for part in item.parts if part.kind is kind]


class TestMixture:
    """Sequences along the training order."""

    def test_all_of_it_is_the_training_order_with_the_planned_counts(self, mixture: Path) -> None:
        view = read_view(str(mixture), number=ALL)
        plan = load_plan(str(mixture))
        assert [item.position for item in view.items] == list(range(plan.sequences))
        assert Counter(item.source for item in view.items) == {one.name: one.planned for one in plan.streamed}
        ends = np.cumsum([source.sequences for source in plan.streamed])
        starts = {source.name: end - source.sequences for source, end in zip(plan.streamed, ends, strict=True)}
        assert [starts[item.source] + (item.sample or 0) for item in view.items] == training_order(plan).tolist()

    def test_each_sequence_is_the_tokens_that_training_is_given(self, mixture: Path, tmp_path: Path) -> None:
        decoder = load_decoder(str(mixture))
        for source in load_plan(str(mixture)).streamed:
            rows = with_streaming(mixture / "sources" / source.name, tmp_path / source.name)
            for item in read_view(str(mixture), source=source.name, number=20).items:
                assert item.source == source.name and item.sample is not None
                assert sum(part.tokens or 0 for part in item.parts) == LENGTH
                shown = [
                    EOS * (part.tokens or 0) if part.kind is Kind.PADDING else part.text or "" for part in item.parts
                ]
                tokens = rows[item.sample]["tokens"].tolist()
                assert "".join(shown) == decoder.tokenizer.decode(tokens, skip_special_tokens=False)

    def test_sources_come_up_with_their_shares(self, mixture: Path) -> None:
        plan = load_plan(str(mixture))
        drawn = Counter[str]()
        for seed in range(20):
            drawn.update(item.source for item in read_view(str(mixture), number=50, seed=seed).items)
        for source in plan.streamed:
            share = plan.share(source)
            deviation = (1000 * share * (1 - share)) ** 0.5
            assert abs(drawn[source.name] - 1000 * share) < 4 * deviation + 1

    def test_the_same_seed_draws_the_same(self, mixture: Path) -> None:
        first, again, other = (read_view(str(mixture), number=5, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert [item.position for item in first.items] != [item.position for item in other.items]
        assert len(read_view(str(mixture)).items) == 3
        assert len({item.position for item in read_view(str(mixture), number=100).items}) == 100

    def test_one_source(self, mixture: Path) -> None:
        items = read_view(str(mixture), source="general", number=ALL).items
        planned = {source.name: source.planned for source in load_plan(str(mixture)).sources}
        assert len(items) == planned["general"] and {item.source for item in items} == {"general"}

    def test_only_the_shards_that_are_needed_are_read(self, mixture: Path, reads: list[str]) -> None:
        assert len(json.loads((mixture / "sources" / "augmented" / "index.json").read_text())["shards"]) > 3
        reads.clear()
        read_view(str(mixture), source="augmented", number=1)
        assert sum(name.endswith(".mds.zstd") for name in reads) == 1

    def test_an_unknown_source_is_an_error_with_the_known_ones(self, mixture: Path) -> None:
        with pytest.raises(ConfigError, match=r"no source web .* one of augmented, raw, general, wild"):
            read_view(str(mixture), source="web")

    def test_bos_is_visible(self, world: Path, tmp_path: Path) -> None:
        sources = {"raw": {"kind": "raw", "path": str(world / "segments"), "passes": 1}}
        make_mixture(world, tmp_path, sources=sources, bos=True)
        items = read_view(str(tmp_path / "sources" / "raw"), number=ALL).items
        marks = [part for item in items for part in item.parts if part.kind is Kind.SPECIAL]
        assert {(part.text, part.token_id) for part in marks} == {("<s>", 0)}
        assert len(marks) == len(documents_of(items)) == DOCUMENTS // 5
        assert "-- <s> (id 0)" in format_view(View((), items)).split("\n")

    def test_data_that_was_changed_is_an_error(self, copied: Path) -> None:
        shard = next((copied / "sources" / "wild").glob("*.zstd"))
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match="was altered; wanted: sha1"):
            read_view(str(copied), source="wild")
        shutil.copytree(copied / "sources" / "raw", copied / "sources" / "wild", dirs_exist_ok=True)
        with pytest.raises(MixtureError, match="the data of source wild is not what"):
            read_view(str(copied), source="wild")


class TestMds:
    """One MDS directory by itself."""

    @pytest.mark.parametrize("name", ["augmented", "raw", "general"])
    def test_tokens_are_the_texts_that_went_in_with_each_border_in_its_place(self, mixture: Path, name: str) -> None:
        sequences = read_view(str(mixture / "sources" / name), number=ALL).items
        written = read_view(str(mixture / "text" / name), number=ALL).items
        assert [item.sample for item in sequences] == list(range(len(sequences)))
        assert documents_of(sequences) == [text for item in written for text in texts(item)]
        if name == "raw":
            assert documents_of(sequences) == [document_text(i) for i in range(DOCUMENTS) if i % 5 == 4]
            assert any(f"It said {EOS} there." in text for item in sequences for text in texts(item)), "stays text"

    def test_padding_is_counted_and_is_at_the_end(self, mixture: Path) -> None:
        for source in load_plan(str(mixture)).sources:
            items = read_view(str(mixture / "sources" / source.name), number=ALL).items
            padding = [part for item in items for part in item.parts if part.kind is Kind.PADDING]
            assert sum(part.tokens or 0 for part in padding) == source.sequences * LENGTH - source.tokens
            assert all(item.parts[-1] is padding[0] for item in items[-1:] if padding)
            assert all(item.parts[-1].kind in (Kind.BORDER, Kind.UNENDED) for item in items[:-1])

    def test_texts_have_their_documents_and_shards(self, mixture: Path) -> None:
        items = read_view(str(mixture / "text" / "raw"), number=ALL).items
        assert [item.name for item in items] == [f"shard.jsonl:{i}" for i in range(DOCUMENTS) if i % 5 == 4]
        assert {(item.source, item.shard) for item in items} == {("raw", "shard.jsonl")}

    @pytest.mark.parametrize("encoding", ["str", "json"])
    def test_a_column_of_pairs_is_shown(self, tmp_path: Path, encoding: str) -> None:
        pairs = [{"instruction": pair.instruction, "response": pair.response} for pair in pairs_of(2)]
        others: list[Any] = [[], {"of": "another kind"}]
        with publish_mds(str(tmp_path / "made"), {**TEXT_COLUMNS, "pairs": encoding}, shard_bytes=1 << 20) as writer:
            for value in [pairs, *others]:
                stored = json.dumps(value) if encoding == "str" else value
                writer.write({"text": "t", "source": "s", "document_id": "d", "pairs": stored})
        items = read_view(str(tmp_path / "made"), number=ALL).items
        assert texts(items[0], Kind.INSTRUCTION) == [pair.instruction for pair in pairs_of(2)]
        assert texts(items[0], Kind.RESPONSE) == [pair.response for pair in pairs_of(2)]
        assert items[0].parts[1] == Part(Kind.PAIRS) and items[1].parts == (Part(Kind.TEXT, "t"),)
        assert texts(items[2], Kind.PAIRS) == [json.dumps(others[1])]

    def test_a_source_of_one_directory_is_its_name(self, mixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = str(mixture / "sources" / "raw")
        assert read_view(directory + "/", source="raw") == replace(
            read_view(directory), lines=read_view(directory + "/").lines
        )
        with pytest.raises(ConfigError, match=r"no source general in .* one of raw"):
            read_view(directory, source="general")
        monkeypatch.chdir(mixture / "sources")
        assert read_view("raw").items == read_view(directory).items

    def test_an_unfinished_mixtures_sources_can_be_seen(self, copied: Path) -> None:
        directory = str(copied / "sources" / "raw")
        before = read_view(directory)
        (copied / "plan.json").unlink()
        assert read_view(directory) == before

    def test_what_can_not_be_shown_is_an_error(self, copied: Path, tmp_path: Path) -> None:
        shutil.rmtree(copied / "tokenizer")
        with pytest.raises(InputError, match="no tokenizer to decode the tokens with"):
            read_view(str(copied / "sources" / "raw"))
        assert read_view(str(copied / "text" / "raw")).items, "needs none"
        with publish_mds(str(tmp_path / "other"), {"image": "bytes"}, shard_bytes=1 << 20) as writer:
            writer.write({"image": b"x"})
        with pytest.raises(InputError, match="wanted: MDS with a column tokens or text; got: columns image"):
            read_view(str(tmp_path / "other"))
        with publish_mds(str(tmp_path / "odd"), {"text": "str", "image": "bytes"}, shard_bytes=1 << 20) as writer:
            writer.write({"text": "x", "image": b"x"})
        with pytest.raises(InputError, match="a column of encoding 'bytes'"):
            read_view(str(tmp_path / "odd"))
        with publish_mds(str(tmp_path / "empty"), TEXT_COLUMNS, shard_bytes=1 << 20):
            pass
        with pytest.raises(InputError, match="nothing to show"):
            read_view(str(tmp_path / "empty"))


@pytest.mark.parametrize("compression", ["zstd:3", None])
def test_shards_are_read_as_streaming_reads_them(tmp_path: Path, compression: str | None) -> None:
    from streaming import MDSWriter

    columns = {"tokens": "ndarray:uint32:3", "text": "str", "more": "json", "wide": "ndarray:uint16:2"}
    settings = {"columns": columns, "compression": compression, "hashes": ["sha1", "xxh64"], "size_limit": 600}
    samples = [
        {
            "tokens": np.array([i, 70_000, 2**32 - 1], np.uint32),
            "text": "é" * (i % 7),
            "more": {"n": [i]},
            "wide": np.array([i, 65_535], np.uint16),
        }
        for i in range(50)
    ]
    with MDSWriter(out=str(tmp_path / "made"), **settings) as writer:
        for sample in samples:
            writer.write(sample)
    data = open_mds(str(tmp_path / "made"))
    assert data.samples == 50 and len(data.shards) > 3 and list(data.columns) == sorted(columns)
    found, wanted = data.read(range(50)), with_streaming(tmp_path / "made", tmp_path / "raw")
    for number, sample in enumerate(wanted):
        assert {name: np.asarray(value).tolist() for name, value in sample.items()} == found[number]
    assert data.read([49, 7]) == {7: found[7], 49: found[49]}


@given(st.data())
def test_documents_are_found_again_in_any_packing(tokenizer: Decoder, data: st.DataObject) -> None:
    vocabulary = st.integers(2, 255)  # ids of single bytes and short words, none special
    documents = data.draw(st.lists(st.lists(vocabulary, min_size=1, max_size=12), min_size=1, max_size=12))
    length = data.draw(st.integers(2, 9))
    tokens = join(documents, eos=tokenizer.eos, bos=None, dtype=np.uint16)
    rows = np.concatenate(list(concat([tokens], length, tokenizer.eos)))
    parts = [tokenizer.parts(row.tolist()) for row in rows]
    assert all(sum(part.tokens or 0 for part in row) == length for row in parts)
    lengths = [0]
    for part in (part for row in parts for part in row):
        if part.kind is Kind.TEXT:
            lengths[-1] += part.tokens or 0
        elif part.kind is Kind.BORDER:
            lengths.append(0)
    assert lengths == [*map(len, documents), 0]


@pytest.fixture(scope="module")
def tokenizer(mixture: Path) -> Decoder:
    return load_decoder(str(mixture))


def test_an_id_that_the_vocabulary_has_not_is_visible(tokenizer: Decoder) -> None:
    parts = tokenizer.parts([5, 9_999, 5, tokenizer.eos])
    assert [part.kind for part in parts] == [Kind.TEXT, Kind.SPECIAL, Kind.TEXT, Kind.BORDER]
    item = Item("made", parts)
    assert "-- not in the vocabulary (id 9999)" in format_view(View((), (item,)))


class TestRun:
    """A synthesis run."""

    def test_all_of_it_is_each_example_and_each_raw_text_once(self, world: Path) -> None:
        items = read_view(str(world / "segments"), number=ALL).items
        contents = [load_segment(segment) for segment in list_segments(str(world / "segments"))]
        examples = {one.example_id: one for content in contents for one in content.examples}
        raw = {one.document_id: one for content in contents for one in content.raw}
        assert Counter(item.name for item in items) == Counter([*examples, *raw])
        for item in items:
            assert item.shard == "shard.jsonl" and (item.file or "").endswith(".parquet")
            if item.source == "raw":
                assert item.status == "no_pairs" and texts(item) == [raw[item.name or ""].text]
                continue
            example = examples[item.name or ""]
            assert item.status == "augmented" and texts(item) == [shot.text for shot in example.shots]
            shots = [part for part in item.parts if part.kind is Kind.SHOT]
            assert tuple(part.text for part in shots) == example.document_ids
            assert [part.inherits for part in shots] == [False, True][: len(shots)]
            pairs = tuple(map(Pair, texts(item, Kind.INSTRUCTION), texts(item, Kind.RESPONSE)))
            assert pairs == tuple(pair for shot in example.shots for pair in shot.pairs)

    @pytest.mark.parametrize("source", ["augmented", "raw"])
    def test_one_source_and_one_seed(self, world: Path, source: str) -> None:
        first, again, other = (read_view(str(world / "segments"), source=source, seed=seed) for seed in (1, 1, 2))
        assert first == again and first.items != other.items
        assert [item.source for item in first.items] == [source] * 3
        assert len({item.file for item in first.items}) == 3, "from as many segments as there are"
        with pytest.raises(ConfigError, match=r"no source web .* one of augmented, raw"):
            read_view(str(world / "segments"), source="web")

    def test_only_as_many_segments_are_read_as_are_needed(self, world: Path, reads: list[str]) -> None:
        read_view(str(world / "segments"), number=2)
        assert len({name for name in reads if name.endswith(".parquet")}) == 2

    def test_the_input_is_not_read(self, tmp_path: Path) -> None:
        run = str(make_run(tmp_path, fraction=0.5))
        (tmp_path / "shard.jsonl").unlink()
        view = read_view(run)
        assert len(view.items) == 3 and "50% stayed raw" in view.lines[-1]

    def test_what_can_not_be_shown_is_an_error(self, tmp_path: Path) -> None:
        run = make_run(tmp_path, documents=4)
        with pytest.raises(InputError, match="nothing of source raw to show"):
            read_view(str(run), source="raw")
        file = next((run / "segments").iterdir())
        file.write_bytes(file.read_bytes() + b"x")
        with pytest.raises(InputError, match="was altered"):
            read_view(str(run))
        shutil.rmtree(run / "ledger")
        with pytest.raises(InputError, match="wanted: a finished segment"):
            read_view(str(run))


@pytest.mark.parametrize("content", [None, "{}", "[]"])
def test_anything_else_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match=r"nothing to view in .* wanted: a mixture or .* got: .* fix: name"):
        read_view(str(tmp_path))


@pytest.mark.parametrize("number", [{"number": 0}, {"seed": -1}, {"characters": -1}])
def test_numbers_that_can_not_be_are_refused(mixture: Path, number: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="can't be"):
        read_view(str(mixture), **number)  # type: ignore[arg-type]


class TestTerminal:
    """What is printed is for eyes alone."""

    def test_texts_can_not_steer_a_terminal_or_pass_for_a_border(self, mixture: Path) -> None:
        for directory in (mixture / "text" / "wild", mixture / "sources" / "wild"):
            view = read_view(str(directory))
            assert "".join(text for item in view.items for text in texts(item)) == WILD
            shown = format_view(view)
            assert not {character for character in shown if unicodedata.category(character) in ("Cc", "Cf")} - set(
                "\n\t"
            )
            assert r"  \x1b[31mred\x1b[0m\x07 a\u202eb\u200bc \x9b2J\r" in shown
            assert "\n  -- </s> (id 1): end of a document\n" in shown, "text is indented"
            borders = [line for line in shown.split("\n") if line.startswith("-- </s>")]
            assert len(borders) == len(documents_of(view.items) if directory.parent.name == "sources" else [])

    def test_nor_can_names(self) -> None:
        wild = "a\x1b[2J\nb"
        parts = (Part(Kind.SHOT, wild, inherits=True), Part(Kind.SPECIAL, wild, token_id=1))
        shown = format_view(View((), (Item(wild, parts, name=wild, shard=wild, file=wild),)))
        assert "\x1b" not in shown and len(shown.split("\n")) == 4
        assert r"a\x1b[2J\nb" in shown

    @given(st.text())
    def test_escaping_leaves_nothing_to_obey(self, text: str) -> None:
        shown = escape(text)
        assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or c in "\u200c\u200d" for c in shown)
        assert shown == text or not text.isprintable()

    def test_colour_is_for_terminals(self, mixture: Path) -> None:
        view = read_view(str(mixture / "text" / "wild"))
        plain, coloured = format_view(view), format_view(view, colour=True)
        assert "\x1b" not in plain
        assert "\x1b[7m\\x1b\x1b[0m[31mred" in coloured, "what was escaped stands out"

    def test_long_texts_are_cut_on_request_and_say_so(self, mixture: Path) -> None:
        directory = str(mixture / "text" / "augmented")
        whole, cut = read_view(directory), read_view(directory, characters=20)
        for before, after in zip(whole.items, cut.items, strict=True):
            assert texts(after) == [text[:20] for text in texts(before)]
            assert after.parts[0].left_out == len(texts(before)[0]) - 20
            assert all(len(part.text or "") <= 20 for part in after.parts)
        assert f"-- {cut.items[0].parts[0].left_out:,} more characters left out" in format_view(cut)
        assert read_view(directory, characters=10_000) == whole


class TestCommand:
    def test_for_people(self, mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["view", str(mixture), "--source", "raw", "--n", "2", "--seed", "7"]) == 0
        shown = capsys.readouterr().out
        view = read_view(str(mixture), source="raw", number=2, seed=7)
        assert shown == format_view(view) + "\n"
        heads = [line for line in shown.split("\n") if line.startswith("== ")]
        assert heads == [
            f"== {number} of 2: raw, position {item.position:,}, sample {item.sample}"
            for number, item in enumerate(view.items, 1)
        ]
        for item in view.items:
            for text in texts(item):
                assert "\n".join(f"  {line}" for line in text.split("\n")) in shown

    def test_for_machines(self, mixture: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for directory in (mixture, mixture / "sources" / "wild", mixture / "text" / "wild", world / "segments"):
            assert main(["view", str(directory), "--json", "--n", "4"]) == 0
            shown = capsys.readouterr().out
            assert shown.isascii()
            records = [json.loads(line) for line in shown.splitlines()]
            items = read_view(str(directory), number=4).items
            assert records == [item.record() for item in items]
            assert [[part.get("text") for part in one["parts"]] for one in records] == [
                [part.text for part in item.parts] for item in items
            ]

    def test_help_shows_an_example(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["view", "--help"])
        assert stopped.value.code == 0
        assert "example:\n  ipt-stream view " in capsys.readouterr().out

    def test_errors_are_one_line(self, mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["view", str(tmp_path)]) == 1
        assert main(["view", str(mixture), "--source", "a\x1b[2J"]) == 2
        assert main(["view", str(mixture), "--n", "0"]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().split("\n")) == 3 and "\x1b" not in said

    def test_it_imports_nothing_that_takes_seconds(self, mixture: Path) -> None:
        code = (
            "import sys\nfrom ipt_stream.cli import main\nmain(sys.argv[1:])\n"
            "print(sorted({'torch', 'transformers', 'streaming', 'ray', 'vllm'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "view", str(mixture)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"

    def test_a_reader_that_has_seen_enough_is_no_error(self, mixture: Path) -> None:
        command = [str(Path(sys.executable).parent / "ipt-stream"), "view", str(mixture), "--n", "250"]
        receiving, sending = os.pipe()
        os.close(receiving)
        done = subprocess.run(command, stdout=sending, stderr=subprocess.PIPE, text=True, check=False)
        os.close(sending)
        assert (done.returncode, done.stderr) == (0, "")


def test_on_an_object_store_it_is_the_same(store: Store, mixture: Path, world: Path) -> None:
    for root, name in ((mixture, "mixture"), (world / "segments", "run")):
        for file in root.rglob("*"):
            if file.is_file():
                storage.publish_bytes(f"{store.root}/{name}/{file.relative_to(root)}", file.read_bytes())
        assert read_view(f"{store.root}/{name}").items == read_view(str(root)).items
    for part in ("sources/wild", "text/raw"):
        store.asked.clear()
        assert (
            read_view(f"{store.root}/mixture/{part}/", number=1).items == read_view(str(mixture / part), number=1).items
        )
        assert sum(".mds" in path for method, path in store.asked if method == "GET") == 1
    with pytest.raises(InputError, match="nothing to view"):
        read_view(f"{store.root}/none")
