from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.controller.world import World, make_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    yield made
    await made.operations.close()
    await made.state.close()
