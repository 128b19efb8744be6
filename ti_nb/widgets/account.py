"""`Account`: who is logged in to the Hub, a button to log in, and the places one may write to. No token passes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from ..hub import HubError, client, in_words, log_in
from . import parts

MAY_ONLY_READ = "your token may only read: make one that may write at https://huggingface.co/settings/tokens"


class Account(widgets.VBox):
    """Says who is logged in; the panel puts `owner`, whose repository it shall be, where it wants.

    Attributes:
        user: the name of who is logged in; "" for nobody. may_write: not with a token that may only read.
        page: where the client shows its own login. It holds a code to type on the Hub's page, never a token.
    """

    def __init__(self, endpoint: str | None, changed: Callable[[], None]) -> None:
        self.endpoint, self.user, self.may_write, self._changed = endpoint, "", False, changed
        self.who, self.page = parts.note(), widgets.Output()
        self.button = parts.button("Log in", self._clicked, tooltip="log in to the Hub, or look again who is")
        self.owner = parts.control(widgets.Dropdown, "Owner", options=[("?", "")])
        super().__init__([parts.row(self.button, self.who), self.page])

    def refresh(self) -> None:
        """Ask the Hub whose token the client has, if it has one."""
        from huggingface_hub import get_token

        if get_token() is None:
            return self._show({}, "nobody is logged in: nothing can be published yet", "warning")
        try:
            api = client(None, self.endpoint)
            with in_words("asking who is logged in", api):
                found: dict[str, Any] = api.whoami()
        except HubError as error:
            return self._show({}, str(error), "error")
        if not _may_write(found):
            return self._show(found, f"{found['name']} is logged in, but {MAY_ONLY_READ}", "warning")
        return self._show(found, f"{found['name']} is logged in", "good")

    def log_in(self) -> str | None:
        """Log in as `ti.log_in` does, the client's page shown here; returns the user's name, or None if nobody logged in.

        It waits for the answer from the Hub's page; interrupting the kernel ends that.

        Raises:
            HubError: the token is not valid, no answer.
        """
        parts.say(self.who, "logging in: follow what is shown below; interrupting the kernel ends it")
        self.page.outputs = ()
        name, failed = None, None
        with self.page:  # which would show a traceback of its own
            try:
                with in_words("logging in", client(None, self.endpoint)):
                    name = log_in(endpoint=self.endpoint)
            except BaseException as error:
                failed = error
        if failed is not None:
            self._show({}, "nobody is logged in", "warning")
            if isinstance(failed, HubError) or not isinstance(failed, Exception):
                raise failed
            raise HubError(f"logging in did not work ({type(failed).__name__}): try again, or set HF_TOKEN") from failed
        if name is not None:
            self.page.outputs = ()
        self.refresh()
        if name is None:
            parts.say(self.who, "nobody is logged in yet. Nothing to see below? Run ti.log_in() in a cell", "warning")
        return name

    def _clicked(self) -> None:
        try:
            self.log_in()
        except HubError as error:
            parts.say(self.who, str(error), "error")
        except KeyboardInterrupt:
            parts.say(self.who, "nobody is logged in: the login was interrupted", "warning")

    def _show(self, found: dict[str, Any], text: str, kind: str) -> None:
        """Say it, and offer the places where this user may write."""
        self.user, self.may_write = str(found.get("name") or ""), _may_write(found)
        places = [str(org["name"]) for org in found.get("orgs") or () if org.get("roleInOrg") != "read"]
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


def _may_write(found: dict[str, Any]) -> bool:
    token = (found.get("auth") or {}).get("accessToken") or {}
    return bool(found) and token.get("role") != "read"
