"""Odd-shaped files and repositories, as the Hub has them: how to make each, and what a reader must say of it.

`CASES` maps a name to an `OddRepo`: its files, made when first asked for, and what is expected of them. A file is
bytes, or `Sparse` where it is too large to hold. Nothing here uses `ti_nb`.

The shapes are from: diffusers' textual inversion scripts, loader and notebooks; AUTOMATIC1111; the paper's code
(rinongal/textual_inversion); kohya-ss/sd-scripts; OneTrainer; ostris/ai-toolkit; replicate/cog-sdxl; ComfyUI; and the
accounts of sd-concepts-library.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors_of

from .readers import series

Vectors = Mapping[str, torch.Tensor]
VOCABULARY = 49408


@dataclass(frozen=True)
class Sparse:
    """A large file of which little is written: bytes, or a number of zeros, one after the other."""

    parts: tuple[bytes | int, ...]

    def __len__(self) -> int:
        return sum(part if isinstance(part, int) else len(part) for part in self.parts)

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self, most: int = 1 << 20) -> Iterator[bytes]:
        """All of its bytes, for a server."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from (bytes(min(most, part - at)) for at in range(0, part, most))

    def write(self, path: Path) -> None:
        """To a file with holes, which takes no room on most disks."""
        with open(path, "wb") as file:
            for part in self.parts:
                if isinstance(part, int):
                    file.seek(part, io.SEEK_CUR)
                else:
                    file.write(part)
            file.truncate(len(self))


Files = dict[str, bytes | Sparse]


@dataclass(frozen=True)
class Expect:
    """What must come out: `words` of the file `file` (word: key: vectors) or `refused`, a part of the message.

    Both are given where either is right; `file` is the one a reader of the whole repository should choose, "" if none.
    `also` names the readers of `readers.py` that find the same vectors.
    """

    file: str = ""
    words: Mapping[str, Vectors] = field(default_factory=dict)
    refused: str = ""
    kind: str | None = None
    family: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class OddRepo:
    """A repository with something odd about it: `about` says what."""

    about: str
    build: Callable[[], tuple[Files, Expect]]
    name: str = "sd-concepts-library/cat-toy"

    @cached_property
    def _built(self) -> tuple[Files, Expect]:
        return self.build()

    @property
    def files(self) -> Files:
        return self._built[0]

    @property
    def expect(self) -> Expect:
        return self._built[1]

    def write(self, folder: Path) -> Path:
        """All files into `folder`; the path of the one to read, or `folder` if there is none."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Sparse):
                data.write(path)
            else:
                path.write_bytes(data)
        return folder / self.expect.file


CASES: dict[str, OddRepo] = {}


def case(about: str, name: str = "sd-concepts-library/cat-toy") -> Callable[[Callable[[], tuple[Files, Expect]]], None]:
    def register(build: Callable[[], tuple[Files, Expect]]) -> None:
        CASES[build.__name__] = OddRepo(about, build, name)

    return register


def of_file(path: str) -> str:
    """The word of a file that names none: the file's own name, as CLIP spells it, in brackets."""
    parts = re.split(r"[\s<>{}]+", Path(path).stem.lower())
    return f"<{'-'.join(parts).strip('-')}>"


def reads(file: str, words: Mapping[str, Vectors | torch.Tensor], **more: Any) -> Expect:
    """Expect these words; a bare tensor is the first encoder's."""
    return Expect(file, {w: v if isinstance(v, Mapping) else {"clip_l": v} for w, v in words.items()}, **more)


def rows(count: int = 1, width: int = 768, seed: int = 0) -> torch.Tensor:
    """Vectors (count, width) of the size that embeddings have."""
    draw = torch.Generator().manual_seed(1000 * seed + 10 * count + width)
    return 0.02 * torch.randn(count, width, generator=draw)


# ---- files by hand ----------------------------------------------------------------------------------------------


def torch_file(value: Any, **options: Any) -> bytes:
    """What `torch.save` writes today."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, stream, **options)
    return stream.getvalue()


def legacy_file(value: Any) -> bytes:
    """What `torch.save` wrote before 1.6."""
    return torch_file(value, _use_new_zipfile_serialization=False)


@dataclass(frozen=True)
class Entry:
    """A record of a zip file; `claims` are fields of its entry in the table that differ from the truth."""

    name: str
    data: bytes
    packed: bytes | None = None  # the bytes as stored, if compressed
    method: int = 0
    claims: Mapping[str, int] = field(default_factory=dict)
    local: Mapping[str, int] = field(default_factory=dict)  # and those of its own header


LOCAL, CENTRAL, END = "<4s5H3I2H", "<4s6H3I5H2I", "<4s4H2IH"


def zip_file(entries: Sequence[Entry], **end: int) -> bytes:
    """A zip file, field by field; `end` are fields of its last record that differ from the truth."""
    body, table = bytearray(), bytearray()
    for entry in entries:
        stored = entry.data if entry.packed is None else entry.packed
        name = entry.name.encode()
        true = {"crc": zlib.crc32(entry.data), "packed": len(stored), "size": len(entry.data), "at": len(body)}
        said = {**true, "method": entry.method, **entry.claims}
        own = {**true, "method": entry.method, **entry.local}
        body += struct.pack(
            LOCAL, b"PK\3\4", 20, 0, own["method"], 0, 33, own["crc"], own["packed"], own["size"], len(name), 0
        )
        body += name + stored
        table += struct.pack(
            CENTRAL, b"PK\1\2", 20, 20, 0, said["method"], 0, 33, said["crc"], said["packed"], said["size"],
            len(name), 0, 0, 0, 0, 0, said["at"],
        ) + name  # fmt: skip
    last = {"count": len(entries) & 0xFFFF, "length": len(table), "at": len(body), **end}
    return bytes(body + table) + struct.pack(
        END, b"PK\5\6", 0, 0, last["count"], last["count"], last["length"], last["at"], 0
    )


def torch_zip(program: bytes, storages: Mapping[str, bytes] | None = None, root: str = "archive") -> bytes:
    """A torch file of the years of torch 1.6 to 1.13: pickle, storages and version, nothing else."""
    parts = {"data.pkl": program, **{f"data/{k}": v for k, v in (storages or {}).items()}, "version": b"3\n"}
    return zip_file([Entry(f"{root}/{name}", data) for name, data in parts.items()])


def rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """A zip file whose records `change` has been over, given name and content; None leaves a record out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        kept = [(name, change(name, archive.read(name))) for name in archive.namelist()]
    return zip_file([Entry(name, content) for name, content in kept if content is not None])


def text(value: str) -> bytes:
    """A pickle's instruction for a string."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """A pickle's instruction for an integer."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def many(*items: bytes) -> bytes:
    """A pickle's instructions for a tuple."""
    return b"(" + b"".join(items) + b"t"


def named(module: str, name: str) -> bytes:
    """A pickle's instruction for a class or function."""
    return f"c{module}\n{name}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    """A pickle's instructions for a call."""
    return function + many(*arguments) + b"R"


def mapping(items: Mapping[str, bytes]) -> bytes:
    """A pickle's instructions for a dictionary."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


ORDERED = called(named("collections", "OrderedDict"))
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


def storage(key: str = "0", count: int = 768, kind: str = "FloatStorage", device: str = "cpu") -> bytes:
    """A pickle's instructions for a storage in the file."""
    return many(text("storage"), named("torch", kind), text(key), text(device), number(count)) + b"Q"


def tensor(
    place: bytes, shape: Sequence[int], stride: Sequence[int], offset: int = 0, rebuild: bytes = REBUILD
) -> bytes:
    """A pickle's instructions for a tensor that views a storage."""
    sizes = (many(*map(number, sizes)) for sizes in (shape, stride))
    return called(rebuild, place, number(offset), *sizes, b"\x89", ORDERED)


def program(body: bytes) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + body + b"."


def raw(vectors: torch.Tensor) -> bytes:
    """A tensor's numbers as a file holds them."""
    return vectors.contiguous().view(torch.uint8).numpy().tobytes()


