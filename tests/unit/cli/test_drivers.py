"""What the server hands to the drivers that it makes."""

import pytest

from builder.slugs import SlugStore
from cli.drivers import check_drivers, make_backend
from controller.backends.base import BackendError, InstanceSpec
from controller.config import Settings
from controller.errors import InvalidInput
from tests.factories import slug


async def test_slug_that_is_lost_is_not_tried_again(tmp_path):
    settings = Settings(data=tmp_path, backend="supervisor")
    backend = make_backend(settings, SlugStore(tmp_path / "slugs", tmp_path / "apps", limit=1000))
    spec = InstanceSpec(
        id="foo-app-1-web-1",
        deployment="foo",
        service="app",
        version=1,
        process_type="web",
        number=1,
        generation=1,
        artifact=slug(),
        command="serve",
    )
    with pytest.raises(BackendError, match="is not there; push again") as raised:
        await backend.start(spec)
    assert not raised.value.retryable


def test_a_part_of_the_product_is_not_switched_off(tmp_path):
    check_drivers(Settings(data=tmp_path, backend="supervisor", plugins="-other"))
    with pytest.raises(
        InvalidInput, match=r"require is a part of the product .* take -require out"
    ) as raised:
        check_drivers(Settings(data=tmp_path, backend="supervisor", plugins="*, -require"))
    assert raised.value.field == "plugins"
