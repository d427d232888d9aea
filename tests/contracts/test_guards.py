"""Passwords of guarded domains on a real HAProxy, asked by clients that were written by others."""

import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import AsyncMock

import httpx
import pytest

from router import haproxy_config
from router.access import AccessLogs
from router.guards import password_hash
from router.haproxy import HaproxyRouter
from router.runtime_api import RuntimeApi
from router.types import Guard, GuardMode, Pool, Target
from tests.servers.haproxy import WebServer, free_port, require_haproxy, running_router, short_folder

pytestmark = pytest.mark.real

PASSWORD = "s:e c/r&\"e't ü"


def guard(mode: GuardMode, **users: str) -> Guard:
    return Guard(
        mode, tuple((name, password_hash(mode, name, users[name], "5a17")) for name in sorted(users))
    )


def guarded_pool(target: Target) -> Pool:
    return Pool(
        "foo/app",
        frozenset({"digest.org", "basic.org", "open.org", "*.wild.org", "in.wild.org"}),
        frozenset({target}),
        guards=frozenset(
            {
                ("digest.org", guard(GuardMode.DIGEST, joe=PASSWORD, kim="other")),
                ("basic.org", guard(GuardMode.BASIC, joe=PASSWORD, kim="other")),
                ("*.wild.org", guard(GuardMode.DIGEST, joe=PASSWORD)),
            }
        ),
    )


@dataclass
class Proxy:
    router: HaproxyRouter
    port: int
    folder: Path
    pool: Pool

    async def ask(
        self, host: str, path: str = "/a/b?c=d&e=%20", *, auth: httpx.Auth | None = None, **more: str
    ) -> httpx.Response:
        headers = {"Host": host, **{name.replace("_", "-"): value for name, value in more.items()}}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, auth=auth)

    async def statuses(self) -> dict[str, int]:
        """Of each way to be let in or not."""
        digest, basic = httpx.DigestAuth("joe", PASSWORD), httpx.BasicAuth("joe", PASSWORD)
        return {
            "digest": (await self.ask("digest.org", auth=digest)).status_code,
            "basic": (await self.ask("basic.org", auth=basic)).status_code,
            "wildcard": (await self.ask("a.b.wild.org", auth=digest)).status_code,
            "open": (await self.ask("open.org")).status_code,
            "nothing": (await self.ask("digest.org")).status_code,
            "nothing basic": (await self.ask("basic.org")).status_code,
            "nothing wildcard": (await self.ask("a.wild.org")).status_code,
        }


