"""Stands in for google.colab, which can't be installed. It behaves as TI_NB_COLAB says, in the words of Colab's own.

succeed: the user agrees to everything. refuse: the user chooses nothing, denies Drive, hides the secret. timeout: as in
VS Code's page for Colab, nobody answers (colab-vscode #276). unsupported: Colab Enterprise, without Drive and secrets.
"""

import os
import time

BEHAVIOUR = os.environ.get("TI_NB_COLAB", "succeed")
SECONDS = float(os.environ.get("TI_NB_COLAB_SECONDS", "1"))  # until a request times out: 10 to 120 in Colab

if BEHAVIOUR not in ("succeed", "refuse", "timeout", "unsupported"):
    raise ValueError(f"TI_NB_COLAB is {BEHAVIOUR!r}: write succeed, refuse, timeout or unsupported")


def wait() -> None:
    """What a request does that nobody answers."""
    time.sleep(SECONDS)


from . import drive, errors, files, output, userdata  # noqa: E402, F401
