"""What every store of background jobs does, on a real Redis and on real databases."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from support.processes.database import KINDS, Database
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.job import Failure, Job, JobState, Outcome, StoredResponse, new_job_id, new_owner
from tidings.contrib.background.open_store import open_store
from tidings.contrib.background.sql_store import SqlJobStore
from tidings.contrib.background.store import JobStore
from tidings.errors import BadConfig, Full, TooFast, Unavailable

RESPONSE = StoredResponse(
    201, [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=ü")], b"\x00ok"
)
FAILURE = Failure("internal", "The job failed.", "5f3a")

MakeStore = Callable[..., JobStore]


@pytest.fixture(params=["redis", *KINDS])
def make_store(
    request: pytest.FixtureRequest, shared_redis: RedisProcess, database_of: Callable[[str], Database], prefix: str
) -> Iterator[MakeStore]:
    """Makes stores with the same jobs, each with its own bounds."""
    url = shared_redis.url if request.param == "redis" else database_of(request.param).url
    stores: list[JobStore] = []

    def make(**bounds: Any) -> JobStore:
        store = open_store(url, JobBounds(**bounds), prefix=prefix)
        if isinstance(store, SqlJobStore):
            store.create_table()
            if not stores:
                with store._engine.begin() as connection:
                    connection.execute(store._table.delete())
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> JobStore:
    return make_store()


def new_job(user: str = "ann") -> Job:
    job_id = new_job_id()
    return Job(job_id, user, "shop.report", f"/tidings/jobs/{job_id}", owner=new_owner())


def created(store: JobStore, user: str = "ann", request: bytes = b"", lease_s: float = 30) -> Job:
    job = new_job(user)
    store.create(job, request, lease_s=lease_s)
    return job


def started(store: JobStore, user: str = "ann") -> Job:
    job = created(store, user)
    result = store.start(job.id, job.owner, new_owner())
    assert result is not None
    return result[0]


class TestLife:
    def test_new_job_is_queued(self, store: JobStore) -> None:
        job = created(store)
        assert store.read(job.id) == job
        assert job.state is JobState.QUEUED

    def test_unknown_job_is_none(self, store: JobStore) -> None:
        assert store.read("nothing") is None
        assert store.cancel("nothing") is None
        assert store.start("nothing", "a", "b") is None
        assert store.renew(new_job(), progress=None, message="") is None
        assert not store.finish(new_job(), Outcome(failure=FAILURE))

    def test_job_starts_once_with_its_request(self, store: JobStore) -> None:
        job = created(store, request=b"\x00body")
        first, second = new_owner(), new_owner()
        result = store.start(job.id, job.owner, first)
        assert result == (replace(job, state=JobState.RUNNING, owner=first), b"\x00body")
        assert store.start(job.id, job.owner, second) is None
        assert store.start(job.id, first, second) is None

    def test_job_starts_only_for_its_owner(self, store: JobStore) -> None:
        job = created(store)
        assert store.start(job.id, "another", new_owner()) is None

    def test_of_many_starts_one_succeeds(self, store: JobStore) -> None:
        job = created(store)
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda _: store.start(job.id, job.owner, new_owner()), range(8)))
        assert len([result for result in results if result]) == 1

    def test_progress_is_stored(self, store: JobStore) -> None:
        job = started(store)
        renewed = store.renew(job, progress=0.4, message="rendering é")
        assert renewed == replace(job, progress=0.4, message="rendering é")
        assert store.read(job.id) == renewed

    def test_response_is_stored_exactly(self, store: JobStore) -> None:
        job = started(store)
        assert store.finish(job, Outcome(response=RESPONSE))
        ended = store.read(job.id)
        assert ended is not None
        assert (ended.state, ended.response, ended.failure) == (JobState.DONE, RESPONSE, None)

    def test_failure_is_stored(self, store: JobStore) -> None:
        job = started(store)
        assert store.finish(job, Outcome(failure=FAILURE))
        ended = store.read(job.id)
        assert ended is not None
        assert (ended.state, ended.response, ended.failure) == (JobState.FAILED, None, FAILURE)

    def test_job_ends_once(self, store: JobStore) -> None:
        job = started(store)
        assert store.finish(job, Outcome(response=RESPONSE))
        assert not store.finish(replace(job, owner="another"), Outcome(failure=FAILURE))
        assert store.renew(job, progress=0.1, message="late") is None
        ended = store.read(job.id)
        assert ended is not None
        assert ended.state is JobState.DONE

    def test_removed_job_is_gone(self, make_store: MakeStore) -> None:
        store = make_store(user_jobs_max=1, queue_max=1)
        job = created(store)
        store.remove(job.id)
        assert store.read(job.id) is None
        created(store)


class TestCancel:
    def test_queued_job_ends(self, store: JobStore) -> None:
        job = created(store)
        cancelled = store.cancel(job.id)
        assert cancelled is not None
        assert cancelled.state is JobState.CANCELLED
        assert store.start(job.id, job.owner, new_owner()) is None
        assert store.read(job.id) == cancelled

    def test_running_job_learns_of_it(self, store: JobStore) -> None:
        job = started(store)
        requested = store.cancel(job.id)
        assert requested is not None
        assert (requested.state, requested.is_cancel_requested) == (JobState.RUNNING, True)
        renewed = store.renew(job, progress=None, message="")
        assert renewed is not None
        assert renewed.is_cancel_requested
        assert store.finish(job, Outcome())
        ended = store.read(job.id)
        assert ended is not None
        assert ended.state is JobState.CANCELLED

    def test_ended_job_stays_as_it_is(self, store: JobStore) -> None:
        job = started(store)
        store.finish(job, Outcome(response=RESPONSE))
        after = store.cancel(job.id)
        assert after is not None
        assert (after.state, after.response) == (JobState.DONE, RESPONSE)


class TestLeases:
    def test_lapsed_job_fails_once(self, make_store: MakeStore) -> None:
        store = make_store(lease_s=0.1, progress_interval_s=0.05)
        running, waiting, other = started(store), created(store, lease_s=0.1), created(store, lease_s=30)
        ended: list[Job] = []

        def both_have_ended() -> bool:
            ended.extend(store.end_lapsed())
            return len(ended) == 2

        wait_until(both_have_ended, why="two leases end")
        assert {job.id for job in ended} == {running.id, waiting.id}
        assert {job.state for job in ended} == {JobState.FAILED}
        assert [job.failure.error_id for job in ended if job.failure] == [job.id[:12] for job in ended]
        assert store.end_lapsed() == []
        # The process was only slow: its job has failed by now, and stays so.
        assert not store.finish(running, Outcome(response=RESPONSE))
        assert store.start(waiting.id, waiting.owner, new_owner()) is None
        assert store.read(other.id) == other

    def test_renewed_lease_does_not_lapse(self, make_store: MakeStore) -> None:
        short, long = make_store(lease_s=0.1, progress_interval_s=0.05), make_store(lease_s=60)
        job = started(short)
        assert long.renew(job, progress=None, message="")
        other = started(short)
        wait_until(lambda: [it.id for it in short.end_lapsed()] == [other.id], why="only the other lease ends")
        assert long.renew(job, progress=None, message="")

    def test_lapsed_job_gives_its_place_back(self, make_store: MakeStore) -> None:
        store = make_store(user_jobs_max=1, queue_max=1)
        created(store, lease_s=0.01)
        wait_until(store.end_lapsed, why="the lease ends")
        created(store)


class TestBounds:
    def test_user_has_a_maximum_of_jobs(self, make_store: MakeStore) -> None:
        store = make_store(user_jobs_max=2)
        first, _ = started(store), created(store)
        with pytest.raises(TooFast, match="2 jobs"):
            created(store)
        created(store, "bob")
        store.finish(first, Outcome(response=RESPONSE))
        created(store)

    def test_queue_has_a_maximum(self, make_store: MakeStore) -> None:
        store = make_store(queue_max=2)
        first, _ = created(store, "ann"), created(store, "bob")
        with pytest.raises(Full, match="2 jobs wait"):
            created(store, "eve")
        assert store.start(first.id, first.owner, new_owner())
        created(store, "eve")

    def test_bounds_hold_for_concurrent_calls(self, make_store: MakeStore) -> None:
        store = make_store(user_jobs_max=3)

        def try_to_create(_: int) -> bool:
            try:
                created(store)
            except TooFast:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            accepted = sum(threads.map(try_to_create, range(24)))
        # SQL may refuse two calls at the same time where one had room.
        assert 1 <= accepted <= 3
        while accepted < 3:
            created(store)
            accepted += 1
        with pytest.raises(TooFast):
            created(store)

    def test_oldest_ended_jobs_of_a_user_are_deleted(self, make_store: MakeStore) -> None:
        store = make_store(user_results_max=2)
        other = started(store, "bob")
        store.finish(other, Outcome(response=RESPONSE))
        jobs = []
        for _ in range(4):
            job = started(store)
            jobs.append(job)
            store.finish(job, Outcome(response=RESPONSE))
            # Two ends in the same millisecond have no order.
            wait_until(partial(_is_later_than, _now_ms()), why="the next millisecond")
        assert [store.read(job.id) is not None for job in jobs] == [False, False, True, True]
        assert store.read(other.id) is not None

    def test_ended_job_expires(self, make_store: MakeStore) -> None:
        store = make_store(expiry_s=0.1)
        job = started(store)
        store.finish(job, Outcome(response=RESPONSE))
        wait_until(lambda: store.read(job.id) is None, why="it expires")
        store.end_lapsed()
        assert store.read(job.id) is None


class TestProcesses:
    def test_another_store_sees_the_same_jobs(self, make_store: MakeStore) -> None:
        first, second = make_store(), make_store()
        job = started(first)
        assert second.read(job.id) == job
        assert second.finish(job, Outcome(response=RESPONSE))

    def test_forked_process_has_its_own_connections(self, store: JobStore) -> None:
        job = created(store)
        child = os.fork()
        if not child:
            os._exit(0 if store.read(job.id) == job else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert store.read(job.id) == job


class TestFaults:
    def test_redis_that_does_not_answer_is_unavailable(self, redis: RedisProcess) -> None:
        store = open_store(redis.url, JobBounds(), prefix="x:")
        job = created(store)
        redis.stop()
        with pytest.raises(Unavailable, match="background jobs"):
            store.read(job.id)

    def test_redis_that_lost_its_scripts_gets_them_again(self, shared_redis: RedisProcess, prefix: str) -> None:
        store = open_store(shared_redis.url, JobBounds(), prefix=prefix)
        job = created(store)
        with shared_redis.client() as client:
            client.script_flush()
        assert store.read(job.id) == job

    @pytest.mark.parametrize("kind", KINDS)
    def test_missing_table_is_named(self, kind: str, database_of: Callable[[str], Database]) -> None:
        store = open_store(database_of(kind).url, JobBounds(), prefix="")
        assert isinstance(store, SqlJobStore)
        store._table.drop(store._engine, checkfirst=True)
        file = f" in {store._engine.url.database}" if kind == "sqlite" else ""
        with pytest.raises(BadConfig, match=f"no table tidings_job{file};"):
            store.read(secrets.token_hex(8))
        store.close()

    @pytest.mark.parametrize("url", ["", "nothing", "oracle://x", "redis://:secret@host:x/0", "memory://"])
    def test_invalid_url_is_refused_without_its_password(self, url: str) -> None:
        with pytest.raises(BadConfig) as caught:
            open_store(url, JobBounds(), prefix="")
        assert "secret" not in str(caught.value)


def _is_later_than(time_ms: int) -> bool:
    return _now_ms() > time_ms


def _now_ms() -> int:

    return time.time_ns() // 1_000_000
