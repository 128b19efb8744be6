"""Thousands of damaged files, each read or refused: `python -m tests.fuzz --count 10000 --seed 0`.

Files of every format, and those of `attacks.py`, are bent: bytes flipped, cut, added and joined, and, with all checksums
right again, their keys, shapes, numbers, instructions and tables. A process of its own reads each. It must give
concepts of finite (n, width) float32 or raise `NotAConcept`, in bounded time and memory, and run nothing.

A number and a seed name a file: `--only 4711 --seed 0 --keep folder` writes and reads that one.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import io
import itertools
import json
import os
import pickletools
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

SECONDS = 20  # of one file, after which its reader is taken for hung
ROOM = 1 << 30  # bytes of address space that the reader may add to what it has


# ---- the process that reads --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What became of a file: "read", "refused" or "fault"; CPU seconds, bytes that memory grew by, bytes read."""

    verdict: str
    detail: str
    seconds: float = 0.0
    grown: int = 0
    read: int = 0


def judge(path: Path) -> tuple[str, str]:
    """Verdict and detail: a fault is whatever is neither a sound concept nor `NotAConcept`."""
    import ti_nb as ti

    try:
        words = ti.load_words(path)
    except ti.NotAConcept as refusal:
        said = str(refusal)
        faults = [
            "is silent" * (not said),
            f"is {len(said)} letters long" * (len(said) > 2000),
            "can't be printed" * (not _printable(said)),
        ]
        return ("fault", f"the refusal {max(faults)}") if any(faults) else ("refused", said)
    except Exception as error:
        return "fault", f"{type(error).__name__}: {str(error)[:300]}"
    faults = [fault for word in words for fault in _faults(word)] or (["no words"] if not words else [])
    return ("fault", faults[0]) if faults else ("read", ", ".join(repr(word.word) for word in words)[:300])


def _printable(said: str) -> bool:
    try:
        said.encode()
    except UnicodeEncodeError:
        return False
    return True


def _faults(word: Any) -> Iterator[str]:
    """What is wrong with a concept that was read."""
    import torch

    if not isinstance(word.word, str) or not word.word or len(word.word) > 1000 or not _printable(word.word):
        yield f"the word is {ascii(word.word)[:100]}"
    if not word.vectors or not isinstance(word.family, str):
        yield "no vectors"
    for key, rows in word.vectors.items():
        if key not in ("clip_l", "clip_h", "clip_g", "t5xxl"):
            yield f"the key {key!r}"
        if type(rows) is not torch.Tensor or rows.dtype != torch.float32 or rows.ndim != 2 or 0 in rows.shape:
            yield f"{key} is {type(rows)} {getattr(rows, 'dtype', '')} {getattr(rows, 'shape', '')}"
        elif rows.requires_grad or rows.device.type != "cpu" or not bool(rows.isfinite().all()):
            yield f"{key} is not finite numbers on the CPU"
        elif rows.untyped_storage().nbytes() != 4 * rows.numel():
            yield f"{key} holds {rows.untyped_storage().nbytes()} bytes for {rows.numel()} numbers"
    if len({len(rows) for rows in word.vectors.values()}) > 1:
        yield "not as many vectors for each encoder"


def told(file: str, key: str) -> int:
    """A number of Linux' /proc; 0 elsewhere."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in lines if line.startswith(key)), "0"))


def work() -> None:
    """Read the paths that come in, one a line; answer each in a line of JSON."""
    import ti_nb as ti

    out, sys.stdout = sys.stdout, sys.stderr
    for line in iter(sys.stdin.readline, ""):
        if line.startswith("warm "):  # what is imported by and by counts for nothing
            ti.load_words(line.removeprefix("warm ").strip())
            continue
        if line.startswith("limit"):
            limit()
            continue
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        print(json.dumps(asdict(_measured(Path(line.rstrip("\n"))))), file=out, flush=True)
        faulthandler.cancel_dump_traceback_later()


def limit() -> None:
    """No more address space than there is and `ROOM`; Linux only."""
    if sys.platform == "linux":
        import resource

        room = told("/proc/self/status", "VmSize") * 1024 + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _measured(path: Path) -> Answer:
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # so that what is free already does not hide what grows
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    held, read = told("/proc/self/status", "VmRSS"), told("/proc/thread-self/io", "rchar")
    start = time.process_time()
    verdict, detail = judge(path)
    seconds = time.process_time() - start
    grown = (told("/proc/self/status", "VmHWM") - held) * 1024
    return Answer(verdict, detail, round(seconds, 4), grown, told("/proc/thread-self/io", "rchar") - read)


class Reader:
    """The process that reads, started anew where a file killed it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.errors: IO[str] | None = None

    def read(self, path: Path) -> Answer:
        process = self.process or self._start()
        assert process.stdin and process.stdout and self.errors
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if line:
            return Answer(**json.loads(line))
        process.wait()
        self.errors.seek(0)
        said = self.errors.read()
        self.close()
        return Answer("fault", f"the reader hung or died ({process.returncode}): {said[-1500:]}", float(SECONDS))

    def _start(self) -> subprocess.Popen[str]:
        self.errors = open(self.folder / "errors.txt", "w+")  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[1],
        )
        assert self.process.stdin
        for seed in warm_up(self.folder):
            self.process.stdin.write(f"warm {seed}\n")
        self.process.stdin.write("limit\n")
        return self.process

    def close(self) -> None:
        if self.process:
            assert self.process.stdin and self.process.stdout and self.errors
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.errors.close()
        self.process = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def warm_up(folder: Path) -> list[Path]:
    """A good file of each kind."""
    from .odd_files import CASES

    made = folder / "warm"
    made.mkdir(exist_ok=True)
    names = ("diffusers_bin_2d", "diffusers_bin_legacy", "clip_l_clip_g", "a1111_pt", "paper_pt", "card_pixels_only")
    return [CASES[name].write(made) for name in names]


