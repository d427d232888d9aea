"""Source by other doors than a push: archives, repositories elsewhere, submodules, large files; real git, ssh, moor."""

import functools
import http.server
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
import zipfile
from contextlib import contextmanager, suppress

import pytest

from contrib.installation import MOOR, Installation
from tests.acceptance.conftest import missing_commands
from tests.servers.git_http import git_over_http

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

SERVER = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pathlib.Path("page.txt").read_bytes()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def source(page, **more):
    return {"Procfile": "web: python3 server.py\n", "server.py": SERVER, "page.txt": page, **more}


def tarred(files, prefix=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content.encode())
            info.mode = 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"app-1.0/{name}", content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def here():
    """An installation that may fetch from this machine."""
    if missing := missing_commands():
        pytest.skip(f"not installed: {', '.join(missing)}")
    here = Installation(
        settings={"drain-timeout": "5", "stop-grace": "5", "fetch-private": "true", "push-limit": "20M"}
    )
    try:
        here.start()
        here.add_key()
        yield here
    finally:
        log = here.last_lines(200)
        here.remove()
        print(log)


@pytest.fixture
def elsewhere(tmp_path):
    """A repository that is not ours, served over http."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    with git_over_http(root) as (url, _):
        yield Elsewhere(root, url)


class Elsewhere:
    def __init__(self, root, url):
        self.root, self.url = root, url

    def git(self, *words, folder):
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words], cwd=folder, text=True, capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root), "GIT_AUTHOR_NAME": "Eve",
                 "GIT_AUTHOR_EMAIL": "e@x", "GIT_COMMITTER_NAME": "Eve", "GIT_COMMITTER_EMAIL": "e@x"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name, files, branch="main"):
        """A commit in the work tree `name`, published as `name.git`; its id."""
        work = self.root / f"{name}-work"
        if not work.exists():
            work.mkdir()
            self.git("init", "-q", "-b", branch, folder=work)
            self.git("init", "-q", "--bare", "-b", branch, str(self.root / f"{name}.git"), folder=work)
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(content)
        self.git("add", "-A", folder=work)
        self.git("commit", "-q", "--allow-empty", "-m", "one", folder=work)
        self.publish(name)
        return self.git("rev-parse", "HEAD", folder=work)

    def publish(self, name):
        self.git(
            "push",
            "-q",
            "--force",
            str(self.root / f"{name}.git"),
            "--all",
            folder=self.root / f"{name}-work",
        )
        self.git(
            "push",
            "-q",
            "--force",
            str(self.root / f"{name}.git"),
            "--tags",
            folder=self.root / f"{name}-work",
        )


def moor_bytes(here, *words, stdin=b"", ssh=False, env=None):
    command = here.ssh_command(*words) if ssh else [str(MOOR), *words]
    return subprocess.run(
        command,
        env=env or here.env,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )


def served(here, app, page):
    here.wait_until(lambda: here.get(app) == (200, page), f"{app} serves {page!r}")


# Archives


def test_an_archive_deploys_by_every_door_and_history_goes_on(here, tmp_path):
    here.moor("apps:create", "boxed")
    file = tmp_path / "first.tar.gz"
    file.write_bytes(tarred(source("from a file"), prefix="app-1.0/"))

    said = here.moor("git:from-archive", "-a", "boxed", str(file))
    assert "-----> Unpacking the archive first.tar.gz" in said
    assert "=====> Application deployed:" in said
    served(here, "boxed", "from a file")

    done = moor_bytes(here, "git:from-archive", "boxed", "-", stdin=zipped(source("by ssh")), ssh=True)
    assert done.returncode == 0, done.stdout.decode()
    assert "Application deployed" in done.stdout.decode()
    served(here, "boxed", "by ssh")

    done = moor_bytes(here, "git:from-archive", "-a", "boxed", "-", "--json", stdin=zipped(source("by ssh")))
    assert json.loads(done.stdout)["deployed"] is True
    assert len(here.json("releases", "-a", "boxed")) == 2, "the same tree is no change"

    copy = tmp_path / "copy"
    here.run("git", "clone", "-q", here.remote("boxed"), str(copy), check=True)
    log = here.run("git", "log", "--format=%an %s", folder=copy).stdout.splitlines()
    assert log == ["admin Source from an archive", "admin Source from the archive first.tar.gz"]
    builds = here.json("builds", "-a", "boxed")
    assert [each["status"] for each in builds] == ["succeeded", "succeeded"]
    assert "archive of" in builds[0]["reason"]


def test_archives_that_come_at_once_take_turns(here):
    here.moor("apps:create", "rush")
    pages = [f"page {number}" for number in range(3)]
    sending = [
        subprocess.Popen(
            [str(MOOR), "git:from-archive", "-a", "rush", "-"], env=here.env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in pages
    ]  # fmt: skip
    for each, page in zip(sending, pages, strict=True):
        each.stdin.write(tarred(source(page)))
        each.stdin.close()
        each.stdin = None
    said = [each.communicate(timeout=120)[0].decode() for each in sending]
    assert [each.returncode for each in sending] == [0, 0, 0], said
    log = here.run(
        "git", "log", "--format=%H", "master", folder=here.data / "repositories/rush/app.git"
    ).stdout
    assert len(log.split()) == 3, "each on top of the one before"
    assert len(here.json("releases", "-a", "rush")) == 3
    assert here.get("rush")[1] in pages


def test_a_push_goes_on_where_an_archive_left_off(here, tmp_path):
    here.moor("apps:create", "mixed")
    moor_bytes(here, "git:from-archive", "-a", "mixed", "-", stdin=tarred(source("one")))
    copy = tmp_path / "copy"
    here.run("git", "clone", "-q", here.remote("mixed"), str(copy), check=True)
    for name, value in (("user.name", "Ann"), ("user.email", "ann@x")):
        here.run("git", "config", name, value, folder=copy, check=True)
    here.commit(copy, "two", page__txt="two")
    pushed = here.push(copy, "origin", "HEAD:master")
    assert pushed.returncode == 0, pushed.stdout
    served(here, "mixed", "two")


@contextmanager
def files_over_http(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_archive_by_url(here, tmp_path):
    here.moor("apps:create", "fetched")
    (tmp_path / "app.zip").write_bytes(zipped(source("by url")))
    (tmp_path / "page.html").write_text("<p>Not found</p>")
    (tmp_path / "huge.tar").write_bytes(bytes(21 * 1024**2))
    with files_over_http(tmp_path) as url:
        said = here.moor("git:from-archive", "-a", "fetched", f"{url}/app.zip")
        assert f"Fetching {url}/app.zip" in said
        served(here, "fetched", "by url")
        for path, words in (
            ("nothing.zip", "answered 404"),
            ("page.html", "no archive that is taken here"),
            ("huge.tar", "larger than the 20 MiB"),
        ):
            done = here.run("moor", "git:from-archive", "-a", "fetched", f"{url}/{path}")
            assert (done.returncode, words in done.stdout) == (1, True), done.stdout
    assert here.get("fetched") == (200, "by url")


def test_what_is_off_is_refused_in_words_and_leaves_nothing(here, tmp_path):
    here.moor("apps:create", "refusing")
    for content, words in (
        (b"hello", "no archive that is taken here"),
        (b"", "no archive that is taken here"),
        (tarred({"../x": ""}), "stays inside"),
        (os.urandom(21 * 1024**2), "larger than the 20 MiB"),
        (tarred({"readme": "nothing to start"}), "buildpack"),
    ):
        done = moor_bytes(here, "git:from-archive", "-a", "refusing", "-", stdin=content)
        said = done.stdout.decode()
        assert (done.returncode, words in said) == (1, True), said
        assert " !     " in said
    done = here.run("moor", "git:from-archive", "-a", "refusing", str(tmp_path))
    assert "Is a directory" in done.stdout
    done = here.run("moor", "git:from-archive", "-a", "refusing", "http://user:pw@example.org/x.zip")
    assert "no password into a URL" in done.stdout
    assert not (here.data / "repositories/refusing/app.git").exists()
    assert list((here.data / "builds").glob("*-source.tmp")) == []


def test_a_build_that_fails_moves_nothing(here):
    here.moor("apps:create", "kept")
    moor_bytes(here, "git:from-archive", "-a", "kept", "-", stdin=tarred(source("good")))
    head = (here.data / "repositories/kept/app.git/refs/heads/master").read_text()
    bad = source("bad", **{"server.py": "raise SystemExit('broken')"})
    done = moor_bytes(here, "git:from-archive", "-a", "kept", "-", stdin=tarred(bad))
    assert done.returncode == 1
    assert "v2 failed" in done.stdout.decode()
    assert (here.data / "repositories/kept/app.git/refs/heads/master").read_text() == head
    assert here.get("kept") == (200, "good")


def test_rights_are_asked_for_before_anything_is_sent(here):
    here.moor("apps:create", "guarded")
    here.moor("apps:create", "another")
    env = {name: value for name, value in here.env.items() if name != "MOOR_DATA"}
    env["MOOR_URL"] = f"http://127.0.0.1:{here.api}"
    view = here.moor("tokens:create", "--right", "view", "--app", "guarded").strip()
    other = here.moor("tokens:create", "--right", "manage", "--app", "another").strip()
    deploy = here.moor("tokens:create", "--right", "deploy", "--app", "guarded").strip()
    for words in (
        ("git:from-archive", "-a", "guarded", "-"),
        ("git:sync", "-a", "guarded", "http://127.0.0.1/x.git"),
    ):
        done = moor_bytes(here, *words, stdin=tarred(source("x")), env={**env, "MOOR_TOKEN": view})
        assert (done.returncode, b"this needs deploy" in done.stdout) == (1, True), done.stdout
        done = moor_bytes(here, *words, stdin=tarred(source("x")), env={**env, "MOOR_TOKEN": other})
        assert (done.returncode, b"There is no app guarded" in done.stdout) == (1, True), done.stdout
    done = moor_bytes(here, "git:allow-host", "example.org", env={**env, "MOOR_TOKEN": deploy})
    assert (done.returncode, b"Only an admin" in done.stdout) == (1, True), done.stdout
    done = moor_bytes(
        here,
        "git:from-archive",
        "-a",
        "guarded",
        "-",
        stdin=tarred(source("narrow")),
        env={**env, "MOOR_TOKEN": deploy},
    )
    assert done.returncode == 0, done.stdout
    served(here, "guarded", "narrow")


def test_an_archive_that_breaks_off_leaves_nothing(here):
    here.moor("apps:create", "broken")
    token = (here.data / "local-token").read_text().strip()
    with socket.create_connection(("127.0.0.1", here.api)) as connection:
        connection.sendall(
            b"POST /v1/deployments/broken/services/app/archive HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            b"Authorization: Bearer " + token.encode() + b"\r\n\r\n" + b"x" * 5000
        )
        here.wait_until(lambda: arrivals(here), "it arrives")
    here.wait_until(lambda: not arrivals(here), "it is gone")


@pytest.mark.parametrize("door", ["moor", "ssh"])
def test_a_client_that_goes_in_the_middle_of_the_build_ends_it(here, door):
    app = f"left-by-{door}"
    here.moor("apps:create", app)
    words = ("git:from-archive", app, "-")
    building = subprocess.Popen(
        [str(MOOR), *words] if door == "moor" else here.ssh_command(*words), env=here.env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    building.stdin.write(tarred({**source("slow"), **SLOW}))
    building.stdin.close()
    here.wait_until(lambda: running(here, app), "the build runs", timeout=60)
    building.kill()
    building.wait()
    here.wait_until(lambda: not running(here, app), "the build has ended")
    (build,) = here.json("builds", "-a", app)
    assert build["status"] == "canceled"
    here.wait_until(lambda: not arrivals(here), "nothing of it is left")
    assert not (here.data / f"repositories/{app}/app.git").exists()


def test_an_archive_s_build_can_be_cancelled_by_others(here):
    here.moor("apps:create", "stopped")
    building = subprocess.Popen(
        [str(MOOR), "git:from-archive", "-a", "stopped", "-"], env=here.env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    building.stdin.write(tarred({**source("slow"), **SLOW}))
    building.stdin.close()
    building.stdin = None
    here.wait_until(lambda: running(here, "stopped"), "the build runs", timeout=60)
    here.moor("builds:cancel", "-a", "stopped")
    said, _ = building.communicate(timeout=60)
    assert (building.returncode, b"admin cancelled the build." in said) == (1, True), said


SLOW = {
    "bin/detect": "#!/bin/sh\necho slow\n",
    "bin/compile": "#!/bin/sh\nsleep 60\n",
    "bin/release": "#!/bin/sh\n",
}


def arrivals(here):
    return list((here.data / "builds").glob("*-source.tmp"))


def running(here, app):
    return [each for each in here.json("builds", "-a", app) if each["status"] == "running"]


# Repositories elsewhere


def test_sync_fetches_and_deploys_where_that_is_wished(here, elsewhere):
    here.moor("apps:create", "synced")
    first = elsewhere.commit("app", source("one"))
    url = f"{elsewhere.url}/app.git"

    said = here.moor("git:sync", "-a", "synced", url)
    assert f"Fetching main ({first[:7]})" in said
    assert "is here and not deployed" in said
    assert here.json("releases", "-a", "synced") == []

    said = here.moor("git:sync", "-a", "synced", url, "main", "--build")
    assert "Application deployed" in said
    served(here, "synced", "one")
    assert "No changes" in here.moor("git:sync", "-a", "synced", url, "--build-if-changes")

    elsewhere.git("tag", "-a", "-m", "x", "v1", folder=elsewhere.root / "app-work")
    second = elsewhere.commit("app", source("two"))
    done = moor_bytes(here, "git:sync", "synced", url, "main", "--build-if-changes", ssh=True)
    assert done.returncode == 0, done.stdout
    served(here, "synced", "two")
    assert here.json("git:sync", "-a", "synced", url, "v1", "--build")["commit"] == first
    served(here, "synced", "one")
    here.moor("git:sync", "-a", "synced", url, second, "--build")
    served(here, "synced", "two")
    assert "sync of" in here.json("builds", "-a", "synced")[0]["reason"]


def test_sync_goes_where_a_repository_has_moved(here, elsewhere):
    commit = elsewhere.commit("app", source("moved"))

    class Moved(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(301)
            self.send_header("Location", f"{elsewhere.url}/app.git{self.path.removeprefix('/old')}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    here.moor("apps:create", "moving")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moved)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/old"
        assert here.json("git:sync", "-a", "moving", url)["commit"] == commit
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("URL/app.git", "nope"), "has no branch and no tag 'nope'"),
        (("URL/app.git", "1234567"), "named by all of its 40"),
        (("URL/app.git", "0" * 40), "can't be fetched"),
        (("URL/app.git", "--", "--upload-pack=x"), "no name of a branch"),
        (("URL/nothing.git",), "it is not there"),
        (("file:///etc",), "can't be fetched: only http, https, ssh URLs can"),
        (("ext::sh -c id",), "is no URL"),
        (("ssh://-oProxyCommand=id/x",), "names no host"),
        (("ssh://git@127.0.0.1:1/x.git",), "can't be fetched"),
        (("http://127.0.0.1:1/x.git",), "can't be fetched"),
    ],
)
def test_sync_refuses_in_words(here, elsewhere, words, said):
    elsewhere.commit("app", source("one"))
    here.run("moor", "apps:create", "picky")
    words = [each.replace("URL", elsewhere.url) for each in words]
    done = here.run("moor", "git:sync", "-a", "picky", *words)
    assert (done.returncode, said in done.stdout) == (1, True), done.stdout
    assert " !     " in done.stdout
    assert not (here.data / "repositories/picky/app.git").exists()


def test_private_networks_are_refused_unless_allowed(system, elsewhere):
    elsewhere.commit("app", source("one"))
    system.moor("apps:create", "inside")
    for words in (
        ("git:sync", "-a", "inside", f"{elsewhere.url}/app.git"),
        ("git:sync", "-a", "inside", "http://2130706433/app.git"),
        ("git:sync", "-a", "inside", "ssh://git@[::1]/app.git"),
        ("git:from-archive", "-a", "inside", f"{elsewhere.url}/app.zip"),
        ("git:from-archive", "-a", "inside", "http://[::ffff:127.0.0.1]/app.zip"),
        ("git:from-archive", "-a", "inside", "http://169.254.169.254/latest/meta-data"),
    ):
        done = system.run("moor", *words)
        assert (done.returncode, "in a private network" in done.stdout) == (1, True), done.stdout


def test_a_sync_that_is_broken_off_ends(here):
    here.moor("apps:create", "endless")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/app.git"
        asking = subprocess.Popen([str(MOOR), "git:sync", "-a", "endless", url], env=here.env)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            asking.kill()
            asking.wait()
            connection.settimeout(20)
            while connection.recv(65536):
                pass
    here.wait_until(lambda: not (here.data / "repositories/endless/app.git").exists(), "it is tidied up")


# Submodules


def link(elsewhere, name, path, url, module, commit):
    """Make `path` of `name` a submodule."""
    work = elsewhere.root / f"{name}-work"
    with (work / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
    elsewhere.git("add", ".gitmodules", folder=work)
    elsewhere.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}", folder=work)
    elsewhere.git("commit", "-q", "-m", f"link {module}", folder=work)
    elsewhere.publish(name)


def test_submodules_are_fetched_nested_and_kept(here, elsewhere):
    inner = elsewhere.commit("inner", {"deep.txt": "deep"})
    elsewhere.commit("lib", {"page.txt": "from the submodule"})
    link(elsewhere, "lib", "nested", f"{elsewhere.url}/inner.git", "inner", inner)
    lib = elsewhere.git("rev-parse", "HEAD", folder=elsewhere.root / "lib-work")
    elsewhere.commit(
        "main", source("unused", **{"server.py": SERVER.replace("page.txt", "vendor/lib/page.txt")})
    )
    link(elsewhere, "main", "vendor/lib", f"{elsewhere.url}/lib.git", "lib", lib)
    here.moor("apps:create", "modular")
    work = elsewhere.root / "main-work"
    here.run("git", "remote", "add", "deploy", here.remote("modular"), folder=work, check=True)

    first = here.push(work, "deploy", "main")
    assert first.returncode == 0, first.stdout
    assert f"Fetching submodule vendor/lib at {lib[:7]}" in first.stdout
    assert f"Fetching submodule vendor/lib/nested at {inner[:7]}" in first.stdout
    assert "not fetched" not in first.stdout
    served(here, "modular", "from the submodule")
    (deep,) = (here.data / "apps/modular/app").glob("*/vendor/lib/nested/deep.txt")
    assert deep.read_text() == "deep"

    (work / "more.txt").write_text("more")
    elsewhere.git("add", "more.txt", folder=work)
    elsewhere.git("commit", "-q", "-m", "more", folder=work)
    second = here.push(work, "deploy", "main")
    assert second.returncode == 0, second.stdout
    assert f"Submodule vendor/lib at {lib[:7]}, as before" in second.stdout
    assert "Fetching" not in second.stdout


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("../lib.git", "relative URL"),
        ("-u./payload", "can't be fetched"),
        ("--upload-pack=touch /tmp/x", "without spaces"),
        ("ssh://-oProxyCommand=id/x", "names no host"),
        ("file:///etc", "only http, https, ssh URLs can"),
        ("URL/nothing.git", "it is not there"),
        ("URL/lib.git", "has no commit 1111111"),
        ("git@127.0.0.1:lib.git", "can't be fetched"),
    ],
)
def test_a_submodule_that_can_t_be_had_fails_the_build_in_words(here, elsewhere, url, words):
    elsewhere.commit("lib", {"x": "x"})
    elsewhere.commit("main", source("x"))
    link(elsewhere, "main", "vendor/lib", url.replace("URL", elsewhere.url), "lib", "1" * 40)
    here.run("moor", "apps:create", "unlucky")
    done = here.run("git", "push", here.remote("unlucky"), "main", folder=elsewhere.root / "main-work")
    assert done.returncode == 1
    assert "The submodule 'vendor/lib'" in done.stdout, done.stdout
    assert words in done.stdout, done.stdout
    assert not (here.data / "repositories/unlucky/app.git").exists()


# Large files


@pytest.fixture
def large(here, tmp_path):
    """A work tree that keeps *.bin with the real git-lfs, and how to run git in it."""
    if shutil.which("git-lfs") is None:
        pytest.skip("not installed: git-lfs")
    work = tmp_path / "work"
    work.mkdir()

    def git(*words, folder=work, check=True, env=None):
        done = subprocess.run(
            ["git", *words], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
            env={**here.env, "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig"), **(env or {})},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done

    git("config", "--global", "user.name", "Ann")
    git("config", "--global", "user.email", "ann@example.org")
    git("lfs", "install")
    git("init", "-q", "-b", "main")
    git("lfs", "install", "--local")
    git("lfs", "track", "*.bin", "page.txt")
    return work, git


def test_large_files_go_by_ssh_into_the_source_and_back(here, large, tmp_path):
    work, git = large
    for name, content in source("page kept apart").items():
        (work / name).write_text(content)
    (work / "big.bin").write_bytes(os.urandom(3_000_000))
    for number in range(30):
        (work / f"{number}.bin").write_bytes(os.urandom(2000))
    git("add", "-A")
    git("commit", "-q", "-m", "large")
    here.moor("apps:create", "large")
    git("remote", "add", "deploy", here.remote("large"))
    pushed = git("push", "deploy", "main")
    assert "Lock" not in pushed.stdout
    assert "Large files: 32 of Git LFS" in pushed.stdout
    served(here, "large", "page kept apart")
    assert (
        len(
            [
                each
                for each in (here.data / "repositories/large/app.git/lfs/objects").rglob("*")
                if each.is_file()
            ]
        )
        == 32
    )

    copy = tmp_path / "copy"
    git("clone", here.remote("large"), str(copy), folder=tmp_path)
    assert (copy / "big.bin").read_bytes() == (work / "big.bin").read_bytes()
    refused = git("lfs", "lock", "big.bin", check=False)
    assert "can't be locked here" in refused.stdout
    here.moor("apps:destroy", "large", "--force")
    here.wait_until(lambda: not (here.data / "repositories/large").exists(), "it is removed with the app")


def test_a_push_whose_large_files_are_missing_is_refused_with_their_names(here, large):
    work, git = large
    for name, content in source("page").items():
        (work / name).write_text(content)
    (work / "big.bin").write_bytes(b"x" * 5000)
    git("add", "-A")
    git("commit", "-q", "-m", "large")
    here.moor("apps:create", "lacking")
    git("remote", "add", "deploy", here.remote("lacking"))
    done = git("push", "--no-verify", "deploy", "main", check=False)
    assert done.returncode == 1
    assert "'big.bin', 'page.txt'" in done.stdout
    assert "git lfs push --all" in done.stdout
    git("lfs", "push", "--all", "deploy")
    git("push", "deploy", "main")
    served(here, "lacking", "page")


def test_large_files_are_sent_only_by_who_may_deploy_and_only_whole(here, large):
    work, git = large
    (work / "huge.bin").write_bytes(bytes(21 * 1024**2))
    git("add", "-A")
    git("commit", "-q", "-m", "huge")
    here.moor("apps:create", "strict")
    git("remote", "add", "deploy", here.remote("strict"))
    done = git("lfs", "push", "--all", "deploy", check=False)
    assert done.returncode != 0
    assert "larger than the 20 MiB" in done.stdout, done.stdout
    done = git("lfs", "push", "--all", here.remote("nowhere"), check=False)
    assert done.returncode != 0
    packets = (
        b"".join(
            b"%04x%s" % (len(each) + 4, each) for each in (b"put-object " + b"0" * 64 + b"\n", b"size=5\n")
        )
        + b"00010009hello0000"
    )
    done = subprocess.run(
        here.ssh_command("git-lfs-transfer", "strict.git", "upload"),
        env=here.env,
        input=packets,
        capture_output=True,
    )
    assert b"What came has 5 bytes" in done.stdout
    done = subprocess.run(
        here.ssh_command("git-lfs-transfer", "strict.git", "download"),
        env=here.env,
        input=packets,
        capture_output=True,
    )
    assert b"a session for downloads" in done.stdout
    done = here.run(*here.ssh_command("git-lfs-authenticate", "strict.git", "upload"))
    assert "Git LFS 3.0 or newer" in done.stdout
    assert list((here.data / "repositories/strict/app.git/lfs").glob("tmp-*")) == []


# By ssh, with the server's own key


def test_private_source_comes_by_ssh_from_hosts_that_were_made_known(here, elsewhere):
    """The server is its own elsewhere: another app's repository, which its key may read once it is let in."""
    elsewhere.commit("main", source("by the server's key"))
    here.moor("apps:create", "private")
    pushed = here.run("git", "push", here.remote("private"), "main", folder=elsewhere.root / "main-work")
    assert pushed.returncode == 0, pushed.stdout
    url = here.remote("private")
    here.moor("apps:create", "borrowing")

    def sync():
        return here.run("moor", "git:sync", "-a", "borrowing", url, "main", "--build")

    unknown = sync()
    assert f"an admin makes it known with `git:allow-host 127.0.0.1:{here.ssh}`" in unknown.stdout
    allowed = here.moor("git:allow-host", f"127.0.0.1:{here.ssh}")
    assert json.loads((here.data / "server.json").read_text())["fingerprint"] in allowed
    refused = sync()
    assert "it does not let this server in" in refused.stdout, refused.stdout
    key = here.moor("git:public-key").strip()
    assert key.startswith("ssh-ed25519 ")
    assert (here.data / "git/id_ed25519").stat().st_mode & 0o777 == 0o600
    done = moor_bytes(here, "ssh-keys:add", "robot", stdin=key.encode())
    assert done.returncode == 0, done.stdout
    synced = sync()
    assert synced.returncode == 0, synced.stdout
    served(here, "borrowing", "by the server's key")

    commit = elsewhere.git("rev-parse", "HEAD", folder=elsewhere.root / "main-work")
    elsewhere.commit("outer", source("x", **{"server.py": SERVER.replace("page.txt", "inner/page.txt")}))
    link(elsewhere, "outer", "inner", url, "private", commit)
    here.moor("apps:create", "outer")
    pushed = here.run("git", "push", here.remote("outer"), "main", folder=elsewhere.root / "outer-work")
    assert pushed.returncode == 0, pushed.stdout
    served(here, "outer", "by the server's key")

    known = here.data / "git/known_hosts"
    other = here.folder / "other"
    here.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other), check=True)
    kind, body, *_ = other.with_suffix(".pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{here.ssh} {kind} {body}\n")
    changed = sync()
    assert "shows another key than the one that was made known" in changed.stdout, changed.stdout


