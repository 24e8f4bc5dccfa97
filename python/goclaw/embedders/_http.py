"""One POST, with the standard library: no redirects, bounded answers, proxies as the environment says."""

from __future__ import annotations

import http.client
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

# Longest answer, in bytes: 65,536 vectors of 1,024 parts in base64 are less.
_ANSWER_MAX = 512 * 2**20
# Longest pause that a server may ask for, in seconds.
_PAUSE_MAX = 3_600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The status.
        body: The body.
        retry_after: Seconds that the server asks to wait.
    """

    status: int
    body: bytes
    retry_after: float | None


class Unreachable(Exception):
    """No answer came."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
    """Sends a JSON body and reads the answer, whatever its status.

    Args:
        url: Where to.
        body: JSON.
        headers: Headers beside those of the content.
        timeout: Bound on each wait, in seconds.

    Returns:
        The answer.

    Raises:
        Unreachable: No answer came, or not all of it.
    """
    # Closed after one call: batches are few, and a connection that is kept may be dead when it is needed.
    all_headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
    request = urllib.request.Request(url, data=body, headers=all_headers, method="POST")  # noqa: S310 - checked before
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        try:
            with opener.open(request, timeout=timeout) as found:
                return _answer(found.status, found)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error)
    except urllib.error.URLError as error:
        raise Unreachable(str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from None


def _answer(status: int, found: Any) -> Answer:
    body = found.read(_ANSWER_MAX + 1)
    if len(body) > _ANSWER_MAX:
        raise Unreachable(f"its answer has more than {_ANSWER_MAX} bytes")
    return Answer(status, body, _pause(found.headers.get("Retry-After"), found.headers.get("Date")))


def _pause(asked: str | None, now: str | None) -> float | None:
    """Seconds of a `Retry-After`: a number, or a date against the server's own clock."""
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(now or "")).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _PAUSE_MAX) if math.isfinite(seconds) else None
