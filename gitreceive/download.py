"""A file from the web onto our disk: within limits, and only from where source may come from."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from controller.config import Settings
from controller.errors import Refused
from gitreceive.remote import Remote, addresses_of, parse_web

MAX_REDIRECTS = 5
TIMEOUT = 600.0
"""Seconds for all of it."""
SILENCE = 30.0
_LOOK_EVERY = 16 * 1024**2


async def download(remote: Remote, target: Path, settings: Settings) -> None:
    """Write what the URL gives to the file `target`. Raises Refused with the reason; what was written stays."""
    try:
        async with asyncio.timeout(TIMEOUT):
            async with _opened(remote, settings) as answer:
                await keep(answer.aiter_raw(), target, settings)
    except TimeoutError as error:
        raise Refused(f"{remote} did not arrive within {TIMEOUT:.0f} seconds.") from error
    except httpx.TimeoutException as error:
        raise Refused(f"{remote} can't be fetched: its server says nothing.") from error
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise Refused(f"{remote} can't be fetched: {str(error) or type(error).__name__}.") from error


async def whereabouts(remote: Remote, suffix: str, settings: Settings) -> Remote:
    """Where a URL leads on to, by what is at `suffix` below it; itself where it leads nowhere else."""
    asked = parse_web(f"{remote.url.rstrip('/')}{suffix}")
    try:
        async with asyncio.timeout(TIMEOUT), _opened(asked, settings) as answer:
            found = answer.extensions["remote"]
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, TimeoutError, Refused):
        return remote
    path, ends, _ = found.partition(suffix)
    return parse_web(path) if ends else remote


async def keep(chunks: AsyncIterator[bytes], target: Path, settings: Settings) -> None:
    """Write them to the new file. Raises Refused beyond the limit, and when the disk has no room."""
    taken = looked = 0
    check_room(settings)
    with target.open("xb") as file:
        async for chunk in chunks:
            taken += len(chunk)
            if taken > settings.push_limit:
                raise TooLarge(settings.push_limit)
            if taken - looked > _LOOK_EVERY:
                check_room(settings)
                looked = taken
            await asyncio.to_thread(file.write, chunk)


class TooLarge(Refused):
    """More came than the server takes."""

    def __init__(self, limit: int) -> None:
        size = f"{limit / 1024**2:.0f} MiB" if limit >= 1024**2 else f"{limit} bytes"
        super().__init__(
            f"The archive is larger than the {size} that this server takes (its setting push_limit): leave out what "
            "can be fetched or built."
        )


def check_room(settings: Settings) -> None:
    """Raises Refused while the data folder's disk has less free space than its reserve."""
    if shutil.disk_usage(settings.data).free < settings.disk_reserve:
        raise Refused(
            "The server's disk is full: its administrator must make room (`disk` shows what uses it), then try again."
        )


@asynccontextmanager
async def _opened(remote: Remote, settings: Settings) -> AsyncIterator[httpx.Response]:
    """The answer of the URL, or of the one that it leads on to."""
    bundle = settings.build_ca_bundle
    context = ssl.create_default_context(cafile=str(bundle) if bundle and bundle.is_file() else None)
    async with httpx.AsyncClient(verify=context, timeout=SILENCE, trust_env=False) as http:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await http.send(await _request(http, remote, settings), stream=True)
            try:
                if not answer.has_redirect_location:
                    if not answer.is_success:
                        raise Refused(f"{remote} can't be fetched: its server answered {answer.status_code}.")
                    answer.extensions["remote"] = remote.url
                    yield answer
                    return
                remote = parse_web(str(httpx.URL(remote.url).join(answer.headers["Location"])))
            finally:
                await answer.aclose()
    raise Refused(f"{remote} leads on and on: more than {MAX_REDIRECTS} redirects.")


async def _request(http: httpx.AsyncClient, remote: Remote, settings: Settings) -> httpx.Request:
    """Asks the very address that was looked at: a name may lead elsewhere when it is looked up again."""
    addresses = await addresses_of(remote, private=settings.fetch_private)
    url = httpx.URL(remote.url)
    headers = {"Host": url.netloc.decode(), "Accept-Encoding": "identity", "User-Agent": "mooring"}
    request = http.build_request("GET", url.copy_with(host=addresses[0], fragment=None), headers=headers)
    request.extensions["sni_hostname"] = remote.host
    return request
