"""Settings from flags, environment and file."""

from pathlib import Path

import pytest

from controller.config import load_settings
from controller.errors import InvalidInput
from router.access import AccessLogs


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("on", AccessLogs.ON),
        ("off", AccessLogs.OFF),
        ("errors", AccessLogs.ERRORS),
        ("'on'", AccessLogs.ON),
        ("false", AccessLogs.OFF),
    ],
)
def test_router_logs_are_read_from_a_file_though_yaml_takes_on_for_true(
    tmp_path: Path, written: str, meant: AccessLogs
) -> None:
    (tmp_path / "settings.yaml").write_text(f"router-logs: {written}\nlog-limit: 64M\n")
    settings = load_settings(flags={}, environ={}, file=tmp_path / "settings.yaml")
    assert (settings.router_logs, settings.log_limit) == (meant, 64 * 1024**2)


def test_other_words_for_router_logs_are_refused_with_those_that_are_fit() -> None:
    with pytest.raises(InvalidInput, match="one of on, errors and off"):
        load_settings(flags={"router_logs": "some"}, environ={})
    assert load_settings(flags={}, environ={"MOOR_ROUTER_LOGS": "errors"}).router_logs is AccessLogs.ERRORS
