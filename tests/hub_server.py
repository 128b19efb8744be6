"""A Hugging Face Hub on loopback for the real client: repos, tokens, refusals as the Hub words them, and faults on order.

    with HubServer() as hub:
        hub.add("bob/cat", {"learned_embeds.safetensors": b"..."}, private=True)
        hub.fail("GET", "/resolve/", status=429, headers={"Retry-After": "1"})
        ...
        assert [r.path for r in hub.asked("GET", "/resolve/")] == [...]

The client reads HF_ENDPOINT once, on import. So a new process is given `client_environment(hub, folder)`, and a process
that has it imported calls `point_client_at(hub, monkeypatch, folder)`. `HfApi(endpoint=hub.url)` and
`hf_hub_download(endpoint=hub.url)` need neither, but ModelCard, diffusers and transformers take no endpoint.

Model repos only. No pull requests, no Xet: have the client leave Xet alone (HF_HUB_DISABLE_XET=1, both helpers do), or
stay below `lfs_from` bytes a file.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import importlib.util
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml  # comes with huggingface_hub itself

# The Hub's own, from huggingface_hub/repocard.py.
CARD = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")

# What the Hub takes in a card, from its refusal in https://github.com/huggingface/huggingface_hub/issues/4218.
LICENSES = """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
other"""

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Large(bytes):
    """The content of a file that came by LFS, so that it is served by the store."""


@dataclass(frozen=True)
class Token:
    """Whom a token speaks for. A "fineGrained" one does what `scopes` lists for a namespace or a repo, no more."""

    user: str
    role: str = "write"  # or "read", "fineGrained"
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # {"alice": ("repo.write",)}
    reads_gated: bool = True  # what a fine-grained token has to be given, and often is not


@dataclass(frozen=True)
class Commit:
    """A commit, with all files as they are after it. A change to None deletes."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    changes: Mapping[str, bytes | None]
    files: Mapping[str, bytes]


@dataclass
class Repo:
    """A model's repo; like the Hub's, it begins with a commit of .gitattributes."""

    id: str
    private: bool = False
    gated: bool | str = False
    granted: set[str] = field(default_factory=set)  # users whom the owner let in, where it is gated
    downloads: int = 0
    likes: int = 0
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.branches["main"]

    @property
    def files(self) -> dict[str, bytes]:
        return dict(self.head.files)

    @property
    def card(self) -> dict[str, Any]:
        """The metadata of README.md; none where it can't be read."""
        found = CARD.search(self.files.get("README.md", b"").decode(errors="replace"))
        with contextlib.suppress(yaml.YAMLError, TypeError, ValueError):
            return dict(yaml.safe_load(found[2])) if found else {}
        return {}

    @property
    def labels(self) -> list[str]:
        """The tags that a search filters by: those of the card and those that the Hub derives from it."""
        card, bases = self.card, _many(self.card.get("base_model"))
        labels = [card.get("library_name"), *_many(card.get("tags")), card.get("pipeline_tag")]
        labels += ["safetensors"] if any(name.endswith(".safetensors") for name in self.files) else []
        relation = card.get("base_model_relation")
        labels += [f"base_model:{base}" for base in bases] + [f"base_model:{relation}:{b}" for b in bases if relation]
        labels += [f"license:{name}" for name in _many(card.get("license"))] + ["region:us"]
        return list(dict.fromkeys(label for label in labels if label))

    def at(self, revision: str) -> Commit | None:
        by_oid = {commit.oid: commit for commit in self.commits}
        return self.branches.get(revision) or self.tags.get(revision) or by_oid.get(revision)

    def commit(
        self,
        title: str,
        changes: Mapping[str, bytes | None],
        *,
        message: str = "",
        author: str = "system",
        branch: str = "main",
    ) -> Commit:
        """Put changes on a branch, as if `author` had pushed them."""
        parent = self.branches.get(branch)
        after = {**(parent.files if parent else {}), **changes}
        files = {name: content for name, content in sorted(after.items()) if content is not None}
        told = [self.id, len(self.commits), title, {name: blob_id(content) for name, content in files.items()}]
        oid = hashlib.sha1(json.dumps(told).encode()).hexdigest()
        date = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        made = Commit(oid, parent.oid if parent else None, title, message, author, date, dict(changes), files)
        self.commits.append(made)
        self.branches[branch] = made
        return made


