"""The Hub on loopback is what the real client takes for the Hub: its refusals, its atomic commits, its faults.

Also noted here: which calls the client repeats by itself, as `publish` and `fetch` have to know it for both versions.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    file_download,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import _http

from tests.hub_server import HubServer, Request, Token, client_environment, point_client_at

pytestmark = pytest.mark.slow

TWO = int(huggingface_hub.__version__.split(".")[0]) >= 2
BOB, READ, FINE, WRONG = "hf_test_bob_write", "hf_test_alice_read", "hf_test_alice_fine", "hf_of_nobody"
CARD = b"---\nlicense: mit\npipeline_tag: text-to-image\ntags: [textual_inversion]\nbase_model: a/b\n---\n# Cat\n"

# httpx in 1.x, httpx2 in 2.x: what a broken connection raises is one, and HfHubHTTPError too.
HTTP_ERROR: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        point_client_at(server, monkeypatch, tmp_path / "home", token="hf_test_alice_write")
        yield server


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    return HfApi()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client wanted to sleep between its tries, and does not."""
    slept: list[float] = []
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "sleep": slept.append}))
    return slept


def adds(files: dict[str, bytes]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name, content) for name, content in files.items()]


def refused(status: int, words: str, call: Callable[[], object], kind: type[HfHubHTTPError] = HfHubHTTPError) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert caught.value.response.status_code == status and words in str(caught.value)


def test_a_token_is_who_it_says(api: HfApi) -> None:
    me = api.whoami()
    assert me["name"] == "alice" and {org["name"]: org["roleInOrg"] for org in me["orgs"]}["cats"] == "admin"
    assert me["auth"]["accessToken"]["role"] == "write"
    assert api.whoami(token=READ)["auth"]["accessToken"]["role"] == "read"
    fine = api.whoami(token=FINE)["auth"]["accessToken"]["fineGrained"]
    assert fine["scoped"][0]["entity"]["name"] == "alice/cat" and not fine["canReadGatedRepos"]
    refused(401, "Invalid user token.", lambda: api.whoami(token=WRONG))
    refused(401, "Invalid credentials in Authorization header", lambda: api.model_info("alice/cat", token=WRONG))


def test_a_repo_is_created_once_and_where_one_may(hub: HubServer, api: HfApi) -> None:
    assert api.create_repo("alice/cat", private=True).repo_id == "alice/cat"
    assert api.create_repo("dog").repo_id == "alice/dog"
    assert hub.repos["alice/cat"].private and not hub.repos["alice/dog"].private
    assert hub.repos["alice/dog"].owner == "alice" and list(hub.repos["alice/dog"].files) == [".gitattributes"]
    refused(409, "You already created this model repo", lambda: api.create_repo("alice/cat"))
    assert api.create_repo("alice/cat", exist_ok=True, private=False).repo_id == "alice/cat"
    assert hub.repos["alice/cat"].private
    assert api.create_repo("cats/tom").repo_id == "cats/tom"
    for repo_id, token in (("bob/cat", None), ("visitors/cat", None), ("alice/new", READ), ("alice/new", FINE)):
        refused(403, "rights to create a model under", partial(api.create_repo, repo_id, token=token))
    refused(401, "Invalid username or password", lambda: api.create_repo("alice/new", token=False))
    assert api.create_repo("alice/cat", exist_ok=True, token=READ).repo_id == "alice/cat"  # the client looks it up
    api.delete_repo("alice/dog")
    assert set(hub.repos) == {"alice/cat", "cats/tom"}
    refused(404, "Repository Not Found", lambda: api.delete_repo("alice/dog"), RepositoryNotFoundError)


