import os

from django.conf import settings
from django.http import HttpResponse
from django.urls import path, re_path
from django.views.static import serve


def index(_request):
    return HttpResponse(f"<h1>{os.environ.get('GREETING', 'Hello from Django')}</h1>\n")


urlpatterns = [
    path("", index),
    re_path("^static/(?P<path>.*)$", serve, {"document_root": settings.STATIC_ROOT}),
]
