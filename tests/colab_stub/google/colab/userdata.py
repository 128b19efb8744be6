"""`get` knows one secret, HF_TOKEN."""

from . import BEHAVIOUR, wait
from .errors import Error


class NotebookAccessError(Exception):  # not an `Error`, as in Colab
    def __init__(self, key: str):
        super().__init__(f"Notebook does not have access to secret {key}")


class SecretNotFoundError(Error):
    def __init__(self, key: str):
        super().__init__(f"Secret {key} does not exist.")


class TimeoutException(Error):
    def __init__(self, key: str):
        super().__init__(
            f"Requesting secret {key} timed out. Secrets can only be fetched when running from the Colab UI."
        )


def get(key: str) -> str:
    if BEHAVIOUR in ("timeout", "unsupported"):
        wait()
        raise TimeoutException(key)
    if key != "HF_TOKEN":
        raise SecretNotFoundError(key)
    if BEHAVIOUR == "refuse":
        raise NotebookAccessError(key)
    return "hf_not_a_token"