class BrokenLine:
    """Passes bytes on to a port of this machine; each connection breaks after so many, some times."""

    def __init__(self, port, *, after, times):
        self._port, self._after, self._left = port, after, times
        self.passed = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._door.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, suppress(OSError):
            back = threading.Thread(target=self._back, args=(server, client), daemon=True)
            back.start()
            passed = 0
            while data := client.recv(65536):
                server.sendall(data)
                passed += len(data)
                self.passed += len(data)
                if passed > self._after and self._left:
                    self._left -= 1
                    for each in (client, server):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
            server.shutdown(socket.SHUT_WR)
            back.join()

    def _back(self, server, client):
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def test_an_upload_goes_on_where_the_line_broke(here, tmp_path):
    here.moor("create", "long")
    size = 12 * 1024**2
    archive = tmp_path / "app.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in {**source("over a bad line"), "data": os.urandom(size)}.items():
            content = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    line = BrokenLine(here.api, after=3 * 1024**2, times=3)
    try:
        token = (here.data / "local-token").read_text().strip()
        done = subprocess.run(
            [MOOR, "git:from-archive", "-a", "long", str(archive)],
            env={"HOME": str(tmp_path), "MOOR_URL": f"http://127.0.0.1:{line.port}", "MOOR_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        line.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.get("long") == (200, "over a bad line")
    assert size < line.passed < size * 1.5
