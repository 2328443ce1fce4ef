"""Jobs in Redis. Each step is one call of `jobs.lua`."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.job import Failure, Job, JobState, Outcome, StoredResponse, lost
from tidings.contrib.background.store import LAPSED_MAX, TIMEOUT_S
from tidings.errors import Full, Internal, TooFast, Unavailable
from tidings.redis_client.connection import ConnectionLost, RedisPool, has_lost_script
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, pack_call
from tidings.redis_client.topology import open_buckets
from tidings.redis_client.url import CLUSTER_SCHEMES, RedisAddress


class RedisJobStore:
    """A `JobStore` in one Redis, or in the first bucket of a cluster. Connects at the first call.

    Threads share it, and a forked process opens its own connections.
    """

    def __init__(self, url: str, bounds: JobBounds, *, prefix: str) -> None:
        self._bounds = bounds
        address: RedisAddress
        if url.partition("://")[0] in CLUSTER_SCHEMES:
            bucket = open_buckets(url, prefix)[0]
            address, keys = bucket.address, bucket.keys
        else:
            address, keys = RedisAddress.open(url), RedisKeys(prefix)
        self._base = keys.base + b"jobs:"
        self._pool = RedisPool(address)
        # Its first use reads a file, and a fork during an import hangs the child.
        _script()

    def create(self, job: Job, request: bytes, *, lease_s: float) -> None:
        """See `JobStore.create`."""
        bounds = self._bounds
        reply = self._call(
            *("create", job.id, _ms(lease_s), bounds.user_jobs_max, bounds.queue_max, job.user, job.owner),
            *("function", job.function, "location", job.location, "request", request),
        )
        if reply == b"user":
            raise TooFast(
                f"this user has {bounds.user_jobs_max} jobs that have not ended; wait, or raise user_jobs_max"
            )
        if reply == b"queue":
            raise Full(f"{bounds.queue_max} jobs wait already; try again later, or raise queue_max")

    def remove(self, job_id: str) -> None:
        """See `JobStore.remove`."""
        self._call("remove", job_id)

    def start(self, job_id: str, owner: str, new_owner: str) -> tuple[Job, bytes] | None:
        """See `JobStore.start`."""
        fields = _fields(self._call("start", job_id, _ms(self._bounds.lease_s), owner, new_owner))
        return (_job(fields), fields.get(b"request", b"")) if fields else None

    def renew(self, job: Job, *, progress: float | None, message: str) -> Job | None:
        """See `JobStore.renew`."""
        shown = "" if progress is None else repr(progress)
        reply = self._call("renew", job.id, _ms(self._bounds.lease_s), job.owner, shown, message)
        if not reply:
            return None
        return replace(job, progress=progress, message=message, is_cancel_requested=reply[1] == b"1")

    def finish(self, job: Job, outcome: Outcome) -> bool:
        """See `JobStore.finish`."""
        response, failure = outcome.response, outcome.failure
        more: list[str | int | bytes] = []
        if response is not None:
            more = ["status", response.status, "headers", json.dumps(response.headers), "body", response.body]
        if failure is not None:
            more += ["failure", _encoded(failure)]
        reply = self._call("finish", job.id, job.owner, *self._kept(), "state", outcome.state.value, *more)
        return bool(reply)

    def cancel(self, job_id: str) -> Job | None:
        """See `JobStore.cancel`."""
        fields = _fields(self._call("cancel", job_id, *self._kept()))
        return _job(fields) if fields else None

    def read(self, job_id: str) -> Job | None:
        """See `JobStore.read`."""
        fields = _fields(self._call("read", job_id))
        return _job(fields) if fields else None

    def end_lapsed(self) -> list[Job]:
        """See `JobStore.end_lapsed`."""
        replies = self._call("lapsed", *self._kept(), LAPSED_MAX, _encoded(lost("")))
        return [_job(_fields(reply)) for reply in replies]

    def close(self) -> None:
        """See `JobStore.close`."""
        self._pool.close()

    def _kept(self) -> tuple[int, int]:
        return _ms(self._bounds.expiry_s), self._bounds.user_results_max

    def _call(self, *arguments: str | int | bytes) -> Any:
        """The reply to one step. A repetition after a lost reply has the same result."""
        deadline_s = time.monotonic() + TIMEOUT_S
        encoded = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        packed = pack_call(_script(), (self._base,), encoded)
        for is_last in (False, True):
            try:
                replies = self._pool.call(packed, 1, (_script(),), deadline_s=deadline_s)
            except ConnectionLost as error:
                self._pool.close()
                if is_last or error.final or time.monotonic() >= deadline_s:
                    raise Unavailable(f"the store of background jobs: {error}") from error
                continue
            if has_lost_script(replies) and not is_last:
                continue
            if isinstance(replies[0], Exception):
                raise Unavailable(f"the store of background jobs replied: {str(replies[0])[:200]}") from replies[0]
            return replies[0]
        raise Internal("the last attempt returns or raises")


@cache
def _script() -> Script:
    text = files("tidings.contrib.background").joinpath("jobs.lua").read_bytes()
    # EVALSHA names scripts by their SHA-1; it secures nothing.
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _encoded(failure: Failure) -> str:
    return json.dumps([failure.code, failure.message, failure.error_id])


def _fields(reply: Any) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True)) if reply else {}


def _job(fields: dict[bytes, bytes]) -> Job:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    state, failure = JobState(text(b"state")), None
    if encoded := text(b"failure"):
        code, message, error_id = json.loads(encoded)
        failure = Failure(code, message, error_id or text(b"id")[:12])
    return Job(
        id=text(b"id"),
        user=text(b"user"),
        function=text(b"function"),
        location=text(b"location"),
        owner=text(b"owner"),
        state=state,
        progress=float(text(b"progress")) if fields.get(b"progress") else None,
        message=text(b"message"),
        is_cancel_requested=text(b"cancel") == "1",
        response=_response(fields) if state is JobState.DONE else None,
        failure=failure,
    )


def _response(fields: dict[bytes, bytes]) -> StoredResponse:
    headers = [(name, value) for name, value in json.loads(fields[b"headers"])]
    return StoredResponse(int(fields[b"status"]), headers, fields[b"body"])
