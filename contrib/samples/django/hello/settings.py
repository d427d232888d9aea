"""A Django app without a database."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "for this sample alone")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "hello.urls"
INSTALLED_APPS = ["django.contrib.staticfiles", "hello"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "collected"
WSGI_APPLICATION = "hello.wsgi.application"
