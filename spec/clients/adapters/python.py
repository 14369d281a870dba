"""HTTP libraries of Python, each as its documentation reads a response line by line."""
import asyncio

from common import NAME, URL, loop

TIMEOUT = 60  # longer than the broker's heartbeat


def read_requests(stream):
    import requests
    with requests.get(URL, stream=True, headers=stream.headers(), timeout=TIMEOUT) as response:
        stream.opened(response.status_code)
        for line in response.iter_lines():
            stream.line(line.decode("utf-8"))


def read_urllib3(stream):
    import urllib3
    response = urllib3.PoolManager().request(
        "GET", URL, headers=stream.headers(), preload_content=False, retries=False,
        timeout=urllib3.Timeout(TIMEOUT))
    stream.opened(response.status)
    for line in response:
        stream.line(line.decode("utf-8").rstrip("\n"))


def read_urllib(stream):
    import urllib.error
    import urllib.request
    try:
        response = urllib.request.urlopen(urllib.request.Request(URL, headers=stream.headers()), timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        response = e
    with response:
        stream.opened(response.status)
        for line in response:
            stream.line(line.decode("utf-8").rstrip("\n"))


def read_httpx(stream):
    import httpx
    with httpx.stream("GET", URL, headers=stream.headers(), timeout=TIMEOUT) as response:
        stream.opened(response.status_code)
        for line in response.iter_lines():
            stream.line(line.rstrip("\n"))


def read_aiohttp(stream):
    import aiohttp

    async def read():
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 21) as session:
            async with session.get(URL, headers=stream.headers()) as response:
                stream.opened(response.status)
                async for line in response.content:
                    stream.line(line.decode("utf-8").rstrip("\n"))
    asyncio.run(read())


loop({"aiohttp": read_aiohttp, "httpx": read_httpx, "requests": read_requests, "urllib": read_urllib,
      "urllib3": read_urllib3}[NAME])
