"""`Account`: who is logged in to the Hub, a login button, and the owners one may publish for. It never holds a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from ...errors import HubError
from ...hub import client as hub
from ...hub.answers import as_hub_errors
from ...hub.client import MAY_ONLY_READ, account, client, kept_token, log_in, with_retries
from .. import parts


class Account(widgets.VBox):
    """Shows who is logged in; the form places `owner`, the choice of the repository's owner.

    Attributes:
        user: the user's name; "" if nobody is logged in. may_write: False with a read-only token.
        page: shows the Hub client's own login, with a code to type on the Hub's page, never a token.
    """

    def __init__(self, endpoint: str | None, changed: Callable[[], None]) -> None:
        self.endpoint, self.user, self.may_write, self._changed = endpoint, "", False, changed
        self.who, self.page = parts.note(), widgets.HTML()
        self.button = parts.button("Log in", self._clicked, tooltip="log in to the Hub, or check again who is")
        self.owner = parts.control(widgets.Dropdown, "Owner", options=[("?", "")])
        super().__init__([parts.row(self.button, self.who), self.page])

    def refresh(self) -> None:
        """Ask the Hub whose token the client has stored, if any."""
        try:
            if kept_token() is None:
                return self._show(None, "nobody is logged in: nothing can be published yet", "warning")
            api = client(None, self.endpoint)
            with as_hub_errors("asking who is logged in", api):
                found = with_retries(lambda: account(api), patience=0)  # no retries: the panel is waiting to be shown
        except HubError as error:
            return self._show(None, str(error), "error")
        if not found.may_write:
            return self._show(found, f"{found.name} is logged in, but {MAY_ONLY_READ}", "warning")
        return self._show(found, f"{found.name} is logged in", "good")

    def log_in(self) -> str | None:
        """Log in as `ti.log_in` does, showing the client's login here; returns the user's name, or None if nobody logged in.

        It waits until the login is done on the Hub's page; interrupting the kernel ends that.

        Raises:
            HubError: the token is not valid, no answer.
        """
        parts.say(self.who, "logging in: follow what is shown below; interrupting the kernel ends it")
        self.page.value, name = "", None
        try:
            with _shown_in(self.page), as_hub_errors("logging in", client(None, self.endpoint)):
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
        if name is None:  # the client has shown why, or asks for the login elsewhere
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
            return  # `log_in` has shown it

    def _show(self, found: hub.Account | None, text: str, kind: str) -> None:
        """Show the text, and offer the owners this user may publish for."""
        self.user, self.may_write = (found.name, found.may_write) if found is not None else ("", False)
        organisations = found.organisations if found is not None else ()
        options = [(f"{self.user} (you)", self.user), *((f"{name} (organisation)", name) for name in organisations)]
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
    """Within the block, displayed HTML appears in `where`: JupyterLab does not show what a click's callback displays.

    An `Output` widget would do the same, but Notebook 6.5 with widgetsnbextension 3.6.10, Colab's versions, shows no panel
    that has one ("_deserialize_state is not a function").
    """
    from IPython import get_ipython

    publisher: Any = getattr(get_ipython(), "display_pub", None)
    if not hasattr(publisher, "register_hook"):  # not in a kernel
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
