"""One-offs and release commands, with the real ssh, the real `moor` and a terminal of our own."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.acceptance]

APP = "runner"


@pytest.fixture(scope="module")
def app(system):
    system.moor("create", APP)
    folder = system.checkout(APP)
    procfile = (folder / "Procfile").read_text()
    system.commit(folder, "one more type", Procfile=f"{procfile.rstrip()}\ngreet: echo greetings from\n")
    pushed = system.push(folder)
    assert pushed.returncode == 0, pushed.stdout
    return folder


def words(system, door, *command):
    """The same command at either door."""
    if door == "moor":
        verb, app, *rest = command
        return system.command(("moor", verb, "-a", app, *rest))
    return system.ssh_command(*map(shlex.quote, command))


def call(system, door, *command, stdin=b"", timeout=60):
    return subprocess.run(
        words(system, door, *command), env=system.env, input=stdin, capture_output=True, timeout=timeout
    )


class Screen:
    """A command in a terminal of its own."""

    def __init__(self, system, arguments, *, columns=91, rows=33):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.seen = b""
        self.process = subprocess.Popen(
            arguments,
            env={**system.env, "TERM": "vt100"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def until(self, pattern, timeout=30):
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0, f"{pattern!r} is not in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    assert re.search(pattern, self.seen), f"{pattern!r} is not in {self.seen!r}"
        return found

    def wait(self, timeout=30):
        """Its exit status; what it prints meanwhile is taken."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    time.sleep(0.01)
        return self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def screen(system):
    open_screens = []

    def begin(door, *command):
        arguments = words(system, door, *command)
        if door == "ssh":
            arguments.insert(1, "-tt")
        open_screens.append(Screen(system, arguments))
        return open_screens[-1]

    yield begin
    for each in open_screens:
        each.close()


def runs(system):
    return system.json("run:list", "-a", APP)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


DOORS = pytest.mark.parametrize("door", ["moor", "ssh"])