def test_several_files_are_one_commit(hub: HubServer, api: HfApi) -> None:
    api.create_repo("alice/cat")
    files = {"README.md": CARD, "word.safetensors": b"123", "samples/one.png": b"png", "empty.txt": b""}
    done = api.create_commit("alice/cat", adds(files), commit_message="Learned", commit_description="in words")
    repo = hub.repos["alice/cat"]
    assert [commit.title for commit in repo.commits] == ["initial commit", "Learned"] and done.oid == repo.head.oid
    assert repo.files["samples/one.png"] == b"png" and repo.files["empty.txt"] == b""
    assert (repo.head.author, repo.head.message, repo.head.parent) == ("alice", "in words", repo.commits[0].oid)
    assert len(repo.head.changes) == 4
    assert api.create_commit("alice/cat", adds(files), commit_message="Again").oid == done.oid  # nothing to send
    operations = [*adds({"word.safetensors": b"4", "README.md": CARD}), CommitOperationDelete("samples/")]
    api.create_commit("alice/cat", operations, commit_message="Second")
    assert set(repo.head.changes) == {"word.safetensors", "samples/one.png"} and len(repo.commits) == 3
    assert sorted(repo.files) == [".gitattributes", "README.md", "empty.txt", "word.safetensors"]
    gone = [*adds({"a.txt": b"1"}), CommitOperationDelete("none.txt")]
    commit = partial(api.create_commit, "alice/cat", gone, commit_message="x")
    refused(404, "A file with this name doesn't exist", commit, RemoteEntryNotFoundError)
    assert "a.txt" not in repo.files


def test_a_commit_on_a_parent_that_is_not_the_last_changes_nothing(hub: HubServer, api: HfApi) -> None:
    repo = hub.add("alice/cat", {"a.txt": b"1"})
    first = repo.head.oid
    api.create_commit("alice/cat", adds({"a.txt": b"2"}), commit_message="2", parent_commit=first[:7])
    late = "A commit has happened since. Please refresh and try again."
    write = {"operations": adds({"a.txt": b"3"}), "commit_message": "3", "parent_commit": first}
    refused(412, late, lambda: api.create_commit("alice/cat", **write))
    assert repo.files["a.txt"] == b"2" and len(repo.commits) == 3


@pytest.mark.parametrize("token", [READ, BOB])
def test_who_may_not_write_is_told_so_before_anything_is_sent(hub: HubServer, api: HfApi, token: str) -> None:
    hub.add("alice/cat")
    write = {"operations": adds({"a.txt": b"3"}), "commit_message": "3"}
    refused(403, "/preupload/main", lambda: api.create_commit("alice/cat", **write, token=token))
    refused(401, "", lambda: api.create_commit("alice/cat", **write, token=False), RepositoryNotFoundError)
    refused(403, "", lambda: api.update_repo_settings("alice/cat", private=True, token=token))
    refused(403, "", lambda: api.delete_repo("alice/cat", token=token))
    assert hub.asked("POST", "/commit/") == [] and len(hub.repos["alice/cat"].commits) == 1
    assert api.create_commit("alice/cat", **write, token=FINE).oid == hub.repos["alice/cat"].head.oid


def test_an_old_revision_stays(hub: HubServer, api: HfApi) -> None:
    repo = hub.add("alice/cat", {"sub dir/a.txt": b"old"})
    old = repo.head.oid
    api.create_tag("alice/cat", tag="v1/x")
    api.create_branch("alice/cat", branch="draft")
    api.create_branch("alice/cat", branch="bare", revision=repo.commits[0].oid)
    refused(409, "already exists", lambda: api.create_branch("alice/cat", branch="draft"))
    api.create_commit("alice/cat", [CommitOperationAdd("sub dir/a.txt", b"new")], commit_message="new")
    api.create_commit("alice/cat", adds({"b.txt": b"b"}), commit_message="b", revision="draft")
    got = {r: Path(hf_hub_download("alice/cat", "sub dir/a.txt", revision=r)) for r in (None, old, "v1/x", "draft")}
    assert [path.read_bytes() for path in got.values()] == [b"new", b"old", b"old", b"old"]
    assert list(repo.branches["bare"].files) == [".gitattributes"]
    assert "b.txt" not in repo.files and api.file_exists("alice/cat", "b.txt", revision="draft")
    refs = api.list_repo_refs("alice/cat")
    assert [ref.name for ref in refs.branches] == ["main", "draft", "bare"] and refs.tags[0].target_commit == old
    assert [c.title for c in api.list_repo_commits("alice/cat")] == ["new", "Upload model", "initial commit"]
    assert api.model_info("alice/cat", revision=old).sha == old
    api.delete_tag("alice/cat", tag="v1/x")
    assert not api.revision_exists("alice/cat", "v1/x")


