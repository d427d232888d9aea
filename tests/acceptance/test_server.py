"""`moor server` itself: what it refuses, what it says, how it stops."""

import os
import signal
import subprocess
import tempfile

import pytest

from contrib.installation import MOOR, free_ports

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


def run(*words, **env):
    return subprocess.run(
        [MOOR, *map(str, words)],
        env={"PATH": os.environ["PATH"], **env},
        text=True,
        capture_output=True,
        timeout=60,
    )


def flags(data, api, ssh, http):
    return (
        "--data",
        data,
        "--api",
        f"127.0.0.1:{api}",
        "--ssh",
        f"127.0.0.1:{ssh}",
        "--http",
        f"127.0.0.1:{http}",
    )


def test_second_server_on_one_data_folder_is_refused(system):
    done = run("server", *flags(system.data, *free_ports(3)))
    assert done.returncode == 1
    assert "uses the data folder" in done.stderr
    assert "server:stop" in done.stderr


@pytest.mark.parametrize("taken", ["api", "ssh", "http"])
def test_port_in_use_is_refused_by_its_name(system, taken):
    ports = dict(zip(("api", "ssh", "http"), free_ports(3), strict=True))
    ports[taken] = getattr(system, taken)
    # Not in pytest's own folder, whose path may be too long for the sockets below it.
    with tempfile.TemporaryDirectory(prefix="moor-") as folder:
        done = run("server", *flags(f"{folder}/data", **ports))
    assert done.returncode == 1
    assert f"--{taken} 127.0.0.1:{ports[taken]}" in done.stderr
    assert " !     " in done.stderr


def test_unwritable_data_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("server", *flags(tmp_path / "file" / "data", *free_ports(3)))
    assert done.returncode == 1
    assert "--data" in done.stderr


def test_wrong_setting_is_refused_with_its_name_and_source(tmp_path):
    done = run("server", "--check-config", "--data", tmp_path, MOOR_HTTP="nowhere")
    assert done.returncode != 0
    assert "MOOR_HTTP" in done.stderr
    file = tmp_path / "mooring.yml"
    file.write_text("htpp: 0.0.0.0:80\n")
    done = run("server", "--check-config", "--config", file)
    assert "Did you mean 'http'?" in done.stderr
    done = run("server", "--check-config", "--data", tmp_path, "--backend", "kubernetes")
    assert done.returncode != 0
    assert "supervisor" in done.stderr


def test_first_start_prints_addresses_fingerprint_and_token_and_the_second_no_token(system):
    said = system.log.read_text()
    assert f"127.0.0.1:{system.ssh}, host key SHA256:" in said
    assert said.count("Admin token") == 1
    system.moor("server:stop")
    system.start()
    again = system.log.read_text()
    assert again.count("Admin token") == 1
    assert again.count("host key SHA256:") == 2
    fingerprints = {word for word in again.split() if word.startswith("SHA256:")}
    assert len(fingerprints) == 1


def test_token_of_the_first_start_logs_in_from_elsewhere(system, tmp_path):
    said = system.log.read_text().splitlines()
    token = said[next(number for number, line in enumerate(said) if "Admin token" in line) + 1].strip()
    env = {"HOME": str(tmp_path)}
    login = subprocess.run(
        [MOOR, "login", f"http://127.0.0.1:{system.api}"],
        env={"PATH": os.environ["PATH"], **env}, input=token + "\n", text=True, capture_output=True,
    )  # fmt: skip
    assert login.returncode == 0, login.stderr
    assert run("whoami", **env).stdout.startswith("admin")


def test_sigterm_ends_the_server_cleanly(system):
    system.server.send_signal(signal.SIGTERM)
    assert system.server.wait(timeout=20) == 0
    assert "Traceback" not in system.log.read_text()
    system.start()


def test_no_door_opens_without_a_key(system, tmp_path):
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = subprocess.run(system.ssh_command("apps", key=key), env=system.env, text=True, capture_output=True)
    assert done.returncode == 255
