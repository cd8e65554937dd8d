"""The plan of a mixture: what training will see, as `plan.json` holds it and as the table shows it to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ipt_stream import storage
from ipt_stream.config import fingerprint
from ipt_stream.errors import MixtureError
from ipt_stream.mixture.shares import Demand, Stock, count_sequences

PLAN_FILE = "plan.json"


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
    """

    name: str
    documents: int
    tokens: int
    sequences: int
    planned: int
    index_sha256: str

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
    """

    sources: tuple[PlannedSource, ...]
    sequence_length: int
    seed: int
    vocabulary_size: int
    eos_token_id: int

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
) -> Plan:
    """The plan for `stocks`. Raises `MixtureError` as `count_sequences` does."""
    counts = count_sequences(stocks, demands, total)
    sources = tuple(
        PlannedSource(
            stock.name, stock.documents, stock.tokens, stock.sequences, counts[stock.name], stock.index_sha256
        )
        for stock in stocks
    )
    return Plan(sources, sequence_length, seed, vocabulary_size, eos_token_id)


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
        sources = tuple(
            PlannedSource(**{key: entry[key] for key in PlannedSource.__dataclass_fields__})
            for entry in record["sources"]
        )
        plan = Plan(sources, **{key: record[key] for key in Plan.__dataclass_fields__ if key != "sources"})
        known = record["fingerprint"]
    except (KeyError, TypeError) as error:
        raise MixtureError(f"{path} is not a plan", got=f"{error!r}", fix="run ipt-stream mix again") from error
    if plan.fingerprint != known:
        raise MixtureError(
            f"{path} was changed", wanted=f"fingerprint {known}", got=plan.fingerprint, fix="run ipt-stream mix again"
        )
    return plan


def table(plan: Plan) -> list[str]:
    """The plan as aligned lines for a person: a row per source and a total."""
    rows: list[tuple[str, ...]] = [("source", "documents", "tokens", "sequences", "passes", "planned", "share")]
    for s in plan.sources:
        numbers = (f"{s.documents:,}", f"{s.tokens:,}", f"{s.sequences:,}", f"{s.passes:.2f}", f"{s.planned:,}")
        rows.append((s.name, *numbers, f"{plan.share(s):.1%}"))
    sums = [sum(getattr(s, key) for s in plan.sources) for key in ("documents", "tokens", "sequences")]
    rows.append(("total", *(f"{n:,}" for n in sums), "", f"{plan.sequences:,}", f"{plan.tokens:,} tokens"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
