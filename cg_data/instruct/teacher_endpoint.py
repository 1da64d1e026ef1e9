"""Where a teacher listens: whether that place is private, the client that speaks to it, and what its faults are called."""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import openai

from cg_data.errors import ConfigError
from cg_data.settings import TeacherSettings


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """`is_private`: on this machine, or on an address of private networks (RFC 1918, RFC 4193), as far as its name can be resolved."""

    url: str
    host: str
    is_private: bool
    key: str = dataclasses.field(repr=False)

    def without_key(self, text: str) -> str:
        """`text`, with the key blotted out where an endpoint repeats it."""
        return text.replace(self.key, "[key]") if self.key else text


def endpoint_of(settings: TeacherSettings) -> Endpoint:
    """The endpoint of `settings`, checked without speaking to it; the key is read from the environment.

    Raises:
        ConfigError: no address or an unsafe one, no consent for a host that is not private, no model, no key, a budget without prices.
    """
    parts = _parts(settings.url)
    host = parts.hostname or ""
    private = _is_private(host)
    if not settings.model:
        raise ConfigError("--teacher-url needs --teacher-model, the name of the model at the endpoint.")
    if not private and parts.scheme != "https":
        raise ConfigError(f"--teacher-url: {host} is not on a private network, so plain http would send all in clear. Use https.")
    if not private and not settings.consent:
        raise ConfigError(
            f"--teacher-url: {host} is not on a private network. The structure of annotations would leave for it "
            "(findings, events, background; no signal, no identity). Give --teacher-consent if that is allowed."
        )
    key = os.environ.get(settings.key_variable, "")
    if not key and not private:
        raise ConfigError(f"--teacher-url: the key for {host} is not there. Put it into the environment variable {settings.key_variable}.")
    if settings.max_cost is not None and not (settings.input_price or settings.output_price):
        raise ConfigError("data.teacher.max_cost needs prices: set data.teacher.input_price and output_price (per million tokens).")
    return Endpoint(url=settings.url, host=parts.netloc, is_private=private, key=key)


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"--teacher-url: not an address ({error}). Give one such as http://localhost:8000/v1.") from error
    if parts.username or parts.password:
        raise ConfigError("--teacher-url: leave user and password out of the address; a key goes into the environment.")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"--teacher-url {url}: not an address of a teacher. Give http:// or https://, for example http://localhost:8000/v1."
        )
    return parts


def _is_private(host: str) -> bool:
    """Whether every address of `host` is private; False where it cannot be resolved."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(address.split("%")[0]) for address in found]
    return all((getattr(address, "ipv4_mapped", None) or address).is_private for address in addresses)


@contextlib.asynccontextmanager
async def client_of(endpoint: Endpoint, settings: TeacherSettings) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client that retries nothing by itself, and follows no redirection, which could lead to a host that nobody agreed to."""
    proxied = not endpoint.is_private  # a proxy named in the environment need not be private
    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=settings.timeout_s, trust_env=proxied)
    client = openai.AsyncOpenAI(
        base_url=endpoint.url, api_key=endpoint.key or "none", max_retries=0, timeout=settings.timeout_s, http_client=http
    )
    async with client:
        yield client


def fault_of(error: Exception) -> tuple[str, str]:
    """Stable name of what went wrong with a request, and a sentence.

    Raises:
        Exception: `error` itself, where it is none of the endpoint's.
    """
    if isinstance(error, openai.APIStatusError):
        return f"status.{error.status_code}", f"status {error.status_code}: {error.response.text[:500]}"
    if isinstance(error, (TimeoutError, openai.APITimeoutError)):
        return "timeout", "no answer in time"
    if isinstance(error, openai.APIConnectionError):
        return "connection", f"no connection ({error.__cause__ or error})"
    raise error


def wait_asked_for(error: Exception) -> float:
    """Seconds that a response asks to be waited (Retry-After, RFC 9110: seconds or a date); 0 without."""
    said = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
