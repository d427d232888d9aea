"""Requests as log lines: `at=info method=GET path="/" host=… request_id=… fwd=… instance=web.1 connect=1ms …`.

Errors carry a code of the list that Heroku made known, so that people find what they know.
"""

from collections.abc import Mapping

from controller.logs.parts import process_of
from router.access import AccessLine, Fault

_CODES: Mapping[Fault, tuple[str, str]] = {
    Fault.NO_TARGET: ("H10", "No instance takes requests: crashed, or not ready yet"),
    Fault.ANSWER_TIMEOUT: ("H12", "Request timeout"),
    Fault.NO_ANSWER: ("H13", "Connection closed without response"),
    Fault.IDLE: ("H15", "Idle connection"),
    Fault.BAD_ANSWER: ("H17", "Poorly formatted HTTP response"),
    Fault.CUT_OFF: ("H18", "Answer broken off by the instance"),
    Fault.QUEUE_TIMEOUT: ("H11", "Too many requests wait for the instance"),
    Fault.CONNECT_TIMEOUT: ("H19", "Instance does not take the connection in time"),
    Fault.REFUSED: ("H21", "Instance refuses the connection"),
    Fault.CLIENT_GONE: ("H27", "Client interrupted the request"),
    Fault.CLIENT_TIMEOUT: ("H28", "Client sent its request too slowly"),
    Fault.BAD_REQUEST: ("H31", "Request is no valid HTTP"),
    Fault.MAINTENANCE: ("H80", "Maintenance mode"),
    Fault.ROUTER: ("H99", "The router could not handle the request"),
}
NONE_WANTED = ("H14", "No instance is wanted: stopped, or scaled to none")


def text_of(line: AccessLine, *, wanted: bool = True) -> str:
    """`wanted`: whether the service should have instances that take requests."""
    at = "at=info"
    if line.fault is not None:
        nobody = line.fault is Fault.NO_TARGET and not wanted
        code, words = NONE_WANTED if nobody else _CODES[line.fault]
        at = f'at=error code={code} desc="{words}"'
    return (
        f'{at} method={line.method} path="{line.path}" host={line.host} request_id={line.request_id or "-"} '
        f"fwd={line.client} instance={process_of(line.target) or line.target or '-'} "
        f"connect={line.connect}ms service={line.service}ms status={line.status} bytes={line.size}"
    )
