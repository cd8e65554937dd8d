"""How S3 and stores like it are asked: patiently, but never for ever. Imported only where a path is `s3://`.

Each request is tried up to 6 times on 500, 502, 503, 504, a time-out (5 s to connect, 15 s without a byte) or a broken
connection, after growing random waits, 15 s in all and 31 s at most. What still ends in "slow down", a time-out or half
a body s3fs tries 3 times over. So a store that answers with errors, or takes no connections, fails a call after 15 s to
a minute; one that takes connections and says nothing after 5 to 20 minutes. Wrong credentials and a missing bucket fail
at once.

The user's own settings win: AWS_MAX_ATTEMPTS, AWS_RETRY_MODE, AWS_ENDPOINT_URL and AWS's configuration file, and over
them fsspec's (`FSSPEC_S3_CONFIG_KWARGS='{"read_timeout": 60}'`, `FSSPEC_S3_ENDPOINT_URL`, its configuration files).
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore import exceptions as aws
from fsspec.config import apply_config
from s3fs import S3FileSystem

CREDENTIAL_ERRORS = (
    PermissionError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.ProfileNotFound,
    aws.SSOError,
)

PATH_ERRORS = (ValueError, aws.ParamValidationError)

_ATTEMPTS = 6  # at one request
_BODY_ATTEMPTS = 3  # at reading an answer to its end; s3fs multiplies them with those at timed-out requests
_CONNECTIONS = 32  # from one process
_SLOWEST_UPLOAD = 2**18  # bytes a second

# What botocore reads from its configuration file or the environment, with defaults of our own behind them. "legacy" is
# its mode that goes on trying; "standard" gives up at once when 100 requests have failed, however short the trouble.
_SESSION_VARS = {
    "retry_mode": ("retry_mode", "AWS_RETRY_MODE", "legacy", None),
    "max_attempts": ("max_attempts", "AWS_MAX_ATTEMPTS", _ATTEMPTS, int),
}


class _Session(AIOHTTPSession):  # type: ignore[misc]
    """botocore's HTTP session, with an end to uploads that the store does not take: aiohttp would wait for ever."""

    def __init__(self, timeout: tuple[float, float], **options: Any) -> None:
        super().__init__(timeout=timeout, **options)
        self._patience_s = sum(timeout)

    async def send(self, request: Any) -> Any:
        if request.method != "PUT":
            return await super().send(request)
        upload_s = int(request.headers.get("Content-Length", 0)) / _SLOWEST_UPLOAD
        try:
            async with asyncio.timeout(self._patience_s + upload_s):
                return await super().send(request)
        except TimeoutError as error:
            raise aws.ReadTimeoutError(endpoint_url=request.url) from error


def options() -> dict[str, Any]:
    """Arguments of s3fs's file system; what fsspec is configured with goes before them."""
    configured = apply_config(S3FileSystem, {}).get("config_kwargs", {})
    return {
        "session_vars": _SESSION_VARS,
        "config_kwargs": {"max_pool_connections": _CONNECTIONS, "http_session_cls": _Session, **configured},
    }


def set_patience(fs: Any) -> None:
    """Limit the attempts of s3fs itself, which takes no argument for them."""
    fs.retries = _BODY_ATTEMPTS
