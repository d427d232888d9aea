"""What a build of the stack images is told of this machine."""

from pathlib import Path

import pytest

from contrib.stack.debootstrap import archive_command
from contrib.stack.errors import StackError
from contrib.stack.host import Host, apt_sources, mirror, npm_options, observe_host
from contrib.stack.inputs import EPOCH, source_date

MIRROR = "http://mirror.example/debian"
DEB822 = f"""
# the archive
Types: deb deb-src
URIs: {MIRROR}
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/some.gpg

Types: deb
URIs: http://other.example/tools
Suites: stable
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def sources(folder, **files):
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        (folder / "sources.list.d" / name.replace("_", ".")).write_text(text)
    return apt_sources(folder)


def test_sources_of_the_suite_are_taken_and_no_others(tmp_path):
    assert sources(tmp_path, debian_sources=DEB822) == [
        f"deb {MIRROR} bookworm main contrib",
        f"deb {MIRROR} bookworm-updates main contrib",
    ]


def test_one_line_sources_lose_their_options(tmp_path):
    (tmp_path / "sources.list").write_text(
        f"# deb {MIRROR} bookworm main\n"
        f"deb [signed-by=/some.gpg arch=amd64] {MIRROR} bookworm-security main\n"
        "deb-src http://other.example bookworm main\n"
        "deb http://other.example jammy main\n"
    )
    assert sources(tmp_path) == [f"deb {MIRROR} bookworm-security main"]


def test_the_mirror_is_where_the_main_suite_comes_from():
    lines = ("deb http://security.example bookworm-security main", f"deb {MIRROR} bookworm main")
    assert mirror(Host(apt_sources=lines)) == MIRROR
    assert mirror(Host()) is None


def test_npm_is_told_of_registries_and_of_no_place_on_this_machine(tmp_path):
    file = tmp_path / ".npmrc"
    file.write_text(
        "registry=http://registry.example/\n@ours:registry = http://ours.example\n//ours.example/:_authToken=a=b\n"
        "cafile=/etc/some.pem\nprefix=/opt\nproxy=http://proxy.example\n"
    )
    assert npm_options([tmp_path / "none", file]) == [
        "registry=http://registry.example/",
        "@ours:registry = http://ours.example",
        "//ours.example/:_authToken=a=b",
        "proxy=http://proxy.example",
    ]


def test_variables_that_name_files_stay_here(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NPM_CONFIG_CAFILE", "/etc/some.pem")
    monkeypatch.setenv("SECRET", "not for builds")
    env = observe_host(env={"KEY": "it's"}, bundle=None).env
    assert env["https_proxy"] == "http://proxy.example:3128"
    assert env["KEY"] == "it's"
    assert not env.keys() & {"NPM_CONFIG_CAFILE", "SECRET"}


def test_files_of_a_build():
    files = Host(
        env={"KEY": "it's"}, certificates=b"PEM", apt_sources=[f"deb {MIRROR} bookworm main"]
    ).files()
    assert b"export KEY='it'\"'\"'s'\n" in files["env"]
    assert b"export SSL_CERT_FILE=/mnt/certificates.crt\n" in files["env"]
    assert b'Acquire::https::CAInfo "/mnt/certificates.crt";' in files["apt.conf"]
    assert b'Dir::Etc::sourcelist "/mnt/sources.list";' in files["apt.conf"]
    assert files["certificates.crt"] == b"PEM"


def test_without_certificates_or_sources_of_this_machine_the_base_has_its_own():
    files = Host().files()
    assert "certificates.crt" not in files
    assert b"/mnt/certificates.crt" not in files["env"] + files["apt.conf"]
    assert b"sourcelist" not in files["apt.conf"]


def test_the_date_of_files_is_fixed_or_given(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert source_date() == EPOCH
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert source_date() == 1700000000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(StackError, match="SOURCE_DATE_EPOCH"):
        source_date()


def test_an_archive_of_a_base_has_no_time_of_its_own():
    command = archive_command(Path("/root"), Path("/base.tar"), 7)
    assert {"--sort=name", "--mtime=@7", "--clamp-mtime", "--numeric-owner"} <= set(command)
