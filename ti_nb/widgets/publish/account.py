"""`Account`: who is logged in to the Hub, a button to log in, and the places one may write to. No token passes here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from ...errors import HubError
from ...hub import client as hub
from ...hub.answers import in_words
from ...hub.client import MAY_ONLY_READ, account, client, kept_token, log_in, patiently
from .. import parts


class Account(widgets.VBox):
    """Says who is logged in; the panel puts `owner`, whose repository it shall be, where it wants.

    Attributes:
        user: the name of who is logged in; "" for nobody. may_write: not with a token that may only read.
        page: where the client shows its own login. It holds a code to type on the Hub's page, never a token.
    """

    def __init__(self, endpoint: str | None, changed: Callable[[], None]) -> None:
        self.endpoint, self.user, self.may_write, self._changed = endpoint, "", False, changed
        self.who, self.page = parts.note(), widgets.HTML()
        self.button = parts.button("Log in", self._clicked, tooltip="log in to the Hub, or look again who is")
        self.owner = parts.control(widgets.Dropdown, "Owner", options=[("?", "")])
        super().__init__([parts.row(self.button, self.who), self.page])

    def refresh(self) -> None:
        """Ask the Hub whose token the client has, if it has one."""
        try:
            if kept_token() is None:
                return self._show(None, "nobody is logged in: nothing can be published yet", "warning")
            api = client(None, self.endpoint)
            with in_words("asking who is logged in", api):
                found = patiently(lambda: account(api), patience=0)  # while a panel is made
        except HubError as error:
            return self._show(None, str(error), "error")
        if not found.may_write:
            return self._show(found, f"{found.name} is logged in, but {MAY_ONLY_READ}", "warning")
        return self._show(found, f"{found.name} is logged in", "good")

    def log_in(self) -> str | None:
        """Log in as `ti.log_in` does, the client's page shown here; returns the user's name, or None if nobody logged in.

        It waits for the answer from the Hub's page; interrupting the kernel ends that.

        Raises:
            HubError: the token is not valid, no answer.
        """
        parts.say(self.who, "logging in: follow what is shown below; interrupting the kernel ends it")
        self.page.value, name = "", None
        try:
            with _shown_in(self.page), in_words("logging in", client(None, self.endpoint)):
                name = log_in(endpoint=self.endpoint)
        except HubError:
            self.page.value = ""
            self._show(None, "nobody is logged in", "warning")
            raise
        except BaseException:
            self.page.value = ""
            self._show(None, "nobody is logged in: the login was interrupted", "warning")
            raise
        self.refresh()
        if name is None:  # the client has said why, or asks in a way of its own
            parts.say(self.who, "nobody is logged in yet. Nothing to see below? Run ti.log_in() in a cell", "warning")
        else:
            self.page.value = ""
        return name

    def _clicked(self) -> None:
        try:
            self.log_in()
        except HubError as error:
            parts.say(self.who, str(error), "error")
        except KeyboardInterrupt:
            return  # said

    def _show(self, found: hub.Account | None, text: str, kind: str) -> None:
        """Say it, and offer the places where this user may write."""
        self.user, self.may_write = (found.name, found.may_write) if found is not None else ("", False)
        places = found.organisations if found is not None else ()
        options = [(f"{self.user} (you)", self.user), *((f"{name} (organisation)", name) for name in places)]
        options = options if self.user else [("known once you are logged in", "")]
        before = self.owner.value
        if tuple(self.owner.options) != tuple(options):
            self.owner.options = options
            self.owner.value = before if before in [value for _, value in options] else options[0][1]
        self.owner.disabled = not self.user
        self.button.description = "Check login" if self.user else "Log in"
        parts.say(self.who, text, kind)
        self._changed()


@contextmanager
def _shown_in(where: widgets.HTML) -> Iterator[None]:
    """HTML that is displayed meanwhile appears in `where`: what a click displays is seen nowhere in JupyterLab.

    An `Output` widget would do the same, but Notebook 6.5 with widgetsnbextension 3.6.10, of Colab's list, shows no panel
    that has one ("_deserialize_state is not a function").
    """
    from IPython import get_ipython

    publisher: Any = getattr(get_ipython(), "display_pub", None)
    if not hasattr(publisher, "register_hook"):  # no kernel
        yield
        return

    def take(message: dict[str, Any]) -> dict[str, Any] | None:
        shown = message["content"].get("data", {}).get("text/html")
        if shown is None:
            return message
        where.value += shown
        return None

    publisher.register_hook(take)
    try:
        yield
    finally:
        publisher.unregister_hook(take)
