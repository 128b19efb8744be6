"""Access to the Hugging Face Hub: login, names and addresses, retries and timeouts.

Tokens are left to the client: none is shown, stored or put into a message here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from ..errors import HubError, InvalidValue
from ..host import frontend
from ..host.arguments import checked
from ..host.plain_text import brief, warn
from .answers import as_hub_errors, in_minutes, is_busy, is_timeout, is_unreachable, retry_after, root_error

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
PAGES = ("huggingface.co", "hf.co")
MAX_TRIES, MAX_TIMEOUTS = 5, 2  # attempts while the Hub says to try again; while it does not answer
FIRST_WAIT = 1.0  # seconds before the first retry, doubling; the Hub may ask for longer
MAX_WAIT = 400.0  # seconds in all; the Hub's rate limits have windows of 300
READ_TIMEOUT, WRITE_TIMEOUT = 4.0, 30.0  # seconds without a byte
MAY_ONLY_READ = "your token may only read: make one that may write at https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Account:
    """Who is logged in: the user, the organisations they may write to, and whether the token may write at all."""

    name: str
    organisations: tuple[str, ...]
    may_write: bool


def account(api: HfApi) -> Account:
    """The account of the client's token.

    Raises:
        HubError: it has no token. The client's errors: it is not valid, no answer.
    """
    if api.token is None and kept_token() is None:
        raise HubError("you are not logged in: ti.log_in(), or set HF_TOKEN (in Colab among the secrets)")
    who: dict[str, Any] = api.whoami()
    if not isinstance(who["name"], str):
        raise TypeError("it does not say who you are")
    places = [org["name"] for org in who.get("orgs") or () if org.get("roleInOrg") != "read"]
    token = (who.get("auth") or {}).get("accessToken") or {}
    return Account(who["name"], tuple(place for place in places if isinstance(place, str)), token.get("role") != "read")


def kept_token() -> str | None:
    """The token that the client finds: in the environment, of a login, or in Colab's secrets.

    Raises:
        HubError: there is one, but it can't be read.
    """
    from huggingface_hub import get_token

    try:
        token: str | None = get_token()
        return token
    except Exception as error:
        where = f" in {str(error.filename)!r}" if isinstance(error, OSError) and error.filename else ""
        raise HubError(
            f"the token that an earlier login left{where} can't be read ({type(error).__name__}): take that file away and "
            "log in again (ti.log_in), or set HF_TOKEN"
        ) from None


@checked()
def log_in(token: str | None = None, *, endpoint: str | None = None) -> str | None:
    """Log in to the Hub; returns the user's name, or None while the login form is shown.

    A token from the environment, an earlier login or Colab's secrets (HF_TOKEN) is used. Without one, or if that of an
    earlier login has expired, the client's login form is shown.

    Raises:
        HubError: `token`, or the one in HF_TOKEN, is not valid; no answer.

    Examples:
        >>> import ti_nb as ti
        >>> ti.log_in()  # doctest: +SKIP
        'your-name'
    """
    from huggingface_hub import login

    api = client(token, endpoint)
    with as_hub_errors("logging in", api):
        if token is not None:
            with_retries(lambda: login(token=token))
        elif (before := kept_token()) is None or _is_expired(api):
            with request_timeout(READ_TIMEOUT, repeats=True):
                _show_login()
            if kept_token() in (None, before):  # the form is still open
                return None
        return with_retries(lambda: account(api)).name


def _is_expired(api: HfApi) -> bool:
    """Whether the stored token is no longer valid; one in HF_TOKEN raises, as only the user can change it."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with_retries(api.whoami)
    except HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code == 401
        if refused and not os.environ.get("HF_TOKEN"):
            return True
        raise
    return False


def _show_login() -> None:
    """Show the client's login: a prompt in a terminal, else a form."""
    from huggingface_hub import login, notebook_login

    show = login if frontend.frontend() == "terminal" else notebook_login
    show(skip_if_logged_in=False)


@dataclass(frozen=True)
class Address:
    """A repository, with the revision and file that its URL names."""

    repo: str
    revision: str | None = None
    file: str | None = None


def address(text: str, api: HfApi) -> Address:
    """The repository that "owner/name", or a URL on this Hub, means.

    Raises:
        ValueError: it is neither.
    """
    hosts = "|".join(re.escape(page.split("://")[-1].rstrip("/")) for page in (api.endpoint, *PAGES))
    path = re.sub(rf"^(?:https?://)?(?:www\.)?(?:{hosts})/(?=[^/]+/[^/])", "", text.strip(), flags=re.IGNORECASE)
    if "://" in path:
        raise InvalidValue(f"{text!r} is a page of {'/'.join(path.split('/')[:3])}, not of the Hub ({api.endpoint})")
    match = re.fullmatch(r"([^/]+/[^/]+?)/?(?:/(tree|blob|resolve)/([^/]+)(?:/(.+))?)?", path)
    if match is None:
        return Address(repository(text))
    name, kind, revision, file = match.groups()
    return Address(repository(name), revision, unquote(file.split("?")[0]) if file and kind != "tree" else None)


