"""From globs, directories and names to shards: each file once, named the same wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shards import PLAIN, TEXTS, resolve, write, xml_of

from ipt_stream.config import build
from ipt_stream.corpus.readers import InputConfig, list_shards, listing_fingerprint, read_rows
from ipt_stream.errors import ConfigError, InputError


def test_a_glob_without_files_and_a_file_named_twice_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", PLAIN)
    with pytest.raises(InputError, match="no input matches"):
        resolve(tmp_path / "*.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="named twice"):
        resolve("a.jsonl", path)
    with pytest.raises(ConfigError, match="did you mean 'text_column'"):
        build(InputConfig, {"shards": ["a"], "text_colum": "a"}, "x.yaml")
    with pytest.raises(ConfigError, match="shards"):
        build(InputConfig, {"shards": []}, "x.yaml")
    (tmp_path / "a.xml").write_bytes(xml_of(PLAIN))
    with pytest.raises(InputError, match="MEDLINE XML, which has no column 'text'"):
        resolve("a.xml", text_column="text")


def test_shards_are_named_by_file_and_by_directory_only_where_files_collide(tmp_path: Path) -> None:
    for part in ("x/a.jsonl", "x/b.jsonl", "y/a.jsonl", "y/_SUCCESS"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        write(tmp_path / part, PLAIN)
    assert [shard.name for shard in resolve(tmp_path / "x")] == ["a.jsonl", "b.jsonl"]
    shards = resolve(tmp_path)
    assert [shard.name for shard in shards] == ["x/a.jsonl", "x/b.jsonl", "y/a.jsonl"]
    assert [shard.index for shard in shards] == [0, 1, 2]
    assert next(read_rows(shards[2])).row == 0


def test_the_fingerprint_follows_names_sizes_and_order_and_nothing_else(tmp_path: Path) -> None:
    for part in ("x", "moved/y"):
        (tmp_path / part).mkdir(parents=True)
        write(tmp_path / part / "a.jsonl", PLAIN)
        write(tmp_path / part / "b.jsonl", TEXTS)
        os.utime(tmp_path / part / "a.jsonl", (len(part), len(part)))
    here, moved = resolve(tmp_path / "x"), resolve(tmp_path / "moved" / "y")
    name = listing_fingerprint(here)
    assert name == listing_fingerprint(moved)
    assert name == listing_fingerprint(list_shards(InputConfig(shards=(str(tmp_path / "x"),))))
    assert name != listing_fingerprint(here[:1]) and name != listing_fingerprint(here[::-1])
    write(tmp_path / "x" / "a.jsonl", PLAIN[1:])
    assert name != listing_fingerprint(resolve(tmp_path / "x"))


def test_files_with_any_name_are_found_and_can_be_named(tmp_path: Path) -> None:
    names = ["#a.jsonl", "[1]*?.jsonl", "a b.jsonl", "c\nd.jsonl", "per%20cent.jsonl", "日本🙂.jsonl"]
    for name in names:
        write(tmp_path / name, PLAIN)
    assert [shard.name for shard in resolve(tmp_path)] == names
    assert [shard.name for shard in resolve(*(tmp_path / name for name in names))] == names
    assert [shard.name for shard in resolve(f"file://{tmp_path}/*.jsonl")] == names
    os.rename(tmp_path / names[0], os.path.join(os.fsencode(tmp_path), b"\xff.jsonl"))
    with pytest.raises(InputError, match="a file name in UTF-8"):
        resolve(tmp_path)


def test_what_tools_leave_beside_the_data_is_no_shard_unless_it_is_named(tmp_path: Path) -> None:
    root = tmp_path / ".data" / "_raw"
    for part in ("a.jsonl", "x/b.jsonl", ".cache/c.jsonl", "_log/d.jsonl", "x/.e.jsonl", "_f.jsonl"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        write(root / part, PLAIN)
    assert [shard.name for shard in resolve(root)] == ["a.jsonl", "b.jsonl"]
    assert [shard.name for shard in resolve(root / "*.jsonl")] == ["a.jsonl"]
    assert [shard.name for shard in resolve(root / "_f.jsonl", f"file://{root}/x/.e.jsonl")] == ["_f.jsonl", ".e.jsonl"]


def test_one_file_under_two_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", PLAIN)
    os.symlink(tmp_path / "a.jsonl", tmp_path / "latest.jsonl")
    with pytest.raises(InputError, match=r"latest.jsonl is named twice .*a.jsonl, which is the same file"):
        resolve(tmp_path)
    assert [shard.name for shard in resolve(tmp_path / "latest.jsonl")] == ["latest.jsonl"]
