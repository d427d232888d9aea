"""Services that wait for others, on a whole system: released by themselves, also by the next server."""

import pytest

from contrib.installation import Installation

pytestmark = [pytest.mark.real, pytest.mark.acceptance]


def test_a_service_waits_for_another_one_over_a_killed_server(system: Installation) -> None:
    system.moor("create", "chain")
    folder = system.checkout("chain")
    (folder / "Servicefile").write_text("web: {git: ., require: api}\n")
    first = system.run("moor", "-D", "chain", "deploy", "Servicefile", folder=folder)
    assert first.returncode == 0, first.stdout
    assert (
        "Held: waits for api (there is no service or resource of that name yet); no code yet" in first.stdout
    )
    assert "chain/web is still held: waits for api" in first.stdout, "its code is there"
    assert "held: waits for api" in system.run("moor", "list", "chain").stdout

    system.kill()
    system.start()
    (folder / "Servicefile").write_text("web: {git: ., require: api}\napi: {git: .}\n")
    second = system.run("moor", "-D", "chain", "deploy", "Servicefile", folder=folder)
    assert second.returncode == 0, second.stdout
    system.wait_until(lambda: system.get("web-chain")[0] == 200, "web was released")
    kinds = [each["kind"] for each in system.json("events", "-a", "chain/web", "-n", "200")]
    assert kinds.index("service.held") < kinds.index("service.released") < kinds.index("version.created")


def test_a_command_runs_once_before_its_service_and_is_tried_again(system: Installation) -> None:
    system.moor("create", "once")
    folder = system.checkout("once")
    marker = system.folder / "mended"
    system.folder.chmod(0o711)
    command = f"echo setting up {{Key}}; sleep 1; test -e {marker} && echo set up"
    (folder / "Servicefile").write_text(
        f"Generate: {{Key: 4}}\nExec:\n    Init: {{service: web, cmd: '{command}'}}\n"
        "web: {git: ., require: Init, env: {KEY: 'k-{Key}'}}\n"
    )
    first = system.run("moor", "-D", "once", "deploy", "Servicefile", folder=folder)
    key = system.json("generate", "-a", "once")["Key"]
    assert f"       setting up {key}" in first.stdout, first.stdout
    said = "Init failed: exec.1 of once/web: exited with status 1"
    assert (first.returncode, said in first.stdout) == (1, True), first.stdout
    assert "moor exec:retry -a once Init" in first.stdout

    marker.touch()
    system.moor("exec:retry", "-a", "once", "Init")
    system.wait_until(lambda: system.json("exec", "-a", "once")[0]["run"] == "exec.2", "it runs again")
    system.kill()
    system.start()
    system.wait_until(lambda: system.get("web-once")[0] == 200, "the next server releases web")
    assert system.json("exec", "-a", "once")[0]["status"] == "ready"
    assert f"k-{key}" in system.run("moor", "run", "-a", "once/web", "printenv", "KEY").stdout
    again = system.run("moor", "-D", "once", "deploy", "Servicefile", folder=folder)
    assert "No changes." in again.stdout
