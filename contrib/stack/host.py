"""How this machine reaches Debian's archive and the registries, for use inside of a build and never in its result."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUITE = "bookworm"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED = re.compile(r"(https?|ftp|all|no)_proxy|npm_config_[a-z_]*", re.IGNORECASE)
"""Variables of this machine that say how registries are reached."""
PATHS = re.compile(r"/|file:|\.")
"""Values that are places on this machine: nothing of it is inside of a build."""
CERTIFICATES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
NPM_OPTION = re.compile(r"(@[^=]*:)?registry\s*=|//[^=]*=|(https?-)?proxy\s*=|noproxy\s*=|strict-ssl\s*=")
"""Lines of npm's own files that say how registries are reached, with their logins."""
APT_OPTION = re.compile(
    r"Acquire::(https?|ftp|Retries|ForceIPv[46]|Check-Date|Check-Valid-Until)\b", re.IGNORECASE
)
APT_OPTION_OF_FILES = re.compile(
    r"Proxy-Auto-Detect|ProxyAutoDetect|SslCert|SslKey|CAInfo|CAPath", re.IGNORECASE
)
"""Those that name files of this machine."""
INSIDE = "/mnt"
"""Folder of all this in the containers that build: a volume, which no image has, on a folder that each has anyway."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """What builds are told of this machine."""

    env: Mapping[str, str] = field(default_factory=dict)
    certificates: bytes = b""
    apt_options: Sequence[str] = ()
    """Lines of `apt-config dump`."""
    apt_sources: Sequence[str] = ()
    """One-line sources of the suite that the images are made of; empty: as the base has them."""
    apt_logins: bytes = b""
    npm_options: Sequence[str] = ()
    """Lines of an `.npmrc`."""

    def files(self) -> Mapping[str, bytes]:
        """By their names in `INSIDE`."""
        return {
            "env": self._env().encode(),
            "apt.conf": "\n".join(self._apt()).encode() + b"\n",
            "sources.list": "\n".join(self.apt_sources).encode() + b"\n",
            "logins": self.apt_logins,
            "npmrc": "".join(f"{each}\n" for each in self.npm_options).encode(),
            **({"certificates.crt": self.certificates} if self.certificates else {}),
        }

    def _env(self) -> str:
        bundle = dict.fromkeys(CERTIFICATES, f"{INSIDE}/certificates.crt") if self.certificates else {}
        env = {**bundle, "NPM_CONFIG_USERCONFIG": f"{INSIDE}/npmrc", **self.env}
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())

    def _apt(self) -> Sequence[str]:
        lines = [
            *self.apt_options,
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            # The volume with these files is root's alone.
            'APT::Sandbox::User "root";',
            'APT::Install-Recommends "false";',
            f'Dir::Etc::netrc "{INSIDE}/logins";',
        ]
        if self.certificates:
            lines.append(f'Acquire::https::CAInfo "{INSIDE}/certificates.crt";')
        if self.apt_sources:
            lines += [f'Dir::Etc::sourcelist "{INSIDE}/sources.list";', 'Dir::Etc::sourceparts "-";']
        return lines


def observe_host(*, env: Mapping[str, str], bundle: Path | None) -> Host:
    """`env`: what was asked for beside what this machine's own environment says. `bundle` None: none."""
    passed = {
        name: value for name, value in os.environ.items() if PASSED.fullmatch(name) and not PATHS.match(value)
    }
    return Host(
        env={**passed, **env},
        certificates=bundle.read_bytes() if bundle else b"",
        apt_options=_apt_options(),
        apt_sources=apt_sources(Path("/etc/apt")),
        apt_logins=b"\n".join(each.read_bytes() for each in _readable(Path("/etc/apt"), "auth.conf")),
        npm_options=npm_options((Path("/etc/npmrc"), Path("/usr/etc/npmrc"), Path.home() / ".npmrc")),
    )


def mirror(host: Host) -> str | None:
    """Where this machine gets Debian's main archive from, if it says."""
    for line in host.apt_sources:
        *_, address, suite, _ = re.sub(r"\[.*?\]\s*", "", line).split(maxsplit=3)
        if suite == SUITE:
            return address
    return None


def _apt_options() -> Sequence[str]:
    if not shutil.which("apt-config"):
        return ()
    said = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return [
        line
        for line in said.splitlines()
        if APT_OPTION.match(line) and not APT_OPTION_OF_FILES.search(line) and not line.endswith(' "";')
    ]


def apt_sources(folder: Path) -> Sequence[str]:
    """Those of our suite: whatever else this machine installs from has no place in the images."""
    lines: list[str] = []
    for path in _readable(folder, "sources.list"):
        text = path.read_text(errors="replace")
        lines += _deb822(text) if path.suffix == ".sources" else _one_line(text)
    return [line for line in lines if _is_ours(line)]


def npm_options(files: Sequence[Path]) -> Sequence[str]:
    """What they say of registries; a later file's word comes first with npm, as the last line of one file does."""
    lines = [
        line.strip()
        for each in files
        if os.access(each, os.R_OK)
        for line in each.read_text(errors="replace").splitlines()
    ]
    return [line for line in lines if NPM_OPTION.match(line)]


def _readable(folder: Path, name: str) -> Sequence[Path]:
    """apt's file and the parts of the same name."""
    found = [folder / name, *sorted((folder / f"{name}.d").glob("*"))]
    return [each for each in found if each.is_file() and os.access(each, os.R_OK)]


def _one_line(text: str) -> Sequence[str]:
    """Without options: keys that are signed by are at another place in the images."""
    return [re.sub(r"\[.*?\]\s*", "", line).strip() for line in text.splitlines() if line.startswith("deb ")]


def _deb822(text: str) -> Sequence[str]:
    lines: list[str] = []
    for stanza in re.split(r"\n\s*\n", text):
        kept = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = {
            name.strip().lower(): value.split()
            for name, found, value in (line.partition(":") for line in kept)
            if found
        }
        if "deb" not in fields.get("types", ()) or fields.get("enabled") == ["no"]:
            continue
        components = " ".join(fields.get("components", ()))
        lines += [
            f"deb {address} {suite} {components}"
            for address in fields.get("uris", ())
            for suite in fields.get("suites", ())
        ]
    return lines


def _is_ours(line: str) -> bool:
    words = line.split()
    return len(words) > 3 and words[2] in (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
