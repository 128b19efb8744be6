"""Where pictures come from: Colab's upload, Google Drive, a folder, the examples."""

from __future__ import annotations

from pathlib import Path

from ..errors import NoSuchFile, NotPossible
from ..host.arguments import checked
from ..host.frontend import in_colab
from ..host.plain_text import first_line, place, warn
from .concept_images import EXAMPLES
from .folders import find_pictures, fresh_folder

DRIVE = Path("/content/drive")


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
