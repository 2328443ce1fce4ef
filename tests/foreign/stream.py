"""`stream.py LIBRARY URL TOKEN`: prints the lines of an event stream as an HTTP library of Python returns them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

library, url, token = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}


def requests_lines() -> Iterator[str]:
    import requests

    with requests.get(url, headers=headers, stream=True, timeout=60) as response:
        yield from response.iter_lines(decode_unicode=True)


def urllib3_lines() -> Iterator[str]:
    import urllib3

    response = urllib3.request("GET", url, headers=headers, preload_content=False)
    for part in response.stream():
        yield from part.decode().splitlines()


def httpx_lines() -> Iterator[str]:
    import httpx

    with httpx.stream("GET", url, headers=headers, timeout=60) as response:
        yield from response.iter_lines()


def urllib_lines() -> Iterator[str]:
    from urllib.request import Request, urlopen

    with urlopen(Request(url, headers=headers), timeout=60) as response:
        for line in response:
            yield line.decode().rstrip("\n")


async def print_aiohttp() -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        async for line in response.content:
            print(line.decode().rstrip("\n"), flush=True)


if library == "aiohttp":
    asyncio.run(print_aiohttp())
else:
    for line in globals()[f"{library}_lines"]():
        print(line, flush=True)
print("end", flush=True)
