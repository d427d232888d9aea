"""A small file server for static sites. Standard library only; run in the site's folder.

Serves `static.json`'s "root", else public/ when that has an index.html, else the folder itself (then
without Procfile, static.json and anything whose name begins with a dot). Listens on PORT. Answers GET
and HEAD, with ETag and If-None-Match, single byte ranges, 404.html, and a redirect to the slash for
folders. Where no file is, static.json may say what stands in: "clean_urls" and "routes". SIGTERM lets
the requests in work end.
"""

import hashlib
import http.server
import json
import mimetypes
import os
import re
import signal
import stat
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

HIDDEN = {"procfile", "static.json"}
CHUNK = 256 * 1024


class Misconfigured(Exception):
    """static.json is wrong; the words are for the site's author."""


class Site(NamedTuple):
    """What static.json says."""

    root: Path
    """The folder that is served."""
    clean_urls: bool = False
    """/page is page.html."""
    routes: "tuple[tuple[re.Pattern[str], str], ...]" = ()
    """Paths that no file has, and the file that is shown for them."""

    def stand_ins(self, parts: "list[str]") -> "Iterator[Path]":
        if self.clean_urls and parts:
            yield self.root.joinpath(*parts[:-1], f"{parts[-1]}.html")
        for pattern, file in self.routes:
            if pattern.fullmatch("/" + "/".join(parts)):
                yield self.root / file


