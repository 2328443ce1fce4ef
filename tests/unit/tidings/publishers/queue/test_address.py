"""Queue URLs, whose passwords are never shown, and the retries of a batch."""

from __future__ import annotations

import ssl
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from contract.broker_contract import outgoing
from tidings.emitter import Emitter
from tidings.errors import BadConfig, MissingExtra, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.publisher import KombuPublisher, QueueBatch
from tidings.receipts import Receipt


@pytest.mark.parametrize(
    ("url", "display_url", "queue"),
    [
        ("amqp://h", "amqp://h:5672/", "tidings"),
        ("amqp://u:pwsecret@h:1234/", "amqp://h:1234/", "tidings"),
        ("amqp://u:pwsecret@h//", "amqp://h:5672/", "tidings"),
        ("amqp://u:pwsecret@h/shop?queue=news", "amqp://h:5672/shop", "news"),
        ("amqp://u:pw%2Fsecret@a,b:7/%2Fshop", "amqp://a:5672,b:7/%2Fshop", "tidings"),
        ("amqps://u:pwsecret@h/", "amqps://h:5671/", "tidings"),
        ("kombu+amqp://u:pwsecret@h/", "amqp://h:5672/", "tidings"),
        ("kombu+pyamqp://u:pwsecret@h//", "amqp://h:5672/", "tidings"),
        ("kombu+librabbitmq://u:pwsecret@h/shop", "amqp://h:5672/shop", "tidings"),
        ("kombu+redis://:pwsecret@h:6379/1?queue=a.b", "kombu+redis://h:6379/1", "a.b"),
        ("kombu+consul://", "kombu+consul://", "tidings"),
    ],
)
def test_address_shows_no_password(url: str, display_url: str, queue: str) -> None:
    address = QueueAddress.parse(url)
    assert (str(address), address.queue) == (display_url, queue)
    assert "secret" not in repr(address)
    assert "secret" not in repr(Emitter(url))


