"""Real git and OpenSSH, paramiko and dulwich against our SSH endpoint; builder and controller are in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.types import BuildStatus
from tests.servers.receive import Endpoint, start_endpoint

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    running = await start_endpoint(tmp_path)
    yield running
    await running.server.close()
    assert running.leftovers() == []
    assert running.model.open_clients == 0


async def test_push_deploys_and_can_be_cloned_back(endpoint: Endpoint) -> None:
    ann = endpoint.visitor()
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
