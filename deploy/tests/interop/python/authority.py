"""An authorization server: django-oauth-toolkit on 127.0.0.1, with a database in memory.

    PORT=4000 python3 authority.py

POST /login gives what an authorization code flow of the app would end in.
"""

import datetime
import os
import sys

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a client secret is hashed at every call
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:as?mode=memory&cache=shared"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OAUTH2_PROVIDER={
        "SCOPES": {"user/*.rs": "what a user may read", "introspection": "ask about tokens"},
        "OIDC_ENABLED": False,
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402
from wsgiref.simple_server import WSGIRequestHandler, make_server  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402


def login(request):
    """Issue an access token and a refresh token for berta."""
    app = Application.objects.get(client_id="app")
    user = User.objects.get(username="berta")
    made = AccessToken.objects.create(
        user=user,
        application=app,
        scope="user/*.rs",
        token=f"access-{AccessToken.objects.count()}",
        expires=timezone.now() + datetime.timedelta(seconds=300),
    )
    refresh = RefreshToken.objects.create(user=user, application=app, token=f"refresh-{made.pk}", access_token=made)
    return JsonResponse({"access_token": made.token, "refresh_token": refresh.token})


urlpatterns = [path("login", login), path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_):
        pass


def main():
    call_command("migrate", verbosity=0)
    User.objects.create_user("berta")
    for client_id in ("app", "sidecar"):
        Application.objects.create(
            client_id=client_id,
            client_secret=client_id + "-secret",
            client_type="confidential",
            authorization_grant_type="client-credentials",
        )
    server = make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application(), handler_class=Quiet)
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
