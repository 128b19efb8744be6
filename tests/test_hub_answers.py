"""Whatever the Hub answers, and where it does not: given up in time, waited for as long as it says, said in words."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import get_session
from huggingface_hub.errors import HTTPError

import ti_nb as ti
from tests.hub_server import HubServer, point_client_at
from ti_nb.errors import NoAnswer
from ti_nb.hub import answers
from ti_nb.hub import client as hub_module

TOKEN = "hf_test_alice_write"
ASKING: dict[str, Callable[[], object]] = {
    "fetch": lambda: ti.fetch("bob/cat"),
    "browse": lambda: ti.browse(author="bob"),
    "publish": lambda: ti.publish(word(), "my-cat"),
    "log in": lambda: ti.log_in(),
}


def word(text: str = "<my-cat>", **facts: Any) -> ti.Concept:
    return ti.Concept(text, {"clip_l": 0.02 * torch.randn(1, 768)}, {"init": "cat", "base": "sd15", **facts})


def add_word(hub: HubServer, folder: Path, repo: str = "bob/cat", **more: bytes) -> ti.Concept:
    concept = word()
    path = ti.save(concept, folder / "word.safetensors")
    hub.add(repo, {"learned_embeds.safetensors": path.read_bytes(), **more})
    return concept


def refused(call: Callable[[], object], match: str, kind: type[Exception] = ti.HubError) -> str:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "hf_test" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:the Hub .*trying again in")]

# Silence


@pytest.fixture
def mute(naps: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """A Hub that takes connections and says nothing; the connections so far."""
    taken: list[Any] = []
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept())
            except OSError:  # closed
                return

        threading.Thread(target=take, daemon=True).start()
        silent: Any = SimpleNamespace(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        point_client_at(silent, monkeypatch, tmp_path / "client", token=TOKEN)
        monkeypatch.setitem(os.environ, "HF_ENDPOINT", silent.url)
        monkeypatch.setattr(hub_module, "READ_TIMEOUT", 0.2)
        yield taken
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", ASKING)
def test_a_silent_hub_is_given_up_after_another_try(name: str, mute: list[Any]) -> None:
    refused(ASKING[name], "the Hub does not answer", NoAnswer)
    assert len(mute) == 2


def test_a_panel_is_made_beside_a_silent_hub(mute: list[Any]) -> None:
    assert "does not answer" in ti.PublishPanel(word()).account.who.value


@pytest.mark.parametrize("part", ["/resolve/", "/preupload", "/commit/", "/repos/create"])
def test_a_hub_that_falls_silent_in_the_midst_is_asked_twice(part: str, hub: HubServer, tmp_path: Path) -> None:
    add_word(hub, tmp_path)
    asked = _falls_silent(part)
    refused(ASKING["fetch" if part == "/resolve/" else "publish"], "the Hub does not answer", NoAnswer)
    assert asked.count(True) >= 2 and "alice/my-cat" not in hub.repos


def _falls_silent(part: str) -> list[bool]:
    """Requests of a path with this part time out from now on, without anybody waiting."""
    silence = next(k for k in _below(HTTPError) if k.__name__ == "ReadTimeout")
    asked: list[bool] = []

    def ask(request: Any) -> None:
        asked.append(part in str(request.url))
        if asked[-1]:
            raise silence("timed out")

    get_session().event_hooks["request"].append(ask)  # of this test's session: the next test has another
    return asked


def _below(kind: type) -> Iterator[type]:
    yield kind
    for one in kind.__subclasses__():
        yield from _below(one)


def test_what_was_silent_is_not_repeated_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watch = hub_module._RequestWatch(5)

    def request(start: int = 0, **limits: float | None) -> Any:
        kinds = {"connect": None, "read": None, "write": None, "pool": None, **limits}
        return SimpleNamespace(
            method="GET", url="http://hub/x", headers={"range": f"bytes={start}-"}, extensions={"timeout": kinds}
        )

    first, limited = request(), request(read=10.0)
    watch.asked(first)
    assert set(first.extensions["timeout"].values()) == {5}
    clock[0] = 4.0
    watch.asked(limited)  # hung up on, not silent
    assert limited.extensions["timeout"]["read"] == 10.0 and limited.extensions["timeout"]["connect"] is None
    clock[0] = 10.0
    watch.asked(request(7))  # a download goes on where it was
    clock[0] = 20.0
    with pytest.raises(TimeoutError):
        watch.asked(request(7))
    watch.answered(None)  # and said to come back
    watch.asked(request(7))
    clock[0] = 30.0
    watch.repeats = True  # while somebody is logging in
    watch.asked(request(7))


def test_the_client_is_left_as_it_was(hub: HubServer) -> None:
    before = {name: list(hooks) for name, hooks in get_session().event_hooks.items()}
    ti.browse(author="bob")
    assert get_session().event_hooks == before


# Waiting

NOW = 1_700_000_000.5


@pytest.mark.parametrize(
    ("status", "headers", "least"),
    [
        (429, {"RateLimit": '"api";r=0;t=55'}, 55),
        (429, {"ratelimit": '"resolvers";r=0;t=200', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 200),
        (429, {"RateLimit": '"api";r=0;t=55', "Retry-After": "3"}, 55),
        (429, {"RateLimit": '"api";r=9;t=55', "Retry-After": "3"}, 3),
        (429, {"Retry-After": "70"}, 70),
        (503, {"Retry-After": "20", "RateLimit": '"api";r=0;t=55'}, 20),
        (429, {"Retry-After": formatdate(NOW + 90, usegmt=True)}, 89),
        (429, {"Retry-After": formatdate(NOW - 90, usegmt=True)}, 1),
        (429, {"Retry-After": "soon", "RateLimit": "nonsense"}, 1),
        (504, {}, 1),
    ],
)
def test_the_hub_is_waited_for_as_long_as_it_says(
    status: int,
    headers: dict[str, str],
    least: float,
    hub: HubServer,
    naps: list[float],
    monkeypatch: Any,
    tmp_path: Any,
) -> None:
    monkeypatch.setattr(answers.time, "time", lambda: NOW)
    concept = add_word(hub, tmp_path)
    hub.fail("GET", "/api/models/bob/cat", status, headers=headers)
    assert torch.equal(ti.fetch("bob/cat").vectors["clip_l"], concept.vectors["clip_l"])
    assert len(naps) == 1 and least <= naps[0] <= least + 1


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"RateLimit": '"api";r=0;t=3599'}, "in 60 minutes"),
        ({"Retry-After": "9" * 30}, "in some hours"),
        ({"RateLimit": "", "Retry-After": "9" * 5000}, "in some hours"),
    ],
)
def test_too_long_a_wait_is_said_instead(
    headers: dict[str, str], words: str, hub: HubServer, naps: list[float], tmp_path: Path
) -> None:
    add_word(hub, tmp_path)
    hub.fail("GET", "/api/models/bob/cat", 429, headers=headers)
    refused(ASKING["fetch"], f"too many requests: call this again {words}")
    assert naps == []


# What was fetched before


@pytest.mark.parametrize("part", ["/api/models/bob/cat", "/resolve/"])
@pytest.mark.parametrize("how", [429, 500, 503, "long limit", "a proxy's page", "silence"])
def test_a_busy_hub_is_said_and_the_earlier_copy_taken(
    how: int | str, part: str, hub: HubServer, naps: list[float], tmp_path: Path
) -> None:
    concept = add_word(hub, tmp_path)
    old = ti.fetch("bob/cat").facts["revision"]
    hub.repos["bob/cat"].commit("later", {"learned_embeds.safetensors": b"never fetched"})
    for method in ("GET", "HEAD"):
        if isinstance(how, int):
            hub.fail(method, part, how, times=100)
        elif how == "long limit":
            hub.fail(method, part, 429, times=100, headers={"RateLimit": '"api";r=0;t=250'})
        elif how == "a proxy's page":
            hub.fail(method, part, 200, times=100, body=b"<html>log in</html>", headers={"Content-Type": "text/html"})
    if how == "silence":
        _falls_silent(part)
    with pytest.warns(UserWarning, match="as it was when it was fetched before"):
        again = ti.fetch("bob/cat")
    assert torch.equal(again.vectors["clip_l"], concept.vectors["clip_l"]) and again.facts["revision"] == old
    assert part == "/resolve/" or sum(naps) <= 5


@pytest.mark.parametrize(("status", "match"), [(401, "token"), (403, "may not"), (404, "no such"), (400, "not take")])
def test_an_earlier_copy_is_no_way_round_a_refusal(status: int, match: str, hub: HubServer, tmp_path: Path) -> None:
    add_word(hub, tmp_path)
    ti.fetch("bob/cat")
    hub.fail("GET", "/api/models/bob/cat", status)
    refused(ASKING["fetch"], match)


def test_a_picture_that_was_looked_at_is_no_copy_of_the_word(hub: HubServer, tmp_path: Path) -> None:
    add_word(hub, tmp_path, **{"concept_images/1.png": b"x"})
    ti.browse(author="bob")
    hub.fail("GET", "/api/models/bob/cat", 503, times=100)
    refused(ASKING["fetch"], "a problem of its own", NoAnswer)


# Answers of another shape

WHO: dict[str, Any] = {"name": "alice", "orgs": [], "auth": {"accessToken": {"role": "write"}}}
INFO = {"id": "bob/cat", "sha": "a" * 40, "private": False, "siblings": [{"rfilename": "x.bin", "size": 1}], "tags": []}
SHAPES = [
    "[]",
    "null",
    "3",
    '"x"',
    "{}",
    '{"error": "log in to the wifi"}',
    "<html>log in</html>",
    '{"a":',
    "",
    "\xff\xfe",
]


@pytest.mark.parametrize("body", SHAPES)
@pytest.mark.parametrize("name", ASKING)
def test_an_answer_of_another_shape_is_said(name: str, body: str, hub: HubServer) -> None:
    if name == "browse" and body in ("[]", "{}"):
        return  # nothing was found
    hub.fail("GET", "/api/", 200, times=100, body=body.encode("latin-1"))
    refused(ASKING[name], "did not answer as it should", NoAnswer)
    assert "did not answer as it should" in ti.PublishPanel(word()).account.who.value


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": 5},
        {"orgs": "x"},
        {"orgs": [None]},
        {"orgs": [{}]},
        {"auth": []},
        {"auth": "x"},
        {"auth": None},
        {"orgs": None},
        {"orgs": [{"name": 7}]},
    ],
)
def test_a_user_is_who_the_hub_says_or_it_is_said(change: dict[str, Any], hub: HubServer) -> None:
    hub.fail("GET", "/whoami", 200, times=9, body=json.dumps({**WHO, **change}).encode())
    try:
        assert ti.log_in() == "alice" and "name" not in change
    except NoAnswer as error:
        assert "did not answer as it should" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"sha": None},
        {"sha": 5},
        {"siblings": None},
        {"siblings": [{}]},
        {"siblings": [{"rfilename": None}]},
        {"siblings": [{"rfilename": "x.bin", "size": "many"}]},
        {"siblings": "x"},
        {"cardData": "x"},
        {"tags": 5},
        {"lastModified": "yesterday"},
        {"private": None},
        {"gated": 5},
        {"likes": "many"},
        {"cardData": [1]},
    ],
)
def test_a_repository_is_what_the_hub_says_or_it_is_said(change: dict[str, Any], hub: HubServer) -> None:
    hub.add("bob/cat", {"x.bin": b"no word"})
    told = json.dumps({**INFO, **change}).encode()
    for path in ("/api/models/bob/cat", "/api/models/alice/my-cat"):
        hub.fail("GET", path, 200, times=9, body=told)
    hub.fail("GET", "/api/models", 200, times=9, body=b"[" + told + b"]")
    for ask in ("fetch", "publish"):
        with pytest.raises((ti.HubError, ti.NotAConcept)):
            ASKING[ask]()
    try:
        assert [one.repo for one in ti.browse(author="bob", pictures=False)] == ["bob/cat"]
    except NoAnswer as error:
        assert change in ({"siblings": [{}]}, {"siblings": "x"}, {"lastModified": "yesterday"}), error
    assert not hub.asked("POST", "/commit/")


# Refusals, and their reasons

REASON = 'the base model "a/b" does not allow\n\tderivatives\x1b[31m under hf_test_alice_write ' + "x" * 900


@pytest.mark.parametrize(
    ("part", "status"),
    [
        *(("/commit/", status) for status in (400, 401, 403, 404, 409, 412, 413, 422, 451, 500)),
        *(("/repos/create", status) for status in (403, 409)),
        *(("/preupload", status) for status in (400, 500)),
    ],
)
def test_the_hubs_own_reason_is_given(part: str, status: int, hub: HubServer) -> None:
    hub.fail("POST", part, status, times=100, body=json.dumps({"error": REASON}).encode())
    said = refused(ASKING["publish"], 'the base model "a/b" does not allow derivatives')
    assert len(said) < 700 and "\x1b" not in said and hub.repos == {}


def test_a_name_that_differs_in_capitals_is_ones_own(hub: HubServer) -> None:
    for said in ("Alice/my-cat", "ALICE/my-cat", f"{hub.url}/aLICE/my-cat", "https://HuggingFace.co/Alice/my-cat", "hf.co/Alice/my-cat"):  # fmt: skip
        assert ti.publish(word(), said, dry_run=True).repo == ti.publish(word(), said).repo == "alice/my-cat"
    assert "only you can see it" in str(ti.publish(word(), "Alice/my-cat"))
    assert ti.publish(word(), "Cats/tom").repo == "cats/tom" and set(hub.repos) == {"alice/my-cat", "cats/tom"}


def test_a_licence_that_can_not_be_asked_for_now_is_not_left_out(hub: HubServer) -> None:
    hub.add("bob/tuned", {"model_index.json": b"{}"}, card={"license": "cc-by-nc-4.0"})
    hub.fail("GET", "/api/models/bob/tuned", 503, times=100)
    refused(lambda: ti.publish(word(base="bob/tuned"), "my-cat"), "a problem of its own")
    assert list(hub.repos) == ["bob/tuned"]


def test_a_library_whose_pictures_do_not_come_is_shown_without(hub: HubServer, tmp_path: Path) -> None:
    for n in range(4):
        add_word(hub, tmp_path, f"bob/cat-{n}", **{"concept_images/1.png": b"x"})
    asked = _falls_silent("/resolve/")
    with pytest.warns(UserWarning, match="some pictures are not shown"):
        found = ti.browse(author="bob")
    assert len(found) == 4 and asked.count(True) == 1


@pytest.mark.parametrize("how", ["gone", "no such login", "denied"])
def test_a_login_that_is_refused_is_said(
    how: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_client_at(hub, monkeypatch, tmp_path / "nobody", token=None)
    monkeypatch.setattr("ti_nb.host.frontend.frontend", lambda: "terminal")
    code = {"device_code": "d", "user_code": "u", "verification_uri": "http://x", "interval": 0, "expires_in": 60}
    if how == "gone":
        hub.__exit__()
    elif how == "denied":
        hub.fail("POST", "/oauth/device", 200, body=json.dumps(code).encode())
        hub.fail("POST", "/oauth/token", 400, times=9, body=b'{"error": "access_denied"}')
    refused(ti.log_in, {"gone": "can't be reached", "no such login": "no such thing", "denied": "denied"}[how])


# Folders of this machine


def test_a_cache_that_can_not_be_written_is_named(hub: HubServer, monkeypatch: Any, tmp_path: Path) -> None:
    add_word(hub, tmp_path)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    said = refused(ASKING["fetch"], "can't be written or read")
    assert str(tmp_path / "file") in said and "HF_HOME" in said


def test_a_login_that_can_not_be_kept_is_said(hub: HubServer, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / "file" / name))
    said = refused(lambda: ti.log_in(TOKEN), "can't be written or read")
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00hf"])
def test_a_kept_token_that_can_not_be_read_is_said(
    content: Any, hub: HubServer, monkeypatch: Any, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.mkdir() if content is None else path.write_bytes(content)
    point_client_at(hub, monkeypatch, tmp_path / "nobody", token=None)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(path))
    for name, ask in ASKING.items():
        refused(ask, "token that an earlier login left"), name
    assert "can&#x27;t be read" in ti.PublishPanel(word()).account.who.value
