"""A small shop: a customer sees at once when an order is shipped, and is notified. docker-compose.yml runs it.

TIDINGS_URL is the URL of the hubs' Redis. TIDINGS_SECRET is the key with which the hubs verify tokens.
"""

import os

from flask import Flask, Response, abort

from tidings import Emitter, TidingsError, issue

SECRET = os.environ["TIDINGS_SECRET"]
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Order 42</title>
<tidings-inbox></tidings-inbox>
<h1>Order 42</h1><p id="status">ordered</p>
<form method="post" action="/orders/42/ship" target="answer"><button>Ship it</button></form>
<iframe name="answer" title="The receipt"></iframe>
<script src="/tidings.js"></script>
<script src="/tidings-inbox.js"></script>
<script type="module">
  const hub = tidings.connect("/", { getToken: async () => (await (await fetch("/token")).json()).token });
  hub.channel("orders:42").on("shipped", (order) => {
    document.querySelector("#status").textContent = `shipped by ${order.carrier}`;
  });
  document.querySelector("tidings-inbox").hub = hub;
</script></html>
"""
app = Flask(__name__)
emitter = Emitter.from_env()


@app.get("/")
def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@app.get("/token")
def token() -> dict[str, str]:
    # A real shop identifies the customer by the login here, and grants the channels of this customer's orders.
    return {"token": issue("customer", key=SECRET, channels=["orders:42"], expires_in_s=3600)}


@app.post("/orders/<int:order>/ship")
def ship(order: int) -> dict[str, object]:
    try:
        receipt = emitter.emit("shipped", {"order": order, "carrier": "DHL"}, channel=f"orders:{order}")
        emitter.notify(
            "order_shipped", user="customer", title=f"Order {order} has shipped", url="/", id=f"order-{order}-shipped"
        )
    except TidingsError as error:
        abort(503, str(error))
    return {"id": receipt.id, "cursor": receipt.cursor}