@dataclass
class Request:
    """One request as it arrived, and the status it was answered (None: it was not)."""

    method: str
    path: str  # as sent: quoted, with the query
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    status: int | None = None

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that is not a success, worded as the Hub words it: the client chooses its exception by `code`."""

    def __init__(self, status: int, message: str, code: str = "", *, commit: str = "", **told: Any) -> None:
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.answer = said({"error": message, **told}, status=status)
        self.answer.headers |= {name: value for name, value in headers.items() if value}


@dataclass
class Fault:
    method: str
    path_part: str
    times: int
    answer: Answer | None
    cut_after: int | None
    lose_answer: bool
    delay: float


Action = Callable[..., Answer]
ROUTES: list[tuple[list[str], re.Pattern[str], Action]] = []


def route(methods: str, path: str) -> Callable[[Action], Action]:
    """Register a method of HubServer for a path; what stands in braces becomes its arguments, unquoted."""
    shapes = {"repo": "[^/]+/[^/]+", "path": ".+", "ref": "branch|tag"}
    named = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{shapes.get(m[1], '[^/]+')})", path.replace(".", r"\."))

    def register(action: Action) -> Action:
        ROUTES.append((methods.split(), re.compile(named), action))
        return action

    return register


class HubServer:
    """A Hub on a free port of loopback; leave the `with` block and it is gone, open connections included.

    Attributes:
        url: for HF_ENDPOINT or endpoint=. requests: everything asked so far, in order.
        repos: by id. tokens: by what is sent as Bearer. orgs: by user, {organization: role there}.
        lfs_from: a file this big is sent by LFS; at 0 all are, as *.safetensors are to the real Hub.
        page_size: the most models that one page of a list holds.
    """

    def __init__(self, port: int = 0, *, lfs_from: int = 10 * 1024**2, page_size: int = 1000) -> None:
        self.lfs_from, self.page_size = lfs_from, page_size
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.orgs = {"alice": {"cats": "admin", "visitors": "read"}, "bob": {}}
        self.tokens = {
            "hf_test_alice_write": Token("alice"),
            "hf_test_alice_read": Token("alice", "read"),
            "hf_test_alice_fine": Token("alice", "fineGrained", {"alice/cat": ("repo.write",)}, reads_gated=False),
            "hf_test_bob_write": Token("bob"),
        }
        self.objects: dict[str, Large] = {}  # the LFS store, by sha256
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._http = _HttpServer(("127.0.0.1", port), _Handler)
        self._http.hub = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up_all()

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes] | None = None,
        *,
        private: bool = False,
        gated: bool | str = False,
        author: str | None = None,
        tags: Iterable[str] = (),
        card: Mapping[str, Any] | None = None,
        downloads: int = 0,
        likes: int = 0,
    ) -> Repo:
        """A repo with these files in one commit; `card` and `tags` become a README.md that has only metadata."""
        repo = Repo(repo_id, private, gated, downloads=downloads, likes=likes)
        repo.commit("initial commit", {".gitattributes": ATTRIBUTES})
        metadata = {**(card or {}), **({"tags": list(tags)} if tags else {})}
        readme = {"README.md": f"---\n{yaml.safe_dump(metadata)}---\n".encode()} if metadata else {}
        with self._lock:
            stored = {name: self._keep(content) for name, content in {**readme, **(files or {})}.items()}
            if stored:
                repo.commit("Upload model", stored, author=author or repo.owner)
            self.repos[repo_id] = repo
        return repo

    def _keep(self, content: bytes) -> bytes:
        """Put the content of a large file in the store."""
        return self.objects.setdefault(sha256(content), Large(content)) if len(content) >= self.lfs_from else content

    def fail(
        self,
        method: str,
        path_part: str,
        status: int | None = None,
        *,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        cut_after: int | None = None,
        lose_answer: bool = False,
        delay: float = 0,
    ) -> None:
        """Break the next `times` requests of this method whose path has this part in it.

        With a status, it is answered and nothing is done. cut_after: hang up after that many bytes of the request's
        body, or of the answer's to a GET. lose_answer: do what was asked, then hang up. delay: seconds before answering.
        """
        said_headers = {"Content-Type": "application/json", **(headers or {})}
        told = json.dumps({"error": HTTPStatus(status or 200).phrase}).encode() if body is None else body
        answer = None if status is None else Answer(told, status, said_headers)
        with self._lock:
            self._faults.append(Fault(method, path_part, times, answer, cut_after, lose_answer, delay))

    def heal(self) -> None:
        """Forget the faults that nothing has run into yet."""
        with self._lock:
            self._faults.clear()

    def asked(self, method: str = "", path_part: str = "") -> list[Request]:
        """The requests so far of a method (any) whose path has this part in it."""
        with self._lock:
            return [r for r in self.requests if method in ("", r.method) and path_part in unquote(r.path)]

    def begin(self, request: Request) -> Fault | None:
        """Note a request, and take the fault that waits for it."""
        with self._lock:
            self.requests.append(request)
            path = unquote(request.path)
            due = (f for f in self._faults if f.times and f.method == request.method and f.path_part in path)
            fault = next(due, None)
            if fault is not None:
                fault.times -= 1
            return fault

    def wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def answer(self, request: Request) -> Answer:
        """Do what is asked, whole or not at all."""
        with self._lock:
            try:
                if request.token is not None and request.token not in self.tokens:
                    raise Refused(401, "Invalid credentials in Authorization header")
                for methods, pattern, action in ROUTES:
                    found = pattern.fullmatch(urlsplit(request.path).path)
                    if found and request.method in methods:
                        named = {name: unquote(part) for name, part in found.groupdict().items()}
                        return action(self, request, **named)
                raise Refused(404, "Sorry, we can't find the page you are looking for.")
            except Refused as refused:
                return refused.answer
            except (KeyError, TypeError, ValueError) as error:
                return Refused(400, f"{request.method} {request.path} makes no sense: {error!r}").answer

    # Who may do what

    def _token(self, request: Request) -> Token:
        if request.token is None:
            raise Refused(401, "Invalid username or password.")
        return self.tokens[request.token]

    def _may(self, request: Request, need: str, namespace: str, repo_id: str = "") -> bool:
        """Whether the token has "repo.write" or "repo.content.read" there."""
        if request.token is None:
            return False
        token = self.tokens[request.token]
        role = "admin" if token.user == namespace else self.orgs.get(token.user, {}).get(namespace)
        if role is None or (need == "repo.write" and "read" in (role, token.role)):
            return False
        scopes = {*token.scopes.get(namespace, ()), *token.scopes.get(repo_id, ())}
        return token.role != "fineGrained" or bool(scopes & {need, "repo.write"})

    def _repo(self, request: Request, repo_id: str, *, write: bool = False) -> Repo:
        repo = self.repos.get(repo_id)
        owner = repo_id.split("/")[0]
        seen = repo is not None and (not repo.private or self._may(request, "repo.content.read", owner, repo_id))
        if request.token is None and (write or not seen):
            # Over https the client takes any 401 about a repo for this code; over http it has to be told.
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        if repo is None or not seen:
            raise Refused(404, "Repository not found", "RepoNotFound")
        if write and not self._may(request, "repo.write", owner, repo_id):
            raise Refused(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repo

    def _readable(self, request: Request, repo_id: str) -> Repo:
        """The repo, if its files may be downloaded too: it is not gated, or this user was let in."""
        repo = self._repo(request, repo_id)
        if not repo.gated or self._may(request, "repo.content.read", repo.owner, repo_id):
            return repo
        if request.token is None:
            told = "You must have access to it and be authenticated to access it. Please log in."
            raise Refused(401, f"Access to model {repo_id} is restricted. {told}", "GatedRepo")
        token = self.tokens[request.token]
        if token.user not in repo.granted:
            told = f"and you are not in the authorized list. Visit {self.url}/{repo_id} to ask for access."
            raise Refused(403, f"Access to model {repo_id} is restricted {told}", "GatedRepo")
        if token.role == "fineGrained" and not token.reads_gated:
            told = "in your fine-grained token settings to view this repository."
            raise Refused(403, f"Please enable access to public gated repositories {told}", "GatedRepo")
        return repo

    def _commit_at(self, repo: Repo, revision: str) -> Commit:
        found = repo.at(revision)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # Users, and what needs none

    @route("GET", "/api/whoami-v2")
    def _whoami(self, request: Request) -> Answer:
        token = self._token(request)
        access: dict[str, Any] = {"displayName": "test", "role": token.role, "createdAt": "2024-01-01T00:00:00.000Z"}
        if token.role == "fineGrained":
            scoped = [_scope(name, permissions) for name, permissions in token.scopes.items()]
            access["fineGrained"] = {"canReadGatedRepos": token.reads_gated, "global": [], "scoped": scoped}
        orgs = [
            {"type": "org", "name": name, "fullname": name, "roleInOrg": role}
            for name, role in self.orgs.get(token.user, {}).items()
        ]
        user = {"type": "user", "id": _id(token.user), "name": token.user, "fullname": token.user, "isPro": False}
        return said({**user, "orgs": orgs, "auth": {"type": "access_token", "accessToken": access}})

    @route("POST", "/api/validate-yaml")
    def _validate(self, request: Request) -> Answer:
        """Check a card's metadata, which the client does before it sends a README.md."""
        found = CARD.search(request.json()["content"])
        warnings = [] if found else [{"message": "empty or missing yaml metadata in repo card"}]
        wrong = _wrong_in_card(found[2] if found else "")
        if wrong and request.headers.get("accept") == "text/plain":  # as ModelCard.validate asks
            return Answer("\n".join(f"- Error: {message}" for message in wrong).encode(), 400)
        errors = [{"message": message} for message in wrong]
        return said({"errors": errors, "warnings": warnings}, status=400 if errors else 200)

    # Repos

    @route("POST", "/api/repos/create")
    def _create(self, request: Request) -> Answer:
        asked, user = request.json(), self._token(request).user
        kind, owner = asked.get("type") or "model", asked.get("organization") or user
        if kind != "model":
            raise ValueError(f"no {kind} repos here")
        repo_id = f"{owner}/{asked['name']}"
        told = {"url": f"{self.url}/{repo_id}", "name": repo_id}
        if not self._may(request, "repo.write", owner):
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if repo_id in self.repos:
            raise Refused(409, "You already created this model repo", **told)
        self.add(repo_id, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return said(told)

    @route("DELETE", "/api/repos/delete")
    def _delete(self, request: Request) -> Answer:
        asked = request.json()
        owner = asked.get("organization") or self._token(request).user
        repo = self._repo(request, f"{owner}/{asked['name']}", write=True)
        del self.repos[repo.id]
        return Answer()

    @route("PUT", "/api/models/{repo}/settings")
    def _settings(self, request: Request, repo: str) -> Answer:
        target, asked = self._repo(request, repo, write=True), request.json()
        visibility = asked.get("visibility")
        private = asked.get("private", target.private) if visibility is None else visibility == "private"
        target.private, target.gated = private, asked.get("gated", target.gated)
        return said({"private": target.private, "gated": target.gated})

    @route("GET", "/api/models/{repo}/auth-check")
    @route("GET", "/api/models/{repo}/auth-check/{need}")
    def _auth_check(self, request: Request, repo: str, need: str = "read") -> Answer:
        if need == "write":
            self._repo(request, repo, write=True)
        self._readable(request, repo)
        return Answer()

    # What is in them

    @route("GET", "/api/models")
    def _list(self, request: Request) -> Answer:
        query = request.query
        found = [repo for repo in self.repos.values() if self._is_found(request, repo)]
        if "sort" in query:
            found.sort(key=lambda repo: self._facts(repo, repo.head)[query["sort"][0]], reverse=True)
        start, size = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["1000"])[0])
        end = start + min(size, self.page_size)
        wanted = {"_id", "id", "modelId", *query.get("expand", ())}
        if "expand" not in query:
            wanted |= {"likes", "downloads", "private", "tags", "pipeline_tag", "library_name", "createdAt"}
            wanted |= {"author", "sha", "lastModified", "gated", "disabled", "siblings"} if "full" in query else set()
            wanted |= {"cardData"} if "cardData" in query else set()
        facts = [self._facts(repo, repo.head) for repo in found[start:end]]
        answer = said([{name: value for name, value in about.items() if name in wanted} for about in facts])
        if end < len(found):
            following = urlencode({**query, "cursor": [str(end)]}, doseq=True)
            answer.headers["Link"] = f'<{self.url}/api/models?{following}>; rel="next"'
        return answer

    def _is_found(self, request: Request, repo: Repo) -> bool:
        query = request.query
        gated = str(bool(repo.gated)).lower()
        same = {"author": repo.owner, "pipeline_tag": repo.card.get("pipeline_tag"), "gated": gated}
        return (
            (not repo.private or self._may(request, "repo.content.read", repo.owner, repo.id))
            and set(query.get("filter", ())) <= set(repo.labels)
            and all(word.lower() in repo.id.lower() for word in query.get("search", ()))
            and all(value == query[name][0] for name, value in same.items() if name in query)
        )

    @route("GET", "/api/models/{repo}")
    @route("GET", "/api/models/{repo}/revision/{revision}")
    def _info(self, request: Request, repo: str, revision: str = "main") -> Answer:
        target = self._repo(request, repo)
        facts = self._facts(target, self._commit_at(target, revision), blobs="blobs" in request.query)
        wanted = {"_id", "id", "modelId", *request.query.get("expand", facts)}
        return said({name: value for name, value in facts.items() if name in wanted})

    def _facts(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": name} for name in commit.files]
        for sibling in siblings if blobs else ():
            entry = _entry(commit, sibling["rfilename"])
            sibling |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
        card = repo.card
        return {
            **{"_id": _id(repo.id), "id": repo.id, "modelId": repo.id, "author": repo.owner, "sha": commit.oid},
            **{"lastModified": repo.commits[-1].date, "createdAt": repo.commits[0].date, "siblings": siblings},
            **{"private": repo.private, "gated": repo.gated, "disabled": False, "tags": repo.labels, "cardData": card},
            **{"downloads": repo.downloads, "likes": repo.likes, "trendingScore": repo.likes},
            **{key: card[key] for key in ("library_name", "pipeline_tag") if key in card},
            "usedStorage": sum(len(content) for content in commit.files.values()),
        }

    @route("GET", "/api/models/{repo}/tree/{revision}")
    @route("GET", "/api/models/{repo}/tree/{revision}/{path}")
    def _tree(self, request: Request, repo: str, revision: str, path: str = "") -> Answer:
        commit = self._commit_at(self._repo(request, repo), revision)
        inside = _under(commit, path)
        if path and not inside:
            raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound", commit=commit.oid)
        deep = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        depth = path.count("/") + (2 if path else 1)
        shallow = {"/".join(name.split("/")[:depth]) for name in inside}
        folders = {str(folder) for name in inside for folder in Path(name).parents if str(folder) not in (".", path)}
        names = sorted(folders | set(inside)) if deep else sorted(shallow)
        return said([_entry(commit, name) for name in names])

    @route("POST", "/api/models/{repo}/paths-info/{revision}")
    def _paths_info(self, request: Request, repo: str, revision: str) -> Answer:
        commit = self._commit_at(self._repo(request, repo), revision)
        paths = [path.rstrip("/") for path in parse_qs(request.body.decode())["paths"]]
        return said([_entry(commit, path) for path in paths if path in commit.files or _under(commit, path)])

    @route("GET", "/api/models/{repo}/refs")
    def _refs(self, request: Request, repo: str) -> Answer:
        target = self._repo(request, repo)

        def told(kind: str, refs: Mapping[str, Commit]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit.oid} for n, commit in refs.items()]

        refs = {"branches": told("heads", target.branches), "tags": told("tags", target.tags)}
        return said({**refs, "converts": [], "pullRequests": []})

    @route("GET", "/api/models/{repo}/commits/{revision}")
    def _commits(self, request: Request, repo: str, revision: str) -> Answer:
        target = self._repo(request, repo)
        commit: Commit | None = self._commit_at(target, revision)
        told = []
        while commit is not None:
            facts = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": commit.date}
            told.append({**facts, "authors": [{"user": commit.author}]})
            commit = target.at(commit.parent) if commit.parent else None
        return said(told)

    @route("POST", "/api/models/{repo}/{ref}/{name}")
    def _add_ref(self, request: Request, repo: str, ref: str, name: str) -> Answer:
        """A branch is named in the path and starts where the body says, a tag the other way round."""
        target, asked = self._repo(request, repo, write=True), request.json()
        made, start = (name, asked.get("startingPoint", "main")) if ref == "branch" else (asked["tag"], name)
        refs = target.branches if ref == "branch" else target.tags
        if made in refs:
            raise Refused(409, "Reference already exists")
        refs[made] = self._commit_at(target, start)
        return Answer()

    @route("DELETE", "/api/models/{repo}/{ref}/{name}")
    def _delete_ref(self, request: Request, repo: str, ref: str, name: str) -> Answer:
        target = self._repo(request, repo, write=True)
        if (target.branches if ref == "branch" else target.tags).pop(name, None) is None:
            raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return Answer()

    # Uploads

    @route("POST", "/api/models/{repo}/preupload/{revision}")
    def _preupload(self, request: Request, repo: str, revision: str) -> Answer:
        """Say which files go by LFS, and what each name holds now: the client leaves out what has not changed."""
        commit = self._commit_at(self._repo(request, repo, write=True), revision)
        told = []
        for file in request.json()["files"]:
            mode = "lfs" if file["size"] >= self.lfs_from else "regular"
            now = commit.files.get(file["path"])
            oid = {} if now is None else {"oid": sha256(now) if isinstance(now, Large) else blob_id(now)}
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
        return said({"files": told, "commitOid": commit.oid})

    @route("POST", "/{repo}.git/info/lfs/objects/batch")
    def _lfs_batch(self, request: Request, repo: str) -> Answer:
        self._repo(request, repo, write=True)
        told = [self._lfs_actions(repo, thing["oid"], thing["size"]) for thing in request.json()["objects"]]
        return said({"transfer": "basic", "objects": told})

    def _lfs_actions(self, repo_id: str, oid: str, size: int) -> dict[str, Any]:
        if oid in self.objects:
            return {"oid": oid, "size": size}
        verify = f"{self.url}/{repo_id}.git/info/lfs/objects/verify"
        return {"oid": oid, "size": size, "actions": {"upload": {"href": self._store(oid)}, "verify": {"href": verify}}}

    def _store(self, oid: str) -> str:
        """Where a large file lives: like the Hub's storage another host, to which no token should be sent."""
        return f"{self.url.replace('127.0.0.1', 'localhost')}/store/{oid}?signature=test"

    @route("PUT", "/store/{oid}")
    def _lfs_put(self, request: Request, oid: str) -> Answer:
        if sha256(request.body) != oid:
            raise Refused(400, "The content does not match the checksum you specified.")
        self.objects[oid] = Large(request.body)
        return Answer()

    @route("POST", "/{repo}.git/info/lfs/objects/verify")
    def _lfs_verify(self, request: Request, repo: str) -> Answer:
        self._repo(request, repo, write=True)
        if len(self.objects.get(request.json()["oid"], b"")) != request.json()["size"]:
            raise Refused(404, "Object not found")
        return Answer()

    @route("POST", "/api/models/{repo}/commit/{revision}")
    def _commit(self, request: Request, repo: str, revision: str) -> Answer:
        target = self._repo(request, repo, write=True)
        if "create_pr" in request.query:
            raise ValueError("no pull requests here")
        if revision not in target.branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = target.branches[revision]
        first, *lines = [json.loads(line) for line in request.body.splitlines()]
        header = first["value"]
        if not head.oid.startswith(header.get("parentCommit", head.oid)):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        changes: dict[str, bytes | None] = {}
        for line in lines:
            changes |= self._change(head, line["key"], line["value"])
        about = {"message": header.get("description", ""), "author": self._token(request).user, "branch": revision}
        oid = target.commit(header["summary"], changes, **about).oid
        return said({"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{repo}/commit/{oid}"})

    def _change(self, head: Commit, key: str, value: Mapping[str, str]) -> dict[str, bytes | None]:
        path = value["path"]
        if key == "file":
            return {path: base64.b64decode(value["content"], validate=True)}
        if key == "lfsFile":
            if value["oid"] not in self.objects:
                told = "an LFS pointer pointed to a file that does not exist."
                raise Refused(400, f"Your push was rejected because {told} Offending file: - {path}")
            return {path: self.objects[value["oid"]]}
        gone = {"deletedFile": [path] if path in head.files else [], "deletedFolder": _under(head, path)}[key]
        if not gone:
            raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        return dict.fromkeys(gone)

    # Downloads

    @route("GET HEAD", "/{repo}/resolve/{revision}/{path}")
    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Answer:
        commit = self._commit_at(self._readable(request, repo), revision)
        content = commit.files.get(path)
        if content is None:
            raise Refused(404, "Entry not found", "EntryNotFound", commit=commit.oid)
        if isinstance(content, Large):
            oid = sha256(content)
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content)), "Location": self._store(oid)}
            return Answer(status=302, headers={"X-Repo-Commit": commit.oid, **linked})
        return _ranged(content, request, {"ETag": f'"{blob_id(content)}"', "X-Repo-Commit": commit.oid})

    @route("GET HEAD", "/store/{oid}")
    def _stored(self, request: Request, oid: str) -> Answer:
        if oid not in self.objects:
            raise Refused(404, "Object not found")
        return _ranged(self.objects[oid], request, {"ETag": f'"{oid}"'})


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: HubServer

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._open: set[Any] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up_all(self) -> None:
        """Else the client's kept-alive connections go on being served."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement
    server: _HttpServer

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client hung up, or we did on it
            self.close_connection = True

    def _serve(self) -> None:
        hub = self.server.hub
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        fault = hub.begin(request)
        cut = fault.cut_after if fault else None
        whole = self._read_body(request, cut)
        if not whole or (cut is not None and request.method != "GET"):
            self.close_connection = True
            return
        answer = fault.answer if fault and fault.answer else hub.answer(request)
        if fault:
            hub.wait(fault.delay)
        if fault and fault.lose_answer:
            self.close_connection = True
            return
        request.status = answer.status
        self._send(answer, cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _read_body(self, request: Request, cut: int | None) -> bool:
        """Take in the body, or `cut` bytes of it; whether all of it came."""
        if "chunked" in request.headers.get("transfer-encoding", ""):
            while length := int(self.rfile.readline(), 16):
                request.body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return True
        length = int(request.headers.get("content-length", 0))
        request.body = self.rfile.read(length if cut is None else min(cut, length))
        return len(request.body) == length

    def _send(self, answer: Answer, cut: int | None) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:cut])
        self.close_connection = self.close_connection or cut is not None


def said(value: Any, *, status: int = 200) -> Answer:
    return Answer(json.dumps(value, default=str).encode(), status, {"Content-Type": "application/json"})


def blob_id(content: bytes) -> str:
    """Git's name for a file; for a large one, of the pointer that stands in for it."""
    if isinstance(content, Large):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n"
        return blob_id(pointer.encode())
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()[:24]


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _scope(name: str, permissions: Iterable[str]) -> dict[str, Any]:
    entity = {"_id": _id(name), "type": "model" if "/" in name else "user", "name": name}
    return {"entity": entity, "permissions": list(permissions)}


