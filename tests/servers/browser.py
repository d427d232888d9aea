"""A real browser without a window: Debian's Chromium, driven over WebDriver."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "chromedriver")


def require_browser() -> None:
    """Skip where it is missing, fail where MOOR_TEST_REAL=1 says that it must be there."""
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        if os.environ.get("MOOR_TEST_REAL") == "1":
            pytest.fail(text)
        pytest.skip(text)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """As if it were started for the first time; it leaves nothing behind."""
    # Not pytest's own folder: the browser makes a socket deep in it, whose path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="moor-web-", ignore_cleanup_errors=True) as folder:
        driver = _start(Path(folder))
        try:
            yield driver
        finally:
            driver.quit()


def _start(folder: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    arguments = [
        "--headless=new",
        "--window-size=1200,900",
        f"--user-data-dir={folder / 'profile'}",
        "--no-proxy-server",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # /dev/shm is small in containers
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which would need another user
    for each in arguments:
        options.add_argument(each)
    environ = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder)}
    # Named, as it would else look for one to download.
    service = Service(str(shutil.which("chromedriver")), env=environ)
    return webdriver.Chrome(options=options, service=service)
