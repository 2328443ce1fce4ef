"""One HTTP/1.1 connection. Its exchanges end at a deadline and match each response to its request."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidings.errors import BadConfig
from tidings.http_client.byte_stream import ByteStream, PlainStream, TlsStream
from tidings.http_client.deadline import Deadline
from tidings.http_client.response import AmbiguousResponse, BadHttpResponse, HttpResponse, ResponseReader

_TARGET = re.compile(r"[\x21-\x7e]+\Z")
# The head of a proxy's response to CONNECT; its body is not read.
_TUNNEL_BODY_MAX_BYTES = 0
_OK = 200


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """A server: host and port, and TLS unless `tls` is None.

    `is_allowed(ip)` is called with each address that the host resolves to. If one is not allowed, the connection is
    refused: the next look-up may return only that address. `proxy`: host and port of an HTTP proxy that makes a tunnel
    to the server (CONNECT). With a proxy, `is_allowed` checks the addresses of the proxy.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    is_allowed: Callable[[str], bool] | None = None
    proxy: tuple[str, int] | None = None

    @property
    def authority(self) -> str:
        """`host:port`, for a proxy."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of the header `Host`: without the port if it is the default one."""
        default_port = 80 if self.tls is None else 443
        return self.authority.removesuffix(f":{self.port}") if self.port == default_port else self.authority


class HttpConnection:
    """One keep-alive connection.

    `request_started`: bytes of the current request may have been sent, so the server may have processed it even if the
    exchange fails. `response_started`: a byte of its response arrived.
    """

    def __init__(self, address: HttpAddress) -> None:
        self.address = address
        self.request_started = False
        self.response_started = False
        self.idle_since_s = 0.0
        self._stream: ByteStream | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._stream is not None

    def is_reusable(self) -> bool:
        """Whether the next request can use this connection: it is open, and nothing arrived since the last response.

        What arrived would be read as the response to the next request.
        """
        return self._stream is not None and not self._stream.has_input()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def exchange(
        self,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        deadline: Deadline,
        response_max_bytes: int,
        method: str = "",
        echo_header: str = "",
    ) -> tuple[int, bytes]:
        """Send one request and return the response's status and body. Without `method` it is a POST if it has a body.

        The connection is closed afterwards if it must not be used again, and after every error. `echo_header`: a header
        of the request, with a value of its own. A response that has it too must have the same value. On a connection
        that was used before, the response must have it, and without it the connection is closed: nothing else proves
        that a response belongs to the request, and not to an earlier one.

        Raises:
            OSError: no connection, or no valid response before the deadline (TimeoutError).
            AmbiguousResponse: the response may belong to another request.
            ResponseTooLarge: the body is larger than `response_max_bytes`.
        """
        self.request_started = self.response_started = False
        is_reused = self.is_open
        method = method or ("GET" if body is None else "POST")
        request = _request(self.address.host_header, method, path, body, headers)
        try:
            response, is_last = self._exchange(request, deadline, response_max_bytes)
            echoes = response.headers.get(echo_header.lower().encode(), ())
            _check_echoes(echoes, headers.get(echo_header, ""), is_required=is_reused and bool(echo_header))
            _check_only_response(is_reused=is_reused, is_last=is_last)
        except BaseException:
            self.close()
            raise
        if not is_last or not response.keep_alive or (echo_header and not echoes):
            self.close()
        return response.status, response.body

    def deliver(
        self, path: str, body: bytes, headers: Mapping[str, str], *, deadline: Deadline, response_max_bytes: int
    ) -> HttpResponse:
        """POST `body`, and close the connection. The status of the response says whether it was accepted.

        The body of the response is empty if it is larger than `response_max_bytes`, late or malformed.

        Raises:
            OSError: no connection, or no status before the deadline (TimeoutError).
        """
        request = _request(self.address.host_header, "POST", path, body, headers)
        try:
            return self._exchange(request, deadline, response_max_bytes, read=ResponseReader.read_status)[0]
        finally:
            self.close()

    def _exchange(
        self,
        request: bytes,
        deadline: Deadline,
        response_max_bytes: int,
        *,
        read: Callable[[ResponseReader], HttpResponse] = ResponseReader.read,
    ) -> tuple[HttpResponse, bool]:
        """The response, and whether nothing followed it."""
        stream = self._stream or self._connect(deadline)
        self.request_started = True
        stream.send(request, deadline)
        reader = ResponseReader(lambda: stream.receive(deadline), body_max_bytes=response_max_bytes)
        try:
            response = read(reader)
        finally:
            self.response_started = reader.has_begun
        return response, not reader.unread

    def _connect(self, deadline: Deadline) -> ByteStream:
        address = self.address
        plain = PlainStream(_open_socket(*(address.proxy or (address.host, address.port)), address, deadline))
        try:
            if address.proxy is not None:
                _open_tunnel(plain, address, deadline)
            stream = plain if address.tls is None else TlsStream(plain, address.tls, address.host, deadline)
        except BaseException:
            plain.close()
            raise
        self._stream = stream
        return stream


def _check_echoes(echoes: Sequence[bytes], value: str, *, is_required: bool) -> None:
    if any(echo != value.encode() for echo in echoes):
        raise AmbiguousResponse("a response to another request")
    if is_required and not echoes:
        raise AmbiguousResponse("a response that may be one to another request")


def _check_only_response(*, is_reused: bool, is_last: bool) -> None:
    # On a connection that was used before, the first of two responses may be a late one.
    if is_reused and not is_last:
        raise AmbiguousResponse("two responses, and the first may be one to another request")


def _request(host: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    if not _TARGET.match(path):
        raise BadConfig("the path of a URL contains white space or non-ASCII characters; escape them with %")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _open_socket(host: str, port: int, address: HttpAddress, deadline: Deadline) -> socket.socket:
    # No timeout bounds the name look-up: getaddrinfo takes none.
    last_error: OSError | None = None
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is not the name of a host") from error
    if address.is_allowed is not None and not all(address.is_allowed(str(sockaddr[0])) for *_, sockaddr in candidates):
        raise OSError(f"{host} resolves to an address that is not allowed")
    # These are the checked addresses: there is no second look-up.
    for remaining, (family, kind, protocol, _, sockaddr) in zip(range(len(candidates), 0, -1), candidates, strict=True):
        try:
            # A machine without IPv6 may still resolve addresses of it.
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            last_error = error
            continue
        try:
            # An address that does not respond must leave time for the others.
            sock.settimeout(deadline.wait_s() / remaining)
            sock.connect(sockaddr)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            last_error = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last_error or OSError(f"{host} has no address")


def _open_tunnel(plain: PlainStream, address: HttpAddress, deadline: Deadline) -> None:
    authority = address.authority
    plain.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("latin-1"), deadline)
    reader = ResponseReader(lambda: plain.receive(deadline), body_max_bytes=_TUNNEL_BODY_MAX_BYTES)
    status = reader.read_tunnel_status()
    if status != _OK or reader.unread:
        raise BadHttpResponse(f"the proxy did not open a tunnel: status {status}")
