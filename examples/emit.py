"""Publish an event in the channel of order 42. Needs a running hub: `make run`, then in another terminal

    TIDINGS_URL=http://127.0.0.1:8000 .venv/bin/python examples/emit.py

TIDINGS_URL is the URL of the hub, or of its broker (default: the Redis on this machine; `make run` has none).
TIDINGS_API_KEY is for http URLs of a hub that does not run with `--dev`.
"""

from dataclasses import dataclass

from tidings import Emitter


@dataclass
class Order:
    id: int
    status: str
    __channels__ = ("orders:{id}",)


with Emitter.from_env() as emitter:
    print(emitter.emit("shipped", {"order": 42, "carrier": "DHL"}, channel="orders:42"))
    print(emitter.push_model(Order(42, "shipped")))
    with emitter.batch() as batch:
        batch.emit("note", {"text": "left at the door"}, channels=["orders:42", "orders:43"])
        batch.push_model(Order(43, "packed"), op="created")
    print(batch.results)
