"""The web application: it serves the page, issues tokens, stores messages, pushes them, and notifies users."""

import os
from dataclasses import asdict
from typing import Any

import messages
from flask import Flask, Response, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Redirect
from worker import emitter, render

from tidings import TidingsError, issue

SECRET = os.environ["TIDINGS_SECRET"]
HUB = os.environ["CHAT_HUB"]
WEB_PUSH = bool(os.environ.get("CHAT_WEB_PUSH"))
MENTIONS_MAX = 1000
NAME_MAX, TEXT_MAX = 40, 4000
app = Flask(__name__)
app.config.update(SECRET_KEY=os.environ["CHAT_SECRET"], SESSION_COOKIE_SAMESITE="Lax")


@app.get("/")
def page() -> str:
    return render_template("chat.html", hub=HUB, room=messages.ROOM, name=session.get("name"), push=WEB_PUSH)


@app.post("/sign-in")
def sign_in() -> Redirect:
    name = request.form.get("name", "").strip()[:NAME_MAX]
    if name:
        messages.remember_user(name)
        session.update(name=name, user=messages.user_id(name))
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
    try:
        notify(message, reply_to=body.get("reply_to"))
    except TidingsError:
        # The message is in the room: an error would make its author send it again.
        app.logger.exception("no user was notified of message %s", message.id)
    return asdict(message), 201


def notify(message: messages.Message, *, reply_to: object) -> None:
    """Notify the author of the message that this one replies to, and those whom it mentions. Each gets one."""
    options = {"body": message.text[:200], "url": url_for("page", _external=True), "id": f"message-{message.id}"}
    author = messages.name_of_author(reply_to) if type(reply_to) is int else None
    replied = {messages.user_id(author)} if author else set()
    mentioned = messages.mentioned_users(message.text) - replied
    for category, title, users in (
        ("reply", f"{message.name} replied to you", replied),
        ("mention", f"{message.name} mentioned you", mentioned),
    ):
        others = sorted(users - {session["user"]})[:MENTIONS_MAX]
        if others:
            emitter.notify(category, users=others, title=title, **options)


@app.get("/tidings-sw.js")
def service_worker() -> Response:
    """Shows pushes. A service worker must come from the site itself; this one imports the hub's."""
    return Response(f'importScripts("{HUB}/tidings-sw.js");', content_type="text/javascript")


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
