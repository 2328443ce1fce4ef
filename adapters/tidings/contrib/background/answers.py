"""The HTTP responses about jobs, the same in every framework."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tidings.codes import CODES
from tidings.contrib.background.job import Job, JobState, StoredResponse
from tidings.errors import CallerError, TidingsError, TooFast

# The state of the job, in each response about one: a view's own response may have the status 202 as well.
STATE_HEADER = "Tidings-Job"
POLL_S = 1
RETRY_S = 5
PREFERENCE = "respond-async"
_NOT_STORED = ("Cache-Control", "no-store")
# Fields of one connection or of the response that the job's own resource sends (RFC 9110 section 7.6.1).
_NOT_OF_THE_VIEW = frozenset({
    "connection", "content-length", "date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def stored_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The header fields of a view's response that a later response repeats."""
    return [(name, value) for name, value in headers if name.lower() not in _NOT_OF_THE_VIEW]


def accepted(job: Job, *, applied: bool = False) -> StoredResponse:
    """202 for a job that was begun, or that has not ended. `applied`: the client preferred this (RFC 7240)."""
    headers = [("Location", job.location), ("Retry-After", str(POLL_S))]
    if applied:
        headers += [("Preference-Applied", PREFERENCE), ("Vary", "Prefer")]
    return _json_response(202, job.event_data(), headers, job.state)


def response_of(job: Job) -> StoredResponse:
    """The response of `GET` on a job's location."""
    if job.response is not None:
        headers = [*job.response.headers, (STATE_HEADER, job.state.value)]
        if not any(name.lower() == "cache-control" for name, _ in headers):
            headers.append(_NOT_STORED)
        return StoredResponse(job.response.status, headers, job.response.body)
    if job.failure is not None:
        body = {"code": job.failure.code, "message": job.failure.message, "error_id": job.failure.error_id}
        return _json_response(500, body, [], job.state)
    if job.state is JobState.CANCELLED:
        code = CODES["cancelled"]
        return _json_response(code.http_status, {"code": code.name, "message": code.advice}, [], job.state)
    return accepted(job)


def state_of(job: Job) -> StoredResponse:
    """The response of `DELETE` on a job's location: 200 if the job has ended, 202 if its function still runs."""
    return _json_response(200, job.event_data(), [], job.state) if job.state.has_ended else accepted(job)


def refusal(error: TidingsError) -> StoredResponse:
    """The response for an error: its status, and when to try again if that can help."""
    status = error.code.http_status
    can_retry = isinstance(error, TooFast) or not isinstance(error, CallerError)
    return _json_response(status, error.to_wire(), [("Retry-After", str(RETRY_S))] if can_retry else [], None)


def prefers_async(header: str | None) -> bool:
    """Whether a `Prefer` header asks for an asynchronous response (RFC 7240 section 4.1)."""
    preferences = (part.partition(";")[0].strip().lower() for part in (header or "").split(","))
    return PREFERENCE in preferences


def _json_response(status: int, body: object, headers: list[tuple[str, str]], state: JobState | None) -> StoredResponse:
    about = [] if state is None else [(STATE_HEADER, state.value)]
    own = [("Content-Type", "application/json"), _NOT_STORED, *about, *headers]
    return StoredResponse(status, own, json.dumps(body, ensure_ascii=False).encode())
