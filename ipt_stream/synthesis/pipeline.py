"""The synthesize stage: shards -> work orders -> engines -> segment files and the ledger. The only Ray Data wiring.

    listing, ledger --plan--> orders (one a row) --actors: read, synthesize, publish, record--> what came of each

An order is a run of segments of one shard; an actor reads it, keeps its engine full with it, and records each segment
in the ledger as it is published. So neither documents nor results pass through the driver, and how Ray Data splits and
merges blocks can't change what a segment is. Killed at any moment, the next run does what is not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from ipt_stream.config import Settings
from ipt_stream.corpus.formats import ShardSpec
from ipt_stream.corpus.readers import InputConfig
from ipt_stream.errors import ConfigError, EngineError, InputError, IptError, RejectionLimitExceeded, StorageError
from ipt_stream.ledger import read_ledger
from ipt_stream.stage import Figure, StageReport
from ipt_stream.synthesis.begin import Begun, begin, remove_temporaries
from ipt_stream.synthesis.board import Board
from ipt_stream.synthesis.engine import EngineConfig, VllmEngine
from ipt_stream.synthesis.orders import order_from_json, orders_at_once
from ipt_stream.synthesis.ray_session import check_shared, ensure_ray
from ipt_stream.synthesis.supervise import Stopped, StopRequest, supervise
from ipt_stream.synthesis.tally import COUNTS, Tally, tally
from ipt_stream.synthesis.worker import EngineFactory, beat_seconds


class LimitsConfig(Settings):
    """How much of the input may be rejected before the stage ends with exit code 3 (it finishes all the same)."""

    broken_shards: int = Field(0, ge=0)
    """Shards that can't be read to their end."""
    rejected_share: float = Field(0.1, ge=0.0, le=1.0)
    """Rejected documents over documents in."""


class SynthesizeConfig(Settings):
    """Settings of the synthesize stage."""

    input: InputConfig
    """The raw shards."""
    output: str
    """Run directory: a path, or a URL such as s3://bucket/prefix."""
    engine: EngineConfig
    """The synthesizer and how it runs."""
    rounds: int = Field(2, ge=1)
    """M: rounds of synthesis, each seeing what earlier ones of its chain made (paper: 2, in a domain 3)."""
    fraction: float = Field(1.0, ge=0.0, le=1.0)
    """Of the documents, how many are converted (paper: 1/5 from scratch, all in a domain)."""
    seed: int = 0
    """Of that selection."""
    segment_documents: int = Field(2048, ge=1)
    """Rows a segment: what is lost at most when a worker dies."""
    limits: LimitsConfig = LimitsConfig()
    """What may be rejected."""
    grace_seconds: float = Field(60, ge=0)
    """After SIGTERM or Ctrl-C: time for the segments in flight to be finished; what is not is made by the next run."""


def synthesize(
    config: SynthesizeConfig, make_engine: EngineFactory = VllmEngine, stop: StopRequest | None = None
) -> StageReport:
    """Synthesize pairs for all selected documents of the input; resumes a run that was killed.

    Told to stop (SIGTERM, Ctrl-C), at any moment, it finishes what is in flight within `grace_seconds` and gives the
    report of an unfinished stage. So it does where `stop` is asked to.

    Raises:
        ConfigError: on a cluster, a relative path, which each node would take for a place of its own.
        InputError: the input is not what it should be; before any engine starts.
        LedgerError: the run directory belongs to other settings, another driver is at work there, or a document was
            lost or doubled.
        RejectionLimitExceeded: finished, with more rejects than `limits` allows.
    """
    check_shared(config.output, "output")
    for pattern in config.input.shards:
        check_shared(pattern, "input.shards")
    stop = stop or StopRequest()
    with stop.listening(), begin(config) as begun:
        report = begun if isinstance(begun, StageReport) else _run(config, begun, make_engine, stop)
    if not report.stopped:
        _check_limits(config, report)
    return report


def _run(config: SynthesizeConfig, run: Begun, make_engine: EngineFactory, stop: StopRequest) -> StageReport:
    shards, before = run.plan.shards, run.before
    stopped = None
    if run.orders:
        try:
            _work(config, run, make_engine, stop)
        except Stopped as reason:
            stopped = reason
    run.held.check()
    final = tally(read_ledger(config.output))
    if stopped is not None and any(not final.is_whole(shard.index) for shard in shards):
        return StageReport({}, (f"stopped early: {stopped}; run the same command again to go on",), stopped=True)
    final.check_conservation(len(shards), config.output)
    remove_temporaries(config.output)  # of workers that were killed
    figures = _figures(final, before, len(shards), run.board)
    return run.stage.finish(figures, _lines(figures, final, shards))


def _work(config: SynthesizeConfig, run: Begun, make_engine: EngineFactory, stop: StopRequest) -> None:
    """Have all orders done by engines in Ray actors, watched over. Raises `Stopped` when told to stop."""
    stop.check()
    import ray

    from ipt_stream.synthesis.coordinator import start_coordinator

    ensure_ray()
    stop.check()
    engine = config.engine
    gpus = engine.gpus
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]
    coordinator = start_coordinator()
    at_once, _ = orders_at_once(engine, run.plan)
    arguments = (engine, run.plan.without_shards(), config.output, gpus, make_engine, coordinator)
    done = hand_out(run.orders, _Actor, arguments, engine.replicas, at_once, gpus, engine.cpus)

    def results() -> Iterator[None]:
        for row in done.iter_rows():
            result = json.loads(row["result"])
            if result["error"] is not None:
                raise _ERRORS.get(result["kind"], IptError)(result["error"])
            yield

    supervise(
        results(), coordinator, run.board, config.output, engine.stall_seconds, config.grace_seconds, run.held.check,
        stop, beat_seconds(engine.most_replicas()),
    )  # fmt: skip


