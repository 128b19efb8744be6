"""The Hub's errors and timeouts as messages that say what to do, without the token, which some of its own repeat."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..errors import HubError, NoAnswer, NotAConcept
from ..host.plain_text import brief

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BAD_ANSWER = "the Hub did not answer as it should, perhaps a proxy or a login page of the network answered instead"
STATUS_MESSAGES = {
    400: "the Hub does not take it",
    401: "the Hub does not accept your token: log in again (ti.log_in) with a new one",
    402: "your account has no credit for it: https://huggingface.co/settings/billing",
    403: "you may not do that there: use a token that may write, and a place of yours",
    404: "the Hub has no such thing",
    409: "it is there already, or somebody changed it at the same moment: call this again",
    412: "somebody changed it at the same moment: call this again",
    413: "it is too large for the Hub",
    429: "the Hub says there were too many requests: wait some minutes, then call this again",
}


@contextmanager
def as_hub_errors(doing: str, api: HfApi) -> Iterator[None]:
    """Turn whatever the client raises into a `HubError`; into `NoAnswer` if the Hub is busy, silent or unintelligible."""
    try:
        yield
    except (HubError, NotAConcept):
        raise
    except Exception as error:
        kind, message = _explained(error)
        raise kind(f"{doing} did not work: {without_token(message, api)}") from None


def root_error(error: Any) -> Any:
    """The HTTP error or lost connection behind an error: the client wraps some, as for a file that is not in its cache."""
    from huggingface_hub.errors import HTTPError

    cause = error.__cause__
    while cause is not None and not isinstance(cause, HTTPError | ConnectionError):
        cause = cause.__cause__
    return error if isinstance(error, HTTPError) or cause is None else cause


def is_unreachable(error: Any) -> bool:
    """Whether the Hub gave no answer at all."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    root = root_error(error)
    lost = isinstance(root, HTTPError | ConnectionError) and getattr(root, "response", None) is None
    return (lost or is_timeout(root)) and not isinstance(root, OfflineModeIsEnabled)


def is_timeout(error: Any) -> bool:
    """Whether it is a timeout; the class is httpx's or httpx2's, depending on the client's version."""
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__


def is_busy(response: Any) -> bool:
    """Whether the response means to try again later."""
    return response.status_code in (408, 429) or response.status_code >= 500


def retry_after(response: Any) -> float | None:
    """Seconds to wait that a response asks for, by the Hub's rate limit headers or Retry-After; None if it asks for none."""
    if response.status_code == 429 and (reset := _reset(response.headers)) is not None:
        return reset + 1.0  # the client adds 1 too, as the Hub rounds
    value = str(response.headers.get("retry-after", "")).strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _reset(headers: Any) -> int | None:
    """Seconds until the rate limit resets, if it is reached."""
    with suppress(ImportError, ValueError):  # missing in the first 1.x clients; the number may be absurd
        from huggingface_hub.utils import parse_ratelimit_headers

        limit = parse_ratelimit_headers(headers)
        if limit is not None and limit.remaining == 0:
            return int(limit.reset_in_seconds)
    return None


def _explained(error: Exception) -> tuple[type[HubError], str]:
    """The error class for the user, and the message."""
    from huggingface_hub import errors

    root = root_error(error)
    if getattr(root, "response", None) is not None:
        return (NoAnswer if is_busy(root.response) else HubError), _refusal(root)
    if isinstance(root, errors.OfflineModeIsEnabled):
        return NoAnswer, "the client is told to stay offline (HF_HUB_OFFLINE)"
    if is_unreachable(root):
        what = "does not answer" if is_timeout(root) else "can't be reached"
        return NoAnswer, f"the Hub {what} ({brief(root)}): check the connection, then call this again"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return NoAnswer, f"{BAD_ANSWER} ({brief(error)}): call this again later"
    return _local(error)


def _local(error: Exception) -> tuple[type[HubError], str]:
    """Errors without a response: local folders, what the client itself refuses, an answer it can't parse."""
    from huggingface_hub import errors

    if type(error).__name__ == "DeviceCodeError":  # clients since 1.2x
        return HubError, f"{brief(error)} Call this again, or give a token: ti.log_in(token)"
    if isinstance(error, OSError) and error.errno is not None:
        where = repr(str(error.filename)) if error.filename is not None else "the client's folder"
        return HubError, (
            f"{where} can't be written or read ({error.strerror}): make room for it, or name a folder of yours in the "
            "environment variable HF_HOME, and start Python again"
        )
    refused = str(error).startswith(("Invalid metadata", "You must use"))  # an invalid page, an organisation's token
    if refused or isinstance(error, errors.HFValidationError):
        return HubError, f"the Hub does not take it: {brief(error)}"
    what = "it is not JSON" if isinstance(error, json.JSONDecodeError) else f"{type(error).__name__}: {brief(error)}"
    return NoAnswer, f"{BAD_ANSWER} ({what}): call this again later"


def _refusal(error: Any) -> str:
    """What the Hub's refusal means, with the reason that it gives."""
    meaning, message = _meaning(error), getattr(error, "server_message", None)
    reason = brief(message) if message else ""
    if not reason or reason in meaning:
        return meaning
    return f"{meaning}: {reason}" if error.response.status_code == 400 else f'{meaning} (the Hub says: "{reason}")'


def _meaning(error: Any) -> str:
    from huggingface_hub import errors

    kinds = {
        errors.GatedRepoError: "you have to accept its terms first: open its page on the Hub, log in and agree, then log in here",
        errors.RepositoryNotFoundError: "no such repository, or a private one that you may not see: check the name, "
        "capitals count, and log in",
        errors.RevisionNotFoundError: "it has no such revision",
        errors.DisabledRepoError: "the Hub has disabled it",
        errors.EntryNotFoundError: f"a file is not there: {brief(error)}",
    }
    for kind, words in kinds.items():
        if isinstance(error, kind):
            return words
    status = error.response.status_code
    asked = retry_after(error.response)
    if status == 429 and asked is not None:
        return f"the Hub says there were too many requests: call this again in {in_minutes(asked)}"
    if status == 408 or status >= 500:
        return f"the Hub has a problem of its own ({status}): call this again later"
    return STATUS_MESSAGES.get(status, f"the Hub does not take it ({status})")


def in_minutes(seconds: float) -> str:
    """A waiting time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else "some hours"


def without_token(message: str, api: HfApi) -> str:
    """The message with anything that looks like a token replaced."""
    tokens: list[Any] = [api.token]
    with suppress(Exception):  # the token's file may be the very problem
        from huggingface_hub import get_token

        tokens.append(get_token())
    for token in tokens:
        if isinstance(token, str) and token.strip():
            message = message.replace(token.strip(), "[token]")
    return re.sub(r"hf_[A-Za-z0-9_]{6,}", "[token]", message)
