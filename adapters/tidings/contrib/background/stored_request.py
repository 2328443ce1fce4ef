"""The request of a job as it is kept until the job runs: everything but the socket."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Text of a WSGI environment that describes the request (PEP 3333). All else belongs to the server and its socket.
_NAMES = frozenset({
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "SERVER_NAME", "SERVER_PORT",
    "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_USER", "REQUEST_URI", "RAW_URI", "wsgi.url_scheme",
})  # fmt: skip
_CHUNKED = "HTTP_TRANSFER_ENCODING"


@dataclass(frozen=True, slots=True)
class WsgiRequest:
    """The text of a WSGI environment, and the whole body."""

    environ: Mapping[str, str]
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, Any], body: bytes) -> WsgiRequest:
        """The request in the environment that a server passed."""
        fields = {
            name: value
            for name, value in environ.items()
            if isinstance(value, str) and (name in _NAMES or (name.startswith("HTTP_") and name != _CHUNKED))
        }
        return cls(fields, body)

    def to_environ(self) -> dict[str, Any]:
        """A new environment with the same request, whose body can be read once more."""
        return {
            **self.environ,
            "CONTENT_LENGTH": str(len(self.body)),
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }

    def to_bytes(self) -> bytes:
        """As JSON, for a worker in another process."""
        return json.dumps({"environ": dict(self.environ), "body": base64.b64encode(self.body).decode()}).encode()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> WsgiRequest:
        """The request that `to_bytes` wrote."""
        fields = json.loads(encoded)
        return cls(fields["environ"], base64.b64decode(fields["body"]))