@DOORS
def test_streams_are_apart_and_the_exit_status_is_passed_on(system, app, door):
    done = call(
        system,
        door,
        "run",
        APP,
        "echo out; echo err >&2; exit 7",
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


@DOORS
def test_input_passes_to_its_end_whatever_is_in_it(system, app, door):
    data = os.urandom(2 * 1024**2)
    done = call(system, door, "run", APP, "cat", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_several_words_are_arguments_and_a_process_type_stands_for_its_command(system, app):
    assert call(system, "moor", "run", APP, "echo", "$HOME", "a  b").stdout == b"$HOME a  b\n"
    assert call(system, "moor", "run", APP, "greet", "us").stdout == b"greetings from us\n"


def test_it_runs_in_the_apps_environment_with_what_is_given_for_it_alone(system, app):
    system.moor("config:set", "-a", APP, "COLOR=blue", "SIZE=1")
    done = call(
        system, "moor", "run", APP, "-e", "SIZE=2", "echo $COLOR $SIZE $MOORING_APP ${PORT-none}; id -u; pwd"
    )
    color, uid, place = done.stdout.decode().splitlines()
    assert color == f"blue 2 {APP} none"
    if os.geteuid() == 0:
        assert int(uid) >= 42000
    assert place.startswith(str(system.data / "apps" / APP))
    text = system.moor("events")
    assert "with SIZE: echo" in text
    assert "SIZE=2" not in text


@DOORS
def test_terminal_has_a_size_that_may_change_and_shells_work_in_it(system, app, screen, door):
    shell = screen(door, "run", APP, "sh")
    shell.type(b"stty size; echo $TERM; test -t 2 && echo yes\r")
    shell.until(rb"33 91\r\nvt100\r\nyes\r\n")
    shell.resize(120, 44)
    time.sleep(0.5)
    shell.type(b"stty size\r")
    shell.until(rb"44 120\r\n")
    shell.type(b"exit 9\r")
    assert shell.wait() == 9


@DOORS
def test_ctrl_c_goes_to_the_process(system, app, screen, door):
    shell = screen(
        door,
        "run",
        APP,
        "sh" if door == "ssh" else "sh -c 'trap \"echo caught\" INT; echo ready; sleep 100; exit 4'",
    )
    if door == "ssh":
        shell.type(b"echo re''ady; cat\r")
    shell.until(rb"ready\r\n")
    time.sleep(0.2)
    shell.type(b"\x03")
    if door == "ssh":
        shell.until(rb"\^C\s+[$#] $")  # what is typed before that, goes with what was interrupted
        shell.type(b"echo still he''re; exit 3\r")
        shell.until(rb"still here")
        assert shell.wait() == 3
    else:
        shell.until(rb"caught")
        assert shell.wait() == 4


@DOORS
def test_status_after_ctrl_c_is_130(system, app, screen, door):
    waiting = screen(
        door,
        "run",
        APP,
        "sh",
        "-c",
        "echo ready; exec sleep 100",
    )
    waiting.until(rb"ready\r\n")
    waiting.type(b"\x03")
    assert waiting.wait() == 130


def test_interrupt_without_a_terminal_is_passed_on(system, app):
    process = subprocess.Popen(
        system.command(("moor", "run", "-a", APP, "echo ready; exec sleep 100")),
        env=system.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130


@DOORS
@pytest.mark.parametrize("terminal", [True, False])
def test_all_of_it_ends_when_the_client_goes_away(system, app, screen, door, terminal):
    command = "trap '' HUP TERM; setsid sleep 1000 & echo began $$ $!; while :; do sleep 1; done"
    if terminal:
        shell = screen(door, "run", APP, command)
        pids = shell.until(rb"began (\d+) (\d+)").groups()
        process = shell.process
    else:
        process = subprocess.Popen(
            words(system, door, "run", APP, command),
            env=system.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pids = process.stdout.readline().split()[1:]
    assert next(each["status"] for each in runs(system) if each["attached"]) == "running"
    process.kill()
    process.wait()
    system.wait_until(lambda: all(is_gone(int(each)) for each in pids), "all of it has ended")
    system.wait_until(lambda: runs(system)[0]["status"] == "stopped", "its record says so")


def test_time_to_live_and_run_stop_end_it(system, app):
    done = call(system, "moor", "run", APP, "--ttl", "1s", "sleep 100")
    assert done.returncode != 0
    assert b"did not end within 1 s" in done.stderr
    assert runs(system)[0]["status"] == "timed-out"
    process = subprocess.Popen(
        system.command(("moor", "run", "-a", APP, "echo ready; sleep 100")),
        env=system.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    name = system.json("run:list", "-a", APP)[0]["id"]
    system.moor("run:stop", "-a", APP, name)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert b"asked for its end" in errors


@DOORS
def test_entering_an_instance_finds_its_place(system, app, screen, door):
    shell = screen(door, "enter", APP, "web.1")
    shell.type(b"echo port=$PORT; pwd; exit 5\r")
    shell.until(rb"port=\d{5}\r\n.*/apps/" + APP.encode())
    assert shell.wait() == 5


def test_entering_what_does_not_run_is_told(system, app):
    done = call(system, "ssh", "enter", APP, "web.7")
    assert done.returncode == 1
    assert b"what runs: web.1" in done.stderr


def test_detached_run_goes_on_over_the_death_of_the_server_and_keeps_its_output(system, app):
    system.moor(
        "run:detached",
        "-a",
        APP,
        "-e",
        "WORD=tick",
        "for i in 1 2 3 4 5; do echo $WORD $i; sleep 0.5; done; exit 6",
    )
    name = runs(system)[0]["id"]
    system.wait_until(lambda: "tick 1" in system.moor("run:logs", "-a", APP, name), "it prints")
    system.kill()
    system.start()
    followed = system.moor("run:logs", "-a", APP, name, "-t")
    assert [line.split("]: ")[1] for line in followed.splitlines()] == [
        f"tick {each}" for each in range(1, 6)
    ]
    system.wait_until(lambda: runs(system)[0]["status"] == "failed", "its end is noted")
    assert runs(system)[0]["exit_code"] == 6


def test_attached_run_ends_with_the_server_and_is_called_lost(system, app):
    process = subprocess.Popen(
        system.command(("moor", "run", "-a", APP, "echo $$; exec sleep 1000")),
        env=system.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pid = int(process.stdout.readline())
    system.kill()
    _, errors = process.communicate(timeout=30)
    assert b"connection to the server was lost" in errors
    system.wait_until(lambda: is_gone(pid), "it has ended")
    system.start()
    assert runs(system)[0]["status"] == "lost"


class TestRelease:
    def test_it_runs_before_the_switch_and_its_output_comes_to_the_pusher(self, system, app):
        procfile = (app / "Procfile").read_text()
        system.commit(
            app,
            "migrate",
            Procfile=procfile + "release: echo migrating $MOORING_VERSION; cat VERDICT; exit $(cat STATUS)\n",
            VERDICT="all well\n",
            STATUS="0",
        )
        pushed = system.push(app)
        assert pushed.returncode == 0, pushed.stdout
        text = "\n".join(line.removeprefix("remote: ").rstrip() for line in pushed.stdout.splitlines())
        assert re.search(r"Running the release command of v\d+.*\n +migrating \d+\n +all well\n", text), text
        assert "all well" in system.moor("releases:output", "-a", APP)
        assert "release" not in system.moor("ps:scale", "-a", APP)

    def test_failing_it_rejects_the_push_and_the_old_version_serves_on(self, system, app, requests):
        before = system.get(APP)
        system.commit(app, "broken", VERDICT="no such column\n", STATUS="3", app__py="raise SystemExit")
        with requests(APP) as served:
            pushed = system.push(app)
        assert pushed.returncode != 0
        assert "its release command exited with status 3" in pushed.stdout
        assert "no such column" in pushed.stdout
        assert "[remote rejected]" in pushed.stdout
        assert system.get(APP) == before
        assert not served.failures if hasattr(served, "failures") else True
        assert "no such column" in system.moor("releases:output", "-a", APP)
        system.run("git", "reset", "-q", "--hard", "HEAD~1", folder=app, check=True)

    def test_it_goes_on_while_the_server_is_killed_and_runs_once(self, system, app):
        system.commit(app, "slow", VERDICT="once\n", STATUS="0; sleep 4; cat STATUS2", STATUS2="0")
        procfile = re.sub(
            r"release: .*",
            "release: echo begun >>/tmp/moor-release-$MOORING_APP; sleep 5; echo done",
            (app / "Procfile").read_text(),
        )
        count = Path(f"/tmp/moor-release-{APP}")
        count.unlink(missing_ok=True)
        system.commit(
            app, "slow release", Procfile=procfile, app__py=(app / "app.py").read_text() + "\n# slow\n"
        )
        push = subprocess.Popen(
            ["git", "push", "deploy", "master"],
            cwd=app,
            env=system.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            system.wait_until(count.exists, "the release command runs", timeout=60)
            system.kill()
            push.wait(timeout=60)
            system.start()
            target = system.json("apps:info", "-a", APP)["service"]["target"]
            system.wait_until(
                lambda: system.json("apps:info", "-a", APP)["service"]["current"] == target,
                "it serves",
                timeout=60,
            )
            assert count.read_text() == "begun\n"
        finally:
            push.kill()
            count.unlink(missing_ok=True)
        # The push was cut off, so that its branch stays; the same again is known to be there.
        again = system.push(app)
        assert again.returncode == 0, again.stdout
        assert not count.exists()

    def test_postdeploy_that_fails_is_a_warning(self, system, app):
        told = system.moor(
            "set-service", "-a", APP, "app", '{"predeploy": "echo first", "postdeploy": "echo last; exit 1"}'
        )
        assert re.search(
            r"first.*Running the release command.*is live.*last.*Warning: postdeploy command", told, re.DOTALL
        ), told
        system.moor("set-service", "-a", APP, "app", '{"predeploy": null, "postdeploy": null}')
