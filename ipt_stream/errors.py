"""Every error that ipt-stream raises on purpose, and the exit code that each one ends with.

    IptError                    1   something was wanted, something else was got
    |-- ConfigError             2   the command line or a configuration file can't be used
    |-- InputError              1   a shard, a column or a data file is not what it should be
    |   `-- ShardBroken         1   a shard that can't be read to its end (corpus.formats)
    |-- StorageError            1   a path can't be listed, read or published
    |-- LedgerError             1   a run directory belongs to other settings, or to another driver
    |-- EngineError             1   the inference engine can't be built or has died
    |-- MixtureError            1   a mixture that the sources can't fill
    |-- TrainingError           1   a model can't be built, trained, saved or resumed
    |-- EvaluationError         1   a task or a model can't be evaluated
    |-- StageFailed             *   a stage of a recipe failed, with that stage's exit code (recipe)
    `-- RejectionLimitExceeded  3   a stage finished, with more rejects than its config allows

Each message is one line: what is wrong, what was wanted, what was got and what to do about it.
"""

from __future__ import annotations


class IptError(Exception):
    """Base of all expected failures; `str(error)` is the one line that a person reads.

    Args:
        problem: what is wrong, with the path or key that it concerns.
        wanted: what would have been right.
        got: what was found instead.
        fix: what the user can do.
    """

    exit_code = 1

    def __init__(
        self, problem: str, *, wanted: str | None = None, got: str | None = None, fix: str | None = None
    ) -> None:
        self.problem, self.wanted, self.got, self.fix = problem, wanted, got, fix
        parts = [problem]
        parts += [f"{name}: {value}" for name, value in (("wanted", wanted), ("got", got), ("fix", fix)) if value]
        super().__init__("; ".join(" ".join(part.split()) for part in parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes: exceptions with keyword arguments don't by default."""
        return (_rebuild, (type(self), self.problem, self.wanted, self.got, self.fix))


def _rebuild(kind: type[IptError], problem: str, wanted: str | None, got: str | None, fix: str | None) -> IptError:
    return kind(problem, wanted=wanted, got=got, fix=fix)


class ConfigError(IptError):
    """A command line or configuration that can't be used: an unknown key, a wrong type, a missing file."""

    exit_code = 2


class InputError(IptError):
    """Input data that is not what it should be: an empty glob, a missing column, a corrupt shard."""


class StorageError(IptError):
    """A path that can't be listed, read or published."""


class LedgerError(IptError):
    """A run directory that belongs to other settings, or whose records contradict each other."""


class EngineError(IptError):
    """An inference engine that can't be built, or that died."""


class MixtureError(IptError):
    """A mixture plan that its sources can't fill, or a training order that doesn't match its plan."""


class TrainingError(IptError):
    """A model that can't be built, trained, saved or resumed."""


class EvaluationError(IptError):
    """A task or a model that can't be evaluated."""


class RejectionLimitExceeded(IptError):
    """A stage that did all it could, with more rejected shards or documents than its config allows."""

    exit_code = 3
