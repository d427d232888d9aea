"""What holds for all tests."""

import gc
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Without the garbage collector while the source of what failed is parsed.

    What is collected may log a traceback, for which Python 3.11 parses source too: inside of parsing source that is a
    SystemError, which ends the whole run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
