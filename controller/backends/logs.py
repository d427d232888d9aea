"""Which files hold what instances printed: `<instance id>.log` in the folder of their service."""

from pathlib import Path

from controller.backends.labels import process_name, split_id
from controller.logs.files import Files, FileStream, in_thread
from controller.logs.parts import Origin
from controller.logs.query import LogQuery


def instance_logs(folder: Path, query: LogQuery) -> FileStream:
    """The lines of a service's instances, that are and were. `folder` need not exist yet."""

    async def find() -> Files:
        return await in_thread(lambda: _files(folder, query))

    return FileStream(query, find)


def _files(folder: Path, query: LogQuery) -> Files:
    found = {}
    for path in folder.glob("*.log"):
        name = path.name.removesuffix(".log")
        parts = split_id(name, deployment=query.deployment, service=query.service)
        if parts is not None:
            process = process_name(parts[0], query.service, parts[1])
            if query.fits(name, process):
                found[path] = Origin(name, process)
    return found