def safetensors_by_hand(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of any header, given as text or as something to write in JSON."""
    said = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(said) if length is None else length) + said + body


def entry(vectors: torch.Tensor, at: int = 0, dtype: str = "F32") -> dict[str, Any]:
    """A safetensors header's entry for a tensor whose numbers begin at `at`."""
    return {"dtype": dtype, "shape": list(vectors.shape), "data_offsets": [at, at + vectors.nbytes]}


def png(pixels: np.ndarray, chunks: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG of the pixels (height, width, 3), with these chunks before them."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return png_of([(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG of any chunks."""
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def picture(height: int = 64, width: int = 48) -> np.ndarray:
    """A picture (height, width, 3) without black."""
    return np.random.default_rng(0).integers(40, 250, (height, width, 3), np.uint8)


def a1111_json(vectors: torch.Tensor, **more: Any) -> bytes:
    """What AUTOMATIC1111 writes into a picture, before it is packed."""
    said = a1111({"TORCHTENSOR": vectors.tolist()}, **more)  # type: ignore[arg-type]
    return json.dumps(said).encode()


def card_text(data: bytes) -> tuple[bytes, bytes]:
    """The chunk of a picture's text that holds an embedding."""
    return b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(data)


def card_pixels(data: bytes, image: np.ndarray) -> np.ndarray:
    """A picture with `data` in its margins, as AUTOMATIC1111 has it; see `readers.card_pixels`."""
    packed = np.frombuffer(zlib.compress(data, 9), np.uint8)
    height = len(image)
    width = -(-len(packed) // (3 * height))
    whole = np.resize(packed, height * width * 3)
    hidden = series(whole.size) & 15
    decoration = 0x30 + 0x10 * (np.arange(whole.size) % 5).astype(np.uint8)
    low, high = (
        ((half ^ hidden) | decoration).astype(np.uint8).reshape(height, width, 3) for half in (whole & 15, whole >> 4)
    )
    black = np.zeros((height, 1, 3), np.uint8)
    return np.concatenate([low, black, image, black, high], 1)


# ---- diffusers' files -------------------------------------------------------------------------------------------

CARD: Files = {
    "README.md": b"---\nlicense: mit\n---\n### Cat toy on Stable Diffusion\nThis is the `<cat-toy>` concept\n",
    "token_identifier.txt": b"<cat-toy>",
    "type_of_concept.txt": b"object",
    "concept_images/0.jpeg": b"\xff\xd8\xff\xe0 a picture",
}
ALL = ("a1111", "comfyui")
BIN, SAFE = "learned_embeds.bin", "learned_embeds.safetensors"
V = rows()


@case("one vector without a row of its own, as the notebook of 2022 wrote it")
def diffusers_bin_1d() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V[0].clone()}), **CARD}, reads(
        BIN, {"<cat-toy>": V}, kind="object", family="SD 1.x", also=ALL
    )


@case("one vector as a matrix of one row, as the script writes it")
def diffusers_bin_2d() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V}), **CARD}, reads(BIN, {"<cat-toy>": V}, kind="object", also=ALL)


@case("four vectors")
def diffusers_bin_four() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(4)}), **CARD}, reads(BIN, {"<cat-toy>": rows(4)}, also=ALL)


@case("seventy-five vectors, as many as a prompt has room for")
def diffusers_bin_many() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(75)})}, reads(BIN, {"<cat-toy>": rows(75)}, also=ALL)


@case("safetensors, one dimension")
def diffusers_safetensors_1d() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat-toy>": V[0].clone()}), **CARD}, reads(SAFE, {"<cat-toy>": V}, also=ALL)


@case("safetensors, two dimensions, the metadata diffusers adds")
def diffusers_safetensors_2d() -> tuple[Files, Expect]:
    data = safetensors_of({"<cat-toy>": rows(3)}, {"format": "pt"})
    return {SAFE: data, **CARD}, reads(SAFE, {"<cat-toy>": rows(3)}, also=ALL)


@case("a row that views its whole matrix: 151 MB of which 3 kB matter")
def diffusers_bin_row_of_matrix() -> tuple[Files, Expect]:
    count = (VOCABULARY + 1) * 768
    before = VOCABULARY * 768 * 4
    pickled = program(mapping({"<cat-toy>": tensor(storage("0", count), [768], [1], VOCABULARY * 768)}))
    head = Entry("archive/data.pkl", pickled)
    hole = zip_file([head, Entry("archive/data/0", b"")])
    at = hole.index(b"PK\1\2")  # the local headers end where the table begins
    crc = 0
    for _ in range(VOCABULARY):
        crc = zlib.crc32(bytes(768 * 4), crc)
    true = {"crc": zlib.crc32(raw(V), crc), "packed": count * 4, "size": count * 4}
    whole = zip_file([head, Entry("archive/data/0", b"", claims=true, local=true)], at=at + count * 4)
    data = Sparse((whole[:at], before, raw(V), whole[at:]))
    return {BIN: data, **CARD}, reads(BIN, {"<cat-toy>": V}, also=())


@case("half precision")
def diffusers_bin_fp16() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.half()})}, reads(BIN, {"<cat-toy>": V.half().float()}, also=ALL)


@case("bfloat16")
def diffusers_bin_bf16() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.bfloat16()})}, reads(BIN, {"<cat-toy>": V.bfloat16().float()}, also=ALL)


@case("double precision")
def diffusers_bin_fp64() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.double()})}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("safetensors whose first byte is a pickle's: the header is 128 bytes long")
def diffusers_safetensors_as_pickle() -> tuple[Files, Expect]:
    return {SAFE: _with_header_of(128)}, reads(SAFE, {"<cat-toy>": V}, also=ALL)


@case("safetensors whose first two bytes are a zip file's: the header is 19280 bytes long")
def diffusers_safetensors_as_zip() -> tuple[Files, Expect]:
    return {SAFE: _with_header_of(int.from_bytes(b"PK", "little"))}, reads(SAFE, {"<cat-toy>": V}, also=ALL)


def _with_header_of(length: int) -> bytes:
    return safetensors_by_hand(json.dumps({"<cat-toy>": entry(V)}).ljust(length), raw(V))


@case("safetensors in half precision")
def diffusers_safetensors_fp16() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat-toy>": V.half()})}, reads(SAFE, {"<cat-toy>": V.half().float()}, also=ALL)


@case("safetensors in bfloat16")
def diffusers_safetensors_bf16() -> tuple[Files, Expect]:
    data = safetensors_of({"<cat-toy>": V.bfloat16()})
    return {SAFE: data}, reads(SAFE, {"<cat-toy>": V.bfloat16().float()}, also=ALL)


@case("safetensors in double precision")
def diffusers_safetensors_fp64() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat-toy>": V.double()})}, reads(SAFE, {"<cat-toy>": V}, also=ALL)


@case("safetensors in eight bits")
def diffusers_safetensors_fp8() -> tuple[Files, Expect]:
    small = V.to(torch.float8_e4m3fn)
    return {SAFE: safetensors_of({"<cat-toy>": small})}, reads(SAFE, {"<cat-toy>": small.float()})


@case("1024 wide: Stable Diffusion 2")
def diffusers_bin_sd2() -> tuple[Files, Expect]:
    v = rows(1, 1024)
    return {BIN: torch_file({"<cat-toy>": v[0].clone()}), **CARD}, reads(
        BIN, {"<cat-toy>": {"clip_h": v}}, family="SD 2.x", also=("a1111",)
    )


@case("saved while it still needed a gradient")
def diffusers_bin_requires_grad() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.clone().requires_grad_()})}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("saved as a parameter")
def diffusers_bin_parameter() -> tuple[Files, Expect]:
    data = torch_file({"<cat-toy>": torch.nn.Parameter(V.clone())})
    return {BIN: data}, reads(BIN, {"<cat-toy>": V}, also=("comfyui",))


@case("a parameter with an attribute of its own")
def diffusers_bin_parameter_with_state() -> tuple[Files, Expect]:
    parameter = torch.nn.Parameter(V.clone())
    parameter.word = "<cat-toy>"  # type: ignore[attr-defined]
    return {BIN: torch_file({"<cat-toy>": parameter})}, reads(BIN, {"<cat-toy>": V})


