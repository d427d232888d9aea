"""The certificates that builds trust, named to every tool in its own way."""

from collections.abc import Mapping
from pathlib import Path, PurePath

_VARIABLES = (
    *("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"),
)


def ca_environment(bundle: Path | None, place: PurePath | None = None) -> Mapping[str, str]:
    """The variables that name the file, or `place`, where builds see it; none where there is no such file."""
    if bundle is None or not bundle.is_file():
        return {}
    return dict.fromkeys(_VARIABLES, str(place or bundle))
