"""Files made to run something, or to exhaust whoever reads them.

`ATTACKS` are pickles that, if anything runs them, make a marker file; `WRAPPINGS` are the places of a file they may
stand in. `BURDENS` are small files that ask for much time or memory. Nothing here runs them: `test_fuzz.py` does, the
attacks with Python's own `pickle` in a process of its own, to show that they are no blanks.

Each attack is given as a pickle's instructions without its beginning and end, so that it can stand within another.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .odd_files import (
    BIN,
    ORDERED,
    PNG,
    SAFE,
    Entry,
    Sparse,
    V,
    a1111_json,
    called,
    card_pixels,
    card_text,
    entry,
    many,
    mapping,
    named,
    number,
    picture,
    png,
    png_of,
    program,
    raw,
    rows,
    safetensors_by_hand,
    storage,
    tensor,
    text,
    torch_zip,
    zip_file,
)


@dataclass(frozen=True)
class Attack:
    """A way to have a pickle make the file `marker`; `fires` says whether Python's own pickle does it."""

    about: str
    build: Callable[[Path], bytes]
    fires: bool = True
    protocol: int = 4
    needs: str = ""  # a package it takes

    def pickle(self, marker: Path) -> bytes:
        """The whole pickle."""
        return bytes([0x80, self.protocol]) + self.build(marker) + b"."


ATTACKS: dict[str, Attack] = {}


def attack(about: str, **more: Any) -> Callable[[Callable[[Path], bytes]], None]:
    def register(build: Callable[[Path], bytes]) -> None:
        ATTACKS[build.__name__] = Attack(about, build, **more)

    return register


def shell(marker: Path) -> str:
    return f'echo x > "{marker}"'


def touch(marker: Path) -> bytes:
    return spell(["touch", str(marker)])


