"""Reading and making the URLs that databases are known by. Pure."""

from collections.abc import Collection, Mapping
from urllib.parse import quote, unquote, urlsplit

from controller.errors import InvalidInput

LONGEST = 2000


def values_of(url: str, schemes: Collection[str], default_port: int) -> Mapping[str, str]:
    """The parts of a URL by the names that resources give them. Raises InvalidInput."""
    known = " or ".join(f"{each}://" for each in schemes)
    try:
        parts = urlsplit(url)
        port = parts.port or default_port
    except ValueError as error:
        raise InvalidInput("url", f"This is no URL of a server: {error}.") from error
    if parts.scheme not in schemes or not parts.hostname or len(url) > LONGEST or not url.isprintable():
        raise InvalidInput(
            "url",
            f"url must begin with {known} and name a host, as in {known.split()[0]}HOST:{default_port}.",
        )
    values = {
        "URL": url,
        "HOST": parts.hostname,
        "PORT": str(port),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": unquote(parts.path.removeprefix("/")),
    }
    return {name: value for name, value in values.items() if value}


def prefixed(values: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    """`PREFIX_URL` and the others."""
    return {f"{prefix}_{name}": value for name, value in values.items()}


def url_of(scheme: str, *, user: str, password: str, host: str, port: int, name: str) -> str:
    """Of a server on this machine, at an IPv4 address of it."""
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{name}"
