"""The sender against web-push-testing, the push service of others, which checks tokens and decrypts."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.network.certificates import Authority
from support.processes.node_program import NodeProgram
from support.waiting import wait_until
from tidings_hub.config.web_push import WebPush
from tidings_notifications.core.delivery import Gone, Outcome, Sent
from tidings_notifications.core.push_message import PAYLOAD_MAX_BYTES, encode_payload
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.web_push.client import PushMessage
from tidings_notifications.web_push.encryption import MessageKeys
from tidings_notifications.web_push.sender import Job, PushSender
from tidings_notifications.web_push.vapid import VapidKey


@dataclass
class ForeignService:
    """Its HTTP API."""

    port: int
    tls: ssl.SSLContext

    def post(self, path: str, body: object) -> Any:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return json.loads(content)["data"] if content.startswith(b"{") else None
        finally:
            connection.close()


@pytest.fixture
def service(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForeignService]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    certificate, key = authority.issue("foreign")
    program = NodeProgram("web_push_server.mjs", {"certificate": str(certificate), "key": str(key)})
    try:
        yield ForeignService(program.read_line()["port"], ssl.create_default_context(cafile=str(authority.file)))
    finally:
        program.stop()


def test_it_decrypts_our_messages_and_says_which_subscriptions_are_gone(
    service: ForeignService, vapid_key: VapidKey
) -> None:
    request = {"userVisibleOnly": "true", "applicationServerKey": vapid_key.public_key}
    alive, gone = (service.post("/subscribe", request) for _ in range(2))
    service.post(f"/expire-subscription/{gone['clientHash']}", {})
    payload = encode_payload({"id": "1", "title": "Ihr Paket ist da 📦", "body": "b" * 5000})
    assert len(payload) > PAYLOAD_MAX_BYTES - 12
    options = WebPush(
        vapid_key_file="unused",
        contact="mailto:ops@shop.example",
        hosts=(f"127.0.0.1:{service.port}",),
        allow_private=True,
    )
    sender, outcomes = PushSender(options, vapid_key, ServiceMetrics()), dict[str, Outcome]()
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        for subscription in (alive, gone):
            keys = MessageKeys.read(subscription["keys"]["p256dh"], subscription["keys"]["auth"])
            message = PushMessage(subscription["endpoint"], keys, payload, ttl_s=60)
            name = subscription["clientHash"]
            sender.submit([Job(message, lambda outcome, name=name: outcomes.setdefault(name, outcome))])
        wait_until(lambda: len(outcomes) == 2, why=lambda: str(outcomes))
    finally:
        sender.stop()
        thread.join(30)
    assert outcomes == {alive["clientHash"]: Sent(), gone["clientHash"]: Gone()}
    received = service.post("/get-notifications", {"clientHash": alive["clientHash"]})
    assert received["messages"] == [payload.decode()]