def hand_out(
    orders: Sequence[str],
    worker: type,
    arguments: tuple[Any, ...],
    replicas: int | tuple[int, int],
    at_once: int,
    gpus: float,
    cpus: float,
) -> Any:
    """A dataset with one row an order, of what became of it: actors of class `worker` do them when it is consumed.

    Each order goes to the actor that has the fewest, and an actor that is lost keeps its own until it is back.

    Args:
        orders: as JSON, in the order in which they are given out.
        worker: called with `{"order": [JSON]}`; gives one row.
        arguments: of its constructor.
        replicas: actors, or the least and the most of them.
        at_once: orders that an actor has; none waits there, where it would be in the way at the end.
        gpus: an actor's.
        cpus: an actor's.
    """
    import ray
    from ray.data import ActorPoolStrategy
    from ray.data._internal.execution import streaming_executor_state

    # An order takes minutes: asked ten times a second, as by default, whether one is done costs a fiftieth of a core.
    streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S = 1.0
    ray.data.DataContext.get_current().target_max_block_size = None
    pool = {"size": replicas} if isinstance(replicas, int) else {"min_size": replicas[0], "max_size": replicas[1]}
    items = [{"order": order} for order in orders]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        worker,
        batch_size=None,
        compute=ActorPoolStrategy(
            **pool,
            max_tasks_in_flight_per_actor=at_once,
            max_concurrent_calls_per_actor=at_once,
            enable_true_multi_threading=True,
        ),
        num_gpus=gpus,
        num_cpus=cpus,
        fn_constructor_args=arguments,
    )


_ERRORS: dict[str, type[IptError]] = {
    kind.__name__: kind for kind in (ConfigError, InputError, StorageError, EngineError)
}


class _Actor:
    """What Ray Data calls; the work is `SegmentSynthesizer`'s. Errors travel as rows, so that they arrive in a line."""

    def __init__(self, *arguments: Any) -> None:
        import gc

        from ipt_stream.progress import set_up_logging
        from ipt_stream.synthesis.coordinator import reporter
        from ipt_stream.synthesis.worker import SegmentSynthesizer

        set_up_logging()
        engine, plan, output, gpus, make_engine, coordinator = arguments
        self._error: IptError | None = None
        try:
            self._synthesizer = SegmentSynthesizer(engine, plan, output, gpus, make_engine, reporter(coordinator))
        except IptError as error:
            self._error = error
        gc.freeze()  # What lives as long as the process is not looked at again each time that garbage is collected.

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        results = []
        for text in batch["order"]:
            error = self._error
            if error is None:
                try:
                    self._synthesizer.run_order(order_from_json(str(text)))
                except IptError as problem:
                    error = problem
            kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), "")
            results.append(json.dumps({"error": None if error is None else str(error), "kind": kind}))
        return {"result": results}


def _figures(final: Tally, before: Tally, shards: int, board: Board) -> dict[str, Figure]:
    count = final.counts
    figures: dict[str, Figure] = {
        "documents_in": sum(end.rows for end in final.ends.values()),
        "augmented": count["augmented"],
        "raw": count["raw"],
        "raw_unselected": count["unselected"],
        "rejected": sum(final.rejected.values()),
        "broken_shards": len(final.broken_shards()),
        "shards": shards,
        "segments": count["segments"],
    }
    figures |= {name: count[name] for name in COUNTS if name not in ("rows", "augmented", "raw", "unselected")}
    elapsed = board.seconds()
    figures["synthesis_seconds"] = round(elapsed, 1)
    if elapsed:
        for name in ("raw_tokens", "generated_tokens"):
            figures[f"{name}_per_second"] = round((count[name] - before.counts[name]) / elapsed)
    return figures


def _lines(figures: dict[str, Figure], final: Tally, shards: Sequence[ShardSpec]) -> tuple[str, ...]:
    lines = [
        "documents in {documents_in:,} = augmented {augmented:,} + raw {raw:,} + rejected {rejected:,}".format(
            **figures
        ),
        f"pairs {figures['pairs']:,} from {figures['pieces']:,} texts in {figures['segments']:,} segments",
    ]
    reasons = (("rejected", final.rejected), ("texts without pairs", final.no_pairs), ("pairs dropped", final.dropped))
    for title, counted in reasons:
        if counted:
            listed = ", ".join(
                f"{reason} {count:,}" for reason, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
            )
            lines.append(f"{title}: {listed}")
    lines += [end.broken for end in final.ends.values() if end.broken]
    lines += [f"shard {shards[index].path} has rows that can't be read" for index in sorted(final.unreadable)]
    return tuple(lines)


def _check_limits(config: SynthesizeConfig, report: StageReport) -> None:
    broken, documents = int(report.figures["broken_shards"]), int(report.figures["documents_in"])
    share = int(report.figures["rejected"]) / max(documents, 1)
    if broken > config.limits.broken_shards:
        raise RejectionLimitExceeded(
            f"{config.output} is finished, but {broken} shards were broken",
            wanted=f"at most {config.limits.broken_shards} (limits.broken_shards)",
            got=next((line for line in report.lines if line.startswith("shard ")), str(broken)),
            fix="mend those shards and run on them in another directory, or raise the limit",
        )
    if share > config.limits.rejected_share:
        raise RejectionLimitExceeded(
            f"{config.output} is finished, but {share:.1%} of its documents were rejected",
            wanted=f"at most {config.limits.rejected_share:.1%} (limits.rejected_share)",
            got=next((line for line in report.lines if line.startswith("rejected")), ""),
            fix="look at the reasons, or raise the limit",
        )
