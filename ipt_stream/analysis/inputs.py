"""What all analyses of one `ipt-stream analyze` look at."""

from __future__ import annotations

from pydantic import Field

from ipt_stream.config import Settings


class Inputs(Settings):
    """Directories of the finished stages that analyses read; each analysis says which it needs."""

    stages: dict[str, str] = Field(default_factory=dict)
    """The run's finished stages in order, name to directory; a recipe's own names."""
    synthesis: str | None = None
    """The synthesize stage's directory: texts and pairs."""
    world: str | None = None
    """The sample world that the input is, so that its truth can score pairs; null for real input."""
    mixture: str | None = None
    """The mix stage's directory: what training sees."""
    evaluation: str | None = None
    """The evaluate stage's directory: its table."""
