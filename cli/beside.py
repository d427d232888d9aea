"""What lies beside a service file: the Procfile and the app.json of its services' code, read before it is sent."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cli.folder import Folder
from cli.uploading import Source
from controller.errors import InvalidInput
from controller.servicefile.complaints import Complaint


def check_beside(folder: Folder, sources: Iterable[Source]) -> Iterator[Complaint]:
    """What is not acted on of them. Raises InvalidInput where one can't be read, as a push of it would be refused."""
    from controller.servicefile.appjson import APP_JSON, read_app_json

    for place in dict.fromkeys(_folder_of(each) for each in sources):
        if (folder.path / place / APP_JSON).is_file():
            name = str(place / APP_JSON)
            yield from read_app_json(folder.read(name), name).notes
        _check_procfile(folder, place)


def _check_procfile(folder: Folder, place: Path) -> None:
    from builder.base import BuildFailed
    from builder.procfile import FILE, parse_procfile

    if (folder.path / place / FILE).is_file():
        name = str(place / FILE)
        try:
            parse_procfile(folder.read(name).encode())
        except BuildFailed as error:
            raise InvalidInput("procfile", f"{name}: {error}") from error


def _folder_of(source: Source) -> Path:
    path, _, subfolder = source.place.partition(":")
    return source.base / Path(path).expanduser() / subfolder.strip("/")
