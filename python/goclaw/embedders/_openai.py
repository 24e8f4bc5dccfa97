"""Any endpoint that speaks OpenAI's `POST /embeddings`, with the standard library alone."""

from __future__ import annotations

import base64
import binascii
import json
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..durations import Duration, to_seconds
from ..errors import ConfigError, RecallError
from ..retry import RetryAfter
from ._protocol import Embedded

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ._http import Answer

_KEY_VARIABLE = "OPENAI_API_KEY"
# The endpoint's own words that an error repeats, characters.
_WORDS_MAX = 300


class OpenAI:
    """Embeddings of OpenAI, or of any server with the same `POST /embeddings` (vLLM, Ollama, TEI, LiteLLM, …).

    The key is sent to `base_url` and nowhere else: redirects are refused, and it is in no `repr`, log or error.

    Args:
        model: The model, such as ``"text-embedding-3-small"``.
        base_url: Where the server is, up to and without ``/embeddings``.
        api_key: A text or `pydantic.SecretStr`; by default the environment's ``OPENAI_API_KEY``, read for each call.
            Without either none is sent.
        dimensions: Parts of a vector, for models that can make shorter ones.
        name: What the store records; by default ``openai:`` with the model and its dimensions.
        batch_max: Texts of one call.
        timeout: Bound on each wait for the server.
        headers: More headers, for gateways.
        text_prefix: Put before each text that is kept, for models that ask for it (``"passage: "``).
        query_prefix: Put before each text that is searched by (``"query: "``).

    Raises:
        ConfigError: `config.invalid` for a `base_url` that is none.

    Example:
        >>> OpenAI("text-embedding-3-small", dimensions=512, api_key="sk-none")
        OpenAI('text-embedding-3-small', base_url='https://api.openai.com/v1')
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | SecretStr | None = None,
        dimensions: int | None = None,
        name: str | None = None,
        batch_max: int = 256,
        timeout: Duration = "30s",
        headers: Mapping[str, str] | None = None,
        text_prefix: str = "",
        query_prefix: str = "",
    ) -> None:
        if not base_url.startswith(("https://", "http://")) or "@" in base_url.split("/")[2]:
            raise ConfigError(
                "`base_url` of the embedder is no web address, or has a password in it",
                code="config.invalid",
                help='write base_url="https://api.openai.com/v1", and give the key as api_key',
            )
        self.model = model
        self.dim = dimensions
        self.batch_max = batch_max
        self.name = name or f"openai:{model}" + ("" if dimensions is None else f"-{dimensions}")
        self._base_url = base_url.rstrip("/")
        self._key = _Key(api_key)
        self._timeout = to_seconds(timeout, what="timeout")
        self._headers = dict(headers or {})
        self._text_prefix, self._query_prefix = text_prefix, query_prefix

    def __call__(self, texts: list[str]) -> Embedded:
        """Vectors of texts to be kept."""
        return self._embed([self._text_prefix + text for text in texts])

    def query(self, texts: list[str]) -> Embedded:
        """Vectors of texts to search by."""
        return self._embed([self._query_prefix + text for text in texts])

    def _embed(self, texts: list[str]) -> Embedded:
        # Not before it is used: TLS and its relatives take their time.
        from ._http import Unreachable, post

        # As OpenAI's own client asks: a third of the bytes of numbers in JSON.
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "base64"}
        if self.dim is not None:
            body["dimensions"] = self.dim
        key = self._key.read()
        headers = {**self._headers, **({} if key is None else {"Authorization": f"Bearer {key}"})}
        try:
            answer = post(f"{self._base_url}/embeddings", json.dumps(body).encode(), headers, self._timeout)
        except Unreachable as error:
            # Without a cause: what urllib knows of the request has the key in it.
            raise RecallError(
                self._clean(f"{self._base_url} does not answer: {error}", key),
                code="memory.embedder",
                help="check the address, and whether the server runs",
            ) from None
        if answer.status != 200:
            raise self._failed(answer, key)
        try:
            return _read(json.loads(answer.body), len(texts))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, struct.error) as error:
            raise RecallError(
                self._clean(f"{self._base_url} answered what are no embeddings: {type(error).__name__}: {error}", key),
                code="memory.embedder_vectors",
                help="check that base_url ends before /embeddings, and that the server speaks OpenAI's protocol",
            ) from None

    def _failed(self, answer: Answer, key: str | None) -> Exception:
        said = self._clean(_words(answer.body), key)
        message = f"{self._base_url} answered {answer.status}: {said}"
        if answer.status == 429 or (answer.status == 503 and answer.retry_after is not None):
            if answer.retry_after is not None:
                return RetryAfter(answer.retry_after, message)
            return RecallError(message, code="memory.embedder", help="it asks for fewer calls: give the lane a rate")
        if answer.status in (400, 413, 422):
            return RecallError(message, code="memory.embedder_input", help="shorten the text, or memorize it in parts")
        if 300 <= answer.status < 500 and answer.status not in (408, 409, 425):
            return RecallError(
                message, code="memory.embedder_access", help="check the key, the model's name and base_url"
            )
        return RecallError(message, code="memory.embedder", help="the server failed; the call is repeated")

    def _clean(self, text: str, key: str | None) -> str:
        text = text if not key else text.replace(key, "***")
        return text if len(text) <= _WORDS_MAX else text[:_WORDS_MAX] + "…"

    def __repr__(self) -> str:
        return f"OpenAI({self.model!r}, base_url={self._base_url!r})"


class _Key:
    """A key that shows itself to nobody."""

    def __init__(self, given: str | SecretStr | None) -> None:
        self._given = given

    def read(self) -> str | None:
        given: Any = os.environ.get(_KEY_VARIABLE) if self._given is None else self._given
        plain = getattr(given, "get_secret_value", None)
        key: str | None = plain() if plain is not None else given
        return key or None

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> Any:
        raise TypeError("a key is not written down: make the embedder where it is used")


def _read(answer: Any, count: int) -> Embedded:
    """The vectors of an answer, in the order of the texts."""
    rows = answer["data"]
    if all("index" in row for row in rows):
        rows = sorted(rows, key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(len(rows))):
            raise ValueError("its indexes are not 0, 1, 2, …")
    if len(rows) != count:
        raise ValueError(f"{len(rows)} vectors for {count} texts")
    tokens = (answer.get("usage") or {}).get("total_tokens")
    vectors = [_vector(row["embedding"]) for row in rows]
    return Embedded(vectors, tokens=tokens if isinstance(tokens, int) else None)


def _vector(given: Any) -> list[float]:
    if isinstance(given, str):
        raw = base64.b64decode(given, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return [float(part) for part in given]


def _words(body: bytes) -> str:
    """What an endpoint says of its refusal."""
    text = body[: 64 * 1024].decode("utf-8", "replace").strip()
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text or "nothing"