def test_only_what_is_asked_for_is_downloaded(hub: HubServer) -> None:
    hub.add("bob/cat", {"word.safetensors": b"1", "big.bin": b"2" * 100, "samples/one.png": b"3"})
    for _ in range(2):
        folder = Path(snapshot_download("bob/cat", allow_patterns=["*.safetensors"], token=False))
        assert [path.name for path in folder.rglob("*.*")] == ["word.safetensors"]
    assert [request.path.split("/")[-1] for request in hub.asked("GET", "/resolve/")] == ["word.safetensors"]
    assert {request.token for request in hub.requests} == {None}
    hf_hub_download("bob/cat", "big.bin")
    assert hub.asked("GET", "/resolve/")[-1].token == "hf_test_alice_write"


def test_models_are_found_by_author_words_and_tags(hub: HubServer, api: HfApi) -> None:
    for n in range(5):
        hub.add(f"bob/cat-{n}", tags=["textual_inversion"], likes=n)
    hub.add("alice/Dog", {"README.md": CARD, "a.safetensors": b""}, downloads=7)
    hub.add("bob/secret", private=True)
    assert [m.id for m in api.list_models(author="alice")] == ["alice/Dog"]
    assert [m.id for m in api.list_models(search="dog")] == ["alice/Dog"]
    assert len(list(api.list_models(filter="textual_inversion"))) == 6
    assert [m.id for m in api.list_models(filter=["textual_inversion", "text-to-image"])] == ["alice/Dog"]
    assert [m.id for m in api.list_models(pipeline_tag="text-to-image", gated=False)] == ["alice/Dog"]
    assert [m.id for m in api.list_models(author="bob", sort="likes", limit=2)] == ["bob/cat-4", "bob/cat-3"]
    assert [m.id for m in api.list_models(author="bob", search="secret", token=BOB)] == ["bob/secret"]
    assert list(api.list_models(search="secret")) == []
    (dog,) = api.list_models(author="alice", expand=["sha", "cardData", "tags"])
    assert dog.sha == hub.repos["alice/Dog"].head.oid and dog.card_data["license"] == "mit"
    assert {"base_model:a/b", "license:mit", "safetensors", "text-to-image"} <= set(dog.tags)
    (bare,) = api.list_models(author="alice")
    assert (bare.sha, bare.card_data, bare.siblings, bare.downloads, bare.private) == (None, None, None, 7, False)


def test_a_long_list_comes_in_pages(hub: HubServer, api: HfApi) -> None:
    hub.page_size = 2
    for n in range(5):
        hub.add(f"bob/cat-{n}", tags=["a b"])
    assert [m.id for m in api.list_models(filter="a b")] == [f"bob/cat-{n}" for n in range(5)]
    assert len(hub.asked("GET", "/api/models?")) == 3
    assert len(list(api.list_models(limit=2))) == 2 and len(hub.asked("GET", "/api/models?")) == 4


def test_what_a_repo_holds_is_listed(hub: HubServer, api: HfApi) -> None:
    hub.add("alice/cat", {"a.txt": b"12", "sub/b.txt": b"", "sub/deep/c.txt": b"1"}, card={"license": "mit"})
    info = api.model_info("alice/cat", files_metadata=True)
    assert {s.rfilename: s.size for s in info.siblings}["a.txt"] == 2 and info.author == "alice"
    assert info.card_data["license"] == "mit" and info.private is False and info.gated is False
    assert "sub/deep/c.txt" in api.list_repo_files("alice/cat")
    assert [e.path for e in api.list_repo_tree("alice/cat", "sub")] == ["sub/b.txt", "sub/deep"]
    assert [e.path for e in api.list_repo_tree("alice/cat", "sub", recursive=True)][-1] == "sub/deep/c.txt"
    assert [e.path for e in api.get_paths_info("alice/cat", ["a.txt", "sub", "none"])] == ["a.txt", "sub"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("alice/cat", "none"))


