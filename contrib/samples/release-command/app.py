"""A web app whose version serves only once its release command has succeeded."""

import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        page = f"<h1>Migrated before it served, by the {os.environ.get('MIGRATION', 'first')} version</h1>\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


signal.signal(signal.SIGTERM, signal.SIG_DFL)
ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