@case("a matrix stored column by column")
def diffusers_bin_transposed() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(2).T.contiguous().T})}, reads(BIN, {"<cat-toy>": rows(2)}, also=ALL)


@case("rows from the middle of a small matrix")
def diffusers_bin_view() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(8)[3:5]})}, reads(BIN, {"<cat-toy>": rows(8)[3:5]}, also=ALL)


@case("one row shown four times")
def diffusers_bin_expanded() -> tuple[Files, Expect]:
    v = V.expand(4, 768)
    return {BIN: torch_file({"<cat-toy>": v})}, reads(BIN, {"<cat-toy>": v.clone()}, also=ALL)


@case("saved on a graphics card")
def diffusers_bin_cuda() -> tuple[Files, Expect]:
    pickled = program(mapping({"<cat-toy>": tensor(storage(device="cuda:0"), [1, 768], [768, 1])}))
    return {BIN: torch_zip(pickled, {"0": raw(V)})}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("saved on a big-endian machine")
def diffusers_bin_big_endian() -> tuple[Files, Expect]:
    swapped = V.numpy().astype(">f4").tobytes()

    def change(name: str, data: bytes) -> bytes:
        return b"big" if name.endswith("/byteorder") else swapped if "/data/" in name else data

    return {BIN: rewritten(torch_file({"<cat-toy>": V}), change)}, Expect(BIN, refused="big-endian")


@case("saved by torch before 1.6: five pickles and the numbers")
def diffusers_bin_legacy() -> tuple[Files, Expect]:
    return {BIN: legacy_file({"<cat-toy>": V})}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("saved by torch before 1.6, rows of a larger matrix, half precision")
def diffusers_bin_legacy_view() -> tuple[Files, Expect]:
    v = rows(8).half()
    return {BIN: legacy_file({"<cat-toy>": v[3:5]})}, reads(BIN, {"<cat-toy>": v[3:5].float()}, also=ALL)


@case("saved by torch 1.6 to 1.13: no byte order, the root named for the file")
def diffusers_bin_torch_1() -> tuple[Files, Expect]:
    pickled = program(mapping({"<cat-toy>": tensor(storage(), [768], [1])}))
    return {BIN: torch_zip(pickled, {"0": raw(V)}, "learned_embeds")}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("the root within has spaces and accents")
def diffusers_bin_odd_root() -> tuple[Files, Expect]:
    root = "mein Kätzchen (3).final"
    pickled = program(mapping({"<cat-toy>": tensor(storage(), [768], [1])}))
    with zipfile.ZipFile(stream := io.BytesIO(), "w", zipfile.ZIP_STORED) as archive:  # marks its names as UTF-8
        for name, data in {"data.pkl": pickled, "data/0": raw(V), "version": b"3\n"}.items():
            archive.writestr(f"{root}/{name}", data)
    return {BIN: stream.getvalue()}, reads(BIN, {"<cat-toy>": V}, also=ALL)


@case("pickled with protocol 4")
def diffusers_bin_protocol_4() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(2)}, pickle_protocol=4)}, reads(BIN, {"<cat-toy>": rows(2)}, also=ALL)


@case("an ordered dictionary")
def diffusers_bin_ordered() -> tuple[Files, Expect]:
    return {BIN: torch_file(OrderedDict({"<cat-toy>": V}))}, reads(BIN, {"<cat-toy>": V}, also=("comfyui",))


# ---- AUTOMATIC1111's ---------------------------------------------------------------------------------------------


def a1111(vectors: torch.Tensor, **more: Any) -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "my-cat",
        "step": 499,
        "sd_checkpoint": "e1441589a6",
        "sd_checkpoint_name": "v1-5-pruned",
        **more,
    }


PT = "my-cat.pt"
CAT = of_file(PT)


@case("AUTOMATIC1111's own file")
def a1111_pt() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(rows(2)))}, reads(PT, {CAT: rows(2)}, family="SD 1.x", also=ALL)


@case("its vectors as a parameter")
def a1111_pt_parameter() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(torch.nn.Parameter(rows(2))))}, reads(PT, {CAT: rows(2)}, also=ALL)


@case("its vectors still needing a gradient")
def a1111_pt_requires_grad() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(rows(2).requires_grad_()))}, reads(PT, {CAT: rows(2)}, also=ALL)


@case("saved on a graphics card by torch 1.13, in half precision")
def a1111_pt_cuda() -> tuple[Files, Expect]:
    v = rows(2).half()
    inner = mapping({"*": tensor(storage("0", 1536, "HalfStorage", "cuda:0"), [2, 768], [768, 1])})
    pickled = program(mapping({"string_to_token": mapping({"*": number(265)}), "string_to_param": inner}))
    return {PT: torch_zip(pickled, {"0": raw(v)})}, reads(PT, {CAT: v.float()}, also=ALL)


@case("no name inside: the file's own name is the word")
def a1111_pt_no_name() -> tuple[Files, Expect]:
    data = a1111(rows(2))
    del data["name"]
    return {PT: torch_file(data)}, reads(PT, {of_file(PT): rows(2)}, also=ALL)


@case("a name that is no text")
def a1111_pt_name_none() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(rows(2), name=None))}, reads(PT, {of_file(PT): rows(2)}, also=ALL)


@case("the name inside differs from the file's, which is the one that counts in AUTOMATIC1111")
def a1111_pt_renamed() -> tuple[Files, Expect]:
    data = torch_file(a1111(rows(2), name="old-name"))
    return {"new-name.pt": data}, reads("new-name.pt", {"<new-name>": rows(2)}, also=ALL)


@case("a file of the middle of training, its name with the step")
def a1111_pt_step() -> tuple[Files, Expect]:
    data = torch_file(a1111(rows(2), name="my-cat-500", step=None))
    return {"my-cat-500.pt": data}, reads("my-cat-500.pt", {"<my-cat-500>": rows(2)}, also=ALL)


@case("another key than '*' and no name")
def a1111_pt_other_key() -> tuple[Files, Expect]:
    data = a1111(rows(2), string_to_token={"<cat>": 265}, string_to_param={"<cat>": rows(2)})
    del data["name"]
    return {PT: torch_file(data)}, reads(PT, {"<cat>": rows(2)}, also=ALL)


@case("a file named as any other, so that the name inside is the word")
def a1111_pt_generic() -> tuple[Files, Expect]:
    return {BIN: torch_file(a1111(rows(2)))}, reads(BIN, {CAT: rows(2)}, also=ALL)


@case("two words in string_to_param")
def a1111_pt_two_words() -> tuple[Files, Expect]:
    params = {"<cat>": rows(2), "<dog>": rows(1, seed=1)}
    data = {"string_to_token": {"<cat>": 265, "<dog>": 266}, "string_to_param": params}
    return {PT: torch_file(data)}, reads(PT, params)


@case("notes, hashes and nested facts beside the vectors")
def a1111_pt_more_facts() -> tuple[Files, Expect]:
    more = {"notes": {"tags": ["cat", ("a", 1.5, True)], "when": None}, "hash": "1a2b", "shape": torch.Size([2])}
    return {PT: torch_file(a1111(rows(2), **more))}, reads(PT, {CAT: rows(2)}, also=ALL)


@case("facts of bytes, which protocol 2 spells as a call")
def a1111_pt_bytes() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(rows(2), hash=b"\x01\xff"))}, reads(
        PT, {CAT: rows(2)}, refused="_codecs.encode", also=ALL
    )


@case("the state of the optimizer that AUTOMATIC1111 puts beside the file")
def a1111_optim() -> tuple[Files, Expect]:
    state = {"state": {0: {"step": 5, "exp_avg": rows(2)}}, "param_groups": [{"lr": 0.005, "params": [0]}]}
    data = torch_file({"hash": "1a2b", "optimizer_state_dict": state})
    return {"my-cat.pt.optim": data}, Expect("my-cat.pt.optim", refused="holds no vectors")


@case("AUTOMATIC1111's form of SDXL, pickled")
def a1111_pt_sdxl() -> tuple[Files, Expect]:
    v = {"clip_l": rows(2), "clip_g": rows(2, 1280)}
    return {PT: torch_file(v)}, reads(PT, {of_file(PT): v}, family="SDXL", also=ALL)