def test_what_is_not_there_is_named(hub: HubServer, api: HfApi) -> None:
    hub.add("alice/cat", {"a.txt": b"1"})
    refused(404, "Entry Not Found", lambda: hf_hub_download("alice/cat", "b.txt"), RemoteEntryNotFoundError)
    late = partial(hf_hub_download, "alice/cat", "a.txt", revision="v9")
    refused(404, "Invalid rev id: v9", late, RevisionNotFoundError)
    refused(404, "Invalid rev id: v9", lambda: api.model_info("alice/cat", revision="v9"), RevisionNotFoundError)
    refused(404, "", lambda: hf_hub_download("alice/dog", "a.txt"), RepositoryNotFoundError)
    refused(401, "", lambda: hf_hub_download("alice/dog", "a.txt", token=False), RepositoryNotFoundError)
    refused(401, "Invalid credentials", lambda: hf_hub_download("alice/cat", "a.txt", token=WRONG))
    assert not api.repo_exists("alice/dog") and not api.file_exists("alice/cat", "b.txt")
    write = {"operations": adds({"a.txt": b"2"}), "commit_message": "2"}
    refused(404, "", lambda: api.create_commit("alice/dog", **write), RepositoryNotFoundError)
    refused(404, "", lambda: api.create_commit("alice/cat", **write, revision="v9"), RevisionNotFoundError)


def test_a_private_repo_is_not_there_for_others(hub: HubServer, api: HfApi) -> None:
    hub.add("alice/cat", {"a.txt": b"1"}, private=True)
    hub.add("visitors/cat", {"a.txt": b"1"}, private=True)
    assert Path(hf_hub_download("alice/cat", "a.txt")).read_bytes() == b"1"
    assert api.model_info("visitors/cat").private
    refused(404, "", lambda: api.model_info("alice/cat", token=BOB), RepositoryNotFoundError)
    refused(401, "", lambda: api.model_info("alice/cat", token=False), RepositoryNotFoundError)
    api.update_repo_settings("alice/cat", private=False)
    assert not api.model_info("alice/cat", token=False).private


def test_a_gated_repo_is_seen_by_all_and_downloaded_by_the_granted(hub: HubServer, api: HfApi) -> None:
    repo = hub.add("alice/cat", {"a.txt": b"1"})
    api.update_repo_settings("alice/cat", gated="manual")
    assert api.model_info("alice/cat", token=False).gated == "manual"
    assert api.list_repo_files("alice/cat", token=BOB) == [".gitattributes", "a.txt"]
    login, ask = "Please log in.", "you are not in the authorized list. Visit"
    refused(401, login, lambda: hf_hub_download("alice/cat", "a.txt", token=False), GatedRepoError)
    refused(403, ask, lambda: hf_hub_download("alice/cat", "a.txt", token=BOB), GatedRepoError)
    refused(403, ask, lambda: api.auth_check("alice/cat", token=BOB), GatedRepoError)
    repo.granted.add("bob")
    api.auth_check("alice/cat", token=BOB)
    assert Path(hf_hub_download("alice/cat", "a.txt", token=BOB)).read_bytes() == b"1"
    hub.tokens["hf_fine"] = Token("bob", "fineGrained", reads_gated=False)
    refused(403, "fine-grained token settings", lambda: api.auth_check("alice/cat", token="hf_fine"), GatedRepoError)


