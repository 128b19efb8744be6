"""What machines Hugging Face Jobs has, and what they cost: asked each time, as both change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import HubError
from ...hub.answers import as_hub_errors
from ...hub.client import client, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED = ("run_uv_job", "list_jobs_hardware", "inspect_job", "fetch_job_logs", "cancel_job")
HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0}


def api_for_jobs(token: str | None = None, endpoint: str | None = None) -> HfApi:
    """The Hub's client, if it knows Jobs.

    Raises:
        HubError: it is too old.
    """
    from huggingface_hub import __version__

    api = client(token, endpoint)
    if missing := [name for name in NEEDED if not hasattr(api, name)]:
        raise HubError(
            f"huggingface_hub {__version__} knows no {missing[0]}: pip install -U huggingface_hub, and restart the kernel"
        )
    return api


def flavors(api: HfApi) -> dict[str, Any]:
    """Each flavour as the Hub describes it.

    Raises:
        HubError: no answer, or one that can't be read.
    """
    with as_hub_errors("asking for the machines of Jobs", api):
        listed = with_retries(api.list_jobs_hardware)
        return {machine.name: machine for machine in listed}


def price(machine: Any) -> float:
    """Dollars an hour.

    Raises:
        HubError: it is not said by the second, minute or hour.
    """
    label = str(machine.unit_label)
    if label not in HOURS:
        raise HubError(f"the Hub says the price of {machine.name} by the {label}, which this version does not know")
    return float(machine.unit_cost_usd) / HOURS[label]


def prices() -> dict[str, float]:
    """Dollars an hour of each flavour."""
    return {name: price(machine) for name, machine in flavors(api_for_jobs()).items()}
