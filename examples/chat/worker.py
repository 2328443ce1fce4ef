"""The Celery worker: renders messages to HTML and pushes the result to the room."""

import os

import messages
import nh3
from celery import Celery
from markdown_it import MarkdownIt

from tidings import Emitter

worker = Celery("chat", broker=os.environ["REDIS_URL"])
emitter = Emitter(os.environ["REDIS_URL"])
# HTML in the text is escaped. nh3 then removes everything except a few tags: images, scripts and attributes as well.
markdown = MarkdownIt("commonmark", {"html": False, "breaks": True})
TAGS = {"p", "br", "em", "strong", "code", "pre", "blockquote", "ul", "ol", "li", "a", "h1", "h2", "h3", "hr"}


@worker.task(ignore_result=True)
def render(message_id: int) -> None:
    text = messages.get(message_id).text
    html = nh3.clean(markdown.render(text), tags=TAGS, url_schemes={"http", "https", "mailto"})
    emitter.push_model(messages.set_html(message_id, html), op="updated")