def test_a_card_is_read_checked_and_pushed(hub: HubServer) -> None:
    repo = hub.add("alice/cat", {"README.md": CARD})
    card = ModelCard.load("alice/cat")
    assert card.data.tags == ["textual_inversion"] and card.text == "# Cat\n"
    card.validate()
    card.data.tags.append("more")
    card.push_to_hub("alice/cat", commit_message="more")
    assert repo.head.title == "more" and repo.card["tags"] == ["textual_inversion", "more"]
    card.data.license = "my own"
    with pytest.raises(ValueError, match='- Error: "license" must be one of'):
        card.push_to_hub("alice/cat")
    card.data.license, card.data.base_model = "mit", "/content/model"
    with pytest.raises(ValueError, match='"base_model" with value "/content/model" is not valid'):
        card.validate()
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        HfApi().upload_file(path_or_fileobj=b"# Cat", path_in_repo="README.md", repo_id="alice/cat")
    assert repo.card == {}


def test_a_large_file_goes_by_lfs_to_a_store_that_gets_no_token(hub: HubServer, api: HfApi, naps: list[float]) -> None:
    content = os.urandom(12 * 1024**2)
    hub.add("alice/cat")
    hub.fail("PUT", "/store/", cut_after=1_000_000)  # the client sends it again
    api.create_commit("alice/cat", adds({"big.bin": content, "small.txt": b"1"}), commit_message="big")
    assert naps == [1]
    assert hub.repos["alice/cat"].files["big.bin"] == content and hub.repos["alice/cat"].files["small.txt"] == b"1"
    assert [request.size for request in hub.asked("PUT", "/store/")] == [1_000_000, len(content)]
    assert all(request.size < 1000 for request in hub.asked("POST"))
    assert Path(hf_hub_download("alice/cat", "big.bin")).read_bytes() == content
    hub.add("bob/cat", {"big.bin": content})
    assert Path(hf_hub_download("bob/cat", "big.bin")).read_bytes() == content
    assert [request.status for request in hub.asked("HEAD")] == [302, 302]
    assert {request.token for request in hub.asked(path_part="/store/")} == {None}
    assert hub.answer(Request("PUT", f"/store/{'0' * 64}", {}, b"damaged")).status == 400
    (file,) = api.get_paths_info("alice/cat", "big.bin")
    assert file.lfs.size == len(content)
    api.create_commit("alice/cat", adds({"again.bin": content}), commit_message="again")
    assert len(hub.asked("PUT", "/store/")) == 2


