"""What is simulated: a corpus, engines, nodes, a store, and what the driver's Ray calls cost."""

from __future__ import annotations

from pydantic import Field

from ipt_stream.config import Settings

DAY = 86_400.0


class CorpusSettings(Settings):
    """A made-up listing of Parquet shards; the default is RefinedWeb's."""

    shards: int = Field(5534, ge=1)
    """Shards."""
    documents_a_shard: int = Field(175_000, ge=1)
    """Rows of a shard, in the mean."""
    spread: float = Field(0.02, ge=0, lt=1)
    """Shards have up to so much more or less, evenly."""
    tokens_a_document: float = Field(500.0, gt=0)
    """Raw tokens of a document, in the mean."""
    token_spread: float = Field(1.3, ge=0)
    """Standard deviation of a document's length over its mean; a segment's tokens spread less, by their number."""


class EngineSettings(Settings):
    """One engine: a server that works through segments in turn."""

    raw_tokens_a_day: float = Field(2.5e9, gt=0)
    """Raw tokens that a full engine turns into augmented text in a day (`ipt-stream benchmark` measures it)."""
    max_num_seqs: int = Field(512, ge=1)
    """Sequences in one step."""
    step_floor: float = Field(0.3, ge=0, le=1)
    """Share of a full step's time that a step with one sequence takes too: what few chains cost."""
    tokenize_tokens_a_second: float = Field(1e6, gt=0)
    """Of a worker's processor, before a segment goes to the engine (`benchmarks/mixing.py`: 0.3M/s a core)."""


class NodeSettings(Settings):
    """The machines."""

    gpus: int = Field(100, ge=1)
    """Engines, of one GPU each."""
    gpus_a_node: int = Field(8, ge=1)
    """What is lost together."""
    join_seconds: float = Field(120.0, ge=0)
    """From the run's start until the last node is there; they come evenly."""
    start_seconds: float = Field(180.0, ge=0)
    """From its node until an engine is up: model, compilation, graphs; the median."""
    start_spread: float = Field(0.25, ge=0)
    """Standard deviation of that time's logarithm."""
    loss_hours: float | None = Field(24.0, gt=0)
    """Hours until a node is lost, in the mean (exponential); null: never."""
    notice_seconds: float = Field(15.0, ge=0)
    """Until Ray knows of a lost node."""
    replace_seconds: float = Field(600.0, ge=0)
    """From a node's loss until another takes its place."""
    slow_share: float = Field(0.02, ge=0, le=1)
    """Share of the engines that are slow."""
    slow_factor: float = Field(0.5, gt=0, le=1)
    """Their rate over the others'."""


class StoreSettings(Settings):
    """The object store."""

    request_seconds: float = Field(0.05, ge=0)
    """A small request; the median."""
    request_spread: float = Field(0.6, ge=0)
    """Standard deviation of that time's logarithm: one in 80 takes four times as long."""
    bytes_a_second: float = Field(100e6, gt=0)
    """Of one worker, when it reads a shard or publishes a segment."""
    bytes_a_document: float = Field(2500.0, ge=0)
    """Of a shard, compressed, and of a segment file."""


class DriverSettings(Settings):
    """What Ray's part of a call costs a process on one core; `benchmarks/driver.py` measures all of it."""

    order_seconds: float = Field(0.003, ge=0)
    """Of the driver, to give an order out and take its end: it gives out one after another."""
    queue_seconds: float = Field(0.0005, ge=0)
    """Of the driver, for an order, before the first is given out."""
    beat_seconds: float = Field(0.0003, ge=0)
    """Of the coordinator, to take a beat."""
    look_seconds: float = Field(0.00002, ge=0)
    """Of the driver, for each worker that a look tells of."""


class SimulationSettings(Settings):
    """A simulated synthesis run."""

    corpus: CorpusSettings = CorpusSettings()
    """The input."""
    engine: EngineSettings = EngineSettings()
    """Each engine."""
    nodes: NodeSettings = NodeSettings()
    """The machines."""
    store: StoreSettings = StoreSettings()
    """Where shards, segments and ledger are."""
    driver: DriverSettings = DriverSettings()
    """What Ray costs."""
    rounds: int = Field(2, ge=1)
    """M."""
    fraction: float = Field(1.0, gt=0, le=1)
    """Of the documents, how many are converted (paper: 1/5 from scratch)."""
    segment_documents: int = Field(2048, ge=1)
    """Rows a segment."""
    driver_lost_hours: tuple[float, ...] = ()
    """When the driver is lost, with all engines; it is started again at once and resumes."""
    seed: int = 0
    """Of all that is drawn."""
