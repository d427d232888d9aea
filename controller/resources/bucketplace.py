"""Where in S3-compatible storage backups go: what the settings say, checked. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from controller.errors import InvalidInput

_PLACE = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._/-]{0,200}))?"
)


@dataclass(frozen=True)
class BucketPlace:
    """A part of a bucket."""

    bucket: str
    prefix: str = ""
    """Ends with `/` unless it is empty."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def below(self, name: str) -> "BucketPlace":
        return BucketPlace(self.bucket, f"{self.prefix}{name}/")


def parse_place(text: str) -> BucketPlace:
    """`s3://BUCKET` or `s3://BUCKET/PREFIX`. Raises InvalidInput."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise InvalidInput(
            "backup_storage",
            f"backup_storage: {text[:100]!r} is no place in S3 storage: write s3://BUCKET or s3://BUCKET/PREFIX.",
        )
    prefix = (match["prefix"] or "").strip("/")
    return BucketPlace(match["bucket"], f"{prefix}/" if prefix else "")


def check_endpoint(text: str) -> None:
    """Raise InvalidInput for what is no URL of a server."""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path.strip("/")
        or "@" in parts.netloc
    ):
        raise InvalidInput(
            "backup_endpoint",
            f"backup_endpoint: {text[:100]!r} is no address: write https://HOST or https://HOST:PORT.",
        )