# ---- the paper's own code ---------------------------------------------------------------------------------------

GAL = "embeddings_gs-6099.pt"


def paper(parameters: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    held = torch.nn.ParameterDict({word: torch.nn.Parameter(v.clone()) for word, v in parameters.items()})
    return {"string_to_token": {word: torch.tensor(265) for word in parameters}, "string_to_param": held}


@case("the paper's file, a ParameterDict, saved by a torch of today")
def paper_pt() -> tuple[Files, Expect]:
    return {GAL: torch_file(paper({"*": V}))}, reads(GAL, {of_file(GAL): V}, also=ALL)


@case("the paper's file with a placeholder of its own and two vectors, saved before torch 1.6")
def paper_pt_legacy() -> tuple[Files, Expect]:
    return {GAL: legacy_file(paper({"catcus": rows(2)}))}, reads(GAL, {"catcus": rows(2)}, also=("a1111",))


@case("the paper's file as torch 1.10 saved it: parameters in an ordered dictionary, no list of keys")
def paper_pt_torch_1_10() -> tuple[Files, Expect]:
    rebuilt = tensor(storage(device="cuda:0"), [1, 768], [768, 1])
    parameter = called(named("torch._utils", "_rebuild_parameter"), rebuilt, b"\x88", ORDERED)
    hooks = ("_buffers", "_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_modules")
    state = {
        "training": b"\x88",
        "_parameters": ORDERED + text("*") + parameter + b"s",
        **{name: ORDERED for name in hooks},
        "_non_persistent_buffers_set": called(named("__builtin__", "set"), b"]"),
        "_is_full_backward_hook": b"N",
    }
    held = named("torch.nn.modules.container", "ParameterDict") + b")\x81" + mapping(state) + b"b"
    token = tensor(storage("1", 1, "LongStorage"), [], [])
    pickled = program(mapping({"string_to_token": mapping({"*": token}), "string_to_param": held}))
    data = torch_zip(pickled, {"0": raw(V), "1": struct.pack("<q", 265)}, "embeddings_gs-6099")
    return {GAL: data}, reads(GAL, {of_file(GAL): V}, also=ALL)


@case("several placeholders, as for per-image tokens")
def paper_pt_three_words() -> tuple[Files, Expect]:
    words = {"catcus": rows(2), "а": rows(1, seed=1), "б": rows(1, seed=2)}
    return {GAL: torch_file(paper(words))}, reads(GAL, words)


# ---- keys of kohya, OneTrainer, ai-toolkit, cog, ComfyUI --------------------------------------------------------


@case("kohya's emb_params; the file's name, capitals and all, is the word", "gsdf/EasyNegative")
def emb_params() -> tuple[Files, Expect]:
    name = "EasyNegative.safetensors"
    return {name: safetensors_of({"emb_params": rows(8)})}, reads(name, {of_file(name): rows(8)}, also=ALL)


@case("kohya's emb_params, pickled")
def emb_params_pt() -> tuple[Files, Expect]:
    return {"my-cat.pt": torch_file({"emb_params": rows(4)})}, reads("my-cat.pt", {CAT: rows(4)}, also=ALL)


@case("kohya's emb_params for Stable Diffusion 2, half precision, with metadata")
def emb_params_sd2() -> tuple[Files, Expect]:
    v = rows(4, 1024).half()
    data = safetensors_of({"emb_params": v}, {"modelspec.title": "my cat", "ss_steps": "1600"})
    return {"my-cat.safetensors": data}, reads("my-cat.safetensors", {CAT: {"clip_h": v.float()}}, also=("a1111",))


@case("OneTrainer's emp_params, misspelt")
def emp_params() -> tuple[Files, Expect]:
    data = safetensors_of({"emp_params": rows(4)})
    return {"cat.safetensors": data}, reads("cat.safetensors", {"<cat>": rows(4)}, also=ALL)


@case("OneTrainer's emp_params beside vectors for the encoder's output")
def emp_params_out() -> tuple[Files, Expect]:
    data = safetensors_of({"emp_params": rows(4), "emp_params_out": rows(4, seed=1)})
    return {"cat.safetensors": data}, reads("cat.safetensors", {"<cat>": rows(4)}, also=("comfyui",))


@case("ai-toolkit's emb_params with AUTOMATIC1111's facts as metadata")
def emb_params_ai_toolkit() -> tuple[Files, Expect]:
    facts = {"string_to_token": '{"*": 265}', "name": '"my-cat"', "step": "500", "string_to_param": '{"*": 1}'}
    data = safetensors_of({"emb_params": rows(4)}, facts)
    return {"my-cat.safetensors": data}, reads("my-cat.safetensors", {CAT: rows(4)}, also=ALL)


def sdxl(count: int = 2) -> dict[str, torch.Tensor]:
    return {"clip_l": rows(count), "clip_g": rows(count, 1280)}


@case("SDXL in one file, as ComfyUI, kohya and OneTrainer have it")
def clip_l_clip_g() -> tuple[Files, Expect]:
    name = "my-cat.safetensors"
    return {name: safetensors_of(sdxl())}, reads(name, {CAT: sdxl()}, family="SDXL", also=ALL)


@case("SDXL in one file, one dimension each, half precision")
def clip_l_clip_g_1d() -> tuple[Files, Expect]:
    v = {key: value[0].half() for key, value in sdxl(1).items()}
    data = safetensors_of(v)
    return {"my-cat.safetensors": data}, reads(
        "my-cat.safetensors", {CAT: {key: value[None].float() for key, value in v.items()}}, family="SDXL"
    )


@case("Flux as OneTrainer writes it: clip_l and t5")
def clip_l_t5() -> tuple[Files, Expect]:
    v = {"clip_l": rows(2), "t5": rows(2, 4096)}
    want = {"clip_l": v["clip_l"], "t5xxl": v["t5"]}
    return {"my-cat.safetensors": safetensors_of(v)}, reads("my-cat.safetensors", {CAT: want})


@case("Flux as ComfyUI reads it: clip_l and t5xxl")
def clip_l_t5xxl() -> tuple[Files, Expect]:
    v = {"clip_l": rows(2), "t5xxl": rows(2, 4096)}
    return {"my-cat.safetensors": safetensors_of(v)}, reads("my-cat.safetensors", {CAT: v}, also=("comfyui",))


@case("Stable Diffusion 3: three encoders")
def clip_l_clip_g_t5xxl() -> tuple[Files, Expect]:
    v = {**sdxl(), "t5xxl": rows(2, 4096)}
    return {"my-cat.safetensors": safetensors_of(v)}, reads("my-cat.safetensors", {CAT: v}, also=("comfyui",))


@case("SDXL's second encoder alone")
def clip_g_only() -> tuple[Files, Expect]:
    v = {"clip_g": rows(2, 1280)}
    return {"my-cat.safetensors": safetensors_of(v)}, Expect("my-cat.safetensors", refused="second encoder")


@case("the first encoder alone, under its key")
def clip_l_only() -> tuple[Files, Expect]:
    data = safetensors_of({"clip_l": rows(2)})
    return {"my-cat.safetensors": data}, reads("my-cat.safetensors", {CAT: rows(2)}, also=ALL)


@case("OneTrainer's clip_l with vectors for the encoder's output")
def clip_l_out() -> tuple[Files, Expect]:
    data = safetensors_of({**sdxl(), "clip_l_out": rows(2, seed=1), "clip_g_out": rows(2, 1280, seed=1)})
    return {"my-cat.safetensors": data}, reads("my-cat.safetensors", {CAT: sdxl()}, also=("comfyui",))


@case("two vectors for one encoder, one for the other")
def clip_l_clip_g_uneven() -> tuple[Files, Expect]:
    data = safetensors_of({"clip_l": rows(2), "clip_g": rows(1, 1280)})
    return {"my-cat.safetensors": data}, Expect("my-cat.safetensors", refused="as many vectors")


@case("the encoders' vectors the wrong way round")
def clip_l_clip_g_swapped() -> tuple[Files, Expect]:
    data = safetensors_of({"clip_g": rows(2), "clip_l": rows(2, 1280)})
    return {"my-cat.safetensors": data}, Expect("my-cat.safetensors", refused="wide, as those of")


FACTS = '{"word": "<our-cat>", "init": "cat", "steps": 150, "base": "some/model"}'


@case("what ti_nb writes: SDXL, the word and where it came from in the metadata")
def ours_safetensors() -> tuple[Files, Expect]:
    data = safetensors_of(sdxl(), {"format": "pt", "ti_nb": FACTS})
    return {"renamed.safetensors": data}, reads("renamed.safetensors", {"<our-cat>": sdxl()}, family="SDXL", also=ALL)


@case("what ti_nb writes for AUTOMATIC1111")
def ours_pt() -> tuple[Files, Expect]:
    data = torch_file(a1111(rows(2), name="<our-cat>", ti_nb=FACTS))
    return {"renamed.pt": data}, reads("renamed.pt", {"<our-cat>": rows(2)}, also=ALL)


@case("a name that looks like a LoRA's", "someone/flora")
def flora_file() -> tuple[Files, Expect]:
    data = safetensors_of({"emb_params": rows(2)})
    return {"flora.safetensors": data}, reads("flora.safetensors", {"<flora>": rows(2)}, also=ALL)


@case("cog-sdxl's pivotal tuning: two tokens for each encoder")
def cog_pti() -> tuple[Files, Expect]:
    v = {"text_encoders_0": rows(2), "text_encoders_1": rows(2, 1280)}
    files = {"embeddings.pti": safetensors_of(v), "special_params.json": b'{"TOK": "<s0><s1>"}'}
    return files, reads("embeddings.pti", {of_file("embeddings.pti"): sdxl()}, family="SDXL")


@case("diffusers' SDXL script: a file for each encoder, the same word in both")
def sdxl_pair() -> tuple[Files, Expect]:
    v = sdxl(1)
    files = {SAFE: {"<cat-toy>": v["clip_l"]}, "learned_embeds_2.safetensors": {"<cat-toy>": v["clip_g"]}}
    return {name: safetensors_of(held) for name, held in files.items()}, reads(SAFE, {"<cat-toy>": v}, family="SDXL")


@case("the pair, pickled, two vectors")
def sdxl_pair_bin() -> tuple[Files, Expect]:
    v = sdxl(2)
    files = {BIN: {"<cat-toy>": v["clip_l"]}, "learned_embeds_2.bin": {"<cat-toy>": v["clip_g"]}}
    return {name: torch_file(held) for name, held in files.items()}, reads(BIN, {"<cat-toy>": v}, family="SDXL")


@case("the second file of a pair: its first is beside it")
def sdxl_pair_second() -> tuple[Files, Expect]:
    v = sdxl(1)
    files = {SAFE: {"<cat-toy>": v["clip_l"]}, "learned_embeds_2.safetensors": {"<cat-toy>": v["clip_g"]}}
    made = {name: safetensors_of(held) for name, held in files.items()}
    return made, reads("learned_embeds_2.safetensors", {"<cat-toy>": v}, family="SDXL")


@case("a pair of different numbers of vectors")
def sdxl_pair_uneven() -> tuple[Files, Expect]:
    files = {SAFE: {"<cat-toy>": rows(1)}, "learned_embeds_2.safetensors": {"<cat-toy>": rows(2, 1280)}}
    return {name: safetensors_of(held) for name, held in files.items()}, Expect(SAFE, refused="as many vectors")


@case("a pair of which the second is missing: a word of the first encoder is all that can be told")
def sdxl_pair_first_only() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat-toy>": V})}, reads(SAFE, {"<cat-toy>": V}, family="SD 1.x", also=ALL)


@case("a file whose name says it is the second of a pair, but which holds another word of the first encoder")
def sdxl_pair_in_name_only() -> tuple[Files, Expect]:
    files = {SAFE: {"<cat-toy>": V}, "learned_embeds_2.safetensors": {"<dog>": rows(1, seed=1)}}
    return {name: safetensors_of(held) for name, held in files.items()}, reads(SAFE, {"<cat-toy>": V})


@case("the vectors without any word: a bare tensor")
def bare_tensor() -> tuple[Files, Expect]:
    return {PT: torch_file(rows(2))}, reads(PT, {CAT: rows(2)})


@case("a list of dictionaries, which ComfyUI joins")
def list_of_dictionaries() -> tuple[Files, Expect]:
    data = torch_file([{"<cat>": rows(2)}])
    return {PT: data}, reads(PT, {"<cat>": rows(2)}, also=("comfyui",))


@case("SDXL as XL-Textual-Inversion has it: emb and emb2, half precision")
def emb_emb2() -> tuple[Files, Expect]:
    held = {"emb": V[0].bfloat16(), "emb2": rows(1, 1280)[0].bfloat16()}
    word = {"clip_l": V.bfloat16().float(), "clip_g": rows(1, 1280).bfloat16().float()}
    return {PT: torch_file(held)}, reads(PT, {CAT: word}, family="SDXL")


@case("SDXL as XL-Textual-Inversion has it, several vectors: a list of emb and emb2")
def list_of_emb_emb2() -> tuple[Files, Expect]:
    word = sdxl(3)
    held = [{"emb": low, "emb2": high} for low, high in zip(word["clip_l"], word["clip_g"])]
    return {PT: torch_file(held)}, reads(PT, {CAT: word}, family="SDXL", also=("comfyui",))


@case("SDXL in one file under the word, the second with a 2 behind it")
def sdxl_word_and_word_2() -> tuple[Files, Expect]:
    v = sdxl(2)
    return {BIN: torch_file({"<cat>": v["clip_l"], "<cat>_2": v["clip_g"]})}, reads(BIN, {"<cat>": v}, family="SDXL")


@case("a list of two words")
def list_of_two_words() -> tuple[Files, Expect]:
    return {PT: torch_file([{"<cat>": rows(2)}, {"<dog>": rows(1)}])}, Expect(PT, refused="a list, but not one")


@case("a word, and beside it another that is half of an SDXL word")
def lone_second_among_others() -> tuple[Files, Expect]:
    held = {"<cat>": rows(2), "<dog>": rows(2, 1280)}
    return {BIN: torch_file(held)}, Expect(BIN, refused="only the vectors of SDXL's second")


@case("two words of SDXL, in a pair of files")
def sdxl_pair_of_two_words() -> tuple[Files, Expect]:
    words = {"<cat>": sdxl(2), "<dog>": sdxl(1)}
    files = {
        SAFE: {word: v["clip_l"] for word, v in words.items()},
        "learned_embeds_2.safetensors": {word: v["clip_g"] for word, v in words.items()},
    }
    return {name: safetensors_of(held) for name, held in files.items()}, reads(SAFE, words, family="SDXL")


@case("embeddings that OneTrainer packed into a LoRA")
def bundled_in_lora() -> tuple[Files, Expect]:
    low = {"lora_te1_q.lora_down.weight": rows(4), "lora_te1_q.lora_up.weight": rows(4).T.contiguous()}
    data = safetensors_of({**low, "bundle_emb.<cat>.clip_l": rows(2)})
    return {"my-cat.safetensors": data}, Expect("my-cat.safetensors", refused="it is a LoRA")


# ---- several words, several files --------------------------------------------------------------------------------


@case("two words in one file")
def two_words_bin() -> tuple[Files, Expect]:
    words = {"<cat>": rows(2), "<dog>": rows(1, seed=1)}
    return {BIN: torch_file(words)}, reads(BIN, words)


@case("three words in one safetensors file, of two widths")
def three_words_safetensors() -> tuple[Files, Expect]:
    words = {"<cat>": {"clip_l": rows(2)}, "<dog>": {"clip_l": rows(1, seed=1)}, "<eel>": {"clip_h": rows(1, 1024)}}
    return {SAFE: safetensors_of({w: next(iter(v.values())) for w, v in words.items()})}, reads(SAFE, words)


@case("one word's vectors as words of their own, numbered from 0")
def numbered_from_0() -> tuple[Files, Expect]:
    v = rows(3)
    held = {f"<cat>_{i}": v[i].clone() for i in range(3)}
    return {BIN: torch_file(held)}, reads(BIN, {"<cat>": v})


@case("one word's vectors as words of their own, named as diffusers adds them to a tokenizer")
def numbered_from_1() -> tuple[Files, Expect]:
    v = rows(3)
    held = {"<cat>": v[:1].clone(), "<cat>_1": v[1:2].clone(), "<cat>_2": v[2:].clone()}
    return {BIN: torch_file(held)}, reads(BIN, {"<cat>": v})


@case("a file split in two, as save_pretrained names its parts")
def sharded() -> tuple[Files, Expect]:
    first, second = (f"learned_embeds-0000{i}-of-00002.safetensors" for i in (1, 2))
    files: Files = {first: safetensors_of({"<cat>": rows(2)}), second: safetensors_of({"<dog>": rows(1, seed=1)})}
    index = {"metadata": {"total_size": 9216}, "weight_map": {"<cat>": first, "<dog>": second}}
    files["learned_embeds.safetensors.index.json"] = json.dumps(index).encode()
    return files, reads(first, {"<cat>": rows(2), "<dog>": rows(1, seed=1)})


@case("only a file of the middle of training")
def steps_only() -> tuple[Files, Expect]:
    name = "learned_embeds-steps-500.bin"
    return {name: torch_file({"<cat-toy>": V}), **CARD}, reads(name, {"<cat-toy>": V}, also=ALL)


@case("several files of the middle of training, of both spellings: the last step counts, as a number")
def steps_several() -> tuple[Files, Expect]:
    names = {"learned_embeds-steps-500.bin": 1, "learned_embeds-step-1500.bin": 2, "learned_embeds-steps-900.bin": 3}
    files: Files = {name: torch_file({"<cat-toy>": rows(1, seed=seed)}) for name, seed in names.items()}
    return files, reads("learned_embeds-step-1500.bin", {"<cat-toy>": rows(1, seed=2)}, also=ALL)


@case("files of the middle of training beside the last one")
def steps_and_last() -> tuple[Files, Expect]:
    names = {"learned_embeds-steps-500.bin": 1, BIN: 2, "learned_embeds-steps-3000.bin": 3}
    files: Files = {name: torch_file({"<cat-toy>": rows(1, seed=seed)}) for name, seed in names.items()}
    return files, reads(BIN, {"<cat-toy>": rows(1, seed=2)}, also=ALL)


@case("the same word as safetensors and as a pickle: the safe one counts")
def both_kinds() -> tuple[Files, Expect]:
    files: Files = {BIN: torch_file({"<cat-toy>": V}), SAFE: safetensors_of({"<cat-toy>": V}), **CARD}
    return files, reads(SAFE, {"<cat-toy>": V}, also=ALL)


@case("only AUTOMATIC1111's file, under a name of its own", "someone/Cat.Style")
def other_name() -> tuple[Files, Expect]:
    files: Files = {"Cat Style v2.1.pt": torch_file(a1111(rows(2), name="Cat Style v2.1")), "README.md": b"# cat"}
    return files, reads("Cat Style v2.1.pt", {"<cat-style-v2.1>": rows(2)}, also=ALL)


@case("the whole output folder was uploaded: encoder, VAE and scheduler lie about")
def whole_output_folder() -> tuple[Files, Expect]:
    files: Files = {
        BIN: torch_file({"<cat-toy>": V}),
        "text_encoder/pytorch_model.bin": Sparse((1 << 26,)),
        "concept_images/unet/diffusion_pytorch_model.bin": Sparse((1 << 26,)),
        "concept_images/.amlignore": b"",
        "concept_images/README.md": b"hello",
        "scheduler/scheduler_config.json": b"{}",
    }
    return files, reads(BIN, {"<cat-toy>": V}, also=ALL)


# ---- what is around the file -------------------------------------------------------------------------------------


@case("token_identifier.txt says another word than the file, which counts", "sd-concepts-library/lxj-o4")
def token_disagrees() -> tuple[Files, Expect]:
    files: Files = {BIN: torch_file({"<csp>": V}), "token_identifier.txt": b"<lxj-o4>", "type_of_concept.txt": b"style"}
    return files, reads(BIN, {"<csp>": V}, kind="style", also=ALL)


@case("both text files end in a new line, Windows' own")
def token_newline() -> tuple[Files, Expect]:
    files: Files = {
        BIN: torch_file({"<cat-toy>": V}),
        "token_identifier.txt": b"<cat-toy>\r\n",
        "type_of_concept.txt": b"style\r\n",
    }
    return files, reads(BIN, {"<cat-toy>": V}, kind="style", also=ALL)


@case("no text files, no card, no pictures: two files only", "sd-concepts-library/brno-9-12-x")
def only_two_files() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<brno>": V}), ".gitattributes": b""}, reads(BIN, {"<brno>": V}, also=ALL)


@case("the kind of concept is empty, and the token file not UTF-8")
def kind_empty() -> tuple[Files, Expect]:
    files: Files = {
        BIN: torch_file({"<cat-toy>": V}),
        "type_of_concept.txt": b"",
        "token_identifier.txt": b"<cat-\xff>",
        "README.md": b"\xff\xfe caf\xe9",
    }
    return files, reads(BIN, {"<cat-toy>": V}, kind=None, also=ALL)


@case("a repository with capitals, whose name is case sensitive", "sd-concepts-library/Aflac-duck")
def capital_repo() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<aflac-duck>": V})}, reads(BIN, {"<aflac-duck>": V}, also=ALL)


@case("a repository with a dot, and a word with dots", "sd-concepts-library/gibasachan-v0.1")
def dotted() -> tuple[Files, Expect]:
    return {BIN: torch_file({"gibasachan-v0.1": V})}, reads(BIN, {"gibasachan-v0.1": V}, also=ALL)


@case("a word with capitals")
def capital_word() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<AIOCARD>": V})}, reads(BIN, {"<AIOCARD>": V}, also=ALL)


@case("a word with spaces")
def spaced_word() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"a cat toy": V})}, reads(SAFE, {"a cat toy": V}, also=ALL)