def read_site(folder: Path) -> Site:
    """Raises Misconfigured."""
    settings = folder / "static.json"
    if not settings.is_file():
        return Site(folder / "public" if (folder / "public/index.html").is_file() else folder)
    try:
        content = json.loads(settings.read_text(encoding="utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"static.json is no valid JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("root", "."), str):
        raise Misconfigured('static.json must be of the form {"root": "FOLDER"}.')
    root = inside_site(folder, content.get("root", "."))
    if not root.is_dir():
        raise Misconfigured(f"static.json: {content['root']!a} is no folder of this site.")
    clean_urls = content.get("clean_urls", False)
    if not isinstance(clean_urls, bool):
        raise Misconfigured("static.json: clean_urls must be true or false.")
    return Site(root, clean_urls, read_routes(root, content.get("routes", {})))


def read_routes(root: Path, content: object) -> "tuple[tuple[re.Pattern[str], str], ...]":
    if not isinstance(content, dict):
        raise Misconfigured('static.json: routes must be of the form {"/**": "index.html"}.')
    found = []
    for path, file in content.items():
        if not isinstance(file, str) or not inside_site(root, file).is_file():
            raise Misconfigured(f"static.json: the route {path!a} must name a file below the root.")
        # `*` is any name, `**` anything.
        parts = re.split(r"(\*+)", path)
        pattern = "".join(
            {"*": "[^/]*"}.get(part, ".*") if part[:1] == "*" else re.escape(part) for part in parts
        )
        found.append((re.compile(pattern), file))
    return tuple(found)


def inside_site(folder: Path, name: str) -> Path:
    """Raises Misconfigured where it is none that could be served."""
    try:
        found = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):
        found = Path("/")
    if folder.resolve() not in (found, *found.parents):
        raise Misconfigured(f"static.json: {name[:60]!a} is no folder of this site.")
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mooring-static"
    sys_version = ""
    timeout = 60
    site: Site
    etags: ClassVar["dict[tuple[str, int, int], str]"] = {}

    server: "Server"

    def do_GET(self) -> None:
        with self.server.working():
            self.answer()

    do_HEAD = do_GET

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        parts = [part for part in urllib.parse.unquote(path).split("/") if part]
        if not allowed(parts):
            self.not_found()
            return
        file = self.site.root.joinpath(*parts)
        candidates = list(self.site.stand_ins(parts))
        if os.path.isdir(file):  # noqa: PTH112  # False, not an error, for a name that is too long
            if not path.endswith("/"):
                self.redirect(parts, query)
                return
            candidates.insert(0, file / "index.html")
        elif not path.endswith("/"):
            candidates.insert(0, file)
        if not any(self.send(each, 200) for each in candidates):
            self.not_found()

    def redirect(self, parts: "list[str]", query: str) -> None:
        target = "/" + "/".join(urllib.parse.quote(part, safe="") for part in parts) + "/"
        self.send_response(301)
        self.send_header("Location", f"{target}?{query}" if query else target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def not_found(self) -> None:
        if not self.send(self.site.root / "404.html", 404):
            self.send_error(404)

    def send(self, path: Path, status: int) -> bool:
        """False where there is no such file, and nothing is sent."""
        try:
            file = inside(self.site.root, path).open("rb")
        except (OSError, ValueError):
            return False
        with file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                return False
            etag = self.etag(path, info)
            if status == 200 and etag in re.findall(r'"[^"]*"', self.headers.get("If-None-Match", "")):
                self.send_response(304)
                self.send_header("ETag", etag)
                self.end_headers()
            else:
                self.send_content(path, file, info.st_size, etag, status)
        return True

    def send_content(self, path: Path, file: BinaryIO, size: int, etag: str, status: int) -> None:
        begin, end = 0, size
        if status == 200 and self.headers.get("If-Range", etag) == etag:
            wanted = byte_range(self.headers.get("Range"), size)
            if wanted == ():
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if wanted:
                begin, end = wanted
                status = 206
        self.send_response(status)
        self.send_header("Content-Type", content_type(path))
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", etag)
        self.send_header("Cache-Control", "no-cache")
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            file.seek(begin)
            while begin < end:
                data = file.read(min(CHUNK, end - begin))
                if not data:
                    self.close_connection = True
                    break
                self.wfile.write(data)
                begin += len(data)

    def etag(self, path: Path, info: os.stat_result) -> str:
        """From the content: a new release keeps what did not change in browsers' caches."""
        key = (str(path), info.st_size, info.st_mtime_ns)
        if key not in self.etags:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while data := file.read(CHUNK):
                    digest.update(data)
            self.etags[key] = f'"{digest.hexdigest()[:32]}"'
        return self.etags[key]


def allowed(parts: "list[str]") -> bool:
    """Whether these path segments may be asked for at all."""
    if any("\0" in part or "/" in part or part == ".." for part in parts):
        return False
    if any(part.startswith(".") and part != ".well-known" for part in parts):
        return False
    return not (len(parts) == 1 and parts[0].lower() in HIDDEN)


def inside(root: Path, path: Path) -> Path:
    """The real path; ValueError when a link leads out of the site."""
    real = path.resolve(strict=True)
    real.relative_to(root)
    if any(part.startswith(".") and part != ".well-known" for part in real.relative_to(root).parts):
        raise ValueError(real)
    return real


def byte_range(header: "str | None", size: int) -> "tuple[int, int] | tuple[()] | None":
    """First and one past the last byte; () when it can't be satisfied; None for the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or match[1] == match[2] == "":
        return None
    if match[1] == "":
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < begin:
            return None
    return (begin, end) if begin < end else ()


def content_type(path: Path) -> str:
    kind, encoding = mimetypes.guess_type(path.name)
    if encoding:
        return "application/octet-stream"
    kind = kind or "application/octet-stream"
    text = kind.startswith("text/") or kind in {"application/javascript", "application/json", "image/svg+xml"}
    return f"{kind}; charset=utf-8" if text else kind


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("", port), Handler)
        self._working = 0
        self._changed = threading.Condition()

    @contextmanager
    def working(self) -> "Iterator[None]":
        """Around each request: a stop waits for requests in work, not for idle connections."""
        with self._changed:
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._working == 0, timeout=seconds)


def serve(site: Site, port: int) -> None:
    Handler.site = site._replace(root=site.root.resolve())
    mimetypes.init(files=[])
    for kind, ending in (("font/woff2", ".woff2"), ("image/webp", ".webp"), ("image/avif", ".avif")):
        mimetypes.add_type(kind, ending)
    server = Server(port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Serving {site.root} on port {port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.wait_until_idle(25)


def main(arguments: "list[str]") -> None:
    if arguments[:1] == ["--check"]:
        site = Path(arguments[1]).resolve()
        folder = read_site(site).root.relative_to(site)
        print(f"       Serving {'the whole repository' if folder == Path() else folder}")
    else:
        serve(read_site(Path.cwd()), int(os.environ["PORT"]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Misconfigured as error:
        print(f" !     {error}", flush=True)
        sys.exit(1)