def repository(name: str) -> str:
    """`name`, once checked to be a valid "owner/name".

    Raises:
        ValueError: it is not.
    """
    part = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w])?"
    if not re.fullmatch(rf"{part}/{part}", name) or ".." in name or "--" in name or name.endswith(".git"):
        raise InvalidValue(
            f"{name!r} is no repository's name: write 'owner/name', of letters, digits and single '-', '_' or '.'"
        )
    return name


def client(token: str | None, endpoint: str | None) -> HfApi:
    """huggingface_hub's client; the token defaults to the login's, the endpoint to HF_ENDPOINT."""
    from huggingface_hub import HfApi

    from .._version import __version__

    used = token or kept_token()
    if used is not None and not re.fullmatch(r"[!-~]+", used):  # the client's own error would show it
        raise HubError("your token has a space, a line break or another odd character in it: copy it again")
    return HfApi(endpoint=endpoint, token=token, library_name="ti_nb", library_version=__version__)


def with_retries(
    call: Callable[[], T],
    landed: Callable[[], T | None] = lambda: None,
    *,
    patience: float | None = None,
    within: float | None = None,
) -> T:
    """Call with retries, while the Hub is busy or does not answer.

    Args:
        landed: called after a failure; returns the result if the lost call did its work all the same, else None.
        patience: seconds to wait in all; by default `MAX_WAIT`. within: timeout in seconds; by default `READ_TIMEOUT`.
    """
    left, timeouts = MAX_WAIT if patience is None else patience, 0
    for tried in range(MAX_TRIES):
        try:
            with request_timeout(READ_TIMEOUT if within is None else within):
                return call()
        except Exception as error:
            root = root_error(error)
            timeouts += is_timeout(root)
            wait = _wait(root, tried)
            if wait is None or wait > left or tried == MAX_TRIES - 1 or timeouts == MAX_TIMEOUTS:
                raise
            answer = getattr(root, "response", None)
        did = f"answered {answer.status_code}" if answer is not None else "did not answer"
        warn(f"the Hub {did}: trying again in {in_minutes(wait)}")
        time.sleep(wait)
        left -= wait
        if (done := landed()) is not None:
            return done
    raise AssertionError("unreachable")


def _wait(root: Any, tried: int) -> float | None:
    """Seconds to wait before trying again; None if a retry makes no sense."""
    response, backing_off = getattr(root, "response", None), FIRST_WAIT * 2.0**tried
    if response is None:
        return backing_off if is_unreachable(root) else None
    return max(backing_off, retry_after(response) or 0.0) if is_busy(response) else None


@contextmanager
def request_timeout(seconds: float, *, repeats: bool = False) -> Iterator[None]:
    """Within the block requests time out after `seconds` of silence; the client would wait, or retry unseen, for ever.

    With `repeats` it may poll, as while somebody is logging in.
    """
    from huggingface_hub import get_session

    hooks, watch = get_session().event_hooks, _RequestWatch(seconds, repeats)
    hooks["request"].append(watch.asked)
    hooks["response"].append(watch.answered)
    try:
        yield
    finally:
        hooks["request"].remove(watch.asked)
        hooks["response"].remove(watch.answered)


class _RequestWatch:
    """httpx hooks: set a timeout on requests without one, and stop the client's own retries of a request that timed out."""

    def __init__(self, seconds: float, repeats: bool = False) -> None:
        self.seconds, self.repeats, self.since = seconds, repeats, 0.0
        self.last: tuple[str | None, ...] = ()

    def asked(self, request: Any) -> None:
        limits = request.extensions.get("timeout") or dict.fromkeys(("connect", "read", "write", "pool"))
        if not any(limits.values()):
            request.extensions["timeout"] = dict.fromkeys(limits, self.seconds)
        this = (request.method, str(request.url), request.headers.get("range"))
        if not self.repeats and this == self.last and time.monotonic() - self.since >= self.seconds:
            raise TimeoutError(f"no answer within {self.seconds:.0f} s")
        self.last, self.since = this, time.monotonic()

    def answered(self, _: Any) -> None:
        self.last = ()


def head_commit(info: Any) -> str:
    """The id of a repository's latest commit."""
    if not isinstance(info.sha, str) or not info.sha:
        raise TypeError(f"it does not say at which commit {info.id!r} is")
    return info.sha


def listed(names: Iterable[str]) -> str:
    """The first few of a repository's files, in words."""
    shown = [brief(name, 80) for name in names if name != ".gitattributes"]
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ", ".join(shown[:4]) + more if shown else "no files"
