"""Where pictures come from: Colab's upload, Google Drive, a folder, the examples; and a folder's way to another machine, as a zip."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..errors import InvalidValue, NoSuchFile, NotPossible
from ..host.arguments import checked
from ..host.atomic import LEFT, replacing
from ..host.claims import LOCK_FILE
from ..host.frontend import in_colab
from ..host.plain_text import first_line, place, size, warn
from .concept_images import EXAMPLES
from .folders import find_pictures, fresh_folder

DRIVE = Path("/content/drive")
MAX_UNPACKED = 4 << 30  # bytes; a run of SDXL with all that it keeps has a few hundred MB
MAX_FILES = 20_000


@checked()
def choose_pictures(folder: str | Path = "pictures") -> list[Path]:
    """Upload pictures in Colab, into `folder`, or a new one beside it if that is not empty.

    Returns the paths of the pictures, for `load_images`; a warning names files that are not pictures.

    Raises:
        RuntimeError: not in Colab, no answer from the page (as in VS Code, colab-vscode #276), or nothing chosen.
    """
    instead = "give load_images the path of a folder with your pictures, or use the panel's upload button"
    if not in_colab():
        raise NotPossible(f"pictures can be chosen this way in Colab only: {instead}")
    from google.colab import files  # type: ignore[import-not-found]

    folder = fresh_folder(Path(folder).expanduser())
    try:
        files.upload(target_dir=str(folder))
    except (Exception, KeyboardInterrupt) as error:
        raise NotPossible(f"the page did not hand over the pictures ({first_line(error)}): {instead}") from error
    pictures, others = find_pictures(folder)
    passed = "; ".join(f"{name}: {why}" for name, why in others)
    if not pictures:
        raise NotPossible(f"no picture was chosen{f' ({passed})' if passed else ''}: run the cell again, or {instead}")
    if passed:
        warn(f"passed over {passed}")
    return [path for _, path in pictures if isinstance(path, Path)]


@checked()
def pictures_from(where: str | Path, folder: str = "") -> Path | list[Path]:
    """Pictures for `load_images`: of "example", "upload" (Colab), "drive" (Colab, in its `folder`), or a folder's path.

    Raises:
        RuntimeError: Colab did not hand them over; the message says what to do instead.
        FileNotFoundError: there is no such folder.

    Examples:
        >>> import ti_nb as ti
        >>> len(ti.load_images(ti.pictures_from("example")))
        5
    """
    if where == "upload":
        return choose_pictures()
    if where == "drive":
        path = mount_drive() / folder
    else:
        path = EXAMPLES / "penguin/pictures" if where == "example" else Path(where)
    if not path.expanduser().exists():
        raise NoSuchFile(f"no such folder: {place(path)}")
    return path


def mount_drive() -> Path:
    """Mount the user's Google Drive, with their permission, and return its folder; files there outlive the session.

    Raises:
        RuntimeError: not in Colab, permission refused, or Drive did not answer in time.
    """
    if not in_colab():
        raise NotPossible("Google Drive can be mounted in Colab only: give a folder of this computer instead")
    from google.colab import drive  # type: ignore[import-not-found]

    without = "go on without it and download what you want to keep: files of the session vanish with it"
    try:
        drive.mount(str(DRIVE))
    except (Exception, KeyboardInterrupt) as error:
        message = first_line(error)
        late = any(word in message.lower() for word in ("timeout", "timed out", "time-out"))
        reason = "did not answer in time" if late else "was not connected, as when permission is refused"
        raise NotPossible(
            f"Google Drive {reason} ({message}): run the cell again and allow it, or {without}"
        ) from error
    if not (DRIVE / "MyDrive").is_dir():
        raise NotPossible(f"Google Drive was connected but '{DRIVE / 'MyDrive'}' is not there: {without}")
    return DRIVE / "MyDrive"


@checked()
def pack(folder: str | Path, archive: str | Path | None = None) -> Path:
    """Put a folder into one zip file, to take it to another machine: prepared pictures with captions and masks, a run, words.

    Returns its path: `archive`, or folder.zip beside the folder. Colab offers it as a download. Links are left out.

    Raises:
        FileNotFoundError: there is no such folder. ValueError: it holds no file. OSError: the zip can't be written.

    Examples:
        >>> import ti_nb as ti
        >>> folder = ti.save_images(ti.example_images("penguin"), "prepared")
        >>> len(ti.load_images(ti.unpack(ti.pack(folder), "elsewhere")))
        5
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise NoSuchFile(f"no such folder: {place(folder)}")
    target = Path(archive).expanduser() if archive is not None else folder.with_name(f"{folder.name}.zip")
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink() and not p.match(LEFT)]
    files = [p for p in files if p.name != LOCK_FILE and p.absolute() != target.absolute()]
    if not files:
        raise InvalidValue(f"{place(folder)} holds no file: there is nothing to pack")
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in files:
            writer.write(path, path.relative_to(folder).as_posix())
    if in_colab():
        from google.colab import files as page

        page.download(str(target))
    return target


