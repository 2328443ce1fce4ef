"""A report that takes a while: the page shows its progress, can cancel it, and shows the result.

    export TIDINGS_URL=redis://localhost:6379/0 TIDINGS_SECRET="$(openssl rand -base64 32)"
    TIDINGS_ORIGINS='["http://127.0.0.1:5000"]' tidings serve --broker $TIDINGS_URL
    flask --app examples/report.py run

Then open http://127.0.0.1:5000/. TIDINGS_HUB is the address of the hub for browsers.
"""

import os
import secrets
import time

from flask import Flask, Response, session

from tidings import issue
from tidings.contrib.background import job
from tidings.contrib.flask import Tidings

SECRET = os.environ["TIDINGS_SECRET"]
HUB = os.environ.get("TIDINGS_HUB", "http://127.0.0.1:8000")
MONTH_S = 0.5
PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Report</title>
<h1>Report</h1>
<button id="begin">Begin</button> <button id="cancel" disabled>Cancel</button>
<p><progress value="0"></progress> <span id="state" role="status">nothing yet</span></p>
<script src="{HUB}/tidings.js"></script>
<script>
  const element = (selector) => document.querySelector(selector);
  const getToken = async () => (await fetch("/token")).text();
  const hub = tidings.connect("{HUB}", {{ getToken }});
  // A page that is loaded again finds its job by the location.
  async function follow(location) {{
    sessionStorage.setItem("job", location);
    const job = await hub.job(location);
    element("#cancel").onclick = () => job.cancel();
    job.subscribe(({{ state, progress, message, error }}) => {{
      element("progress").value = progress ?? 0;
      element("#state").textContent = error ? `${{state}}: ${{error.message}}` : `${{state}} ${{message}}`;
      element("#cancel").disabled = !["queued", "running"].includes(state);
    }});
    // A job that failed or was cancelled rejects; the line above has shown why.
    const response = await job.done.catch(() => undefined);
    if (response) element("#state").textContent = await response.text();
  }}
  element("#begin").onclick = async () => {{
    const response = await fetch("/reports", {{ method: "POST" }});
    await (response.ok ? follow(response.headers.get("Location")) : element("#state").append(response.status));
  }};
  const begun = sessionStorage.getItem("job");
  if (begun) follow(begun);
</script></html>
"""
app = Flask(__name__)
app.secret_key = SECRET
push = Tidings(app, user=lambda: session.get("user"))


@app.get("/")
def page() -> Response:
    # A real application has a login. Here each browser is a user.
    session.setdefault("user", secrets.token_hex(4))
    return Response(PAGE, content_type="text/html; charset=utf-8")


@app.get("/token")
def token() -> str:
    return issue(session["user"], key=SECRET, channels=[], expires_in_s=3600)


@app.post("/reports")
@push.background
def report() -> tuple[str, int]:
    for month in range(12):
        job.progress(month / 12, f"month {month + 1}")
        time.sleep(MONTH_S)
    return "12 months, all sold out", 201
