"""Real git and OpenSSH, paramiko and dulwich against our SSH endpoint; builder and controller are in memory."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest
from dulwich import porcelain
from dulwich.client import SSHGitClient
from dulwich.protocol import pkt_line
from dulwich.refs import Ref

from controller.types import BuildStatus
from tests.servers.receive import Endpoint, Visitor, start_endpoint

pytestmark = pytest.mark.acceptance

ZERO = b"0" * 40


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    running = await start_endpoint(tmp_path, keep_alive=0.2)
    yield running
    await running.server.close()
    assert running.leftovers() == []
    assert running.model.open_clients == 0


@pytest.fixture
def ann(endpoint: Endpoint) -> Visitor:
    return endpoint.visitor()


async def until(condition: Any, timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


# What is taken


async def test_push_deploys_and_can_be_cloned_back(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()

    status, output = await ann.push()

    assert status == 0, output
    assert "remote: -----> Procfile app detected" in output
    assert "remote: =====> Application deployed:" in output
    assert "remote:        http://foo.localhost:8080" in output
    assert endpoint.stored() == {"refs/heads/master": commit}
    assert endpoint.model.builds["b1"].status is BuildStatus.SUCCEEDED
    assert "-----> Procfile app detected" in endpoint.model.logs["b1"]
    status, output = await ann.run("git", "clone", ann.url(), "copy", folder=ann.folder)
    assert status == 0, output
    assert ann.git("rev-parse", "HEAD", folder=ann.folder / "copy") == commit


@pytest.mark.parametrize("version", ["0", "1", "2"])
async def test_every_protocol_version_pushes_and_fetches(
    endpoint: Endpoint, ann: Visitor, version: str
) -> None:
    commit = ann.commit()
    config = ("-c", f"protocol.version={version}")

    status, output = await ann.run("git", *config, "push", ann.url(), "master")
    assert status == 0, output
    status, output = await ann.run("env", "GIT_TRACE_PACKET=1", "git", *config, "ls-remote", ann.url())

    assert status == 0
    assert f"{commit}\trefs/heads/master" in output
    assert ("< version 2" in output) == (version == "2")


async def test_second_push_sends_a_thin_pack_onto_the_first(endpoint: Endpoint, ann: Visitor) -> None:
    lines = "".join(f"line {n}\n" for n in range(3000))
    ann.commit("big.txt", lines)
    ann.commit()
    await ann.push()
    commit = ann.commit("big.txt", lines + "one more\n")

    status, output = await ann.push()

    assert status == 0, output
    assert endpoint.stored() == {"refs/heads/master": commit}
    assert len(endpoint.model.versions) == 1
    check = subprocess.run(["git", "--git-dir", str(endpoint.repository), "fsck", "--full"], check=False)
    assert check.returncode == 0


async def test_other_branches_and_tags_are_stored_and_said_not_to_deploy(
    endpoint: Endpoint, ann: Visitor
) -> None:
    commit = ann.commit()
    ann.git("tag", "v1")

    status, output = await ann.push("HEAD:feature", "v1")

    assert status == 0, output
    assert "feature is stored and not deployed: master and main deploy foo" in output
    assert endpoint.stored() == {"refs/heads/feature": commit, "refs/tags/v1": commit}
    assert endpoint.model.builds == {}
    status, output = await ann.run("git", "clone", ann.url(), "copy", folder=ann.folder)
    assert ann.git("rev-parse", "HEAD", folder=ann.folder / "copy") == commit


async def test_deploy_branch_among_several_refs_is_built(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()

    status, output = await ann.push("HEAD:main", "HEAD:feature")

    assert status == 0, output
    assert list(endpoint.stored()) == ["refs/heads/feature", "refs/heads/main"]
    assert [build.commit for build in endpoint.model.builds.values()] == [commit]


async def test_same_commit_under_another_name_is_not_built_again(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push("HEAD:master")

    status, output = await ann.push("HEAD:main")

    assert status == 0, output
    assert "No changes" in output
    assert "Application deployed" in output
    assert len(endpoint.model.builds) == 1
    assert "refs/heads/main" in endpoint.stored()


async def test_forced_push_deploys_other_history_and_says_so(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push()
    ann.git("checkout", "-q", "--orphan", "other")
    commit = ann.commit("other.txt", "x")

    status, output = await ann.push("--force", "HEAD:master")

    assert status == 0, output
    assert "Other history: master no longer contains" in output
    assert endpoint.stored() == {"refs/heads/master": commit}


async def test_branch_that_does_not_deploy_can_be_deleted(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push("HEAD:master", "HEAD:feature")

    status, output = await ann.push(":feature")

    assert status == 0, output
    assert list(endpoint.stored()) == ["refs/heads/master"]


async def test_service_beside_app_has_its_own_repository(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()

    status, output = await ann.push(path="foo/website.git")

    assert status == 0, output
    assert (endpoint.settings.folders.repositories / "foo/website.git/refs/heads/master").exists()
    assert not endpoint.repository.exists()


async def test_held_service_takes_the_push_and_says_why_it_waits(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    endpoint.model.held = "the resource db is missing."

    status, output = await ann.push()

    assert status == 0, output
    assert "foo is held: the resource db is missing." in output


async def test_many_pushes_leave_few_packs(
    endpoint: Endpoint, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitreceive.repos.MAX_PACKS", 2)
    for number in range(4):
        commit = ann.commit("n.txt", f"{number}")
        assert (await ann.push("HEAD:feature"))[0] == 0

    await until(lambda: len([each for each in endpoint.objects() if each.endswith(".pack")]) <= 2)
    assert endpoint.stored() == {"refs/heads/feature": commit}


# Clients other than git with OpenSSH


async def test_dulwich_as_a_client_pushes_and_clones(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()

    def push_and_clone() -> bytes:
        client = SSHGitClient(
            "127.0.0.1",
            port=endpoint.server.port,
            username="git",
            ssh_command=ann.environment["GIT_SSH_COMMAND"],
        )
        with porcelain.open_repo_closing(str(ann.work)) as repo:
            generate: Any = repo.generate_pack_data
            path: Any = "/foo.git"
            result = client.send_pack(
                path,
                lambda refs: {Ref(b"refs/heads/master"): repo.head()},
                generate_pack_data=generate,
            )
            assert result.ref_status is None or result.ref_status[b"refs/heads/master"] is None
        copy = client.clone("/foo.git", str(ann.folder / "copy"), mkdir=True)
        with copy:
            return copy.head()

    assert (await asyncio.to_thread(push_and_clone)).decode() == commit
    assert endpoint.stored() == {"refs/heads/master": commit}


class RawClient:
    """A client that speaks git's protocol by hand, over paramiko, and so can misbehave."""

    def __init__(self, visitor: Visitor, command: str = "git-receive-pack 'foo.git'") -> None:
        self.transport = paramiko.Transport(("127.0.0.1", visitor.port))
        key = paramiko.Ed25519Key.from_private_key_file(str(visitor.key))
        self.transport.connect(username="deploy", pkey=key)
        self.channel = self.transport.open_session()
        self.channel.settimeout(10)
        self.channel.exec_command(command)

    def read_packet(self) -> bytes | None:
        size = int(self._read(4), 16)
        return self._read(size - 4) if size else None

    def read_refs(self) -> list[bytes]:
        lines = []
        while (line := self.read_packet()) is not None:
            lines.append(line)
        return lines

    def send_command(self, new: str, ref: bytes = b"refs/heads/master", caps: bytes = b"") -> None:
        capabilities = b"report-status" + caps
        self.channel.sendall(pkt_line(ZERO + b" " + new.encode() + b" " + ref + b"\0" + capabilities))
        self.channel.sendall(pkt_line(None))

    def rest(self) -> bytes:
        data = b""
        while chunk := self.channel.recv(65536):
            data += chunk
        return data

    def errors(self) -> bytes:
        data = b""
        while chunk := self.channel.recv_stderr(65536):
            data += chunk
        return data

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.channel.recv(size - len(data))
            assert chunk, "the server closed the channel"
            data += chunk
        return data


