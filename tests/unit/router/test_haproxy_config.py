"""What is written for HAProxy, and found again."""

from dataclasses import replace
from pathlib import Path

import pytest

from router.access import AccessLogs
from router.base import RouterError
from router.guards import REALM, guards_text
from router.haproxy_config import HaproxyConfig, Identity, server_options
from router.haproxy_table import Layout, encode_text
from router.types import Guard, GuardMode, Pool, Target

LAYOUT = Layout(
    3,
    {
        "pool-2": Pool(
            "foo/app",
            frozenset({"foo.example.org", "*.foo.example.org"}),
            frozenset({Target("foo-app-1-web-2", "::1", 4002), Target("foo-app-1-web-1", "127.0.0.1", 4001)}),
        )
    },
)


def config(tmp_path: Path, port: int = 8080) -> HaproxyConfig:
    return HaproxyConfig(Path("/tmp/moor") / tmp_path.name, "127.0.0.1", port)


def test_files_hold_the_whole_table(tmp_path: Path) -> None:
    files = config(tmp_path).render(LAYOUT, Identity("0123456789ab", 3, 7))
    assert files["hosts.map"] == "foo.example.org pool-2\n"
    assert files["wildcards.map"] == "foo.example.org pool-2\n"
    assert files["names.map"] == "pool-2 foo/app\n"
    assert files["maintenance.map"] == ""
    assert files["haproxy.cfg"].endswith(
        "\nbackend pool-1 from pools\n"
        "backend pool-2 from pools\n"
        "    server foo-app-1-web-1 127.0.0.1:4001\n"
        "    server foo-app-1-web-2 [::1]:4002\n"
        "backend pool-3 from pools\n"
    )


def test_maintenance_is_written_too(tmp_path: Path) -> None:
    pools = {
        "pool-1": Pool("a/app", frozenset(), frozenset(), maintenance=True),
        "pool-2": Pool("b/app", frozenset(), frozenset(), maintenance=True, page="<p>"),
    }
    files = config(tmp_path).render(Layout(2, pools), Identity("0123456789ab", 3, 7))
    assert files["maintenance.map"] == "pool-1 -\npool-2 PHA-\n"


def test_guards_are_written_with_the_script_that_reads_them(tmp_path: Path) -> None:
    guards = frozenset({("a.org", Guard(GuardMode.DIGEST, (("joe", "0" * 32),)))})
    pools = {"pool-1": Pool("a/app", frozenset({"a.org"}), frozenset(), guards=guards)}
    files = config(tmp_path).render(Layout(1, pools), Identity("0123456789ab", 1, 7))
    assert files["guards.map"] == f"pool-1 {encode_text(guards_text(guards))}\n"
    assert 'core.register_action("guard"' in files["guard.lua"]


def test_script_knows_the_realm_that_hashes_are_made_with(tmp_path: Path) -> None:
    files = config(tmp_path).render(LAYOUT, Identity("0123456789ab", 3, 7))
    assert f'local REALM = "{REALM}"' in files["guard.lua"]


def test_identity_is_read_back_from_what_was_rendered(tmp_path: Path) -> None:
    identity = Identity("0123456789ab", 3, 7)
    assert Identity.find(config(tmp_path).render(LAYOUT, identity)["haproxy.cfg"]) == identity
    assert Identity.find("description of somebody else") is None


def test_fingerprint_follows_the_settings_and_not_the_table(tmp_path: Path) -> None:
    assert config(tmp_path).fingerprint == config(tmp_path).fingerprint
    assert config(tmp_path).fingerprint != config(tmp_path, port=8081).fingerprint


def test_written_folder_is_complete_and_older_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A relative folder keeps the socket's path short, wherever pytest keeps its own.
    written = HaproxyConfig(Path("haproxy"), "127.0.0.1", 8080)
    assert written.find_written() is None
    identities = [written.write(LAYOUT) for _ in range(4)]
    assert [each.serial for each in identities] == [1, 2, 3, 4]
    assert written.find_written() == identities[-1]
    assert sorted(each.name for each in Path("haproxy").glob("table-*")) == ["table-3", "table-4"]
    assert (written.current / "not-running.html").exists()


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 65536), ("a b", 80), ("x\nbind :1", 80)]
)
def test_address_that_is_none_is_refused(host: str, port: int) -> None:
    with pytest.raises(RouterError, match="no address"):
        HaproxyConfig(Path("/tmp/moor"), host, port)


@pytest.mark.parametrize("folder", ["/tmp/" + "x" * 100, "/tmp/with space", '/tmp/quo"te', "/tmp/a$HOME"])
def test_folder_that_haproxy_could_not_use_is_refused(folder: str) -> None:
    with pytest.raises(RouterError, match="choose a data folder"):
        HaproxyConfig(Path(folder), "127.0.0.1", 8080)


def test_many_targets_are_checked_less_often() -> None:
    assert server_options(200).startswith("check inter 2s ")
    assert server_options(10_000).startswith("check inter 100s ")


def test_access_logs_are_written_as_is_wanted(tmp_path: Path) -> None:
    def rendered(wanted: AccessLogs, *, piped: bool = True) -> str:
        made = replace(config(tmp_path), access_logs=wanted, piped=piped)
        return made.render(LAYOUT, Identity("0123456789ab", 3, 7))["haproxy.cfg"]

    assert "log stdout" in rendered(AccessLogs.ON)
    assert "dontlog-normal" not in rendered(AccessLogs.ON)
    assert "dontlog-normal" in rendered(AccessLogs.ERRORS)
    assert "log stdout" not in rendered(AccessLogs.OFF)
    assert rendered(AccessLogs.ON, piped=False) == rendered(AccessLogs.OFF)


def test_fingerprint_follows_whether_its_output_is_read(tmp_path: Path) -> None:
    made = replace(config(tmp_path), access_logs=AccessLogs.ON)
    first, made.piped = made.fingerprint, False
    assert made.fingerprint == config(tmp_path).fingerprint != first
