"""The settings of a judge."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ipt_stream.analysis.local_model import identity_of
from ipt_stream.config import Settings
from ipt_stream.synthesis.engine import EngineConfig


class ResponseFormat(StrEnum):
    """How an endpoint is asked for JSON."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


class EndpointSettings(Settings):
    """A model behind an HTTP endpoint that speaks OpenAI's chat completions."""

    base_url: str
    """Its address up to `/chat/completions`: `https://api.openai.com/v1`, `http://localhost:8000/v1`."""
    model: str
    """The model's name there."""
    key_variable: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key; null: none is sent."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds until a request is given up and tried again."""
    retries: int = Field(8, ge=0)
    """Tries after the first one, after timeouts, lost connections and the statuses 408, 409, 429 and 5xx. The pauses
    double from half a second to 8, or are what the endpoint says (Retry-After)."""
    concurrency: int = Field(16, ge=1)
    """Requests at a time."""
    max_tokens: int | None = Field(256, ge=1)
    """Tokens of an answer at most, `max_tokens` of the request; null: not sent, for models that take
    `max_completion_tokens` in `extra` instead."""
    temperature: float | None = Field(0.0, ge=0)
    """Null: not sent, for models that take none."""
    response_format: ResponseFormat = ResponseFormat.JSON_SCHEMA
    """`json_schema` (structured output); `json_object` or `text` for endpoints without it."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request: `{reasoning_effort: low}`."""
    price_in: float = Field(0.0, ge=0)
    """Price of a million prompt tokens."""
    price_out: float = Field(0.0, ge=0)
    """Price of a million generated tokens."""
    currency: str = "USD"
    """Of the prices."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address that begins with http:// or https://")
        if parts.username or parts.password:
            raise ValueError("an address without a key in it; name the variable that holds it in key_variable")
        return value.rstrip("/")

    @field_validator("extra")
    @classmethod
    def _is_further(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = {"model", "messages", "max_tokens", "temperature", "response_format", "stream", "n"} & set(value)
        if own:
            raise ValueError(f"other fields than {', '.join(sorted(own))}, which have settings or are fixed")
        return value

    def identity(self) -> dict[str, Any]:
        """What decides the answers."""
        included = {"base_url", "model", "max_tokens", "temperature", "response_format", "extra"}
        return {"endpoint": self.model_dump(mode="json", include=included)}


class JudgeSettings(Settings):
    """Who judges: an endpoint or a local model, one of the two."""

    endpoint: EndpointSettings | None = None
    """A model behind an HTTP endpoint."""
    local: EngineConfig | None = None
    """A model in vLLM on this machine, with structured output; `max_new_tokens` bounds its answers."""
    attempts: int = Field(2, ge=1)
    """How often a question is asked at most, where the answers can't be read."""
    cache: str | None = None
    """Directory of the answers, by judge and question; null: `judge` beside the analysis' own directory."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.endpoint is None) == (self.local is None):
            raise ValueError("exactly one of endpoint and local")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the answers: goes into the fingerprint of what is judged, and into the key of each answer."""
        if self.endpoint is not None:
            return self.endpoint.identity()
        assert self.local is not None  # _one
        return {"local": identity_of(self.local)}

    def name(self) -> str:
        """What tables call it."""
        return self.endpoint.model if self.endpoint is not None else str(self.local and self.local.model)