@checked()
def unpack(archive: str | Path | None = None, folder: str | Path | None = None) -> Path:
    """Get back the folder that `pack` put into a zip file. Returns the folder: `folder`, or a new one beside it if that is not empty.

    Args:
        archive: the zip file; in Colab None asks for it. folder: by default the archive's name without ".zip".

    Raises:
        FileNotFoundError: there is no such file. RuntimeError: nothing to ask for it with, outside Colab.
        ValueError: it is no zip file, damaged, or wants to write elsewhere, or more than 4 GB. Nothing is left of it then.

    Examples:
        >>> import ti_nb as ti
        >>> paths = ti.save_images(ti.example_images("penguin"), "my-penguin")
        >>> ti.unpack(ti.pack("my-penguin"), "back").name
        'back'
    """
    path = _uploaded_zip() if archive is None else Path(archive).expanduser()
    if not path.is_file():
        raise NoSuchFile(f"no such file: {place(path)}")
    target = fresh_folder(Path(folder).expanduser() if folder is not None else path.with_suffix(""))
    part = target.with_name(f".{target.name[:40]}-unpacking.tmp")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as reader:
            _check_zip(reader, path)
            reader.extractall(part)
        target.rmdir()  # empty; some systems replace no folder
        part.rename(target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        if isinstance(error, NotPossible):
            raise
        raise InvalidValue(
            f"{place(path)} can't be unpacked ({first_line(error)}): pack it again with ti.pack"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            target.rmdir()  # where nothing came of it
    return target


def _check_zip(reader: zipfile.ZipFile, path: Path) -> None:
    entries = reader.infolist()
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in entry.filename or (entry.external_attr >> 28) == 0xA:
            raise InvalidValue(
                f"{place(path)} holds {entry.filename[:80]!r}, which would be written elsewhere: it is not from ti.pack"
            )
    whole = sum(entry.file_size for entry in entries)
    if whole > MAX_UNPACKED or len(entries) > MAX_FILES:
        raise InvalidValue(
            f"{place(path)} would unpack to {len(entries)} files of {size(whole)}: more than {MAX_FILES} or {size(MAX_UNPACKED)}"
        )


def _uploaded_zip() -> Path:
    """The zip file that Colab's user chooses.

    Raises:
        RuntimeError: not in Colab, or none was chosen.
    """
    if not in_colab():
        raise NotPossible("a file can be asked for in Colab only: give the path of the zip file")
    from google.colab import files

    try:
        chosen = [Path(name) for name in files.upload()]
    except (Exception, KeyboardInterrupt) as error:
        raise NotPossible(
            f"the page did not hand over a file ({first_line(error)}): give the path of the zip file"
        ) from error
    zips = [path for path in chosen if path.suffix.lower() == ".zip"]
    if not zips:
        raise NotPossible("no zip file was chosen: run the cell again, or give the path of one")
    return zips[0]