# ---- good files and how they are bent -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seed:
    """A file to start from."""

    name: str
    ending: str
    data: bytes


def seeds(marker: Path) -> tuple[list[Seed], list[Seed]]:
    """Files as the Hub has them, and files with attacks that would make `marker`."""
    from .attacks import ATTACKS, WRAPPINGS
    from .odd_files import CASES

    found = []
    for name, repo in CASES.items():
        data = repo.files.get(repo.expect.file)
        if isinstance(data, bytes) and len(data) < 300_000:
            found.append(Seed(name, Path(repo.expect.file).suffix, data))
    hostile = [
        Seed(f"{name}, {place}", ".bin", wrap(attack.build(marker)))
        for name, attack in ATTACKS.items()
        for place, wrap in WRAPPINGS.items()
    ]
    return found, hostile


Bend = Callable[[random.Random, bytes, bytes], bytes | None]
BENDS: dict[str, Bend] = {}
ODD_NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    65535,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    (1 << 40),
    (1 << 63) - 1,
    1 << 63,
)
ODD_NAMES = (
    "", "*", "<cat>", "<cat>_1", "clip_l", "clip_g", "t5xxl", "string_to_param", "emb_params", "name", "step", "ti_nb",
    "\0", "a\nb", "🐈", "x" * 300, "__metadata__", "../x", "lora_down.weight", "text_encoders_0", "state_dict",
)  # fmt: skip
ODD_BYTES = (
    b"\0" * 8,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\0\0\xc0\x7f",
    b"\0\0\x80\x7f",
    b"\x80",
    b"PK\3\4",
    b"{}",
    b".",
)


def bend(function: Bend) -> Bend:
    BENDS[function.__name__] = function
    return function


def _place(rng: random.Random, data: bytes) -> int:
    """Often near an end, where the tables are."""
    near = min(len(data), 600)
    at = rng.choice((rng.randrange(len(data) + 1), rng.randrange(near + 1), len(data) - rng.randrange(near + 1)))
    return at


@bend
def cut_short(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: _place(rng, data)]