def test_xet_is_left_alone_below_the_limit(hub: HubServer, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    hub.add("alice/cat")
    api.create_commit("alice/cat", adds({"word.safetensors": b"1"}), commit_message="1")
    assert Path(hf_hub_download("alice/cat", "word.safetensors")).read_bytes() == b"1"


def upload(api: HfApi) -> object:
    return api.create_commit("alice/cat", adds({"README.md": CARD, "b.txt": b"2"}), commit_message="2")


# What the client sleeps where a call fails twice: with 500, with 429 and Retry-After: 3. None: it raises at once.
# A download asks HEAD once without any patience, for the cache's sake, and then again with it.
BACKOFF = {500: [1, 2], 429: [4.0, 4.0]}
SINCE_TWO = BACKOFF if TWO else {500: None, 429: None}
NEVER: dict[int, list[float] | None] = {500: None, 429: None}
RETRIES: list[tuple[str, str, Callable[[HfApi], object], dict[int, Any]]] = [
    ("GET", "/api/whoami-v2", lambda api: api.whoami(), NEVER),
    ("POST", "/api/repos/create", lambda api: api.create_repo("alice/new"), NEVER),
    ("PUT", "/settings", lambda api: api.update_repo_settings("alice/cat", private=True), NEVER),
    ("GET", "/api/models/alice/cat", lambda api: api.model_info("alice/cat"), NEVER),
    ("GET", "/api/models?", lambda api: list(api.list_models(author="alice")), SINCE_TWO),
    ("GET", "/tree/", lambda api: api.list_repo_files("alice/cat"), SINCE_TWO),
    ("POST", "/paths-info/", lambda api: api.get_paths_info("alice/cat", "a.txt"), NEVER),
    ("POST", "/api/validate-yaml", upload, NEVER),
    ("POST", "/preupload/", upload, BACKOFF),
    ("POST", "/objects/batch", upload, BACKOFF),
    ("PUT", "/store/", upload, BACKOFF),
    ("POST", "/objects/verify", upload, BACKOFF),
    ("POST", "/commit/", upload, NEVER),
    ("HEAD", "/resolve/", lambda api: hf_hub_download("alice/cat", "a.txt"), {500: [1], 429: [4.0]}),
    ("GET", "/resolve/", lambda api: hf_hub_download("alice/cat", "a.txt"), {500: None, 429: [4.0, 4.0]}),
]


@pytest.mark.parametrize("status", [500, 429])
@pytest.mark.parametrize(("method", "part", "call", "slept"), RETRIES, ids=[f"{m} {p}" for m, p, *_ in RETRIES])
def test_which_calls_the_client_repeats(
    hub: HubServer, api: HfApi, naps: list[float], method: str, part: str, call: Any, slept: Any, status: int
) -> None:
    repo = hub.add("alice/cat", {"a.txt": b"1"})
    hub.lfs_from = 50  # so that one file, README.md, goes by LFS: two would go at once, and share the faults
    hub.fail(method, part, status, times=2, headers={"Retry-After": "3"} if status == 429 else None)
    if slept[status] is None:
        with pytest.raises(HfHubHTTPError) as caught:
            call(api)
        assert caught.value.response.status_code == status and naps == [] and len(repo.commits) == 2
        assert caught.value.response.headers.get("Retry-After") == ("3" if status == 429 else None)
    else:
        call(api)
        assert naps == slept[status]
    hub.heal()
    call(api)


def test_a_hub_that_stays_down_is_told_of_after_six_tries(hub: HubServer, api: HfApi, naps: list[float]) -> None:
    hub.add("alice/cat", {"a.txt": b"1"})
    hub.fail("HEAD", "/resolve/", 503, times=99)
    hub.fail("POST", "/preupload/", 503, times=99)
    with pytest.raises(LocalEntryNotFoundError) as caught:
        hf_hub_download("alice/cat", "a.txt")
    assert isinstance(caught.value.__cause__, HfHubHTTPError) and naps == [1, 2, 4, 8, 8]
    assert len(hub.asked("HEAD")) == 1 + 6
    refused(503, "Service Unavailable", lambda: upload(api))


def test_an_upload_that_is_cut_leaves_the_repo_as_it_was(hub: HubServer, api: HfApi, naps: list[float]) -> None:
    repo = hub.add("alice/cat", {"a.txt": b"1"})
    operations = adds({"a.txt": b"2", "b.txt": os.urandom(3_000_000)})
    hub.fail("POST", "/commit/", cut_after=2_000_000)
    with pytest.raises(HTTP_ERROR) as caught:
        api.create_commit("alice/cat", operations, commit_message="2")
    assert not isinstance(caught.value, HfHubHTTPError) and naps == []
    assert hub.asked("POST", "/commit/")[0].size == 2_000_000 and hub.asked("POST", "/commit/")[0].status is None
    assert len(repo.commits) == 2 and repo.files["a.txt"] == b"1" and "b.txt" not in repo.files
    api.create_commit("alice/cat", operations, commit_message="2")
    assert repo.files["a.txt"] == b"2" and len(repo.commits) == 3


def test_an_upload_that_the_client_gives_up_leaves_the_repo_as_it_was(hub: HubServer) -> None:
    repo = hub.add("alice/cat")
    file = {"key": "file", "value": {"path": "a.txt", "content": "MQ==", "encoding": "base64"}}
    body = b"\n".join(json.dumps(line).encode() for line in ({"key": "header", "value": {"summary": "1"}}, file))
    head = "POST /api/models/alice/cat/commit/main HTTP/1.1\r\nAuthorization: Bearer hf_test_alice_write\r\n"
    address = ("127.0.0.1", int(hub.url.rsplit(":", 1)[1]))
    for more in (1, 0):
        with socket.create_connection(address) as connection:
            connection.sendall(f"{head}Content-Length: {len(body) + more}\r\n\r\n".encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(100)
        assert (answer == b"", len(repo.commits)) == ((True, 1) if more else (False, 2))


def test_a_commit_whose_answer_is_lost_stands(hub: HubServer, api: HfApi, naps: list[float]) -> None:
    repo = hub.add("alice/cat")
    hub.fail("POST", "/commit/", lose_answer=True)
    with pytest.raises(HTTP_ERROR):
        upload(api)
    assert repo.files["b.txt"] == b"2" and len(repo.commits) == 2
    upload(api)  # the client sees that nothing has changed, and commits nothing
    assert len(repo.commits) == 2


def test_a_folder_is_committed_twice_where_the_answer_is_lost(
    hub: HubServer, api: HfApi, naps: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With Xet on, upload_folder repeats its commit: create_commit is the call to publish with."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    repo = hub.add("alice/cat")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("1")
    hub.fail("POST", "/commit/", lose_answer=True)
    api.upload_folder(repo_id="alice/cat", folder_path=tmp_path / "folder")
    assert len(repo.commits) == 3 and naps == [1]


def test_a_download_that_is_cut_goes_on_where_it_was(hub: HubServer, naps: list[float]) -> None:
    hub.lfs_from = 99 * 1024**2
    content = os.urandom(12 * 1024**2)
    hub.add("alice/cat", {"big.bin": content})
    hub.fail("GET", "/resolve/", cut_after=11 * 1024**2)
    assert Path(hf_hub_download("alice/cat", "big.bin")).read_bytes() == content
    asked = [(request.headers.get("range"), request.status) for request in hub.asked("GET", "/resolve/")]
    assert asked == [(None, 200), (f"bytes={10 * 1024**2}-", 206)]  # it takes in whole chunks of 10 MB
    assert naps == [1]
    hub.fail("GET", "/resolve/", cut_after=10, times=99)
    with pytest.raises(HTTP_ERROR, match="received 10 bytes"):
        hf_hub_download("alice/cat", "big.bin", force_download=True)
    assert naps == [1] * 6


def test_a_slow_answer_is_a_timeout(hub: HubServer, api: HfApi) -> None:
    hub.add("alice/cat")
    hub.fail("GET", "/api/models", delay=5)
    with pytest.raises(HTTP_ERROR) as caught:
        api.model_info("alice/cat", timeout=0.1)
    assert type(caught.value).__name__ == "ReadTimeout"


def test_a_hub_that_is_gone_answers_no_open_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, naps: list[float]
) -> None:
    with HubServer() as hub:
        point_client_at(hub, monkeypatch, tmp_path)
        hub.add("alice/cat", {"a.txt": b"1", "b.txt": b"1"})
        hf_hub_download("alice/cat", "a.txt")
    with pytest.raises(HTTP_ERROR):
        HfApi().model_info("alice/cat")
    assert Path(hf_hub_download("alice/cat", "a.txt")).read_bytes() == b"1"  # from the cache
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("alice/cat", "b.txt")


def test_a_process_of_its_own_serves_another(tmp_path: Path) -> None:
    """`python -m tests.hub_server` and `client_environment`, as a notebook's kernel uses them."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tests.hub_server", "--seed-demo"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            environment = client_environment(served.stdout.readline().strip(), tmp_path, token="hf_test_alice_write")
            code = """
import json
from huggingface_hub import list_models, hf_hub_download, whoami
path = hf_hub_download("alice/private-cat", "learned_embeds.safetensors")
print(json.dumps([whoami()["name"], sorted(m.id for m in list_models(filter="textual_inversion")), path]))
"""
            said = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **environment}, text=True)
        finally:
            served.terminate()
    name, models, path = json.loads(said)
    assert name == "alice" and models == ["alice/private-cat", "bob/cat-toy", "bob/gated-cat"]
    assert Path(path).is_relative_to(tmp_path)
