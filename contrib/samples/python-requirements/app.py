"""A web app with real dependencies: Flask, served by waitress."""

import os

from flask import Flask
from waitress import serve

app = Flask(__name__)


@app.get("/")
def index():
    return f"<h1>{os.environ.get('GREETING', 'Hello from Flask')}</h1>\n"


if __name__ == "__main__":
    serve(app, port=int(os.environ.get("PORT", "8000")))