GUARDED = {
    "digest": 200,
    "basic": 200,
    "wildcard": 200,
    "open": 200,
    "nothing": 401,
    "nothing basic": 401,
    "nothing wildcard": 401,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    require_haproxy()
    with short_folder() as made:
        yield made / "haproxy"


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with WebServer("foo-app-1-web-1").listening() as listening:
        yield listening


@pytest.fixture
async def proxy(folder: Path, target: Target) -> AsyncIterator[Proxy]:
    port = free_port()
    async with running_router(folder, port, write_delay=0.01, access_logs=AccessLogs.ON) as router:
        made = Proxy(router, port, folder, guarded_pool(target))
        await router.apply([made.pool])
        yield made


async def test_right_passwords_are_let_in_and_all_else_is_not(proxy: Proxy) -> None:
    assert await proxy.statuses() == GUARDED
    wrong = [("joe", "other"), ("kim", PASSWORD), ("nobody", PASSWORD), ("", ""), ("joe", ""), ("-", "")]
    for name, password in wrong:
        assert (await proxy.ask("digest.org", auth=httpx.DigestAuth(name, password))).status_code == 401
        assert (await proxy.ask("basic.org", auth=httpx.BasicAuth(name, password))).status_code == 401
    assert (await proxy.ask("digest.org", auth=httpx.BasicAuth("joe", PASSWORD))).status_code == 401
    assert (await proxy.ask("x.wild.org", auth=httpx.DigestAuth("kim", "other"))).status_code == 401


@pytest.mark.parametrize(
    "said",
    [
        "Basic",
        "Basic !",
        "Basic " + "A" * 4000,
        "Digest",
        "Digest username=joe",
        'Digest username="joe", realm="protected", nonce="zz-zz", uri="/a/b?c=d&e=%20", nc=1, cnonce=a, qop=auth, '
        'response="0"',
        "Digest " + ",=" * 3000,
        "Bearer abc",
        "\x01",
    ],
)
async def test_odd_headers_are_answered_with_a_challenge(proxy: Proxy, said: str) -> None:
    for host in ("digest.org", "basic.org"):
        answer = await proxy.ask(host, Authorization=said)
        assert answer.status_code in (400, 401)
    assert await proxy.statuses() == GUARDED
    assert "runtime error" not in (proxy.folder / "haproxy.log").read_text()


async def test_answer_without_a_password_says_what_is_asked_for(proxy: Proxy) -> None:
    digest, basic = await proxy.ask("digest.org"), await proxy.ask("basic.org")
    assert digest.headers["www-authenticate"].startswith(
        'Digest realm="protected", qop="auth", algorithm=MD5'
    )
    assert "stale" not in digest.headers["www-authenticate"]
    assert basic.headers["www-authenticate"] == 'Basic realm="protected", charset="UTF-8"'
    assert digest.headers["cache-control"] == "no-store"
    assert "A password is needed" in digest.text


async def test_app_gets_no_password_of_a_guarded_domain_and_its_own_elsewhere(proxy: Proxy) -> None:
    basic = httpx.BasicAuth("joe", PASSWORD)
    assert "authorization" not in (await proxy.ask("basic.org", "/echo", auth=basic)).text.lower()
    assert (
        "authorization: Bearer abc" in (await proxy.ask("open.org", "/echo", Authorization="Bearer abc")).text
    )
    assert "Bearer abc" in (await proxy.ask("in.wild.org", "/echo", Authorization="Bearer abc")).text


def digest_header(challenge: str, uri: str, *, method: str = "GET") -> str:
    """As RFC 7616 has it, written down once more."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    found = re.search(r'nonce="([^"]+)"', challenge)
    assert found
    nonce = found[1]
    one, two = md5(f"joe:protected:{PASSWORD}"), md5(f"{method}:{uri}")
    response = md5(f"{one}:{nonce}:00000001:abc:auth:{two}")
    return (
        f'Digest username="joe", realm="protected", nonce="{nonce}", uri="{uri}", qop=auth, nc=00000001, '
        f'cnonce="abc", response="{response}"'
    )


async def test_digest_is_for_one_address_and_method(proxy: Proxy) -> None:
    challenge = (await proxy.ask("digest.org")).headers["www-authenticate"]
    said = digest_header(challenge, "/one?x=1")
    assert (await proxy.ask("digest.org", "/one?x=1", Authorization=said)).status_code == 200
    assert (await proxy.ask("digest.org", "/one?x=2", Authorization=said)).status_code == 401
    posted = digest_header(challenge, "/one", method="POST")
    assert (await proxy.ask("digest.org", "/one", Authorization=posted)).status_code == 401


async def test_old_nonce_is_stale_for_who_knows_the_password(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = haproxy_config._template_text
    monkeypatch.setattr(
        haproxy_config, "_template_text", lambda name: text(name).replace("LIFE = 300", "LIFE = -1")
    )
    port = free_port()
    async with running_router(folder, port) as router:
        short = Proxy(router, port, folder, guarded_pool(target))
        await router.apply([short.pool])
        challenge = (await short.ask("digest.org")).headers["www-authenticate"]
        answer = await short.ask("digest.org", "/", Authorization=digest_header(challenge, "/"))
        assert (answer.status_code, answer.headers["www-authenticate"].endswith(", stale=true")) == (
            401,
            True,
        )
        wrong = digest_header(challenge, "/").replace('response="', 'response="0')
        assert (
            "stale"
            not in (await short.ask("digest.org", "/", Authorization=wrong)).headers["www-authenticate"]
        )


async def test_nonce_of_an_earlier_process_is_stale(proxy: Proxy) -> None:
    challenge = (await proxy.ask("digest.org")).headers["www-authenticate"]
    more = [Pool(f"p{number}/app", frozenset({f"p{number}.org"}), frozenset()) for number in range(70)]
    await proxy.router.apply([proxy.pool, *more])
    answer = await proxy.ask("digest.org", "/", Authorization=digest_header(challenge, "/"))
    assert (answer.status_code, answer.headers["www-authenticate"].endswith(", stale=true")) == (401, True)
    assert await proxy.statuses() == GUARDED


async def test_guards_outlive_adoption_and_a_killed_proxy(proxy: Proxy) -> None:
    await proxy.router.close()
    async with running_router(proxy.folder, proxy.port, access_logs=AccessLogs.ON) as second:
        assert (await second.table()).pools == {"foo/app": proxy.pool}
        assert await proxy.statuses() == GUARDED
        os.kill(int((proxy.folder / "haproxy.pid").read_text()), signal.SIGKILL)
        await second.start()
        assert (await second.table()).pools == {"foo/app": proxy.pool}
        assert await proxy.statuses() == GUARDED


async def test_after_a_reboot_guards_are_there_before_the_targets(folder: Path, target: Target) -> None:
    port = free_port()
    wanted = guarded_pool(target)
    async with running_router(folder, port) as first:
        await first.apply([wanted])
        await first.close()
        os.kill(int((folder / "haproxy.pid").read_text()), signal.SIGKILL)
        (folder / "current" / "boot").write_text("00000000-0000-0000-0000-000000000000")
        async with running_router(folder, port) as second:
            assert (await second.table()).pools == {"foo/app": replace(wanted, targets=frozenset())}
            asked = await Proxy(second, port, folder, wanted).ask("digest.org")
            assert asked.status_code == 401


async def test_process_of_a_release_without_guards_is_taken_over(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    text = haproxy_config._template_text

    def older(name: str) -> str:
        lines = text(name).splitlines(keepends=True)
        return "".join(line for line in lines if "guard" not in line)

    with monkeypatch.context() as patched:
        patched.setattr(haproxy_config, "_template_text", older)
        patched.setattr(HaproxyRouter, "_show_guards", AsyncMock(return_value=""))
        async with running_router(folder, port) as first:
            plain = replace(guarded_pool(target), guards=frozenset())
            await first.apply([plain])
            await first.close()
            patched.undo()
            async with running_router(folder, port) as second:
                assert (await second.table()).pools == {"foo/app": plain}
                await second.apply([guarded_pool(target)])
                assert await Proxy(second, port, folder, plain).statuses() == GUARDED


async def test_what_is_no_guard_of_ours_lets_nobody_in_and_is_put_right(proxy: Proxy) -> None:
    async with RuntimeApi(proxy.folder / "admin.sock").session() as session:
        await session.ask("set map guards.map pool-1 bm9uc2Vuc2U")
    for host in ("digest.org", "basic.org", "open.org"):
        assert (await proxy.ask(host, auth=httpx.BasicAuth("joe", PASSWORD))).status_code == 401
    assert (await proxy.router.table()).pools["foo/app"] != proxy.pool
    await proxy.router.apply([proxy.pool])
    assert await proxy.statuses() == GUARDED


async def test_access_log_has_the_refused_request_and_no_password(proxy: Proxy) -> None:
    await proxy.ask("basic.org", "/x", auth=httpx.BasicAuth("joe", "hunter2"))
    batch = await proxy.router.take_access(most=10)
    (line,) = batch.lines
    assert (line.pool, line.status, line.target, line.fault, line.path) == ("foo/app", 401, "", None, "/x")
    assert "hunter2" not in repr(batch)
    assert "am9l" not in repr(batch)
