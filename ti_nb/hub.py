"""The Hugging Face Hub: logging in, asking again where that helps, and saying in words what went wrong.

Tokens are the client's business; none is ever shown, stored or put into a message here.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from . import platforms
from .checks import checked
from .errors import NotAConcept

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
PAGES = ("https://huggingface.co", "https://hf.co")
TRIES = 5  # of a request that the Hub says to repeat, or does not answer
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between two, doubling; the Hub may ask for longer


class HubError(RuntimeError):
    """The Hub said no, or did not answer; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """Who is logged in: the user's name, the organisations one may write to, and whether the token may write at all."""

    name: str
    organisations: tuple[str, ...]
    may_write: bool


def account(api: HfApi) -> Account:
    """Whose token the client has.

    Raises:
        HubError: it has none. What the client raises: it is not valid, no answer.
    """
    from huggingface_hub import get_token

    if api.token is None and get_token() is None:
        raise HubError("you are not logged in: ti.log_in(), or set HF_TOKEN (in Colab among the secrets)")
    who: dict[str, Any] = api.whoami()
    places = tuple(str(org["name"]) for org in who.get("orgs") or () if org.get("roleInOrg") != "read")
    token = (who.get("auth") or {}).get("accessToken") or {}
    return Account(str(who["name"]), places, token.get("role") != "read")


@checked()
def log_in(token: str | None = None, *, endpoint: str | None = None) -> str | None:
    """Log in to the Hub with what is at hand; returns the user's name, or None while the user is being asked.

    A token from the environment, the client's file or Colab's secrets (HF_TOKEN) is used as it is. Without any, or with one
    of an earlier login that is no longer valid, the client's own login is shown.

    Raises:
        HubError: the token that was given, or is in HF_TOKEN, is not valid; no answer.
    """
    from huggingface_hub import get_token, login

    api = client(token, endpoint)
    with in_words("logging in", api):
        if token is not None:
            login(token=token)
        elif (before := get_token()) is None or _is_stale(api):
            _ask()
            if get_token() in (None, before):  # not yet
                return None
        return patiently(lambda: account(api)).name


def _is_stale(api: HfApi) -> bool:
    """Whether the token that the client kept is no longer valid; one in the environment is the user's to change."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        patiently(api.whoami)
    except HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code == 401
        if refused and not os.environ.get("HF_TOKEN"):
            return True
        raise
    return False


def _ask() -> None:
    """Show the client's own login."""
    from huggingface_hub import login, notebook_login

    show = login if platforms.frontend() == "terminal" else notebook_login
    show(skip_if_logged_in=False)


@dataclass(frozen=True)
class Address:
    """A repository, and what of it a page's address says."""

    repo: str
    revision: str | None = None
    file: str | None = None


def address(text: str, api: HfApi) -> Address:
    """What a name, or the address of a page of this Hub, means.

    Raises:
        ValueError: neither.
    """
    found = re.fullmatch(
        r"(?:(https?://[^/]+)/)?([^/]+/[^/]+?)/?(?:/(tree|blob|resolve)/([^/]+)(?:/(.+))?)?", text.strip()
    )
    if found is None:
        return Address(repository(text))
    host, name, kind, revision, file = found.groups()
    if host is not None and host not in (api.endpoint, *PAGES):
        raise ValueError(f"{text!r} is a page of {host}, not of the Hub ({api.endpoint})")
    return Address(repository(name), revision, unquote(file.split("?")[0]) if file and kind != "tree" else None)


def repository(name: str) -> str:
    """The name, if it is "owner/name" as the Hub takes it.

    Raises:
        ValueError: it is not.
    """
    part = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w])?"
    if not re.fullmatch(rf"{part}/{part}", name) or ".." in name or "--" in name or name.endswith(".git"):
        raise ValueError(
            f"{name!r} is no repository's name: write 'owner/name', of letters, digits and single '-', '_' or '.'"
        )
    return name


def client(token: str | None, endpoint: str | None) -> HfApi:
    """The Hub's own client; without a token it takes the one of the login, without an endpoint HF_ENDPOINT's."""
    from huggingface_hub import HfApi, get_token

    from . import __version__

    used = token or get_token()
    if used is not None and not re.fullmatch(r"[!-~]+", used):  # the client would repeat it in its error
        raise HubError("your token has a space, a line break or another odd character in it: copy it again")
    return HfApi(endpoint=endpoint, token=token, library_name="ti_nb", library_version=__version__)