def _wrong_in_card(text: str) -> list[str]:
    """What the Hub refuses in a card's metadata, of the things that we might write."""
    try:
        card = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        return [f"YAML is not valid: {error}"]
    if not isinstance(card, dict):
        return ["YAML metadata must be an object"]
    wrong = [name for name in _many(card.get("license")) if name not in LICENSES.split()]
    bases = [b for b in _many(card.get("base_model")) if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(b))]
    told = [f'"license" must be one of [{", ".join(LICENSES.split())}, array]'] if wrong else []
    hint = "Use a model id from https://hf.co/models."
    return told + [f'"base_model" with value "{base}" is not valid. {hint}' for base in bases]


def _under(commit: Commit, folder: str) -> list[str]:
    return [name for name in commit.files if not folder or name.startswith(folder.rstrip("/") + "/")]


def _entry(commit: Commit, path: str) -> dict[str, Any]:
    """A file or a folder as a tree lists it."""
    content = commit.files.get(path)
    if content is None:
        return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
    entry = {"type": "file", "oid": blob_id(content), "size": len(content), "path": path}
    large = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}}
    return entry | (large if isinstance(content, Large) else {})


def _ranged(content: bytes, request: Request, headers: dict[str, str]) -> Answer:
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Answer(content, headers=headers)
    start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
    if start > end:
        return Answer(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return Answer(content[start : end + 1], 206, headers)


def client_environment(server: HubServer | str, cache_dir: str | Path, *, token: str | None = None) -> dict[str, str]:
    """What to add to a new process's environment so that its client knows this Hub (or URL) only, and no login of ours.

    One thing goes to the real Hub all the same: ModelCard.validate, and so push_to_hub, of huggingface_hub 1.x.
    """
    home = Path(cache_dir)
    return {
        "HF_ENDPOINT": server if isinstance(server, str) else server.url,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_TOKEN": token or "",  # the client takes an empty one for none
        "HUGGING_FACE_HUB_TOKEN": "",
        "HF_OIDC_RESOURCE": "",
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def point_client_at(server: HubServer, monkeypatch: Any, cache_dir: str | Path, *, token: str | None = None) -> None:
    """Have the client that this process has imported know this Hub only, until monkeypatch undoes it.

    transformers keeps the cache folder of its own import: give it a cache_dir, or a process of its own.
    """
    from huggingface_hub import close_session, constants, hf_api, repocard
    from huggingface_hub.utils import get_session

    for name, value in client_environment(server, cache_dir, token=token).items():
        monkeypatch.setenv(name, value)
        if isinstance(getattr(constants, name, None), str):
            monkeypatch.setattr(constants, name, value)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    switches = {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "HF_HUB_DISABLE_TELEMETRY": True}
    for name, new in {"ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, **switches}.items():
        monkeypatch.setattr(constants, name, new)
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(Path(cache_dir) / "stored_tokens"))
    # create_repo, upload_file... of the package are methods of this one, made on import.
    monkeypatch.setattr(hf_api.api, "endpoint", server.url)
    if importlib.util.find_spec("huggingface_hub.utils._detect_agent"):  # not in 1.5
        # Else the first request asks the Hub which agents there are, and keeps the answer in the user's own cache.
        agents = importlib.import_module("huggingface_hub.utils._detect_agent")
        monkeypatch.setattr(agents, "_registry", {"standardEnvVars": [], "harnesses": {}}, raising=False)
    # 1.x has ModelCard.validate ask the real Hub, whatever HF_ENDPOINT says.
    monkeypatch.setattr(
        repocard, "get_session", lambda: _Here(get_session(), constants._HF_DEFAULT_ENDPOINT, server.url)
    )
    # This Hub has no certificate, and reading everybody else's for each client would take 60 ms.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    close_session()


class _Here:
    """A client's session which posts to this Hub what is meant for the real one."""

    def __init__(self, session: Any, there: str, here: str) -> None:
        self.post = lambda url, **how: session.post(url.replace(there, here), **how)


def seed_demo(server: HubServer, *, width: int = 192) -> None:
    """A public, a gated and a private concept, of one zero vector each (192 wide fits the embedded model)."""
    header = {"<cat-toy>": {"dtype": "F32", "shape": [1, width], "data_offsets": [0, 4 * width]}}
    told = json.dumps(header).encode()
    files = {"learned_embeds.safetensors": struct.pack("<Q", len(told)) + told + bytes(4 * width)}
    card = {"library_name": "diffusers", "pipeline_tag": "text-to-image", "instance_prompt": "<cat-toy>"}
    about: dict[str, Any] = {"files": files, "card": card, "tags": ["textual_inversion"]}
    server.add("bob/cat-toy", **about, downloads=10)
    server.add("bob/gated-cat", **about, gated="manual")
    server.add("alice/private-cat", **about, private=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a Hugging Face Hub on loopback until interrupted.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--seed-demo", action="store_true", help="begin with three concepts")
    asked = parser.parse_args()
    with HubServer(asked.port) as hub:
        if asked.seed_demo:
            seed_demo(hub)
        print(hub.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
