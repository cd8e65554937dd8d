"""Configuration, storage, stages and the ledger: strict about what comes in, all or nothing about what goes out."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import Field

from ipt_stream import storage
from ipt_stream.config import Settings, build, fingerprint, load_config
from ipt_stream.errors import ConfigError, InputError, LedgerError, RejectionLimitExceeded, StorageError
from ipt_stream.ledger import RECORDS_A_PART, LedgerWriter, read_ledger
from ipt_stream.stage import StageReport, finished_figures, open_stage, run_once


class Inner(Settings):
    max_new_tokens: int = 400


class Outer(Settings):
    output: str
    inner: Inner = Inner()
    named: dict[str, Inner] = Field(default_factory=dict)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_overrides_and_interpolation_are_applied(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "output: a\ninner: {max_new_tokens: 3}\n")
    assert load_config(Outer, file, ["inner.max_new_tokens=7", "output=b"]) == Outer(
        output="b", inner=Inner(max_new_tokens=7)
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"output": "a", "iner": {}}, "unknown key 'iner'; did you mean 'inner'?"),
        ({"output": "a", "inner": {"max_new_token": 1}}, "did you mean 'inner.max_new_tokens'?"),
        ({"output": "a", "named": {"x": {"max_new_tokes": 1}}}, "did you mean 'named.x.max_new_tokens'?"),
        ({}, "missing key 'output'"),
        ({"output": "a", "inner": {"max_new_tokens": "many"}}, "wrong value for 'inner.max_new_tokens'"),
    ],
)
def test_a_wrong_configuration_names_the_key_and_the_nearest_right_one(mapping: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, mapping, "here.yaml")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "output: ${nothing}\n", "!!python/object/apply:os.getcwd []\n"])
def test_yaml_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Outer, write(tmp_path / "c.yaml", text))


def test_a_missing_file_and_an_override_without_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(Outer, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"wanted: dotted\.key=value"):
        load_config(Outer, write(tmp_path / "c.yaml", "output: a"), ["output"])


def test_errors_survive_the_way_between_processes() -> None:
    error = RejectionLimitExceeded("too many", wanted="1", got="2", fix="less")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (RejectionLimitExceeded, "too many; wanted: 1; got: 2; fix: less")


def test_publishing_replaces_whole_files_and_leaves_nothing_temporary(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "file")
    storage.publish_bytes(path, b"one")
    storage.publish_bytes(path, b"two")
    assert storage.read_bytes(path) == b"two"
    assert storage.list_directory(str(tmp_path / "deep")) == [path]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["file"]


def test_publishing_where_it_can_not_be_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "file", "old")
    with pytest.raises(StorageError, match="can't publish"):
        storage.publish_bytes(str(tmp_path / "file" / "below"), b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_directory_is_published_whole_in_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for content in ("one", "two"):
        made = storage.temporary_directory_beside(str(target))
        write(Path(made) / content, content)
        storage.publish_directory(made, str(target))
    assert [entry.name for entry in target.iterdir()] == ["two"]
    left = storage.temporary_directory_beside(str(target))
    storage.remove_temporaries(str(tmp_path))
    assert not Path(left).exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_patterns_must_match_and_must_not_overlap(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        write(tmp_path / name, "{}")
    assert storage.expand([f"{tmp_path}/*.jsonl"]) == [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]
    with pytest.raises(InputError, match="no input matches"):
        storage.expand([f"{tmp_path}/*.parquet"])
    with pytest.raises(InputError, match="named twice"):
        storage.expand([f"{tmp_path}/*.jsonl", f"{tmp_path}/a.jsonl"])


def test_links_are_followed_and_those_to_nothing_or_in_circles_are_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root / "a.jsonl", "{}")
    write(tmp_path / "elsewhere" / "b.jsonl", "{}")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    assert storage.expand([str(root)]) == [f"{root}/a.jsonl", f"{root}/more/b.jsonl"]
    (root / "more" / "round").symlink_to(root)
    with pytest.raises(InputError, match=r"more/round is .*data again"):
        storage.expand([str(root)])
    (root / "more" / "round").unlink()
    (root / "gone.jsonl").symlink_to(tmp_path / "nothing.jsonl")
    for pattern in (root, root / "*.jsonl", root / "gone.jsonl"):
        with pytest.raises(InputError, match=r"gone\.jsonl is a link to nothing"):
            storage.expand([str(pattern)])


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    calls = []

    def work(stage: object) -> StageReport:
        calls.append(1)
        return opened.finish({"n": 3}, ("done",))

    opened = open_stage(str(tmp_path), "mix", {"seed": 1})
    first = run_once(str(tmp_path), "mix", {"seed": 1}, work)
    second = run_once(str(tmp_path), "mix", {"seed": 1}, work)
    assert (len(calls), first.skipped, second.skipped) == (1, False, True)
    assert second.figures["n"] == 3
    assert finished_figures(str(tmp_path)) == second.figures


def test_other_settings_on_a_stages_directory_are_refused_and_named(tmp_path: Path) -> None:
    open_stage(str(tmp_path), "mix", {"seed": 1, "plan": {"a": 1}})
    with pytest.raises(LedgerError, match=r"plan\.a was 1, is 2"):
        open_stage(str(tmp_path), "mix", {"seed": 1, "plan": {"a": 2}})
    with pytest.raises(LedgerError, match="verb was 'mix', is 'tune'"):
        open_stage(str(tmp_path), "tune", {"seed": 1, "plan": {"a": 1}})


def test_of_two_that_open_a_stage_at_once_with_other_settings_one_is_refused(tmp_path: Path) -> None:
    for turn in range(20):
        place, start = str(tmp_path / str(turn)), threading.Barrier(2)

        def open_it(seed: int, place: str = place, start: threading.Barrier = start) -> int | None:
            start.wait()
            try:
                open_stage(place, "mix", {"seed": seed})
            except LedgerError:
                return None
            return seed

        with ThreadPoolExecutor(2) as pool:
            opened = [seed for seed in pool.map(open_it, (1, 2)) if seed]
        assert opened == [storage.read_json(f"{place}/stage.json")["settings"]["seed"]]


def test_the_ledger_gives_back_all_records_over_many_parts_and_writers(tmp_path: Path) -> None:
    count = RECORDS_A_PART + 3
    for writer in range(2):
        ledger = LedgerWriter(str(tmp_path))
        assert len(list(read_ledger(str(tmp_path)))) == writer * count
        for number in range(count):
            ledger.append({"id": f"{writer}-{number}", "n": number})
    assert len(list(read_ledger(str(tmp_path)))) == 2 * count
    assert len(list((tmp_path / "ledger").iterdir())) == 4


def test_threads_share_a_writer_and_processes_have_their_own(tmp_path: Path) -> None:
    first, second = LedgerWriter(str(tmp_path)), LedgerWriter(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: (first if n % 2 else second).append({"id": str(n)}), range(200)))
    assert sorted(int(record["id"]) for record in read_ledger(str(tmp_path))) == list(range(200))


def test_a_unit_that_two_recorded_alike_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        LedgerWriter(str(tmp_path)).append({"id": "a", "n": 1})
    assert [dict(record) for record in read_ledger(str(tmp_path))] == [{"id": "a", "n": 1}]


def test_what_could_not_be_written_is_not_recorded(tmp_path: Path) -> None:
    ledger = LedgerWriter(str(tmp_path))
    ledger.append({"id": "a"})
    (tmp_path / "ledger").rename(tmp_path / "away")
    (tmp_path / "ledger").write_text("in the way")
    with pytest.raises(StorageError, match="can't publish"):
        ledger.append({"id": "b"})
    (tmp_path / "ledger").unlink()
    (tmp_path / "away").rename(tmp_path / "ledger")
    ledger.append({"id": "c"})
    assert [record["id"] for record in read_ledger(str(tmp_path))] == ["a", "c"]


def test_a_record_may_hold_any_text(tmp_path: Path) -> None:
    """Some characters end a line in the eyes of `str.splitlines`, and are not escaped in JSON."""
    reason = "a\u2028b\x85c\x1cd\r\ne\u2029"
    LedgerWriter(str(tmp_path)).append({"id": "a", "broken": reason})
    assert [dict(record) for record in read_ledger(str(tmp_path))] == [{"id": "a", "broken": reason}]


def test_contradicting_and_unreadable_records_are_refused(tmp_path: Path) -> None:
    LedgerWriter(str(tmp_path)).append({"id": "a", "n": 1})
    part = tmp_path / "ledger" / "part-somebody-000007.jsonl"
    write(part, json.dumps({"id": "a", "n": 2}) + "\n")
    with pytest.raises(LedgerError, match="contradicts"):
        list(read_ledger(str(tmp_path)))
    for torn in (b"{torn", b"\xff\xfe\x00", b"[1]", b"{}"):
        part.write_bytes(torn)
        with pytest.raises(LedgerError, match="not a ledger record"):
            list(read_ledger(str(tmp_path)))


def test_a_fingerprint_names_content_not_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint(Outer(output="x")) == fingerprint(Outer(output="x"))