def pack_of(visitor: Visitor) -> bytes:
    return subprocess.run(
        ["git", "pack-objects", "--stdout", "--revs", "-q"],
        input=b"HEAD\n",
        cwd=visitor.work,
        capture_output=True,
        check=True,
    ).stdout


async def test_client_without_side_band_reads_progress_on_stderr(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()

    def push() -> tuple[bytes, bytes]:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit)
        client.channel.sendall(pack_of(ann))  # and it does not close its side
        answer, errors = client.rest(), client.errors()
        client.transport.close()
        return answer, errors

    answer, errors = await asyncio.to_thread(push)

    assert b"unpack ok" in answer
    assert b"ok refs/heads/master" in answer
    assert b"-----> Procfile app detected" in errors


async def test_silence_is_broken_by_signs_of_life(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()
    endpoint.model.slow = 1.0

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit, caps=b" side-band-64k")
        client.channel.sendall(pack_of(ann))
        answer = client.rest()
        client.transport.close()
        return answer

    answer = await asyncio.to_thread(push)

    assert b"ok refs/heads/master" in answer
    assert 3 <= answer.count(b"0005\x01") <= 6


# What is refused


async def test_unknown_app_is_refused_before_anything_is_made(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()

    status, output = await ann.push(path="nope.git")

    assert status != 0
    assert " !     There is no app nope that you may see." in output
    assert "remote error: not-found" in output
    assert not (endpoint.settings.folders.repositories / "nope").exists()


async def test_viewer_may_clone_and_not_push(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push()
    bob = endpoint.visitor("bob")
    bob.commit("other.txt", "x")

    status, output = await bob.push("--force", "HEAD:master")
    assert status != 0
    assert "bob may view foo, which is not enough" in output
    status, output = await bob.run("git", "clone", bob.url(), "copy", folder=bob.folder)
    assert status == 0, output


async def test_user_without_rights_learns_nothing(endpoint: Endpoint, ann: Visitor) -> None:
    eve = endpoint.visitor("eve")
    eve.commit()

    _, known = await eve.push(path="foo.git")
    _, unknown = await eve.push(path="bar.git")

    assert sorted(known.replace("foo", "bar").splitlines()) == sorted(unknown.splitlines())


async def test_idle_fetch_gives_its_place_back(
    endpoint: Endpoint, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitreceive.fetch.SILENCE", 1)
    ann.commit()
    await ann.push()

    def fetch() -> int:
        client = RawClient(ann, "git-upload-pack 'foo.git'")
        client.read_refs()
        status = client.channel.recv_exit_status()
        client.transport.close()
        return status

    async with asyncio.timeout(8):
        assert await asyncio.to_thread(fetch) != 0


async def test_unknown_key_is_refused(endpoint: Endpoint) -> None:
    mallory = endpoint.visitor("mallory")

    status, output = await mallory.ssh("apps")

    assert status == 255
    assert "Permission denied (publickey)" in output
    assert endpoint.commands == []


@pytest.mark.parametrize(
    "path", ["../x.git", "foo/../../x", "-oProxyCommand=x", "Föö.git", "x" * 300, "a/b/c", ""]
)
async def test_name_tricks_get_one_clear_line(endpoint: Endpoint, ann: Visitor, path: str) -> None:
    status, output = await ann.ssh(f"git-receive-pack '{path}'")

    assert status == 1
    assert output.startswith(" !     ")
    assert "is no valid" in output
    assert output.count("\n") == 1
    assert list(endpoint.settings.data.glob("**/x*")) == []


async def test_shallow_push_is_refused_before_the_pack(endpoint: Endpoint, ann: Visitor) -> None:
    for number in range(3):
        ann.commit("n.txt", f"{number}")
    ann.git("clone", "-q", "--depth", "1", f"file://{ann.work}", "shallow", folder=ann.folder)

    status, output = await ann.run("git", "push", ann.url(), "HEAD:master", folder=ann.folder / "shallow")

    assert status != 0
    assert "git fetch --unshallow" in output
    assert "[remote rejected] HEAD -> master (shallow update not allowed)" in output
    await endpoint.settle()
    assert not endpoint.repository.exists()


async def test_shallow_clone_of_what_we_have_may_push(endpoint: Endpoint, ann: Visitor) -> None:
    for number in range(3):
        ann.commit("n.txt", f"{number}")
    ann.commit()
    await ann.push()
    status, output = await ann.run("git", "clone", "-q", "--depth", "1", ann.url(), "part", folder=ann.folder)
    assert status == 0, output
    part = Visitor(ann.folder, ann.key, ann.port, ann.folder / "part")
    commit = part.commit("more.txt", "x")

    status, output = await part.push()

    assert status == 0, output
    assert endpoint.stored() == {"refs/heads/master": commit}


async def test_deploy_branch_is_not_deleted(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()
    await ann.push()

    status, output = await ann.push(":master")

    assert status != 0
    assert "master deploys foo and is not deleted" in output
    assert endpoint.stored() == {"refs/heads/master": commit}


async def test_clone_checks_out_what_is_deployed(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit("other.txt", "x")
    await ann.push("HEAD:feature")
    commit = ann.commit()

    await ann.push("HEAD:main")

    await ann.run("git", "clone", ann.url(), "copy", folder=ann.folder)
    copy = ann.folder / "copy"
    assert ann.git("rev-parse", "HEAD", "--abbrev-ref", "HEAD", folder=copy).split() == [commit, "main"]


async def test_two_deploy_branches_at_once_are_refused(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()

    status, output = await ann.push("HEAD:master", "HEAD:main")

    assert status != 0
    assert "master and main all deploy foo: which one should serve?" in output
    await endpoint.settle()
    assert not endpoint.repository.exists()


async def test_failed_build_leaves_nothing(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push()
    before, objects = endpoint.stored(), endpoint.objects()
    ann.commit("broken.txt", "x")
    endpoint.builder.failure = "pip failed."

    status, output = await ann.push()

    assert status != 0
    assert "remote:  !     pip failed." in output
    assert "[remote rejected] HEAD -> master (build failed)" in output
    assert endpoint.stored() == before
    assert endpoint.objects() == objects
    assert endpoint.model.builds["b2"].status is BuildStatus.FAILED
    assert endpoint.model.builds["b2"].error == "pip failed."


async def test_failed_first_build_leaves_no_repository(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit("readme.txt", "no Procfile")

    status, output = await ann.push()
    await endpoint.settle()

    assert status != 0
    assert "Add a file named Procfile" in output
    assert not endpoint.repository.parent.exists()


async def test_builder_outage_is_said_to_be_ours(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    endpoint.builder.outage = "There is no space."

    _, output = await ann.push()

    assert "through no fault of yours: There is no space." in output
    assert "(builder unavailable)" in output


async def test_failed_rollout_shows_its_last_lines_and_keeps_the_branch(
    endpoint: Endpoint, ann: Visitor
) -> None:
    first = ann.commit()
    await ann.push()
    ann.commit("app.py", "x")
    endpoint.model.failure = "Nothing answered on port 5000 within 60 s."

    status, output = await ann.push()

    assert status != 0
    assert "v2 failed: Nothing answered on port 5000" in output
    assert "remote:        ImportError: no module named app" in output
    assert "[remote rejected] HEAD -> master (release failed)" in output
    assert endpoint.stored() == {"refs/heads/master": first}


async def test_atomic_push_takes_nothing_when_the_build_fails(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    await ann.push()
    ann.commit("broken.txt", "x")
    endpoint.builder.failure = "pip failed."

    status, output = await ann.push("--atomic", "HEAD:master", "HEAD:feature")

    assert status != 0
    assert "atomic push failed" in output
    assert list(endpoint.stored()) == ["refs/heads/master"]


async def test_atomic_push_deploys_nothing_when_another_ref_has_moved(
    endpoint: Endpoint, ann: Visitor
) -> None:
    first = ann.commit()
    await ann.push("HEAD:feature")
    second = ann.commit("more.txt", "x")

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        master = ZERO + b" " + second.encode() + b" refs/heads/master\0report-status atomic"
        client.channel.sendall(pkt_line(master))
        client.channel.sendall(pkt_line(ZERO + b" " + second.encode() + b" refs/heads/feature"))
        client.channel.sendall(pkt_line(None) + pack_of(ann))
        return client.rest()

    answer = await asyncio.to_thread(push)

    assert b"ng refs/heads/master fetch first" in answer
    assert endpoint.model.builds == {}
    assert endpoint.stored() == {"refs/heads/feature": first}


async def test_canceled_build_is_refused_with_who_did_it(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    endpoint.builder.gate.clear()
    pushing = asyncio.create_task(ann.push())
    await endpoint.builder.started.wait()
    endpoint.model.builds["b1"] = replace(endpoint.model.builds["b1"], cancel_requested_by="carl")

    status, output = await pushing

    assert status != 0
    assert "carl cancelled the build." in output
    assert endpoint.model.builds["b1"].status is BuildStatus.CANCELED


async def test_full_disk_is_refused(tmp_path: Path) -> None:
    endpoint = await start_endpoint(tmp_path, disk_reserve=1 << 60)
    ann = endpoint.visitor()
    ann.commit()

    status, output = await ann.push()
    await endpoint.server.close()

    assert status != 0
    assert "disk space left" in output
    assert endpoint.objects() == []


async def test_pack_over_the_limit_is_refused_and_gone(tmp_path: Path) -> None:
    endpoint = await start_endpoint(tmp_path, push_limit=200_000)
    ann = endpoint.visitor()
    (ann.work / "noise").write_bytes(random.Random(1).randbytes(3_000_000))
    ann.commit()

    status, output = await ann.push()
    await endpoint.settle()
    await endpoint.server.close()

    assert status != 0
    assert "larger than the 200000 bytes" in output
    assert "unpacker error" in output
    assert not endpoint.repository.exists()
    assert endpoint.leftovers() == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "no pack"])
async def test_damaged_pack_is_refused_and_gone(endpoint: Endpoint, ann: Visitor, damage: str) -> None:
    ann.commit()
    await ann.push("HEAD:feature")
    objects = endpoint.objects()
    commit = ann.commit("more.txt", "some more")
    pack = bytearray(pack_of(ann))

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit)
        if damage == "flipped":
            pack[len(pack) // 2] ^= 0xFF
        sent: dict[str, bytes] = {"flipped": bytes(pack), "cut": bytes(pack[:-30]), "no pack": b"x" * 100}
        client.channel.sendall(sent[damage])
        client.channel.shutdown_write()
        answer = client.rest()
        client.transport.close()
        return answer

    answer = await asyncio.to_thread(push)

    assert b"ng refs/heads/master unpacker error" in answer
    assert b"unpack The pack " in answer
    await endpoint.settle()
    assert endpoint.objects() == objects
    assert list(endpoint.stored()) == ["refs/heads/feature"]


async def test_push_that_lacks_objects_is_refused_and_gone(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()
    alone = subprocess.run(
        ["git", "pack-objects", "--stdout", "-q"],
        input=f"{commit}\n".encode(),
        cwd=ann.work,
        capture_output=True,
        check=True,
    ).stdout

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit)
        client.channel.sendall(alone)
        answer = client.rest()
        client.transport.close()
        return answer

    answer = await asyncio.to_thread(push)

    assert b"lacks objects" in answer
    await endpoint.settle()
    assert not endpoint.repository.exists()


async def test_branch_to_something_other_than_a_commit_is_refused(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    tree = ann.git("rev-parse", "HEAD^{tree}")

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(tree)
        client.channel.sendall(pack_of(ann))
        return client.rest()

    assert b"must point to a commit" in await asyncio.to_thread(push)


async def test_ref_outside_refs_is_refused(endpoint: Endpoint, ann: Visitor) -> None:
    commit = ann.commit()

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit, ref=b"HEAD")
        client.channel.sendall(pack_of(ann))
        return client.rest()

    assert b"ng HEAD funny refname" in await asyncio.to_thread(push)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"zzzz\n",
        pkt_line(b"only two"),
        pkt_line(b"g" * 40 + b" " + ZERO + b" refs/heads/x\0report-status"),
        pkt_line(b"shallow xx/etc/passwd") + pkt_line(None),
        pkt_line(ZERO + b" " + b"a" * 40 + b" refs/heads/x\0no-such-capability") + pkt_line(None),
    ],
    ids=["end", "cut", "length", "words", "hex", "shallow", "capability"],
)
async def test_odd_protocol_is_no_fault_of_the_server(
    endpoint: Endpoint, ann: Visitor, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        client.channel.sendall(line)
        client.channel.shutdown_write()
        client.rest()
        return client.errors()

    assert b"fault of yours" not in await asyncio.to_thread(push)
    await endpoint.settle()
    assert "Traceback" not in caplog.text


async def test_names_of_refs_take_bounded_memory(
    endpoint: Endpoint, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitreceive.receive.MAX_COMMANDS", 100_000)

    def push() -> bytes:
        client = RawClient(ann)
        client.read_refs()
        for number in range(4):
            ref = b"refs/heads/%d" % number + b"x" * 40_000
            client.channel.sendall(pkt_line(ZERO + b" " + b"a" * 40 + b" " + ref + b"\0report-status"))
        client.rest()
        return client.errors()

    assert b"names too long" in await asyncio.to_thread(push)


# Two at once


async def test_second_push_waits_and_builds_upon_the_first(endpoint: Endpoint, ann: Visitor) -> None:
    bob = endpoint.visitor("ann", name="other")
    first = ann.commit()
    bob.git("pull", "-q", str(ann.work), "master")
    second = bob.commit("more.txt", "x")
    endpoint.builder.gate.clear()
    one = asyncio.create_task(ann.push())
    await endpoint.builder.started.wait()
    two = asyncio.create_task(bob.push())
    await until(lambda: [each.status for each in endpoint.model.builds.values()] == ["running", "queued"])
    endpoint.builder.gate.set()

    (status_one, output_one), (status_two, output_two) = await asyncio.gather(one, two)

    assert (status_one, status_two) == (0, 0), output_one + output_two
    assert f"Waiting for ann's push of {first[:7]} to master, under way since" in output_two
    assert endpoint.stored() == {"refs/heads/master": second}
    assert len(endpoint.model.versions[next(iter(endpoint.model.versions))]) == 2


async def test_second_push_of_other_history_is_told_to_fetch(endpoint: Endpoint, ann: Visitor) -> None:
    other = endpoint.visitor("ann", name="other")
    first = ann.commit()
    other.commit("unrelated.txt", "x")
    endpoint.builder.gate.clear()
    one = asyncio.create_task(ann.push())
    await endpoint.builder.started.wait()
    two = asyncio.create_task(other.push())
    await until(lambda: [each.status for each in endpoint.model.builds.values()] == ["running", "queued"])
    endpoint.builder.gate.set()

    (status_one, _), (status_two, output_two) = await asyncio.gather(one, two)

    assert status_one == 0
    assert status_two != 0
    assert "somebody else pushed meanwhile" in output_two
    assert endpoint.stored() == {"refs/heads/master": first}


async def test_builds_at_once_are_bounded_over_all_services_and_the_others_wait_in_order(
    tmp_path: Path,
) -> None:
    endpoint = await start_endpoint(tmp_path, builds_at_once=2)
    try:
        visitors = [endpoint.visitor("ann", name=f"ann{number}") for number in range(5)]
        for visitor in visitors:
            visitor.commit()
        endpoint.builder.gate.clear()
        pushes = []
        for number, visitor in enumerate(visitors):
            pushes.append(asyncio.create_task(visitor.push(path=f"foo/s{number}.git")))
            await until(lambda: len(endpoint.model.builds) == len(pushes))

        states = [each.status for each in endpoint.model.builds.values()]
        assert states == ["running", "running", "queued", "queued", "queued"]
        assert endpoint.model.builds["b5"].doing.endswith("2 more before you")

        # One that is cancelled in the line, and one whose client dies, leave it at once.
        endpoint.model.builds["b3"] = replace(endpoint.model.builds["b3"], cancel_requested_by="carl")
        status, output = await pushes[2]
        assert status != 0
        assert "carl cancelled the build" in output
        endpoint.builder.gate.set()
        results = await asyncio.gather(*pushes)

        assert [status == 0 for status, _ in results] == [True, True, False, True, True]
        assert "as many as this server runs at once" in results[4][1]
        assert endpoint.builder.most == 2
        assert [each.deployment for each in endpoint.builder.requests] == ["foo"] * 4
    finally:
        await endpoint.server.close()


async def test_client_that_dies_while_it_waits_leaves_the_line(endpoint: Endpoint, ann: Visitor) -> None:
    other = endpoint.visitor("ann", name="other")
    first = ann.commit()
    other.git("pull", "-q", str(ann.work), "master")
    other.commit("more.txt", "x")
    endpoint.builder.gate.clear()
    one = asyncio.create_task(ann.push())
    await endpoint.builder.started.wait()
    two = await other.start("git", "push", other.url(), "HEAD:master")
    await until(lambda: "b2" in endpoint.model.builds)

    os.killpg(two.pid, signal.SIGKILL)
    await until(lambda: endpoint.model.builds["b2"].status is BuildStatus.CANCELED)
    endpoint.builder.gate.set()

    assert (await one)[0] == 0
    assert endpoint.stored() == {"refs/heads/master": first}
    await two.communicate()


# Clients that go away


async def test_disconnect_in_mid_pack_leaves_nothing(endpoint: Endpoint, ann: Visitor) -> None:
    (ann.work / "noise").write_bytes(random.Random(1).randbytes(3_000_000))
    commit = ann.commit()
    pack = pack_of(ann)

    def push_half() -> RawClient:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit)
        client.channel.sendall(pack[: len(pack) // 2])
        return client

    client = await asyncio.to_thread(push_half)
    await until(lambda: list(endpoint.repository.glob("objects/tmp_objdir*/pack/tmp_pack_*")))
    client.transport.close()
    await endpoint.settle()

    assert not endpoint.repository.exists()
    assert endpoint.leftovers() == []


async def test_disconnect_in_mid_build_cancels_it_and_frees_the_turn(
    endpoint: Endpoint, ann: Visitor
) -> None:
    commit = ann.commit()
    endpoint.builder.gate.clear()
    push = await ann.start("git", "push", ann.url(), "HEAD:master")
    await endpoint.builder.started.wait()

    os.killpg(push.pid, signal.SIGKILL)
    await endpoint.settle()

    assert endpoint.model.builds["b1"].status is BuildStatus.CANCELED
    assert endpoint.leftovers() == []
    assert not endpoint.repository.exists()
    endpoint.builder.gate.set()
    assert (await ann.push())[0] == 0
    assert endpoint.stored() == {"refs/heads/master": commit}
    await push.communicate()


async def test_interrupted_git_cancels_the_build(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    endpoint.builder.gate.clear()
    push = await ann.start("git", "push", ann.url(), "HEAD:master")
    await endpoint.builder.started.wait()

    os.killpg(push.pid, signal.SIGINT)  # what Ctrl-C does
    await endpoint.settle()

    assert endpoint.model.builds["b1"].status is BuildStatus.CANCELED
    await push.communicate()


async def test_killed_git_whose_ssh_lives_on_leaves_no_turn_behind(endpoint: Endpoint, ann: Visitor) -> None:
    # OpenSSH's client tells only a server of its own kind that nobody reads its output any more.
    commit = ann.commit()
    endpoint.builder.gate.clear()
    push = await ann.start("git", "push", ann.url(), "HEAD:master")
    await endpoint.builder.started.wait()

    push.kill()
    endpoint.builder.gate.set()
    await endpoint.settle()
    await push.communicate()

    assert endpoint.stored() == {"refs/heads/master": commit}


async def test_disconnect_after_the_release_moves_the_branch_all_the_same(
    endpoint: Endpoint, ann: Visitor
) -> None:
    commit = ann.commit()
    endpoint.model.slow = 1.0
    push = await ann.start("git", "push", ann.url(), "HEAD:master")
    await endpoint.model.rollout.wait()

    os.killpg(push.pid, signal.SIGKILL)
    await endpoint.settle()

    assert endpoint.stored() == {"refs/heads/master": commit}
    assert endpoint.model.builds["b1"].status is BuildStatus.SUCCEEDED
    await push.communicate()


async def test_stopping_server_cancels_builds(endpoint: Endpoint, ann: Visitor) -> None:
    ann.commit()
    endpoint.builder.gate.clear()
    pushing = asyncio.create_task(ann.push())
    await endpoint.builder.started.wait()

    await endpoint.server.close()

    assert (await pushing)[0] != 0
    assert endpoint.model.builds["b1"].status is BuildStatus.CANCELED


async def test_leftovers_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    left = tmp_path / "data/repositories/foo/app.git/objects/tmp_objdir-incoming-x"
    endpoint = await start_endpoint(tmp_path)
    ann = endpoint.visitor()
    ann.commit()
    await ann.push()
    await endpoint.server.close()
    (left / "pack").mkdir(parents=True)
    (left / "pack/tmp_pack_1").write_bytes(b"x")

    await endpoint.server.start()
    await endpoint.server.close()

    assert endpoint.leftovers() == []
    assert list(endpoint.stored()) == ["refs/heads/master"]


# Without git on the server


@pytest.fixture
async def gitless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    monkeypatch.setattr("gitreceive.server.find_git", lambda: None)
    running = await start_endpoint(tmp_path, push_limit=1_000_000)
    yield running
    await running.server.close()
    assert running.leftovers() == []


async def test_without_git_the_same_is_taken(gitless: Endpoint) -> None:
    ann = gitless.visitor()
    lines = "".join(f"line {n}\n" for n in range(3000))
    ann.commit("big.txt", lines)
    ann.commit()
    assert (await ann.push())[0] == 0
    commit = ann.commit("big.txt", lines + "one more\n")

    status, output = await ann.push()

    assert status == 0, output
    assert gitless.stored() == {"refs/heads/master": commit}
    status, output = await ann.run("git", "clone", ann.url(), "copy", folder=ann.folder)
    assert status == 0, output
    assert ann.git("rev-parse", "HEAD", folder=ann.folder / "copy") == commit


async def test_without_git_the_same_is_refused(gitless: Endpoint) -> None:
    ann = gitless.visitor()
    ann.commit()
    gitless.builder.failure = "pip failed."
    _, failed = await ann.push()
    gitless.builder.failure = None
    (ann.work / "noise").write_bytes(random.Random(1).randbytes(3_000_000))
    ann.commit()
    _, large = await ann.push()
    await gitless.settle()

    assert "pip failed." in failed
    assert "larger than the 1000000 bytes" in large
    assert not gitless.repository.exists()


async def test_without_git_a_disconnect_in_mid_pack_leaves_nothing(gitless: Endpoint) -> None:
    ann = gitless.visitor()
    (ann.work / "noise").write_bytes(random.Random(1).randbytes(900_000))
    commit = ann.commit()
    pack = pack_of(ann)

    def push_half() -> None:
        client = RawClient(ann)
        client.read_refs()
        client.send_command(commit)
        client.channel.sendall(pack[: len(pack) // 2])
        client.transport.close()

    await asyncio.to_thread(push_half)
    await until(lambda: not gitless.server._sessions)

    assert not gitless.repository.exists()


# Admin commands and logins without one


async def test_admin_command_gets_its_words_and_passes_its_status_on(
    endpoint: Endpoint, ann: Visitor
) -> None:
    status, output = await ann.ssh("--", "--", "--quiet", "config:set", "foo", "'GREETING=hello world'")
    assert (status, output) == (0, "ann: -- --quiet config:set foo GREETING=hello world\n")
    status, _ = await ann.ssh("fail")
    assert status == 3
    assert endpoint.commands[0].user == "ann"
    assert endpoint.commands[0].terminal is None


async def test_secrets_on_a_command_line_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Any) -> int:
        raise ZeroDivisionError

    caplog.set_level("DEBUG")
    endpoint = await start_endpoint(tmp_path, fail)

    status, output = await endpoint.visitor().ssh("config:set", "foo", "PASSWORD=hunter2")
    await endpoint.server.close()

    assert status == 1
    assert "The server failed" in output
    assert "config:set" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_removed_key_ends_its_open_connection_too(endpoint: Endpoint, ann: Visitor) -> None:
    def ask(transport: paramiko.Transport) -> tuple[bytes, int]:
        channel = transport.open_session()
        channel.exec_command("whoami")
        return channel.recv_stderr(1000), channel.recv_exit_status()

    client = await asyncio.to_thread(RawClient, ann, "whoami")
    endpoint.keys.clear()
    errors, status = await asyncio.to_thread(ask, client.transport)
    client.transport.close()

    assert (b"was removed" in errors, status) == (True, 1)


async def test_one_user_leaves_sessions_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(request: Any) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr("gitreceive.server.MAX_SESSIONS_OF_ONE", 1)
    endpoint = await start_endpoint(tmp_path, wait)
    ann, bob = endpoint.visitor(), endpoint.visitor("bob")
    first = await asyncio.to_thread(RawClient, ann, "logs")
    await until(lambda: endpoint.commands)

    status, output = await ann.ssh("whoami")
    assert (status, "sessions already" in output) == (1, True)
    status, output = await bob.ssh()
    assert (status, "Hello bob." in output) == (0, True)
    first.transport.close()
    await endpoint.server.close()


async def test_login_without_a_command_explains_itself(ann: Visitor) -> None:
    status, output = await ann.ssh()

    assert status == 0
    assert "Hello ann." in output
    assert "git push" in output


async def test_file_transfer_is_refused(ann: Visitor) -> None:
    command = ann.environment["GIT_SSH_COMMAND"].split()
    status, output = await ann.run(*command, "-p", str(ann.port), "-s", "deploy@127.0.0.1", "sftp")
    assert status != 0
    status, output = await ann.ssh("scp -t /tmp/x")
    assert "scp is not offered here" in output


async def test_client_that_goes_ends_its_command(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def follow(request: Any) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    endpoint = await start_endpoint(tmp_path, follow)
    ann = endpoint.visitor()
    command = ann.environment["GIT_SSH_COMMAND"].split()
    running = await ann.start(*command, "-p", str(ann.port), "x@127.0.0.1", "logs", "-t")
    await until(lambda: endpoint.commands)

    running.kill()
    async with asyncio.timeout(10):
        await ended.wait()
    await running.communicate()
    await endpoint.server.close()


async def test_host_key_is_made_once_and_kept(tmp_path: Path) -> None:
    endpoint = await start_endpoint(tmp_path)
    first = endpoint.server.fingerprint
    await endpoint.server.close()
    await endpoint.server.start()

    assert endpoint.server.fingerprint == first
    assert endpoint.settings.folders.host_key.stat().st_mode & 0o777 == 0o600
    await endpoint.server.close()
