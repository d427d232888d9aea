"""The stack images: what is in them, and how the runner starts apps, on a real engine."""

import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
import uuid
from dataclasses import dataclass

import pytest

from contrib.stack.inputs import BUILD, FOLDER, INPUTS_LABEL, RUN, inputs_hash
from tests.servers.dockerd import engine_url, missing
from tests.servers.stack import stack_images

pytestmark = pytest.mark.real

ANYONE = "54321:54321"
"""No user of the image."""


@pytest.fixture(autouse=True, scope="module")
def images():
    if shutil.which("docker") is None:
        missing("the docker command is not installed")
    if not engine_url().startswith("unix://"):
        missing("the engine is on another machine: slugs of this one can't be mounted there")
    return stack_images()


@dataclass(frozen=True, kw_only=True)
class Done:
    status: int
    out: str
    err: str


def docker(*arguments, stdin=b""):
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False)
    return Done(status=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def run(*command, image=RUN, options=(), stdin=b""):
    """A container of its own, removed when it has ended."""
    return docker("run", "--rm", "--interactive", "--init", *options, image, *command, stdin=stdin)


def slug_at(folder, files):
    """A folder with these files, as anyone may read it; a slug as the server unpacks it."""
    root = folder / "slug"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
        path.chmod(0o755)
    return root


def packed(files, *, mode="w"):
    """A slug as a builder gives it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        top = tarfile.TarInfo(".")
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(top)
        for name, text in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(text.encode()), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def mounted(root, *more):
    return ("--volume", f"{root}:/app:ro", *more)


# What is in them


@functools.cache
def answers(image, commands):
    """What each command says, of one container for all."""
    script = "\n".join(f"({each}) 2>&1 | head -n 1 | cut -c 1-200" for each in commands)
    options = ("--entrypoint", "/bin/bash", "--user", ANYONE, "--env", "HOME=/tmp")
    return dict(zip(commands, run("-c", script, image=image, options=options).out.splitlines(), strict=True))


IN_BOTH = {
    "bash --version": "version 5",
    "curl --version": "curl 7",
    "python3 --version": "Python 3.11",
    "python3 -c 'import yaml; print(yaml.__with_libyaml__)'": "True",
    "node --version": "v18",
    "npm --version": "10.9.9",
    "npm config get prefix": "/usr/local",
    "npx --version": "10.9.9",
    "yarn --version": "1.22.22",
    "ruby --version": "ruby 3.1",
    "bundle --version": "Bundler version 2.3",
    "php --version": "PHP 8.2",
    "/usr/sbin/apache2 -v": "Apache/2.4",
    "ls /usr/lib/apache2/modules/libphp8.2.so": "libphp8.2.so",
    "psql --version": "psql (PostgreSQL) 15.",
    "redis-cli --version": "redis-cli 7.",
    "TZ=Asia/Tokyo date +%Z": "JST",
    "locale charmap": "UTF-8",
    "echo $STACK": "mooring-1",
}
IN_BUILD = {
    "gcc --version": "gcc",
    "g++ --version": "g++",
    "make --version": "GNU Make",
    "pkg-config --modversion libpq libxml-2.0 libffi yaml-0.1 openssl sqlite3 zlib": "15.",
    "mysql_config --version": "10.11",
    "git --version": "git version 2.39",
    "go version": "go1.19",
    "composer --version": "Composer version 2",
    "uv --version": "uv ",
    "python3 -m venv /tmp/venv && /tmp/venv/bin/pip --version": "pip",
    "ls /usr/include/node/node.h /usr/include/python3.11/Python.h": "/usr/include/node/node.h",
    "unzip -v": "UnZip 6",
    "xz --version": "xz",
}


@pytest.mark.parametrize("command", IN_BOTH)
@pytest.mark.parametrize("image", [RUN, BUILD])
def test_both_variants_have(image, command):
    assert IN_BOTH[command] in answers(image, tuple(IN_BOTH))[command]


@pytest.mark.parametrize("command", IN_BUILD)
def test_the_build_variant_has(command):
    assert IN_BUILD[command] in answers(BUILD, tuple(IN_BUILD))[command]


def test_php_has_the_extensions_that_apps_ask_for():
    found = run("-m", options=("--entrypoint", "/usr/bin/php")).out.split()
    wanted = {"mbstring", "xml", "curl", "sqlite3", "pgsql", "mysqli", "intl", "zip", "gd", "pdo_pgsql"}
    assert wanted <= set(found)


def test_programs_are_compiled_by_whoever_builds():
    script = (
        "cd /tmp && echo 'int main(){return 7;}' >a.c && gcc -o a a.c; ./a; echo $?; "
        "printf 'package main\\nfunc main(){println(7)}\\n' >a.go && go run a.go"
    )
    done = run("bash", "-c", script, image=BUILD, options=("--user", ANYONE, "--env", "HOME=/tmp"))
    assert (done.out, done.err, done.status) == ("7\n", "7\n", 0)


ADDON = """
mkdir /tmp/addon; cd /tmp/addon
echo '{"name": "addon", "version": "1.0.0", "license": "MIT", "gypfile": true}' >package.json
echo '{"targets": [{"target_name": "seven", "sources": ["seven.c"]}]}' >binding.gyp
cat >seven.c <<'C'
#include <node_api.h>
static napi_value make(napi_env env, napi_value exports) {
    napi_value seven;
    napi_create_int32(env, 7, &seven);
    return seven;
}
NAPI_MODULE(seven, make)
C
"""


@pytest.mark.parametrize("manager", ["npm", "yarn"])
def test_add_ons_of_node_are_compiled_without_a_network(manager):
    script = (
        f"{ADDON} {manager} install >log 2>&1 || cat log; node -p 'require(\"./build/Release/seven.node\")'"
    )
    options = ("--network", "none", "--user", ANYONE, "--env", "HOME=/tmp")
    assert run("bash", "-c", script, image=BUILD, options=options).out == "7\n"


def test_git_and_compilers_are_not_in_the_run_variant():
    script = "command -v git gcc go composer uv; true"
    assert run("-c", script, options=("--entrypoint", "/bin/sh")).out == ""


@pytest.mark.parametrize("image", [RUN, BUILD])
def test_labels_and_user(image):
    config = json.loads(docker("image", "inspect", image).out)[0]["Config"]
    assert config["Labels"]["mooring.stack"] == "1"
    assert config["Labels"][INPUTS_LABEL] == inputs_hash()
    assert (config["User"], config["WorkingDir"]) == ("1000:1000", "/app")
    assert "STACK=mooring-1" in config["Env"]
    assert config["Entrypoint"] == (["/usr/lib/mooring/runner"] if image == RUN else None)


@pytest.mark.parametrize("image", [RUN, BUILD])
def test_nothing_of_the_build_is_left(image):
    script = (
        "find /mnt /var/lib/apt/lists /var/cache/apt /var/log /tmp -mindepth 1 -not -type d; "
        "find /usr/share/doc/nodejs* /usr/share/doc/ruby* /usr/share/doc/git* -type f -not -name copyright; "
        "ls /etc/machine-id /usr/sbin/policy-rc.d; env"
    )
    done = run("-c", script, image=image, options=("--entrypoint", "/bin/sh", "--user", "0"))
    names = {each.partition("=")[0] for each in done.out.splitlines()}
    assert names <= {"PATH", "HOME", "HOSTNAME", "LANG", "STACK", "PWD"}


def test_a_second_build_does_nothing():
    before = docker("image", "inspect", "--format", "{{.Id}}", RUN, BUILD).out
    done = subprocess.run([FOLDER / "build"], capture_output=True, text=True, check=True)
    assert "are there already" in done.stdout
    assert docker("image", "inspect", "--format", "{{.Id}}", RUN, BUILD).out == before


def test_an_engine_that_does_not_answer_is_a_sentence():
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = subprocess.run([FOLDER / "build"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        " !     The container engine at unix:///nowhere/docker.sock does not answer"
    )


# Which slug


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_slug_on_standard_input(mode):
    slug = packed({"Procfile": "web: cat file; echo in $PWD, home $HOME", "file": "x" * 200_000}, mode=mode)
    done = run("start", "web", stdin=slug)
    assert (done.status, done.out) == (0, "x" * 200_000 + "in /app, home /app\n")


def test_slug_on_standard_input_of_a_read_only_container_is_elsewhere():
    options = ("--read-only", "--tmpfs", "/tmp:exec", "--user", ANYONE)
    done = run("echo $HOME; cat file", options=options, stdin=packed({"file": "here"}))
    assert done.out.startswith("/tmp/app.")
    assert done.out.endswith("\nhere")


@pytest.fixture
def slug_server():
    """Serves what is put in `slugs`, by path."""
    slugs = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = slugs.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield slugs, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def from_url(url, *command):
    return run(*command, options=("--network", "host", "--env", f"SLUG_URL={url}"))


def test_slug_from_a_url(slug_server):
    slugs, url = slug_server
    slugs["/slug.tgz"] = packed({"Procfile": "web: cat file", "file": "from afar"}, mode="w:gz")
    assert from_url(f"{url}/slug.tgz", "start", "web").out == "from afar"


def test_slug_url_that_has_none_or_something_else(slug_server):
    slugs, url = slug_server
    slugs["/page"] = b"<html>" * 100
    slugs["/cut"] = packed({"file": "x" * 100_000}, mode="w:gz")[:-50]
    found = {path: from_url(f"{url}{path}", "true") for path in ("/gone", "/page", "/cut")}
    assert [each.status for each in found.values()] == [69, 65, 65]
    assert " !     The slug could not be fetched from SLUG_URL" in found["/gone"].err
    assert " !     What SLUG_URL leads to is not a tar" in found["/page"].err


@pytest.mark.parametrize(
    ("stdin", "status", "words"),
    [
        (b"", 66, "There is no slug"),
        (packed({}), 66, "There is no slug"),
        (b"neither this nor that" * 100, 65, "is not a tar"),
        (packed({"file": "x" * 100_000})[:50_000], 65, "cut off"),
    ],
)
def test_standard_input_without_a_slug(stdin, status, words):
    done = run("start", "web", stdin=stdin)
    assert done.status == status
    assert words in done.err


def test_a_slug_that_the_user_may_not_enter_is_a_sentence(folder):
    root = slug_at(folder, {"Procfile": "web: true"})
    root.chmod(0o700)
    done = run("start", "web", options=mounted(root, "--user", ANYONE))
    assert (done.status, done.err) == (66, " !     The slug in /app can't be entered by the user 54321.\n")


# Which command

RELEASE = """
config_vars:
  GREETING: "hello\\nyou"
  MINE: default
  PATH: /app/bin:/usr/bin:/bin
default_process_types:
  web: echo the default one
  clock: echo "$GREETING" $MINE
"""


@pytest.fixture
def app(folder):
    files = {
        "Procfile": "\ufeff# types\r\nweb: echo port $PORT\r\n\r\nworker :  tool | tr a-z A-Z  \r\n",
        ".release": RELEASE,
        ".profile.d/10-first.sh": "declare -x FROM_PROFILE=one\nfailing_command_is_no_end\n",
        ".profile.d/20-second.sh": "export FROM_PROFILE=$FROM_PROFILE-two\n",
        "bin/tool": "#!/bin/sh\necho the tool of the app\n",
    }
    return mounted(slug_at(folder, files), "--read-only", "--user", ANYONE)


def test_the_procfile_comes_before_the_buildpack(app):
    assert run("start", "web", options=app).out == "port 5000\n"


def test_port_is_what_it_is_set_to(app):
    assert run("start", "web", options=(*app, "--env", "PORT=8080")).out == "port 8080\n"


def test_config_vars_are_defaults_and_path_is_theirs(app):
    assert run("start", "worker", options=app).out == "THE TOOL OF THE APP\n"
    assert run("start", "clock", options=app).out == "hello\nyou default\n"
    assert run("start", "clock", options=(*app, "--env", "MINE=set")).out == "hello\nyou set\n"


def test_an_unknown_type_is_answered_with_those_that_are_there(app):
    done = run("start", "wrong", options=app)
    assert done.status == 64
    assert " !     There is no process type `wrong`; there is clock, web, worker." in done.err


def test_types_where_there_are_none(folder):
    done = run("start", "web", options=mounted(slug_at(folder, {"file": ""})))
    assert "there is none at all: the slug has no Procfile" in done.err


def test_one_word_is_a_line_for_the_shell(app):
    line = "echo $FROM_PROFILE in $PWD as $(id -u), home $HOME, port ${PORT-none} && exit 9"
    done = run(line, options=app)
    assert (done.out, done.status) == ("one-two in /app as 54321, home /app, port none\n", 9)


def test_several_words_are_a_program_and_its_arguments(app):
    assert run("printf", "%s|", "two  words", "$HOME", options=app).out == "two  words|$HOME|"


def test_nothing_to_run_and_no_type_are_answered():
    assert run().status == run("start", stdin=packed({"file": ""})).status == 64


def test_a_damaged_release_is_a_sentence(folder):
    done = run("start", "web", options=mounted(slug_at(folder, {".release": "- a list\n"})))
    assert done.status == 65
    assert "The slug's .release is not what" in done.err


def test_environment_has_nothing_of_the_runner(folder):
    names = run("compgen -e", options=mounted(slug_at(folder, {"file": ""}))).out.split()
    assert set(names) == {
        *("HOME", "HOSTNAME", "LANG", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHLVL", "STACK", "USER"),
    }


# How it runs


@pytest.fixture
def started(folder):
    """`started(files, TYPE)`: the name of a container that runs; removed after the test."""
    names = []

    def start(files, process_type):
        names.append(f"mooring-test-{uuid.uuid4().hex[:12]}")
        options = mounted(slug_at(folder, files), "--user", ANYONE, "--name", names[-1])
        begun = docker("run", "--detach", "--init", "--read-only", *options, RUN, "start", process_type)
        assert begun.status == 0, begun.err
        return names[-1]

    yield start
    for each in names:
        docker("rm", "--force", "--volumes", each)


def eventually(true, what, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


APP = """
import signal, sys, time
def leave(number, _):
    print("asked to leave by", number, flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""


def test_signals_reach_the_app(started):
    name = started({"Procfile": "web: python3 app.py --option 'a b'", "app.py": APP}, "web")
    eventually(lambda: "ready" in docker("logs", name).out, "the app is up")
    docker("stop", "--time", "20", name)
    assert "asked to leave by 15" in docker("logs", name).out
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).out == "3\n"


def test_no_shell_stays_between_init_and_the_app(started):
    name = started({"Procfile": "web: python3 app.py", "app.py": APP}, "web")
    eventually(lambda: "ready" in docker("logs", name).out, "the app is up")
    lines = docker("top", name, "-eo", "pid,args").out.splitlines()[1:]
    assert len(lines) == 2
    assert lines[1].endswith("python3 app.py")


ORPHANS = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
time.sleep(1)
states = [open(f"/proc/{each}/stat").read().rpartition(") ")[2][0] for each in os.listdir("/proc") if each.isdecimal()]
print(len(states), "Z" in states)
"""


def test_orphans_are_reaped(folder):
    done = run("python3 orphans.py", options=mounted(slug_at(folder, {"orphans.py": ORPHANS})))
    assert done.out == "2 False\n"
