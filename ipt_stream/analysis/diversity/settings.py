"""The settings of what is counted about pairs."""

from __future__ import annotations

from pydantic import Field

from ipt_stream.config import Settings


class DiversitySettings(Settings):
    """What is counted, and with which tokenizer."""

    tokenizer: str | None = None
    """A folder with a `tokenizer.json`, to count lengths in tokens; null: the mixture's, or, where there is no mixture,
    lengths are counted in words."""
    length_texts: int = Field(default=100_000, ge=1)
    """Lengths are counted of about so many texts and their pairs, chosen by a hash; of all where there are not more."""
    openings: int = Field(default=20, ge=1)
    """How many openings of instructions are shown."""
    openings_kept: int = Field(default=100_000, ge=1)
    """Different openings that are counted at a time; beyond, the rarest are dropped and counted as others."""
    distinct_kept: int = Field(default=1 << 22, ge=1 << 10)
    """Distinct n-grams that are held at a time, 8 bytes each. A run that generated no more tokens is counted exactly;
    of a larger one n-grams are sampled by their hash, and the count is an estimate with a standard error of about 1.2
    over the square root of this (distinct.py)."""
    cores: int | None = Field(default=None, ge=0)
    """Cores to use; 0: this process alone; null: all, where there is much to do. The result is the same."""
