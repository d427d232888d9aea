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
    assert "Held: waits for api (there is no service of that name yet); no code yet" in first.stdout
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
