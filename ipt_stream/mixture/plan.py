"""The plan of a mixture: what training will see, as `plan.json` holds it and as the table shows it to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.errors import MixtureError
from ipt_stream.mixture.curves import Curve, targets
from ipt_stream.mixture.shares import Demand, Stock, count_sequences

PLAN_FILE = "plan.json"
MAX_SEQUENCES = 3_000_000_000
"""Of a training: products of two counts must fit in 63 bits."""


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source and its place in training.

    Attributes:
        name: the source's name, and its directory below `sources/`.
        documents: input documents in it.
        tokens: tokens of one pass, padding not counted.
        sequences: sequences of one pass.
        planned: sequences of it in the whole training.
        index_sha256: hash of its MDS index, which holds the hashes of its shards.
        shard_sequences: sequences of each of its MDS shards; the last may have fewer.
        curve: when in training they come (curves.py); `()`: evenly.
    """

    name: str
    documents: int
    tokens: int
    sequences: int
    planned: int
    index_sha256: str
    shard_sequences: int
    curve: Curve = ()

    @property
    def passes(self) -> float:
        """How often each of its sequences is seen, on average."""
        return self.planned / self.sequences if self.sequences else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that training needs to know of a mixture; `plan.json` is this.

    Attributes:
        sources: in the order of their sample ids.
        sequence_length: tokens a sequence.
        seed: of the permutations of the passes.
        vocabulary_size: one more than the largest token id that can occur.
        eos_token_id: ends each document, and pads the last sequence of a source.
        shuffle_shards: shards of a source that a pass shuffles together (order.py).
        document_ids: whether batches say which document each token is of, so that attention can be kept inside.
    """

    sources: tuple[PlannedSource, ...]
    sequence_length: int
    seed: int
    vocabulary_size: int
    eos_token_id: int
    shuffle_shards: int
    document_ids: bool = False

    @property
    def sequences(self) -> int:
        """Sequences in the whole training."""
        return sum(source.planned for source in self.sources)

    @property
    def tokens(self) -> int:
        """Positions in the whole training: sequences times their length."""
        return self.sequences * self.sequence_length

    @property
    def streamed(self) -> tuple[PlannedSource, ...]:
        """The sources that training sees at all, in order."""
        return tuple(source for source in self.sources if source.planned)

    @property
    def fingerprint(self) -> str:
        """Names the order and the data in it: another seed, length, share or shard gives another."""
        return fingerprint(asdict(self))

    def share(self, source: PlannedSource) -> float:
        """The part of all sequences that comes from `source`."""
        return source.planned / self.sequences


def make_plan(
    stocks: Sequence[Stock],
    demands: Mapping[str, Demand],
    *,
    total: int | None,
    sequence_length: int,
    seed: int,
    vocabulary_size: int,
    eos_token_id: int,
    shuffle_shards: int,
    document_ids: bool = False,
    curves: Mapping[str, Curve] | None = None,
) -> Plan:
    """The plan for `stocks`. Raises `MixtureError` as `count_sequences` and `targets` do."""
    counts = count_sequences(stocks, demands, total)
    sources = tuple(
        PlannedSource(
            stock.name, stock.documents, stock.tokens, stock.sequences, counts[stock.name], stock.index_sha256,
            stock.shard_sequences, (curves or {}).get(stock.name, ()),
        )
        for stock in stocks
    )  # fmt: skip
    plan = Plan(sources, sequence_length, seed, vocabulary_size, eos_token_id, shuffle_shards, document_ids)
    if plan.sequences > MAX_SEQUENCES:
        raise MixtureError(
            "the training is too long for one order",
            wanted=f"at most {MAX_SEQUENCES:,} sequences",
            got=f"{plan.sequences:,}",
            fix="longer sequences, or a training in parts",
        )
    if any(source.curve for source in plan.streamed):
        streamed = plan.streamed
        targets([s.name for s in streamed], [s.planned for s in streamed], [s.curve for s in streamed])
    return plan


def save_plan(mixture: str, plan: Plan) -> None:
    """Publish `plan` as `plan.json` of the mixture in `mixture`, with passes and shares spelled out for people."""
    record = asdict(plan)
    for entry, source in zip(record["sources"], plan.sources, strict=True):
        entry |= {"passes": round(source.passes, 6), "share": round(plan.share(source), 6)}
    totals = {"sequences": plan.sequences, "tokens": plan.tokens}
    storage.publish_json(storage.join(mixture, PLAN_FILE), {**record, "total": totals, "fingerprint": plan.fingerprint})


def load_plan(mixture: str) -> Plan:
    """The plan of the finished mixture in `mixture`.

    Raises:
        MixtureError: there is none, or its numbers were changed by hand.
    """
    path = storage.join(mixture, PLAN_FILE)
    if not storage.exists(path):
        raise MixtureError(f"no mixture in {mixture}", wanted=PLAN_FILE, got="nothing there", fix="run ipt-stream mix")
    record = storage.read_json(path)
    try:
        sources = tuple(_source(entry) for entry in record["sources"])
        plan = Plan(sources, **{key: record[key] for key in Plan.__dataclass_fields__ if key != "sources"})
        known = record["fingerprint"]
    except (KeyError, TypeError) as error:
        raise MixtureError(f"{path} is not a plan", got=f"{error!r}", fix="run ipt-stream mix again") from error
    if plan.fingerprint != known:
        raise MixtureError(
            f"{path} was changed", wanted=f"fingerprint {known}", got=plan.fingerprint, fix="run ipt-stream mix again"
        )
    return plan


def _source(entry: Mapping[str, Any]) -> PlannedSource:
    fields = {key: entry[key] for key in PlannedSource.__dataclass_fields__}
    return PlannedSource(**{**fields, "curve": tuple((x, y) for x, y in fields["curve"])})


def table(plan: Plan, sequences_per_batch: int | None = None, about: bool = False) -> list[str]:
    """The plan as aligned lines for a person: a row per source, and in total sequences, steps and tokens.

    Args:
        plan: what to show.
        sequences_per_batch: sequences a step; None: steps are left out.
        about: whether the numbers are estimates, and marked as such.
    """
    mark = "~" if about else ""
    rows: list[tuple[str, ...]] = [("source", "documents", "tokens", "sequences", "passes", "planned", "share")]
    for s in plan.sources:
        numbers = (f"{s.documents:,}", f"{s.tokens:,}", f"{s.sequences:,}", f"{s.passes:.2f}", f"{s.planned:,}")
        rows.append((s.name, *(mark + number for number in numbers), f"{mark}{plan.share(s):.1%}"))
    sums = [sum(getattr(s, key) for s in plan.sources) for key in ("documents", "tokens", "sequences")]
    rows.append(("total", *(f"{mark}{n:,}" for n in sums), "", f"{mark}{plan.sequences:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    steps = (
        ""
        if sequences_per_batch is None
        else f"{mark}{plan.sequences // sequences_per_batch:,} steps of " + (f"{sequences_per_batch:,} sequences, ")
    )
    lines.append(f"training: {steps}{mark}{plan.sequences:,} sequences of {plan.sequence_length:,} tokens, "
                 f"{mark}{plan.tokens:,} tokens")  # fmt: skip
    return lines + [f"{s.name} comes along a curve: {_points(s.curve)}" for s in plan.sources if s.curve]


def _points(curve: Curve) -> str:
    """`0% 1, 50% 2`: points of progress, each with its weight."""
    return ", ".join(f"{progress:.0%} {weight:g}" for progress, weight in curve)