@case("a word in another script")
def unicode_word() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<猫-ñ>": V})}, reads(SAFE, {"<猫-ñ>": V}, also=ALL)


@case("words that look like something else: a LoRA, vectors for the output, a layer")
def misleading_words() -> tuple[Files, Expect]:
    words = {"<flora>": rows(1), "knock_out": rows(1, seed=1), "<v1.weight-loss>": rows(1, seed=2)}
    return {BIN: torch_file(words)}, reads(BIN, words)


@case("words of numbers, which are no rows of one word")
def numbered_words() -> tuple[Files, Expect]:
    words = {"style_1": rows(1), "style_2": rows(1, seed=1), "cat": rows(2, seed=2), "cat_1": rows(2, seed=3)}
    return {BIN: torch_file(words)}, reads(BIN, words)


@case("a word of no letters")
def empty_word() -> tuple[Files, Expect]:
    return {BIN: torch_file({"": V})}, reads(BIN, {of_file(BIN): V}, refused="word", also=ALL)


@case("a word with a new line and an escape in it")
def control_word() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat>\n\x1b[31m": V})}, reads(SAFE, {"<cat>\n\x1b[31m": V}, refused="word", also=ALL)


@case("a word with half a character, which no text can hold")
def surrogate_word() -> tuple[Files, Expect]:
    pickled = program(mapping({"<\ud83d>": tensor(storage(), [768], [1])}))
    return {BIN: torch_zip(pickled, {"0": raw(V)})}, Expect(BIN, refused="word")


@case("a number in place of a word")
def number_word() -> tuple[Files, Expect]:
    return {BIN: torch_file({49408: V})}, reads(BIN, {"49408": V}, refused="word", also=ALL[:1])


# ---- no word at all ------------------------------------------------------------------------------------------------


@case("a pointer of git-lfs in place of the file")
def lfs_pointer() -> tuple[Files, Expect]:
    data = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 3819\n"
    return {BIN: data, **CARD}, Expect(BIN, refused="git-lfs pointer")


@case("a pointer of git-lfs named safetensors")
def lfs_pointer_safetensors() -> tuple[Files, Expect]:
    data = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 3819\n"
    return {SAFE: data, **CARD}, Expect(SAFE, refused="git-lfs pointer")


@case("an empty file")
def empty_file() -> tuple[Files, Expect]:
    return {BIN: b""}, Expect(BIN, refused="is empty")


@case("an empty safetensors file")
def empty_safetensors_file() -> tuple[Files, Expect]:
    return {SAFE: b""}, Expect(SAFE, refused="is empty")


@case("a repository of its first commit only")
def empty_repo() -> tuple[Files, Expect]:
    return {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}, Expect(refused="no|empty")


@case("a web page saved under the file's name")
def html_page() -> tuple[Files, Expect]:
    return {BIN: b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"}, Expect(BIN, refused="web page")


@case("a web page named safetensors")
def html_page_safetensors() -> tuple[Files, Expect]:
    return {SAFE: b"\n  <html>404: Entry not found</html>"}, Expect(SAFE, refused="web page")


@case("an answer of the Hub's in JSON")
def json_error() -> tuple[Files, Expect]:
    return {BIN: b'{"error":"Access to model is restricted"}'}, Expect(BIN, refused="no format that holds words")


@case("plain text")
def text_file() -> tuple[Files, Expect]:
    return {BIN: b"Das ist kein Wort.\n"}, Expect(BIN, refused="no format that holds words")


@case("a numpy array")
def numpy_file() -> tuple[Files, Expect]:
    np.save(stream := io.BytesIO(), V.numpy())
    return {BIN: stream.getvalue()}, Expect(BIN, refused="no format that holds words")


@case("a file of numpy arrays, which is a zip file too")
def numpy_zip() -> tuple[Files, Expect]:
    np.savez(stream := io.BytesIO(), cat=V.numpy())
    return {BIN: stream.getvalue()}, Expect(BIN, refused="none that torch.save wrote")


@case("a plain pickle of a numpy array")
def numpy_pickle() -> tuple[Files, Expect]:
    return {BIN: pickle.dumps({"<cat>": V.numpy()})}, Expect(BIN, refused="numpy")


@case("a zip file with the right file in it")
def zipped() -> tuple[Files, Expect]:
    with zipfile.ZipFile(stream := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat-toy/learned_embeds.bin", torch_file({"<cat-toy>": V}))
    return {BIN: stream.getvalue()}, Expect(BIN, refused="unpack it")


@case("a torch file zipped again by a tool that compresses")
def recompressed() -> tuple[Files, Expect]:
    with zipfile.ZipFile(io.BytesIO(torch_file({"<cat-toy>": V}))) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(stream := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return {BIN: stream.getvalue()}, Expect(BIN, refused="compressed")


@case("a tar file, as torch 0.1 wrote")
def tar_file() -> tuple[Files, Expect]:
    with tarfile.open(fileobj=(stream := io.BytesIO()), mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02N."))
    return {BIN: stream.getvalue()}, Expect(BIN, refused="no format that holds words")


@case("a JPEG named as a PyTorch file")
def jpeg_as_pt() -> tuple[Files, Expect]:
    return {PT: b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500)}, Expect(PT, refused="no format that holds words")


@case("half of a download: a torch file")
def truncated_bin() -> tuple[Files, Expect]:
    data = torch_file({"<cat-toy>": V})
    return {BIN: data[: len(data) // 2]}, Expect(BIN, refused="damaged")


@case("half of a download: safetensors")
def truncated_safetensors() -> tuple[Files, Expect]:
    data = safetensors_of({"<cat-toy>": V})
    return {SAFE: data[: len(data) // 2]}, Expect(SAFE, refused="not a whole safetensors file")


@case("a LoRA as diffusers saves it")
def lora_diffusers() -> tuple[Files, Expect]:
    key = "unet.down_blocks.0.attentions.0.attn1.to_q.lora"
    data = safetensors_of({f"{key}.down.weight": rows(4, 320), f"{key}.up.weight": rows(4, 320).T.contiguous()})
    name = "pytorch_lora_weights.safetensors"
    return {name: data}, Expect(name, refused="it is a LoRA")


@case("a LoRA as kohya saves it")
def lora_kohya() -> tuple[Files, Expect]:
    key = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    held = {f"{key}.alpha": torch.tensor(4.0), f"{key}.lora_down.weight": rows(4), f"{key}.lora_up.weight": rows(4).T}
    data = safetensors_of({name: value.contiguous() for name, value in held.items()})
    return {"my-cat.safetensors": data}, Expect("my-cat.safetensors", refused="it is a LoRA")


@case("a LoRA of one matrix, which looks like a word")
def lora_single() -> tuple[Files, Expect]:
    data = safetensors_of({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": rows(4)})
    return {"my-cat.safetensors": data}, Expect("my-cat.safetensors", refused="it is a LoRA")


@case("a checkpoint of a whole model")
def checkpoint() -> tuple[Files, Expect]:
    state = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": rows(20),
        "first_stage_model.encoder.conv_in.bias": torch.zeros(128),
    }
    return {"cat.ckpt": torch_file({"global_step": 5, "state_dict": state})}, Expect(
        "cat.ckpt", refused="a model or a part of one"
    )


@case("a U-Net in safetensors")
def unet() -> tuple[Files, Expect]:
    state = {"conv_in.weight": torch.zeros(32, 4, 3, 3), "down_blocks.0.resnets.0.norm1.weight": torch.zeros(320)}
    name = "diffusion_pytorch_model.safetensors"
    return {name: safetensors_of(state)}, Expect(name, refused="a model or a part of one")


@case("a layer of an embedding, pickled whole")
def pickled_module() -> tuple[Files, Expect]:
    return {BIN: torch_file(torch.nn.Embedding(4, 768))}, Expect(BIN, refused="Embedding")


@case("a TorchScript program")
def torchscript() -> tuple[Files, Expect]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4))
        torch.jit.save(traced, stream := io.BytesIO())
    return {PT: stream.getvalue()}, Expect(PT, refused="TorchScript")


@case("nothing in the dictionary")
def nothing_bin() -> tuple[Files, Expect]:
    return {BIN: torch_file({})}, Expect(BIN, refused="holds no vectors")


@case("nothing in the safetensors file")
def nothing_safetensors() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({})}, Expect(SAFE, refused="holds no vectors")


@case("numbers and text in place of a tensor")
def no_tensor() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": [0.1, 0.2], "step": 3})}, Expect(BIN, refused="holds no vectors")


@case("nested one level too deep")
def nested() -> tuple[Files, Expect]:
    return {BIN: torch_file({"state_dict": {"<cat>": V}})}, Expect(BIN, refused="a model or a part of one")


# ---- impossible vectors ----------------------------------------------------------------------------------------------


@case("a vector that is not a number, as after a training that diverged")
def nan_inside() -> tuple[Files, Expect]:
    v = rows(2)
    v[1, 100] = float("nan")
    return {BIN: torch_file({"<cat-toy>": v})}, Expect(BIN, refused="not all finite")


@case("an infinite number")
def infinite_inside() -> tuple[Files, Expect]:
    v = rows(2)
    v[0, 0] = float("inf")
    return {SAFE: safetensors_of({"<cat-toy>": v})}, Expect(SAFE, refused="not all finite")


@case("a double too large for float32")
def too_large_inside() -> tuple[Files, Expect]:
    v = rows(1).double()
    v[0, 0] = 1e300
    return {SAFE: safetensors_of({"<cat-toy>": v})}, Expect(SAFE, refused="not all finite")


@case("vectors of zeros, as AUTOMATIC1111 makes them without an initial text")
def all_zero() -> tuple[Files, Expect]:
    return {PT: torch_file(a1111(torch.zeros(2, 768)))}, reads(PT, {CAT: torch.zeros(2, 768)}, also=ALL)


@case("no vectors")
def no_rows() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": torch.zeros(0, 768)})}, Expect(BIN, refused=r"shape \(0, 768\)")


@case("no vectors, safetensors")
def no_rows_safetensors() -> tuple[Files, Expect]:
    return {SAFE: safetensors_of({"<cat-toy>": torch.zeros(0, 768)})}, Expect(SAFE, refused=r"shape \(0, 768\)")


@case("vectors of a width that no text encoder has")
def width_320() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(1, 320)})}, reads(BIN, {"<cat-toy>": rows(1, 320)}, family="320")


@case("a single number")
def scalar() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": torch.tensor(0.5)})}, Expect(BIN, refused=r"shape \(\)")


@case("three dimensions, as a batch of one")
def three_dimensions() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": rows(2)[None]})}, Expect(BIN, refused=r"shape \(1, 2, 768\)")


@case("the whole vocabulary")
def whole_vocabulary() -> tuple[Files, Expect]:
    pickled = program(mapping({"<cat-toy>": tensor(storage("0", VOCABULARY * 768), [VOCABULARY, 768], [768, 1])}))
    count = VOCABULARY * 768 * 4
    crc = 0
    for _ in range(VOCABULARY):
        crc = zlib.crc32(bytes(768 * 4), crc)
    true = {"crc": crc, "packed": count, "size": count}
    entries = [Entry("archive/data.pkl", pickled), Entry("archive/data/0", b"", claims=true, local=true)]
    at = zip_file(entries).index(b"PK\1\2")
    data = zip_file(entries, at=at + count)
    return {BIN: Sparse((data[:at], count, data[at:]))}, Expect(BIN, refused="49408 vectors")


@case("the whole vocabulary of a text encoder, safetensors")
def whole_vocabulary_safetensors() -> tuple[Files, Expect]:
    count = VOCABULARY * 768 * 4
    header = {"weight": {"dtype": "F32", "shape": [VOCABULARY, 768], "data_offsets": [0, count]}}
    return {SAFE: Sparse((safetensors_by_hand(header), count))}, Expect(SAFE, refused="49408 vectors")


@case("whole numbers")
def integers() -> tuple[Files, Expect]:
    v = torch.arange(768)[None]
    return {BIN: torch_file({"<cat-toy>": v})}, reads(BIN, {"<cat-toy>": v.float()}, also=ALL)


@case("complex numbers")
def complex_numbers() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.to(torch.complex64)})}, Expect(BIN, refused="Complex")


@case("a sparse tensor")
def sparse_tensor() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": V.to_sparse()})}, Expect(BIN, refused="refused, not run")


@case("a quantized tensor")
def quantized_tensor() -> tuple[Files, Expect]:
    made = [storage("0", 768, "QInt8Storage"), number(0), many(number(1), number(768)), many(number(768), number(1))]
    scheme = many(named("torch", "per_tensor_affine"), b"G" + struct.pack(">d", 0.1), number(0))
    made += [scheme, b"\x89", ORDERED]
    pickled = program(mapping({"<cat-toy>": called(named("torch._utils", "_rebuild_qtensor"), *made)}))
    return {BIN: torch_zip(pickled, {"0": bytes(768)})}, Expect(BIN, refused="_rebuild_qtensor")


@case("a tensor of the meta device, which has no numbers")
def meta_tensor() -> tuple[Files, Expect]:
    return {BIN: torch_file({"<cat-toy>": torch.zeros(1, 768, device="meta")})}, Expect(BIN, refused="refused, not run")


@case("a subclass of a tensor")
def tensor_subclass() -> tuple[Files, Expect]:
    data = torch_file({"<cat-toy>": torch.nn.Buffer(V.clone()) if hasattr(torch.nn, "Buffer") else V})
    return {BIN: data}, Expect(BIN, refused="refused, not run")


@case("two records of the same name: a harmless pickle, then another")
def duplicate_records() -> tuple[Files, Expect]:
    first = program(mapping({"<cat-toy>": tensor(storage(), [768], [1])}))
    second = program(mapping({"<dog>": tensor(storage(), [768], [1])}))
    records = [("data.pkl", first), ("data/0", raw(V)), ("data.pkl", second)]
    return {BIN: zip_file([Entry(f"archive/{n}", d) for n, d in records])}, Expect(BIN, refused="twice|two|same name")


@case("the same key twice in a safetensors header")
def duplicate_keys() -> tuple[Files, Expect]:
    one, two = json.dumps(entry(V)), json.dumps(entry(V, V.nbytes))
    data = safetensors_by_hand(f'{{"<cat>": {one}, "<cat>": {two}}}', raw(V) + raw(rows(1, seed=1)))
    return {SAFE: data}, Expect(SAFE, refused="not a whole safetensors file")


# ---- pictures with a word in them --------------------------------------------------------------------------------

PNG = "my-cat.png"


@case("AUTOMATIC1111's card, the word in its text and in its margins")
def card() -> tuple[Files, Expect]:
    data = a1111_json(rows(2))
    return {PNG: png(card_pixels(data, picture(128)), [card_text(data)])}, reads(PNG, {CAT: rows(2)}, also=ALL[:1])


@case("a card with its text alone")
def card_text_only() -> tuple[Files, Expect]:
    data = png(picture(), [card_text(a1111_json(rows(2)))])
    return {PNG: data}, reads(PNG, {CAT: rows(2)}, also=ALL[:1])


@case("a card that a website stripped of its text, and somebody renamed: the margins still have it")
def card_pixels_only() -> tuple[Files, Expect]:
    data = png(card_pixels(a1111_json(rows(2)), picture(128)))
    return {"download (3).png": data}, reads("download (3).png", {CAT: rows(2)}, also=ALL[:1])


@case("a card stripped of its text, with a black frame that somebody added")
def card_with_frame() -> tuple[Files, Expect]:
    framed = np.pad(card_pixels(a1111_json(rows(1, 1024)), picture(128)), ((9, 5), (7, 11), (0, 0)))
    v = rows(1, 1024)
    return {PNG: png(framed)}, reads(PNG, {CAT: {"clip_h": v}}, family="SD 2.x", also=ALL[:1])


@case("a card without a name inside")
def card_no_name() -> tuple[Files, Expect]:
    said = json.loads(a1111_json(rows(2)))
    del said["name"]
    data = json.dumps(said).encode()
    return {PNG: png(picture(), [card_text(data)])}, reads(PNG, {of_file(PNG): rows(2)}, also=ALL[:1])


@case("a card with transparency")
def card_rgba() -> tuple[Files, Expect]:
    pixels = card_pixels(a1111_json(rows(2)), picture(128))
    clear = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2)
    lines = b"".join(b"\0" + line.tobytes() for line in clear)
    head = struct.pack(">2I5B", clear.shape[1], clear.shape[0], 8, 6, 0, 0, 0)
    data = png_of([(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])
    return {PNG: data}, reads(PNG, {CAT: rows(2)}, also=ALL[:1])


@case("a picture without a word in it")
def card_without() -> tuple[Files, Expect]:
    return {PNG: png(picture())}, Expect(PNG, refused="without a word")


@case("a black picture")
def card_black() -> tuple[Files, Expect]:
    return {PNG: png(np.zeros((64, 64, 3), np.uint8))}, Expect(PNG, refused="without a word")


@case("a picture with black columns, but no word")
def card_black_columns() -> tuple[Files, Expect]:
    pixels = picture()
    pixels[:, [10, 40]] = 0
    return {PNG: png(pixels)}, Expect(PNG, refused="without a word")


@case("a card whose text is no base64")
def card_text_garbled() -> tuple[Files, Expect]:
    data = png(picture(), [(b"tEXt", b"sd-ti-embedding\0this is not base64!")])
    return {PNG: data}, Expect(PNG, refused="damaged picture")


@case("a card with not-a-number inside, which JSON allows in Python")
def card_nan() -> tuple[Files, Expect]:
    v = rows(2)
    v[0, 0] = float("nan")
    return {PNG: png(picture(), [card_text(a1111_json(v))])}, Expect(PNG, refused="not all finite")


@case("a card whose rows are of different lengths")
def card_ragged() -> tuple[Files, Expect]:
    said = json.loads(a1111_json(rows(2)))
    said["string_to_param"]["*"]["TORCHTENSOR"][1].pop()
    data = json.dumps(said).encode()
    return {PNG: png(picture(), [card_text(data)])}, Expect(PNG, refused="damaged picture")
