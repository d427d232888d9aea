"""Who asks: every route but the health check takes an `Asker`."""

import logging
import math
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controller.api.limits import FailedLogins
from controller.errors import Throttled, Unauthenticated
from controller.operations.access import Actor
from controller.operations.credentials import CredentialOperations

log = logging.getLogger(__name__)

_bearer = HTTPBearer(auto_error=False, description="A token as `moor tokens:create` prints it.")


class Gate:
    """Lets in who has a token. One for each app, at `app.state.gate`."""

    def __init__(self, credentials: CredentialOperations, failures: FailedLogins) -> None:
        self._credentials = credentials
        self._failures = failures

    def let_in(self, secret: str | None, address: str) -> Actor:
        """Raises Unauthenticated, Throttled."""
        try:
            return self._credentials.authenticate(secret)
        except Unauthenticated as error:
            wait = self._failures.add(address)
            if wait is not None:
                raise Throttled(
                    f"Too many requests without a valid token came from {address}: "
                    f"try again in {math.ceil(wait)} s."
                ) from error
            log.warning("login failed address=%s", address)
            raise


async def _asker(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    gate: Gate = request.app.state.gate
    address = request.client.host if request.client else "an unknown address"
    return gate.let_in(given.credentials if given else None, address)


Asker = Annotated[Actor, Depends(_asker)]
