"""The web application: it serves the page, issues tokens, stores messages and pushes them to the room."""

import os
import secrets
from dataclasses import asdict
from typing import Any

import messages
from flask import Flask, Response, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirect
from worker import emitter, render

from tidings import TidingsError, issue

SECRET = os.environ["TIDINGS_SECRET"]
HUB = os.environ["CHAT_HUB"]
NAME_MAX, TEXT_MAX = 40, 4000
app = Flask(__name__)
app.config.update(SECRET_KEY=os.environ["CHAT_SECRET"], SESSION_COOKIE_SAMESITE="Lax")


@app.get("/")
def page() -> str:
    return render_template("chat.html", hub=HUB, room=messages.ROOM, name=session.get("name"))


@app.post("/sign-in")
def sign_in() -> Redirect:
    name = request.form.get("name", "").strip()[:NAME_MAX]
    if name:
        # The name can be any text. The hub identifies the user by an id.
        session.update(name=name, user=secrets.token_hex(8))
    return redirect(url_for("page"))


@app.post("/sign-out")
def sign_out() -> Redirect:
    session.clear()
    return redirect(url_for("page"))


@app.get("/token")
def token() -> str | tuple[str, int]:
    if "user" not in session:
        # Without a token the user is signed out: the page's hub closes and does not reconnect.
        return "", 204
    name = session["name"]
    return issue(session["user"], key=SECRET, channels=[messages.ROOM], info={"name": name}, expires_in_s=600)


@app.get("/messages")
def list_messages() -> list[dict[str, Any]]:
    require_name()
    return [asdict(message) for message in messages.newest()]


@app.post("/messages")
def post_message() -> tuple[dict[str, Any], int]:
    name = require_name()
    body = request.get_json()
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str) or not 0 < len(text.strip()) <= TEXT_MAX:
        abort(400)
    message = messages.add(name, text.strip())
    emitter.push_model(message, op="created")
    render.delay(message.id)
    return asdict(message), 201


def require_name() -> str:
    if "user" not in session:
        abort(401)
    return str(session["name"])


@app.errorhandler(TidingsError)
def push_failed(error: TidingsError) -> tuple[dict[str, str], int]:
    return {"error": str(error)}, 503


@app.after_request
def add_content_security_policy(response: Response) -> Response:
    """Only the page's own scripts and the hub's can run, even if markup gets through."""
    sources = f"'self' {HUB}"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src {sources}; connect-src {sources} {HUB.replace('http', 'ws', 1)}; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    )
    return response
