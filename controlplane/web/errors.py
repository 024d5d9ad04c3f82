"""The one way a request is turned down: a status, a code and its figures. It holds no sentence; the texts do."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that may not be. ``code`` names the sentence ``web.error.<code>``."""

    def __init__(self, status: int, code: str, **figures: Any) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.figures = figures


class GoTo(Exception):  # noqa: N818  # it is no error: the browser is sent elsewhere
    """The browser has to go to another page of this house first."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url