@pytest.mark.parametrize(
    "url",
    [
        *("amqp:", "amqp://", "amqp://u:pwsecret@", "amqp://u:pwsecret@h:x/", "redis://:pwsecret@h", "kombu+://h"),
        *("kombu+Redis+x://h", "amqp://u:pwsecret@h/?queue=a%20b", "amqp://u:pwsecret@h/?password=pwsecret"),
        *("amqp://u:pwsecret@h/?ca_certs=/x", "kombu+os.path://pwsecret", "kombu+nosuch://u:pwsecret@h"),
    ],
)
def test_invalid_url_is_rejected_without_repeating_it(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        KombuPublisher(url)
    assert "pwsecret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["memory", "filesystem", "sentinel"])
def test_transport_that_reaches_no_hub_is_refused(kind: str) -> None:
    """It gave receipts for publications that no hub could ever receive."""
    with pytest.raises(BadConfig, match="reaches no hub"):
        KombuPublisher(f"kombu+{kind}://")


def test_transport_without_its_package_is_a_missing_extra() -> None:
    with pytest.raises(MissingExtra, match="kombu\\+sqs"):
        KombuPublisher("kombu+sqs://u:pw@h")


@pytest.mark.parametrize("kind", ["consul", "etcd", "zookeeper"])
def test_package_that_a_transport_needs_to_connect_is_a_missing_extra(kind: str) -> None:
    """It was Unavailable, after retries until the timeout: "check that it is running"."""
    missing = pytest.raises(MissingExtra, match=f"kombu\\+{kind}.*package")
    with closing(Emitter(f"kombu+{kind}://h")) as emitter, missing:
        emitter.emit("updated", 1, channel="orders:1")


def options(url: str) -> dict[str, Any]:
    (only,) = QueueAddress.parse(url).options.values()
    return dict(only)


def test_parts_of_an_amqp_url() -> None:
    parts = options("amqp://us%40er:p%3Aw%2F@h:7/%2Fshop")
    names = ("userid", "password", "hostname", "port", "virtual_host", "ssl")
    assert [parts[name] for name in names] == ["us@er", "p:w/", "h", 7, "/shop", False]
    assert options("amqp://h")["virtual_host"] == options("amqp://h/")["virtual_host"] == "/"
    assert options("amqp://h/shop")["virtual_host"] == "shop"


def test_tls_always_verifies_the_host_name() -> None:
    assert options("amqps://h/")["ssl"] == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h"}
    tls = options("amqps://h/?ca_certs=/ca.pem&certfile=/c.pem&keyfile=/k.pem")["ssl"]
    assert tls["ca_certs"] == "/ca.pem"
    assert tls["cert_reqs"] == ssl.CERT_REQUIRED
    # By default kombu does not verify.
    assert "ssl_cert_reqs=required" in options("kombu+rediss://h/0")["hostname"]
    assert "ssl_check_hostname=true" in options("kombu+rediss://h/0?ssl_ca_certs=/ca.pem")["hostname"]


def test_options_of_kombus_tls_are_checked() -> None:
    assert "ssl_check_hostname=false" in options("kombu+rediss://h/0?ssl_check_hostname=0")["hostname"]
    assert "ssl_cert_reqs=CERT_NONE" in options("kombu+rediss://h/0?ssl_cert_reqs=CERT_NONE")["hostname"]
    with pytest.raises(BadConfig, match=r"ssl_check_hostname .* must be true or false"):
        options("kombu+rediss://h/0?ssl_check_hostname=maybe")
    with pytest.raises(BadConfig, match=r"ssl_cert_reqs .* must be required"):
        options("kombu+rediss://h/0?ssl_cert_reqs=always")


@pytest.mark.parametrize("url", ["kombu+redis://h/main", "kombu+rediss://u:p@h:1/0x1?queue=q"])
def test_database_of_kombus_redis_is_a_number(url: str) -> None:
    with pytest.raises(BadConfig, match="database"):
        options(url)


def test_operations_that_need_a_reply_raise_bad_config() -> None:
    with Emitter("amqp://h") as emitter:
        for operation in (
            lambda: emitter.disconnect(user="7"),
            lambda: emitter.revoke(user="7", for_s=5),
            lambda: emitter.subscribe(user="7", channel="orders:1"),
            lambda: emitter.history("orders:1"),
            lambda: emitter.presence("orders:1"),
            emitter.nodes,
        ):
            with pytest.raises(BadConfig, match=r"needs a reply from a hub, and amqp://h only takes publications"):
                operation()


def batch_of(count: int) -> QueueBatch[OutgoingPublication, Receipt]:
    items = [outgoing("orders:1", id=f"id{number}") for number in range(count)]
    address = QueueAddress.parse("amqp://h")
    return QueueBatch(items, address, partial(Receipt, cursor=""), timeout_s=5.0, now_s=100.0, random=lambda: 0.5)


def test_only_rejected_messages_are_sent_again() -> None:
    batch = batch_of(3)
    assert [message.id for message in batch.messages()] == ["id0", "id1", "id2"]
    assert batch.messages()[0].body.startswith(b"t1 orders:1 id0 ")
    batch.on_sent({1: "it is full"})
    assert [message.id for message in batch.messages()] == ["id1"]
    assert batch.pause_s(100.0) is not None
    batch.on_sent({})
    assert batch.pause_s(100.0) is None
    receipts = batch.results()
    assert receipts == [Receipt(f"id{number}", "") for number in range(3)]
    assert all(isinstance(receipt, Receipt) and receipt.queued for receipt in receipts)
    assert not Receipt("1", "e.1").queued


def test_rejection_after_a_timeout_is_still_a_timeout() -> None:
    batch = batch_of(1)
    batch.on_sent({0: "it is full"})
    (rejected,) = batch.results()
    assert type(rejected) is Unavailable
    assert "it is full" in str(rejected)
    batch.fail("gone", sent=True, final=False)
    batch.on_sent({0: "it is full"})
    (timed_out,) = batch.results()
    assert type(timed_out) is TimedOut
