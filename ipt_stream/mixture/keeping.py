"""What each source of a mixture keeps of its synthesis run, and how that is told to people. (The rules: keep.py.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ipt_stream.errors import ConfigError
from ipt_stream.mixture.keep import ChecksConfig, Keep, open_keep, read_left_out
from ipt_stream.mixture.sources import OF_A_RUN, FinishedRun, Kind, SourceConfig


def keeps_of(
    sources: Mapping[str, SourceConfig], leave_out: str | None, runs: Mapping[str, FinishedRun]
) -> dict[str, Keep | None]:
    """What each source keeps, by its name. Raw texts follow the checks of the augmented ones of the same run.

    Args:
        sources: the mixture's.
        leave_out: a file that lists documents to leave out.
        runs: the synthesis runs that sources are made from, by directory.

    Raises:
        ConfigError: there is nothing to leave documents out of, or raw texts would follow two kinds of checks.
        InputError, ConfigError: as `open_keep` and `read_left_out`.
    """
    shards = {path: {reference.shard.name for reference in run.references} for path, run in runs.items()}
    listed: frozenset[str] = frozenset()
    if leave_out is not None:
        if not runs:
            raise ConfigError(
                "leave_out, and no source that is made from a synthesis run",
                wanted="a source of kind " + ", ".join(OF_A_RUN),
                got=leave_out,
                fix="remove leave_out",
            )
        listed = read_left_out(leave_out, {name for names in shards.values() for name in names})
    keeps: dict[str, Keep | None] = {}
    for name, source in sources.items():
        keeps[name] = None
        if source.kind in OF_A_RUN:
            path = source.paths[0]
            left_out = frozenset(one for one in listed if one.rpartition(":")[0] in shards[path])
            keeps[name] = open_keep(_checks_of(name, sources), runs[path].references, path, left_out)
    return keeps


def _checks_of(name: str, sources: Mapping[str, SourceConfig]) -> ChecksConfig | None:
    source = sources[name]
    if source.kind is not Kind.RAW:
        return source.checks
    found = [one.checks for one in sources.values() if one.kind is Kind.AUGMENTED and one.paths == source.paths]
    if any(checks != found[0] for checks in found):
        raise ConfigError(
            f"source {name} can't hold what the augmented sources of {source.paths[0]} leave over",
            wanted="the same checks in all of them",
            got=f"{len(found)} sources with different checks",
            fix="give them the same checks, or mix them apart",
        )
    return found[0] if found else None


def kept_lines(
    sources: Mapping[str, SourceConfig], keeps: Mapping[str, Keep | None], kept: Mapping[str, Counter[str]]
) -> Iterator[str]:
    """What checks dropped and the list left out of each source, for people; `kept` counts it, by source."""
    for name, keep in keeps.items():
        source, counts = sources[name], kept[name]
        if keep is not None and keep.conditions and source.kind is Kind.AUGMENTED:
            by_check = ", ".join(f"{item.column} {counts[f'dropped.{item.column}']:,}" for item in keep.conditions)
            yield (
                f"{name}: pairs {counts['pairs']:,} = kept {counts['kept']:,} + dropped {counts['dropped']:,} "
                f"(by {by_check}; a pair can fail several)"
            )
            has_raw = any(one.kind is Kind.RAW and one.paths == source.paths for one in sources.values())
            where = "are raw text" if has_raw else "are in no source, as there is none of kind raw"
            yield f"{name}: {counts['emptied']:,} documents have no pairs left and {where}"
        if keep is not None and keep.left_out:
            yield f"{name}: {counts['left_out']:,} documents left out, of {len(keep.left_out):,} that are listed"


def kept_figures(
    sources: Mapping[str, SourceConfig], keeps: Mapping[str, Keep | None], kept: Mapping[str, Counter[str]]
) -> dict[str, float | int | str]:
    """The same as figures of the stage."""
    figures: dict[str, float | int | str] = {}
    for name, keep in keeps.items():
        counts = kept[name]
        if keep is not None and keep.conditions and sources[name].kind is Kind.AUGMENTED:
            figures |= {f"{name}_pairs": counts["pairs"], f"{name}_pairs_kept": counts["kept"]}
            for item in keep.conditions:
                figures[f"{name}_pairs_dropped_by_{item.column}"] = counts[f"dropped.{item.column}"]
            figures[f"{name}_documents_without_pairs_left"] = counts["emptied"]
        if keep is not None and keep.left_out:
            figures[f"{name}_documents_left_out"] = counts["left_out"]
    return figures
