"""Publish an event in the channel of order 42. Needs a running hub: `make run`, then `python examples/emit.py`.

TIDINGS_URL is the URL of the broker or hub (default: the Redis on this machine). TIDINGS_API_KEY is for http URLs.
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