@bend
def bits_flipped(rng: random.Random, data: bytes, _: bytes) -> bytes:
    out = bytearray(data or b"\0")
    for _i in range(rng.choice((1, 1, 2, 8, 64))):
        out[min(_place(rng, data), len(out) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


@bend
def bytes_overwritten(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at, odd = _place(rng, data), rng.choice((*ODD_BYTES, rng.randbytes(rng.randrange(1, 16))))
    return data[:at] + odd + data[at + len(odd) :]


@bend
def bytes_added(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice((*ODD_BYTES, rng.randbytes(rng.randrange(1, 64)))) + data[at:]


@bend
def bytes_left_out(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 100, 1000)) :]


@bend
def part_repeated(rng: random.Random, data: bytes, _: bytes) -> bytes:
    at, count = _place(rng, data), rng.choice((1, 8, 30, 300))
    return data[: at + count] * rng.choice((1, 2)) + data[at:]


@bend
def two_files_joined(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(rng, data)] + other[_place(rng, other) :]


@bend
def long_integers(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """A number of 2, 4 or 8 bytes, either way round, becomes an odd one."""
    size, at = rng.choice((2, 4, 8)), _place(rng, data)
    value = rng.choice(ODD_NUMBERS) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


@bend
def names_changed(rng: random.Random, data: bytes, _: bytes) -> bytes | None:
    """A name in place, another of as many bytes."""
    known = [
        name
        for name in (b"<cat-toy>", b"emb_params", b"string_to_param", b"name", b"clip_l", b"clip_g")
        if name in data
    ]
    if not known:
        return None
    old, new = rng.choice(known), rng.choice(ODD_NAMES).encode()
    return data.replace(old, new[: len(old)].ljust(len(old), rng.choice((b" ", b"_", b"\0"))))


# A safetensors file, its header written anew.


@bend
def safetensors_header(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    if data[8:9] != b"{":
        return None
    try:
        length = struct.unpack("<Q", data[:8])[0]
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    except (ValueError, struct.error):
        return None
    for _ in range(rng.choice((1, 1, 2, 5))):
        header = bent(rng, header)
    said = json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + body


@bend
def facts_changed(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    """What a file of ours says of its word."""
    if data[8:9] != b"{" or b'"ti_nb"' not in data:
        return None
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    facts = bent(rng, bent(rng, json.loads(header["__metadata__"]["ti_nb"])))
    header["__metadata__"]["ti_nb"] = rng.choice((json.dumps(facts), json.dumps(facts)[: rng.randrange(60)]))
    said = json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + data[8 + length :]


@bend
def safetensors_numbers(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    if data[8:9] != b"{":
        return None
    at = 8 + min(struct.unpack("<Q", data[:8])[0], len(data))
    return data[:at] + numbers(rng, data[at:])


def numbers(rng: random.Random, data: bytes) -> bytes:
    """Numbers of 2, 4 or 8 bytes, one of them not finite, or of another size."""
    odd = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", b"\0\x7e", b"\0\0\0\0\0\0\xf8\x7f"))
    at = rng.randrange(len(data) // len(odd) + 1) * len(odd)
    out = data[:at] + odd + data[at + len(odd) :]
    return rng.choice((out, out, out[:-4], out + bytes(4)))


def bent(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """JSON with one place in it changed."""
    odd: Sequence[Any] = (
        *ODD_NUMBERS,
        *ODD_NAMES,
        None,
        True,
        0.5,
        1e308,
        float("nan"),
        [],
        {},
        [[]],
        {"a": {}},
        [1] * 50,
    )
    if isinstance(value, dict) and value and rng.random() < 0.85 and depth < 8:
        key = rng.choice(list(value))
        what = rng.randrange(6)
        if what == 0:
            return {k: v for k, v in value.items() if k != key}
        if what == 1:
            return {str(rng.choice(ODD_NAMES)) if k == key else k: v for k, v in value.items()}
        if what == 2:
            return {**value, rng.choice(ODD_NAMES): rng.choice((value[key], rng.choice(odd)))}
        return {**value, key: bent(rng, value[key], depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.85 and depth < 8:
        at = rng.randrange(len(value))
        what = rng.randrange(5)
        if what == 0:
            return value[:at] + value[at + 1 :]
        if what == 1:
            return [*value[:at], rng.choice(odd), *value[at:]]
        if what == 2:
            return rng.choice((value * 2, value[::-1], [value]))
        return [*value[:at], bent(rng, value[at], depth + 1), *value[at + 1 :]]
    return rng.choice(odd)


# A pickle, its instructions kept whole.


@bend
def pickle_instructions(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    """Of a torch file, or of a bare one, before torch 1.6."""
    if data[:1] == b"\x80":
        return instructions(rng, data)
    return record(rng, data, "data.pkl", instructions)


def split(data: bytes) -> list[bytes]:
    """A pickle's instructions, each with what belongs to it; what is left over comes last."""
    places: list[int] = []
    start = 0
    try:
        for _ in range(5):
            for _op, _, at in pickletools.genops(stream := io.BytesIO(data[start:])):
                places.append(start + (at or 0))
            start += stream.tell()
            if data[start : start + 1] != b"\x80":
                break
    except Exception:  # what is no pickle any more stays in one piece
        pass
    places = [*places, start, len(data)] if start else [*places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places) if b > a]


SPARE = (
    b"N", b"}", b"]", b")", b"(", b"0", b"1", b"2", b"\x85", b"\x86", b"\x87", b"t", b"a", b"e", b"s", b"u", b"R", b"b",
    b"\x81", b"o", b"Q", b"\x93", b"\x94", b"\x88", b"\x89", b"K\xff", b"h\x00", b"h\x01", b"q\x00", b"r\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80", b"J\xff\xff\xff\xff",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"X\x01\x00\x00\x00*", b"X\x00\x00\x00\x00", b"C\x02ab", b"\x82\x01",
    b"I01\n", b"I-1\n", b"L9999999999999999999999L\n", b"V\\ud83d\n", b"P0\n", b"\x80\x05", b"\x95\x01\0\0\0\0\0\0\0",
)  # fmt: skip


def instructions(rng: random.Random, data: bytes) -> bytes:
    """Some left out, doubled, exchanged or put in; sizes and texts changed."""
    ops = split(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, what = rng.randrange(len(ops)), rng.randrange(6)
        if what == 0 and len(ops) > 1:
            del ops[at]
        elif what == 1:
            ops.insert(at, rng.choice((*SPARE, rng.choice(ops))))
        elif what == 2:
            ops[at] = rng.choice(SPARE)
        elif what == 3:
            other = rng.randrange(len(ops))
            ops[at], ops[other] = ops[other], ops[at]
        else:
            sized = [i for i, op in enumerate(ops) if op[:1] in (b"K", b"M", b"J", b"\x8a", b"X", b"\x8c")]
            if sized:
                at = rng.choice(sized)
                ops[at] = _other(rng, ops[at])
    return b"".join(ops)


def _other(rng: random.Random, op: bytes) -> bytes:
    if op[:1] in (b"X", b"\x8c"):
        data = rng.choice(ODD_NAMES).encode()
        return b"X" + struct.pack("<I", len(data)) + data
    data = rng.choice(ODD_NUMBERS).to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data


def record(
    rng: random.Random, data: bytes, wanted: str, change: Callable[[random.Random, bytes], bytes]
) -> bytes | None:
    """A zip file with one record changed, its checksum right."""
    parts = records(data)
    chosen = [name for name in parts or {} if wanted in name]
    if not parts or not chosen:
        return None
    name = rng.choice(chosen)
    return zipped({**parts, name: change(rng, parts[name])})


def records(data: bytes) -> dict[str, bytes] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return None


def zipped(parts: dict[str, bytes], **claims: Any) -> bytes:
    from .odd_files import Entry, zip_file

    return zip_file([Entry(name, data, claims=claims.get(name, {})) for name, data in parts.items()])


@bend
def storage_numbers(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    return record(rng, data, "data/", numbers)


@bend
def record_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    plain = [
        BENDS[name] for name in ("cut_short", "bits_flipped", "bytes_overwritten", "bytes_added", "bytes_left_out")
    ]
    return record(rng, data, "", lambda r, content: r.choice(plain)(r, content, other) or b"")


@bend
def record_table(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    """Records left out, renamed, doubled, exchanged with another file's, or lied about."""
    parts = records(data)
    if not parts:
        return None
    name, what = rng.choice(list(parts)), rng.randrange(5)
    if what == 0:
        return zipped({k: v for k, v in parts.items() if k != name})
    if what == 1:
        new = rng.choice((name.upper(), name + "x", "x/" + name, name.split("/", 1)[-1], "../" + name, ""))
        return zipped({new if k == name else k: v for k, v in parts.items()})
    if what == 2:
        theirs = records(other) or {}
        return zipped({k: theirs.get(k, v) if rng.random() < 0.5 else v for k, v in parts.items()})
    if what == 3:
        field = rng.choice(("crc", "packed", "size", "at", "method"))
        value = rng.choice(ODD_NUMBERS) & (0xFFFF if field == "method" else 0xFFFFFFFF)
        return zipped(parts, **{name: {field: value}})
    from .odd_files import Entry, zip_file

    return zip_file([Entry(k, v) for k, v in [*parts.items(), (name, rng.choice(list(parts.values())))]])


# A picture, its chunks' checksums right.


@bend
def picture_chunks(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    from .odd_files import png_of

    chunks = _chunks(data)
    if not chunks:
        return None
    at, what = rng.randrange(len(chunks)), rng.randrange(5)
    kind, body = chunks[at]
    if what == 0:
        del chunks[at]
    elif what == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[at])
    elif what == 2:
        chunks[at] = (rng.choice((b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"tRNS", b"acTL", b"abcd")), body)
    elif what == 3 and chunks[0][0] == b"IHDR":
        size = [rng.choice((1, 2, 100, 5000, (1 << 31) - 1)) for _ in range(2)]
        rest = [rng.choice((1, 2, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.choice((0, 1))]
        chunks[0] = (b"IHDR", rng.choice((struct.pack(">2I5B", *size, *rest), chunks[0][1][:8] + bytes(rest))))
    else:
        chunks[at] = (kind, bits_flipped(rng, body, other) or b"")
    return png_of(chunks)


@bend
def picture_words(rng: random.Random, data: bytes, other: bytes) -> bytes | None:
    """What a card says, in its text or in its margins."""
    import base64

    from .odd_files import card_pixels, card_text, picture, png

    texts = [body.split(b"\0", 1)[1] for kind, body in _chunks(data) if kind == b"tEXt" and b"\0" in body]
    try:
        said = json.loads(base64.b64decode(texts[0])) if texts else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return None
    for _ in range(rng.choice((1, 2, 5))):
        said = bent(rng, said)
    packed = json.dumps(said).encode()
    return rng.choice((png(picture(), [card_text(packed)]), png(card_pixels(packed, picture(128)))))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    from .readers import Refused, png_chunks

    try:
        return list(png_chunks(data))
    except (Refused, struct.error):
        return []


def mutant(number: int, seed: int, found: Sequence[Seed], hostile: Sequence[Seed]) -> tuple[str, Seed, bytes]:
    """The file of that number: how it was bent, from what, and its bytes."""
    rng = random.Random(f"{seed}-{number}")
    name, other = rng.choice(list(BENDS)), rng.choice(found).data
    while True:  # until there is one that can be bent so
        start = rng.choice(hostile) if rng.random() < 0.15 else rng.choice(found)
        data = BENDS[name](rng, start.data, other)
        if data is not None and rng.random() < 0.3:  # bent twice
            data = BENDS[rng.choice(list(BENDS)[:9])](rng, data, other) or data
        if data is not None and data != start.data:
            return name, start, data


# ---- the whole run -------------------------------------------------------------------------------------------------


@dataclass
class Summary:
    """Of a run: verdicts of each way of bending, the faults, the most that one file took."""

    verdicts: Counter[tuple[str, str]]
    faults: list[str]
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)  # and the number of the file
    grown: tuple[int, int] = (0, 0)
    read_more: tuple[int, int] = (0, 0)
    ran: bool = False

    def __str__(self) -> str:
        lines = [f"{'bent':22}{'read':>8}{'refused':>9}{'fault':>7}"]
        for name in sorted({name for name, _ in self.verdicts}):
            counts = [self.verdicts[name, verdict] for verdict in ("read", "refused", "fault")]
            lines.append(f"{name:22}{counts[0]:8}{counts[1]:9}{counts[2]:7}")
        total = sum(self.verdicts.values())
        lines += [
            f"{total} files in {self.seconds:.0f} s, {len(self.faults)} faults",
            f"at most {self.slowest[0]:.2f} s (file {self.slowest[1]}), {self.grown[0] / 1e6:.0f} MB of memory (file "
            f"{self.grown[1]}), {self.read_more[0]} bytes read beyond a file's own (file {self.read_more[1]})",
            "a file ran something" if self.ran else "no file ran anything",
        ]
        return "\n".join(lines)


def run(count: int, seed: int, folder: Path, *, only: int | None = None, keep: Path | None = None) -> Summary:
    """Read so many files; those with faults are kept in `keep`."""
    marker = folder / "marker"
    found, hostile = seeds(marker)
    out = Summary(Counter(), [])
    start = time.perf_counter()
    with Reader(folder) as reader:
        for number in [only] if only is not None else range(count):
            name, origin, data = mutant(number, seed, found, hostile)
            path = folder / f"bent{origin.ending}"
            path.write_bytes(data)
            answer = reader.read(path)
            out.verdicts[name, answer.verdict] += 1
            out.slowest, out.grown = max(out.slowest, (answer.seconds, number)), max(out.grown, (answer.grown, number))
            out.read_more = max(out.read_more, (answer.read - len(data), number))
            if answer.verdict == "fault":
                out.faults.append(f"{number} ({name} of {origin.name}): {answer.detail}")
            if keep and (answer.verdict == "fault" or only is not None):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}{origin.ending}").write_bytes(data)
                print(number, name, origin.name, answer)
            path.unlink()
    out.seconds, out.ran = time.perf_counter() - start, any(folder.glob("marker*"))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read only the file of this number")
    parser.add_argument("--keep", type=Path, help="a folder for the files with faults")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        summary = run(asked.count, asked.seed, Path(folder), only=asked.only, keep=asked.keep)
    print(summary, *summary.faults, sep="\n")
    return int(bool(summary.faults) or summary.ran)


if __name__ == "__main__":
    sys.exit(main())