def patiently(call: Callable[[], T], landed: Callable[[], T | None] = lambda: None) -> T:
    """What `call` returns; while the Hub says to try again, or does not answer, it is called again.

    After a failure `landed` may tell that the call did its work all the same.
    """
    from huggingface_hub.errors import HTTPError

    for tried in range(TRIES):
        try:
            return call()
        except (HTTPError, OSError, RuntimeError) as error:
            wait = _wait(_root(error), tried)
            if wait is None or tried == TRIES - 1:
                raise
            answer = getattr(_root(error), "response", None)
        said = f"answered {answer.status_code}" if answer is not None else "did not answer"
        warnings.warn(f"the Hub {said}: trying again in {wait:.0f} s", stacklevel=4)
        time.sleep(wait)
        if (done := landed()) is not None:
            return done
    raise AssertionError("unreachable")


def _root(error: Any) -> Any:
    """The answer behind an error: the client wraps some, as that of a file it has no copy of, or of a large upload."""
    cause = error.__cause__
    return cause if cause is not None and getattr(cause, "response", None) is not None else error


def unreachable(error: Any) -> bool:
    """Whether there was no answer at all, or none may be asked for."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    no_answer = isinstance(error, HTTPError | ConnectionError) and getattr(error, "response", None) is None
    return no_answer or isinstance(error, OfflineModeIsEnabled)


def _wait(error: Any, tried: int) -> float | None:
    """Seconds until it makes sense to try again; None if it makes none."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return None
    response = getattr(error, "response", None)
    if response is None:  # no answer at all
        return FIRST_WAIT * 2**tried if unreachable(error) else None
    if response.status_code not in (429, 500, 502, 503, 504):
        return None
    said = str(response.headers.get("retry-after", ""))
    return min(float(said), LONGEST_WAIT) if said.isdigit() else FIRST_WAIT * 2**tried


@contextmanager
def in_words(doing: str, api: HfApi) -> Iterator[None]:
    """Whatever the client raises, said in words that help; without the token, which some of its messages repeat."""
    from huggingface_hub import errors

    try:
        yield
    except (HubError, NotAConcept):
        raise
    except errors.GatedRepoError:
        message = "you have to accept its terms first: open its page on the Hub, log in and agree, then log in here"
    except errors.RepositoryNotFoundError:
        message = (
            "no such repository, or a private one that you may not see: check the name, capitals count, and log in"
        )
    except errors.RevisionNotFoundError:
        message = "it has no such revision"
    except errors.OfflineModeIsEnabled:
        message = "the client is told to stay offline (HF_HUB_OFFLINE)"
    except errors.LocalEntryNotFoundError as error:
        message = "the Hub can't be reached, and nothing was fetched before: check the connection, then call this again"
        if (answer := _root(error)) is not error:
            message = _status(answer)
    except errors.EntryNotFoundError as error:
        message = f"a file is not there: {_first_line(error)}"
    except errors.HTTPError as error:
        message = _status(error)
    except ValueError as error:
        message = f"the Hub does not take it: {' '.join(str(error).split())[:250]}"
    except (OSError, RuntimeError) as error:
        message = (
            f"the Hub could not be reached or did not answer as it should ({_first_line(error)}): call this again later"
        )
    else:
        return
    raise HubError(f"{doing} did not work: {_without_token(message, api)}") from None


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    if response is None:
        return f"the Hub can't be reached ({_first_line(error)}): check the connection, then call this again"
    status = response.status_code
    if status == 401:
        return "the Hub does not accept your token: log in again (ti.log_in) with a new one"
    if status == 403:
        return "you may not do that there: use a token that may write, and a place of yours"
    if status == 429:
        return "the Hub says there were too many requests: wait some minutes, then call this again"
    if status >= 500:
        return f"the Hub has a problem of its own ({status}): call this again later"
    if status in (409, 412):
        return "somebody changed it at the same moment: call this again"
    return _first_line(error)


def _without_token(message: str, api: HfApi) -> str:
    from huggingface_hub import get_token

    for secret in (api.token, get_token()):
        if isinstance(secret, str) and secret.strip():
            message = message.replace(secret.strip(), "[token]")
    return re.sub(r"hf_[A-Za-z0-9_]{6,}", "[token]", message)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def size(count: int) -> str:
    """Bytes, as people read them."""
    return f"{count} bytes" if count < 2000 else f"{count / 1e3:.0f} kB" if count < 2e6 else f"{count / 1e6:.0f} MB"


def some(names: Iterable[str]) -> str:
    """A few of a repository's files, in words."""
    shown = [name for name in names if name != ".gitattributes"]
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ", ".join(shown[:4]) + more if shown else "no files"
