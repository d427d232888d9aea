"""A server that speaks S3, on loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
import httpx

from contrib.installation import free_ports

KEYS = {"AWS_ACCESS_KEY_ID": "mooring", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
BUCKET = "backups"


class S3Server:
    """Moto's, as a process of its own. `strict`: it knows no keys of access, and refuses whoever shows some."""

    def __init__(self, *, strict: bool = False) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        env = {**os.environ, **({"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if strict else {})}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        end = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, "moto does not start"
            time.sleep(0.05)

    def client(self) -> Any:
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/moto-api/", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def s3_server(*, strict: bool = False) -> Iterator[S3Server]:
    """With an empty bucket, but for a strict one."""
    server = S3Server(strict=strict)
    try:
        if not strict:
            server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.kill()