def python(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def spell(value: Any) -> bytes:
    """The instructions for a plain value."""
    return pickle.dumps(value, 3)[2:-1]


def dotted(module: str, name: str) -> bytes:
    """A name as protocol 4 spells it, which may go through attributes."""
    return text(module) + text(name) + b"\x93"


SYSTEM = named("os", "system")
IMPORT = named("importlib", "import_module")


def method(owner: bytes, name: str, *arguments: bytes) -> bytes:
    """The instructions for a method's call."""
    return called(called(named("operator", "methodcaller"), text(name), *arguments), owner)


@attack("os.system")
def os_system(marker: Path) -> bytes:
    return called(SYSTEM, text(shell(marker)))


@attack("the module that os is made of")
def posix_system(marker: Path) -> bytes:
    return called(named("posix", "system"), text(shell(marker)))


@attack("a process")
def subprocess_popen(marker: Path) -> bytes:
    return called(named("subprocess", "Popen"), touch(marker))


@attack("a process whose output is asked for")
def subprocess_check_output(marker: Path) -> bytes:
    return called(named("subprocess", "check_output"), touch(marker))


@attack("a process by the shell")
def subprocess_getoutput(marker: Path) -> bytes:
    return called(named("subprocess", "getoutput"), text(shell(marker)))


@attack("eval")
def builtins_eval(marker: Path) -> bytes:
    return called(named("builtins", "eval"), text(python(marker)))


@attack("exec")
def builtins_exec(marker: Path) -> bytes:
    return called(named("builtins", "exec"), text(python(marker)))


@attack("eval by its name of Python 2", protocol=2)
def builtin_of_python_2(marker: Path) -> bytes:
    return called(named("__builtin__", "eval"), text(python(marker)))


@attack("getattr on an imported module")
def getattr_chain(marker: Path) -> bytes:
    return called(called(named("builtins", "getattr"), called(IMPORT, text("os")), text("system")), text(shell(marker)))


@attack("__import__ and getattr")
def dunder_import(marker: Path) -> bytes:
    module = called(named("builtins", "__import__"), text("os"))
    return called(called(named("builtins", "getattr"), module, text("system")), text(shell(marker)))


@attack("getattr by way of reduce")
def functools_reduce(marker: Path) -> bytes:
    parts = (named("builtins", "getattr"), spell(["system"]), called(IMPORT, text("os")))
    return called(called(named("functools", "reduce"), *parts), text(shell(marker)))


@attack("attrgetter")
def operator_attrgetter(marker: Path) -> bytes:
    return called(called(called(named("operator", "attrgetter"), text("system")), called(IMPORT, text("os"))),
                  text(shell(marker)))  # fmt: skip


@attack("a partial function")
def functools_partial(marker: Path) -> bytes:
    return called(called(named("functools", "partial"), SYSTEM, text(shell(marker))))


@attack("runpy")
def runpy_code(marker: Path) -> bytes:
    return called(named("runpy", "_run_code"), text(python(marker)), b"}")


@attack("a terminal")
def pty_spawn(marker: Path) -> bytes:
    return called(named("pty", "spawn"), touch(marker))


@attack("a browser that is none")
def webbrowser_open(marker: Path) -> bytes:
    return method(called(named("webbrowser", "GenericBrowser"), spell(["touch", "%s"])), "open", text(str(marker)))


@attack("a socket that takes the marker's place")
def socket_bind(marker: Path) -> bytes:
    return method(called(named("socket", "socket"), number(1)), "bind", text(str(marker)))


@attack("a file opened for writing")
def io_open(marker: Path) -> bytes:
    return called(named("io", "open"), text(str(marker)), text("w"))


@attack("a file without a buffer")
def io_fileio(marker: Path) -> bytes:
    return called(named("_io", "FileIO"), text(str(marker)), text("w"))


@attack("pathlib")
def pathlib_touch(marker: Path) -> bytes:
    return called(dotted("pathlib", "Path.touch"), called(named("pathlib", "PosixPath"), text(str(marker))))


@attack("a folder")
def os_mkdir(marker: Path) -> bytes:
    return called(named("os", "mkdir"), text(str(marker)))


@attack("a log file")
def logging_handler(marker: Path) -> bytes:
    return called(named("logging", "FileHandler"), text(str(marker)))


@attack("an archive")
def zipfile_write(marker: Path) -> bytes:
    return called(named("zipfile", "ZipFile"), text(str(marker)), text("w"))


@attack("the C library")
def ctypes_system(marker: Path) -> bytes:
    library = called(named("ctypes", "CDLL"), b"N")
    return called(called(named("builtins", "getattr"), library, text("system")), spell(shell(marker).encode()))


@attack("timeit")
def timeit_timeit(marker: Path) -> bytes:
    return called(
        named("timeit", "timeit"), text(python(marker)), text("pass"), named("time", "perf_counter"), number(1)
    )


@attack("a profiler")
def cprofile_run(marker: Path) -> bytes:
    return called(named("cProfile", "run"), text(python(marker)))


@attack("a console")
def code_interpreter(marker: Path) -> bytes:
    return method(called(named("code", "InteractiveInterpreter")), "runsource", text(python(marker)))


@attack("a tracer")
def trace_run(marker: Path) -> bytes:
    return method(called(named("trace", "Trace")), "run", text(python(marker)))


@attack("multiprocessing")
def multiprocessing_spawn(marker: Path) -> bytes:
    path = os.fsencode(shutil.which("touch") or "/usr/bin/touch")
    arguments = (path, ["touch", str(marker)], ())
    return called(named("multiprocessing.util", "spawnv_passfds"), *map(spell, arguments))


@attack("code and a function made of it")
def types_code(marker: Path) -> bytes:
    code = compile(python(marker), "x", "exec")
    parts = (
        0, 0, 0, 0, code.co_stacksize, code.co_flags, code.co_code, code.co_consts, code.co_names, (), "x", "x", "x", 1,
        code.co_linetable, code.co_exceptiontable, (), (),
    )  # fmt: skip
    made = called(named("types", "CodeType"), *map(spell, parts))
    return called(called(named("types", "FunctionType"), made, b"}"))


@attack("marshalled code")
def marshal_loads(marker: Path) -> bytes:
    code = marshal.dumps(compile(python(marker), "x", "exec"))
    return called(called(named("types", "FunctionType"), called(named("marshal", "loads"), spell(code)), b"}"))


@attack("pip, whose log is the marker", needs="pip")
def pip_main(marker: Path) -> bytes:
    return called(named("pip", "main"), spell(["cache", "dir", "--log", str(marker)]))


@attack("YAML", needs="yaml")
def yaml_load(marker: Path) -> bytes:
    said = f"!!python/object/apply:os.system [{shell(marker)!r}]"
    return called(named("yaml", "unsafe_load"), text(said))


@attack("a pickle in a pickle")
def nested_pickle(marker: Path) -> bytes:
    return called(named("_pickle", "loads"), spell(ATTACKS["os_system"].pickle(marker)))


@attack("an unpickler in a pickle")
def nested_unpickler(marker: Path) -> bytes:
    inner = called(named("_io", "BytesIO"), spell(ATTACKS["os_system"].pickle(marker)))
    return method(called(named("_pickle", "Unpickler"), inner), "load")


@attack("a call far within lists and dictionaries")
def deep_within(marker: Path) -> bytes:
    return mapping({"a": b"](" + many(mapping({"b": os_system_of(marker)})) + b"e", "c": b"N"})


def os_system_of(marker: Path) -> bytes:
    return ATTACKS["os_system"].build(marker)


@attack("BUILD: a state that a partial function takes over")
def build_setstate(marker: Path) -> bytes:
    state = many(SYSTEM, many(text(shell(marker))), b"}", b"N")
    return called(called(named("functools", "partial"), named("builtins", "print")) + state + b"b")


@attack("BUILD: an ordered dictionary given a __setstate__ of its own, then a state")
def build_own_setstate(marker: Path) -> bytes:
    return ORDERED + mapping({"__setstate__": SYSTEM}) + b"b" + text(shell(marker)) + b"b"


@attack("BUILD: an allowed function given another's code", needs="torch")
def build_code(marker: Path) -> bytes:
    inner = compile(f"def f(*a, **k):\n    {python(marker)}", "x", "exec").co_consts[0]
    code = called(named("marshal", "loads"), spell(marshal.dumps(inner)))
    state = many(b"N", mapping({"__code__": code}))
    return called(named("torch._utils", "_rebuild_parameter") + state + b"b")


@attack("INST, of protocol 0")
def inst(marker: Path) -> bytes:
    return b"(" + text(shell(marker)) + b"ios\nsystem\n"


@attack("OBJ, of protocol 1")
def obj(marker: Path) -> bytes:
    return b"(" + SYSTEM + text(shell(marker)) + b"o"


@attack("EXT1, of a code that the pickle itself registered")
def ext1(marker: Path) -> bytes:
    registered = called(named("copyreg", "add_extension"), text("os"), text("system"), number(0x42))
    return registered + b"0" + called(b"\x82\x42", text(shell(marker)))


@attack("EXT4, likewise")
def ext4(marker: Path) -> bytes:
    registered = called(named("copyreg", "add_extension"), text("os"), text("popen"), number(0x12345))
    return registered + b"0" + method(called(b"\x84" + struct.pack("<i", 0x12345), text(shell(marker))), "read")


@attack("STACK_GLOBAL, its two strings fetched from the memo")
def stack_global_memo(marker: Path) -> bytes:
    names = text("system") + b"q\x00" + text("os") + b"q\x01" + b"00"
    return names + called(b"h\x01h\x00\x93", text(shell(marker)))


@attack("a harmless name in the memo, overwritten by another")
def memo_overwritten(marker: Path) -> bytes:
    puts = named("collections", "OrderedDict") + b"q\x01" + b"0" + SYSTEM + b"q\x01" + b"0"
    return puts + called(b"h\x01", text(shell(marker)))


@attack("the function twice on the stack, one of them dropped")
def duplicated(marker: Path) -> bytes:
    return SYSTEM + b"20" + many(text(shell(marker))) + b"R"


@attack("a persistent id that is the result of a call")
def persistent_id(marker: Path) -> bytes:
    return os_system_of(marker) + b"Q"


@attack("NEWOBJ: a lazy map, made a tuple")
def newobj(marker: Path) -> bytes:
    lazy = named("builtins", "map") + many(SYSTEM, spell([shell(marker)])) + b"\x81"
    return named("builtins", "tuple") + many(lazy) + b"\x81"


@attack("NEWOBJ_EX, likewise")
def newobj_ex(marker: Path) -> bytes:
    lazy = named("builtins", "map") + many(SYSTEM, spell([shell(marker)])) + b"}\x92"
    return named("builtins", "tuple") + many(lazy) + b"}\x92"


@attack("a name reached through an allowed module's attributes", needs="torch")
def dotted_name(marker: Path) -> bytes:
    return called(dotted("torch._utils", "torch.os.system"), text(shell(marker)))


@attack("the table of modules, reached through an allowed module")
def dotted_modules(marker: Path) -> bytes:
    module = called(dotted("collections", "_sys.modules.get"), text("os"))
    return method(module, "system", text(shell(marker)))


@attack("copyreg's reconstructor, which calls __init__")
def copyreg_reconstructor(marker: Path) -> bytes:
    process = named("subprocess", "Popen")
    return called(named("copyreg", "_reconstructor"), process, process, touch(marker))


def torch_load_of(data: bytes) -> bytes:
    """torch.load without its guard, of these bytes."""
    load = named("torch", "load")
    state = many(load, b")", mapping({"weights_only": b"\x89"}), b"N")
    unguarded = called(named("functools", "partial"), load) + state + b"b"
    return called(unguarded, called(named("_io", "BytesIO"), spell(data)))


@attack("torch.load in a torch file", needs="torch")
def torch_load(marker: Path) -> bytes:
    return torch_load_of(torch_zip(ATTACKS["os_system"].pickle(marker)))


@attack("storages that unpickle themselves", needs="torch")
def torch_load_from_bytes(marker: Path) -> bytes:
    data = spell(torch_zip(ATTACKS["os_system"].pickle(marker)))
    return called(named("torch.storage", "_load_from_bytes"), data)


@attack("torch.hub, from a folder that the pickle itself wrote", needs="torch")
def torch_hub(marker: Path) -> bytes:
    folder = f"{marker}-hub"
    made = called(named("os", "mkdir"), text(folder)) + b"0"
    path = called(named("pathlib", "PosixPath"), text(f"{folder}/hubconf.py"))
    made += called(dotted("pathlib", "Path.write_text"), path, text(python(marker))) + b"0"
    load = named("torch.hub", "load")
    state = many(load, b")", mapping({"source": text("local"), "trust_repo": b"\x88"}), b"N")
    return made + called(called(named("functools", "partial"), load) + state + b"b", text(folder), text("x"))


@attack("torch's report on its environment, which runs commands", needs="torch")
def torch_collect_env(marker: Path) -> bytes:
    return called(named("torch.utils.collect_env", "run"), text(shell(marker)))


@attack("TorchScript's list of operators, which executes text", needs="torch")
def torch_jit_exec(marker: Path) -> bytes:
    return called(named("torch.jit.unsupported_tensor_ops", "execWrapper"), text(python(marker)), b"}", b"}")


@attack("torch.fx, which makes modules of text", needs="torch")
def torch_fx_exec(marker: Path) -> bytes:
    return called(named("torch.fx.graph_module", "_exec_with_source"), text(python(marker)), b"}")


@attack("the rebuilder of tensors' subclasses, which calls what it is given", needs="torch")
def torch_rebuild_from_type(marker: Path) -> bytes:
    parts = (SYSTEM, named("torch", "Tensor"), many(text(shell(marker))), b"}")
    return called(named("torch._tensor", "_rebuild_from_type_v2"), *parts)


@attack("an array of objects", needs="numpy")
def numpy_load(marker: Path) -> bytes:
    np.save(stream := io.BytesIO(), np.array([None], object), allow_pickle=True)
    data = stream.getvalue()[:128] + ATTACKS["os_system"].pickle(marker)
    return called(named("numpy", "load"), called(named("_io", "BytesIO"), spell(data)), b"N", b"\x88")


@attack("numpy's tests, which execute text", needs="numpy")
def numpy_runstring(marker: Path) -> bytes:
    return called(named("numpy.testing._private.utils", "runstring"), text(python(marker)), b"}")


@attack("a name that is never called, of a module whose import says a poem", fires=False)
def import_alone(marker: Path) -> bytes:
    return named("this", "s") + b"0N"


# ---- where an attack may stand ------------------------------------------------------------------------------------

LEGACY = [program(spell(0x1950A86A20F9469CFC6C)), program(number(1001)), program(spell({"little_endian": True}))]
WORD = tensor(storage(), [1, 768], [768, 1])


def _program(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def _persistent(body: bytes) -> bytes:
    place = many(text("storage"), body, text("0"), text("cpu"), number(768)) + b"Q"
    return torch_zip(_program(mapping({"<cat>": tensor(place, [1, 768], [768, 1])})), {"0": raw(V)})


def _argument(body: bytes) -> bytes:
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    sizes = (many(number(1), number(768)), many(number(768), number(1)))
    made = called(rebuild, storage(), number(0), *sizes, b"\x89", body)
    return torch_zip(_program(mapping({"<cat>": made})), {"0": raw(V)})


def _legacy(body: bytes, at: int) -> bytes:
    found = program(mapping({"<cat>": WORD}))
    parts = [*LEGACY, found, program(spell(["0"]))]
    parts[at] = _program(body)
    return b"".join(parts) + struct.pack("<q", 768) + raw(V)


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": _program,
    "zip": lambda body: torch_zip(_program(body), {"0": raw(V)}),
    "zip, beside a word": lambda body: torch_zip(_program(mapping({"<cat>": WORD, "step": body})), {"0": raw(V)}),
    "zip, before a word": lambda body: torch_zip(_program(body + b"0" + mapping({"<cat>": WORD})), {"0": raw(V)}),
    "zip, as a storage's class": _persistent,
    "zip, as a tensor's argument": _argument,
    "legacy, as its first pickle": lambda body: _legacy(body, 0),
    "legacy, as the system's facts": lambda body: _legacy(body, 2),
    "legacy, as the object": lambda body: _legacy(body, 3),
    "legacy, as the storages' keys": lambda body: _legacy(body, 4),
}


# ---- files that ask for too much -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Burden:
    """A file that must be refused quickly; one that is `harmless` may be read as well."""

    about: str
    build: Callable[[], bytes | Sparse]
    name: str = BIN
    harmless: bool = False

    def write(self, folder: Path) -> Path:
        """Into `folder`, under its name."""
        data, path = self.build(), folder / self.name
        if isinstance(data, Sparse):
            data.write(path)
        else:
            path.write_bytes(data)
        return path


BURDENS: dict[str, Burden] = {}
MILLION = 1_000_000


def burden(
    about: str, name: str = BIN, harmless: bool = False
) -> Callable[[Callable[[], bytes | Sparse]], Callable[[], bytes | Sparse]]:
    def register(build: Callable[[], bytes | Sparse]) -> Callable[[], bytes | Sparse]:
        BURDENS[build.__name__] = Burden(about, build, name, harmless)
        return build

    return register


def pickles(about: str, harmless: bool = False) -> Callable[[Callable[[], bytes]], None]:
    """A pickle to be given as a torch file and bare, as the object of a file before torch 1.6."""

    def register(build: Callable[[], bytes]) -> None:
        name = build.__name__
        BURDENS[f"{name}_zip"] = Burden(about, lambda: torch_zip(_program(build()), {"0": raw(V)}), harmless=harmless)
        BURDENS[f"{name}_legacy"] = Burden(f"{about}, legacy", lambda: _legacy(build(), 3), harmless=harmless)

    return register


@pickles("a place of the memo beyond any memory", harmless=True)
def memo_index() -> bytes:
    return mapping({"<cat>": WORD + b"r" + struct.pack("<I", 2**31 - 1)})


@pickles("text said to be 2^60 bytes long")
def long_text() -> bytes:
    return b"\x8d" + struct.pack("<Q", 1 << 60) + b"x"


@pickles("bytes said to be 2^60 bytes long")
def long_bytes() -> bytes:
    return b"\x8e" + struct.pack("<Q", 1 << 60) + b"x"


@pickles("a bytearray said to be 2^60 bytes long")
def long_bytearray() -> bytes:
    return b"\x96" + struct.pack("<Q", 1 << 60) + b"x"


@pickles("a frame said to be 2^60 bytes long")
def long_frame() -> bytes:
    return b"\x95" + struct.pack("<Q", 1 << 60) + b"N"


@pickles("a number said to be 2^31 bytes long")
def long_number() -> bytes:
    return b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01"


@pickles("a number of 900,000 bytes, as a key")
def number_as_key() -> bytes:
    return b"}" + b"\x8b" + struct.pack("<i", 900_000) + b"\x7f" * 900_000 + WORD + b"s"


@pickles("a number of 900,000 digits")
def digits() -> bytes:
    return mapping({"<cat>": b"I" + b"9" * 900_000 + b"\n"})


@pickles("a word of 900,000 letters")
def long_word() -> bytes:
    return mapping({"<" + "a" * 900_000 + ">": WORD})


@pickles("a tuple in a tuple, 900,000 deep, as a key")
def deep_key() -> bytes:
    return b"})" + b"\x85" * 900_000 + WORD + b"s"


@pickles("a tuple in a tuple, 900,000 deep, beside a word", harmless=True)
def deep_value() -> bytes:
    return mapping({"<cat>": WORD, "step": b")" + b"\x85" * 900_000})


@pickles("a list in a list, 450,000 deep, beside a word", harmless=True)
def deep_list() -> bytes:
    return mapping({"<cat>": WORD, "step": b"]" * 450_000 + b"a" * 449_999})


@pickles("a tuple of which each holds the last twice, 200 times, as a shape")
def doubling_shape() -> bytes:
    shape = b")" + b"2\x86" * 200
    sizes = (shape, many(number(1)))
    return mapping({"<cat>": called(named("torch._utils", "_rebuild_tensor_v2"), storage(), number(0), *sizes)})


@pickles("a tuple of which each holds the last twice, 200 times, in every place where it may be shown or walked")
def doubling_everywhere() -> bytes:
    made = b")" + b"2\x86" * 200 + b"q\x05" + b"0"
    bomb = b"h\x05"
    facts = {"name": bomb, "step": bomb, "sd_checkpoint_name": bomb, "ti_nb": bomb}
    return made + mapping({"string_to_param": mapping({"*": WORD, "+": bomb}), **facts})


@pickles("a tuple of which each holds the last twice, 200 times, as an ordered dictionary's items")
def doubling_items() -> bytes:
    return called(named("collections", "OrderedDict"), b")" + b"2\x86" * 200)


@pickles("a tuple of which each holds the last twice, 200 times, as a class")
def doubling_class() -> bytes:
    return mapping({"<cat>": b")" + b"2\x86" * 200 + b"b"})


def _again(made: bytes, call: bytes, kept: bool) -> bytes:
    """Something large that is made once, and 40,000 times given to what copies it; the copies are kept till the end."""
    copies = b"(" + call * 40_000 + b"1" if kept else (call + b"0") * 40_000
    return made + b"q\x10" + b"0" + copies + mapping({"<cat>": WORD})


NOTHINGS = b"(" + b"N" * 100_000
PAIRS = b"](" + b"K\x01K\x02\x86" * 30_000 + b"e"
SIZE, ITEMS, EMPTY = named("torch", "Size"), named("collections", "OrderedDict"), named("builtins", "set")
REBUILT = named("torch._utils", "_rebuild_parameter")
for said, made, call in (
    ("copied_sizes", SIZE + b"q\x11" + b"0" + NOTHINGS + b"l", b"h\x11h\x10\x85R"),
    ("copied_text", SIZE + b"q\x11" + b"0" + text("x" * 500_000), b"h\x11h\x10\x85R"),
    ("copied_items", ITEMS + b"q\x11" + b"0" + PAIRS, b"h\x11h\x10\x85R"),
    ("copied_arguments", EMPTY + b"q\x11" + b"0" + NOTHINGS + b"t", b"h\x11h\x10R"),
    ("copied_parameters", REBUILT + b"q\x11" + b"0" + NOTHINGS + b"t", b"h\x11h\x10R"),
    ("copied_places", b"(" + text("module") + b"N" * 100_000 + b"t", b"h\x10Q"),
):
    for kept in (True, False):
        about = f"{said.replace('_', ' ')} without end, {'kept' if kept else 'dropped'}"
        pickles(about)(lambda made=made, call=call, kept=kept: _again(made, call, kept))  # type: ignore[misc]
        for ending in ("zip", "legacy"):
            BURDENS[f"{said}_{'kept' if kept else 'dropped'}_{ending}"] = BURDENS.pop(f"<lambda>_{ending}")


@pickles("a million instructions that do nothing")
def idle() -> bytes:
    return b"N0" * 500_000 + mapping({"<cat>": WORD})


@pickles("two equal names of 300,000 letters, each the key of the other's place")
def equal_names() -> bytes:
    names = text("x" * 300_000) + b"q\x10" + b"0" + text("x" * 300_000) + b"q\x11" + b"0"
    return names + b"}" + b"h\x10Nsh\x11Ns" * 30_000


@pickles("a hundred thousand marks over as many values", harmless=True)
def marks() -> bytes:
    return mapping({"<cat>": WORD}) + b"N" * 330_000 + b"(t0" * 110_000 + b"0" * 330_000


@pickles("a million dictionaries", harmless=True)
def dictionaries() -> bytes:
    return mapping({"<cat>": WORD}) + b"}" * 500_000 + b"0" * 500_000


@pickles("a list that holds itself", harmless=True)
def list_in_itself() -> bytes:
    return mapping({"<cat>": WORD, "step": b"]q\x05h\x05a"})


@pickles("a dictionary that holds itself, in place of the words")
def dictionary_in_itself() -> bytes:
    return b"}q\x05" + text("string_to_param") + b"h\x05s"


@pickles("a hundred thousand words of one vector")
def many_words() -> bytes:
    held = b"q\x06" + b"0}(" + b"".join(text(f"{i:x}") + b"h\x06" for i in range(60_000))
    return WORD + held + b"u"


def shaped(shape: Any, stride: Any, offset: int = 0, count: int = 768) -> bytes:
    return mapping({"<cat>": tensor(storage("0", count), shape, stride, offset)})


for said, arguments in {
    "shape_of_2_to_the_40": ((1 << 40, 768), (0, 1)),
    "shape_whose_product_is_0_modulo_2_to_the_64": ((1 << 32, 1 << 32), (0, 0)),
    "shape_of_a_million_rows_of_one": ((MILLION, 768), (0, 1)),
    "shape_of_overlapping_rows": ((10_000, 768), (0, 1)),
    "shape_of_a_hundred_thousand_dimensions": ((1,) * 100_000, (1,) * 100_000),
    "shape_negative": ((-1, 768), (768, 1)),
    "stride_negative": ((1, 768), (768, -1), 767),
    "stride_huge": ((2, 768), (1 << 62, 1)),
    "offset_negative": ((1, 768), (768, 1), -768),
    "offset_past_the_end": ((1, 768), (768, 1), 1),
    "offset_huge": ((1, 768), (768, 1), 1 << 62),
    "storage_larger_than_its_record": ((2, 768), (768, 1), 0, 1536),
    "storage_huge": ((1, 768), (768, 1), 0, 1 << 62),
    "storage_negative": ((1, 768), (768, 1), 0, -768),
    "shape_and_stride_of_different_lengths": ((1, 768), (1,)),
}.items():
    pickles(said.replace("_", " "))(lambda arguments=arguments: shaped(*arguments))  # type: ignore[misc]
    for ending in ("zip", "legacy"):
        BURDENS[f"{said}_{ending}"] = BURDENS.pop(f"<lambda>_{ending}")


@pickles("rows of one number, 256 words of 32 MB each")
def words_of_one_number() -> bytes:
    big = tensor(storage("0", 768), [512, 16384], [0, 0])
    held = b"q\x06" + b"0}(" + b"".join(text(f"<w{i:03}>") + b"h\x06" for i in range(256))
    return big + held + b"u"


@burden("a storage named as if it lay above the archive")
def storage_elsewhere() -> bytes:
    return torch_zip(program(mapping({"<cat>": tensor(storage("../data.pkl"), [1, 4], [4, 1])})), {"0": raw(V)})


def _deflated(start: bytes, filler: bytes, times: int) -> bytes:
    """A deflate stream of `start` and of `filler` so many times, without making it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    body = packer.compress(filler) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + body * times + packer.compress(b"") + packer.flush(zlib.Z_FINISH)


FILLER = b"N" * (1 << 24)


def bomb(**claims: int) -> bytes:
    packed = _deflated(b"\x80\x02", FILLER, 256)
    wrong = {"crc": 0, "size": (1 << 32) - 1, **claims}
    other = [Entry("archive/data/0", raw(V)), Entry("archive/version", b"3\n")]
    return zip_file([Entry("archive/data.pkl", b"", packed, 8, wrong, wrong), *other])


@burden("four gigabytes of pickle in four megabytes of zip")
def zip_bomb() -> bytes:
    return bomb()


@burden("the same, said to be 100 bytes")
def zip_bomb_that_lies() -> bytes:
    return bomb(size=100)


@burden("the same in place of the numbers")
def zip_bomb_of_numbers() -> bytes:
    packed = _deflated(b"", bytes(1 << 24), 256)
    wrong = {"crc": 0, "size": (1 << 32) - 1}
    pickled = program(shaped((1, 768), (768, 1)))
    return zip_file([Entry("archive/data.pkl", pickled), Entry("archive/data/0", b"", packed, 8, wrong, wrong)])


def claimed(part: str, **claims: int) -> bytes:
    """A torch file of which the table says untrue things of one part."""
    parts = {"data.pkl": program(mapping({"<cat>": WORD})), "data/0": raw(V), "version": b"3\n"}
    return zip_file([Entry(f"archive/{n}", d, claims=claims if n == part else {}) for n, d in parts.items()])


for part in ("data.pkl", "data/0"):
    for said, claims in {
        "size_huge": {"size": (1 << 32) - 2, "packed": (1 << 32) - 2},
        "size_zero": {"size": 0, "packed": 0},
        "size_over_the_end": {"size": 1 << 20, "packed": 1 << 20},
        "place_past_the_end": {"at": 1 << 30},
        "method_unknown": {"method": 99},
        "method_lzma": {"method": 14},
        "method_bzip2": {"method": 12},
        "checksum_wrong": {"crc": 1},
    }.items():
        BURDENS[f"zip_{part.replace('/', '_').replace('.', '_')}_{said}"] = Burden(
            f"{part}: {said.replace('_', ' ')}",
            lambda part=part, claims=claims: claimed(part, **claims),
            harmless=(part, said) == ("data/0", "size_huge"),  # a large storage's row is read without the rest
        )


@burden("twenty thousand entries that are all one and the same bytes", harmless=True)
def zip_overlapping() -> bytes:
    parts = {"archive/data.pkl": program(mapping({"<cat>": WORD})), "archive/data/0": raw(V)}
    entries = [Entry(name, data) for name, data in parts.items()]
    shared = {"crc": zlib.crc32(raw(V)), "size": 3072, "packed": 3072, "at": 30 + 16 + len(parts["archive/data.pkl"])}
    return zip_file([*entries, *(Entry(f"archive/data/{i}", b"", claims=shared) for i in range(1, 20_000))])


@burden("an entry that lies within another's bytes")
def zip_within() -> bytes:
    inner = zip_file([Entry("archive/data.pkl", program(mapping({"<dog>": WORD})))])
    pickled = program(mapping({"<cat>": WORD}))
    at = {"at": 30 + len("archive/data/0"), "size": len(inner) - 76, "packed": len(inner) - 76}
    return zip_file([Entry("archive/data/0", inner + raw(V)), Entry("archive/data.pkl", pickled, claims=at)])


@burden("two tables of contents, the second in the first's comment: the last one counts", harmless=True)
def zip_two_tables() -> bytes:
    first = torch_zip(program(mapping({"<cat>": WORD})), {"0": raw(V)})
    second = torch_zip(program(mapping({"<dog>": WORD})), {"0": raw(V)})
    return first[:-2] + struct.pack("<H", len(second) & 0xFFFF) + second


@burden("a table of contents of four hundred thousand empty parts")
def zip_many_parts() -> bytes:
    whole = torch_zip(program(mapping({"<cat>": WORD})), {"0": raw(V)})
    table = whole.index(b"PK\x01\x02")
    many_parts = b"".join(struct.pack("<4s24xH16x", b"PK\x01\x02", 6) + b"%06d" % i for i in range(400_000))
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(many_parts), table, 0)
    return whole[:table] + many_parts + end


@burden("a table that says it has 65,535 entries and lies elsewhere")
def zip_table_lies() -> bytes:
    return zip_file([Entry("archive/data.pkl", program(mapping({"<cat>": WORD})))], count=0xFFFF, at=1 << 31)


@burden("a table of 64 bits with 2^60 entries")
def zip64_table() -> bytes:
    data = torch_zip(program(mapping({"<cat>": WORD})), {"0": raw(V)})
    at = len(data) - 22
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, 1 << 60, 1 << 60)
    found = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + wide + found + last


@burden("an entry said to have a password", harmless=True)
def zip_encrypted() -> bytes:
    data = bytearray(torch_zip(program(mapping({"<cat>": WORD})), {"0": raw(V)}))
    for signature, flag in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flag] |= 1
    return bytes(data)


SAFETENSORS_HEADERS: dict[str, Any] = {
    "shape_huge": {"<cat>": {"dtype": "F32", "shape": [1 << 40, 768], "data_offsets": [0, 3072]}},
    "shape_overflows": {"<cat>": {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 0]}},
    "shape_negative": {"<cat>": {"dtype": "F32", "shape": [-1, 768], "data_offsets": [0, 3072]}},
    "shape_broken": {"<cat>": {"dtype": "F32", "shape": [1.5, 768], "data_offsets": [0, 3072]}},
    "shape_deep": {"<cat>": {"dtype": "F32", "shape": [1] * 50_000 + [768], "data_offsets": [0, 3072]}},
    "offsets_past_the_end": {"<cat>": {"dtype": "F32", "shape": [1, 768], "data_offsets": [1, 3073]}},
    "offsets_reversed": {"<cat>": {"dtype": "F32", "shape": [1, 768], "data_offsets": [3072, 0]}},
    "offsets_huge": {"<cat>": {"dtype": "F32", "shape": [1, 768], "data_offsets": [1 << 63, (1 << 63) + 3072]}},
    "offsets_shared": {"<cat>": entry(V), "<dog>": entry(V)},
    "dtype_unknown": {"<cat>": {"dtype": "Q4_K", "shape": [1, 768], "data_offsets": [0, 3072]}},
    "dtype_missing": {"<cat>": {"shape": [1, 768], "data_offsets": [0, 3072]}},
    "a_list": [1, 2, 3],
    "a_hundred_thousand_lists": "[" * 100_000,
    "a_hundred_thousand_dictionaries": '{"a":' * 100_000,
    "a_number_of_900000_digits": '{"<cat>": {"dtype": "F32", "shape": [' + "9" * 900_000 + "]}}",
    "infinite": '{"<cat>": {"dtype": "F32", "shape": [Infinity, NaN, 1e999], "data_offsets": [0, 3072]}}',
    "metadata_of_numbers": {"__metadata__": {"ti_nb": 5}, "<cat>": entry(V)},
    "fifty_thousand_empty_tensors": {
        f"w{i}": {"dtype": "F32", "shape": [0, 768], "data_offsets": [0, 0]} for i in range(15_000)
    },
}
for said, header in SAFETENSORS_HEADERS.items():
    BURDENS[f"safetensors_{said}"] = Burden(
        f"safetensors, {said.replace('_', ' ')}", lambda header=header: safetensors_by_hand(header, raw(V)), SAFE
    )
for said, facts in {
    "deep": "[" * 50_000,
    "not_json": "{",
    "a_list": "[1]",
    "infinite": '{"steps": Infinity, "seed": NaN, "word": "<cat>"}',
    "of_digits": '{"steps": ' + "9" * 50_000 + "}",
    "of_half_characters": '{"word": "\\ud83d"}',
    "of_an_empty_word": '{"word": ""}',
    "of_a_word_that_is_a_list": '{"word": ["<cat>"]}',
    "long": json.dumps({"word": "<cat>", "model": "x" * 900_000}),
}.items():
    BURDENS[f"safetensors_facts_{said}"] = Burden(
        f"our own facts, {said.replace('_', ' ')}",
        lambda facts=facts: safetensors_by_hand({"__metadata__": {"ti_nb": facts}, "clip_l": entry(V)}, raw(V)),
        SAFE,
        harmless=True,
    )
for said, length in {"2_to_the_60": 1 << 60, "2_to_the_63": 1 << 63, "0": 0, "past_the_end": 1 << 16}.items():
    BURDENS[f"safetensors_header_of_{said}"] = Burden(
        f"a header of length {said.replace('_', ' ')}",
        lambda length=length: safetensors_by_hand({"<cat>": entry(V)}, raw(V), length),
        SAFE,
    )


@burden("a header of 50 MB of spaces", SAFE)
def safetensors_spaces() -> bytes:
    return safetensors_by_hand(json.dumps({"<cat>": entry(V)}) + " " * 50_000_000, raw(V))


@burden("a word of 900,000 letters", SAFE)
def safetensors_long_word() -> bytes:
    return safetensors_by_hand({"a" * 900_000: entry(V)}, raw(V))


@burden("255 words of 32 MB each, of a file with holes", SAFE)
def safetensors_many_large_words() -> Sparse:
    size = 512 * 16384 * 4
    header = {
        f"<w{i:03}>": {"dtype": "F32", "shape": [512, 16384], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(255)
    }
    return Sparse((safetensors_by_hand(header), 255 * size))


def ihdr(width: int, height: int, depth: int = 8, colours: int = 2, interlaced: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">2I5B", width, height, depth, colours, 0, 0, interlaced)


END = (b"IEND", b"")


def _zlib_bomb(filler: bytes, times: int) -> bytes:
    """A zlib stream of `filler` so many times, its checksum wrong."""
    return b"\x78\xda" + _deflated(b"", filler, times) + bytes(4)


@burden("a picture of 2^31 times 2^31 points", PNG)
def png_huge() -> bytes:
    return png_of([ihdr(2**31 - 1, 2**31 - 1), (b"IDAT", zlib.compress(bytes(100))), END])


@burden("a picture of 13,000 times 13,000 points in 500 kB", PNG)
def png_bomb() -> bytes:
    return png_of([ihdr(13_000, 13_000), (b"IDAT", _zlib_bomb(bytes(1 << 24), 31)), END])


@burden("a picture of 4096 times 4096 points, of 16 bits and with transparency", PNG)
def png_as_large_as_may_be() -> bytes:
    return png_of([ihdr(4096, 4096, 16, 6), (b"IDAT", _zlib_bomb(bytes(1 << 24), 8)), END])


@burden("a picture of 4096 times 4096 points, all lit", PNG)
def png_as_large_as_may_be_lit() -> bytes:
    line = b"\0" + b"\x11" * (4096 * 3)
    return png_of([ihdr(4096, 4096), (b"IDAT", zlib.compress(line * 4096, 1)), END])


@burden("four gigabytes of compressed text in a picture", PNG)
def png_text_bomb() -> bytes:
    packed = b"sd-ti-embedding\0\0" + _zlib_bomb(b"A" * (1 << 24), 256)
    return png_of([ihdr(1, 1), (b"zTXt", packed), (b"IDAT", zlib.compress(bytes(4))), END])


@burden("four gigabytes of compressed text of the other kind in a picture", PNG)
def png_international_text_bomb() -> bytes:
    packed = b"sd-ti-embedding\0\1\0\0\0" + _zlib_bomb(b"A" * (1 << 24), 256)
    return png_of([ihdr(1, 1), (b"iTXt", packed), (b"IDAT", zlib.compress(bytes(4))), END])


@burden("a hundred thousand texts in a picture", PNG)
def png_many_texts() -> bytes:
    texts = [(b"tEXt", b"k%d\0v" % i) for i in range(100_000)]
    return png_of([ihdr(1, 1), *texts, (b"IDAT", zlib.compress(bytes(4))), END])


CARDS: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "deep_dictionaries": b'{"a":' * 100_000,
    "a_list": b"[1, 2]",
    "a_tensor": b'{"TORCHTENSOR": [[1.0, 2.0]]}',
    "a_tensor_as_name": json.dumps({"name": {"TORCHTENSOR": [1]}, "string_to_param": {"*": 1}}).encode(),
    "tensor_of_text": a1111_json(V).replace(b"[[", b'[["x",'),
    "tensor_deep": b'{"string_to_param":{"*":{"TORCHTENSOR":' + b"[" * 500 + b"1" + b"]" * 500 + b"}}}",
    "tensor_of_digits": a1111_json(V).replace(b"[[", b"[[" + b"9" * 5000 + b","),
    "tensor_infinite": a1111_json(V).replace(b"[[", b"[[Infinity,"),
    "tensor_of_nothing": a1111_json(V[:, :0]),
    "no_tensor": a1111_json(V).replace(b"TORCHTENSOR", b"tensor"),
}
for said, data in CARDS.items():
    for place, made in {
        "text": lambda data=data: png(picture(), [card_text(data)]),
        "pixels": lambda data=data: png(card_pixels(data, picture(128))),
    }.items():
        BURDENS[f"card_{place}_{said}"] = Burden(
            f"a card's {place}: {said.replace('_', ' ')}", made, PNG, said == "a_tensor"
        )


def _pixels_bomb(start: bytes, filler: bytes, times: int) -> bytes:
    """A card whose margins hold a zlib stream that becomes large."""
    packed = b"\x78\xda" + _deflated(start, filler, times)
    return png(card_pixels_of(packed, picture(512)))


def card_pixels_of(packed: bytes, image: np.ndarray) -> np.ndarray:
    """`card_pixels` of what is packed already."""
    keep = zlib.compress
    try:
        zlib.compress = lambda *_: packed  # type: ignore[assignment]
        return card_pixels(b"", image)
    finally:
        zlib.compress = keep


@burden("a card whose margins become a gigabyte", PNG)
def card_pixels_bomb() -> bytes:
    return _pixels_bomb(b"", b" " * (1 << 24), 64)


@burden("a card whose margins become thirty megabytes of numbers", PNG)
def card_pixels_numbers() -> bytes:
    return _pixels_bomb(b'{"string_to_param":{"*":{"TORCHTENSOR":[0', b",0" * (1 << 19), 30)


@burden("a card whose text is thirty megabytes of numbers", PNG)
def card_text_numbers() -> bytes:
    data = b'{"string_to_param":{"*":{"TORCHTENSOR":[0' + b",0" * 15_000_000 + b"]}}}"
    return png(picture(), [(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(data))])


@burden("a card whose text is thirty megabytes of empty lists", PNG)
def card_text_lists() -> bytes:
    data = b'{"a":[[]' + b",[]" * 10_000_000 + b"]}"
    return png(picture(), [(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(data))])


@burden("a card whose text is three megabytes of empty dictionaries", PNG)
def card_text_dictionaries() -> bytes:
    data = b'{"a":[{}' + b",{}" * 1_000_000 + b"]}"
    return png(picture(), [(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(data))])


@burden("512 vectors of a card, more than it needs and no more than it may have", PNG, harmless=True)
def card_large() -> bytes:
    return png(picture(), [card_text(a1111_json(rows(512)))])
