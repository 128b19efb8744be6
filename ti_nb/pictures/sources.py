"""Where pictures come from: Colab's upload, Google Drive, a folder, the examples."""

from __future__ import annotations

from pathlib import Path

from ..errors import NoSuchFile, NotPossible
from ..host.arguments import checked
from ..host.frontend import in_colab
from ..host.plain_text import place, warn

DRIVE = Path("/content/drive")


@checked()
def choose_pictures(folder: str | Path = "pictures") -> list[Path]:
    """Let the user of Colab choose pictures on their computer; they arrive in `folder`, or a new one beside it.

    Returns the paths of the pictures that arrived, which `load_images` checks; what else did is said in a warning.

    Raises:
        RuntimeError: not in Colab, no answer from the page (VS Code's does not, colab-vscode #276), nothing chosen.
    """
    instead = "give load_images the path of a folder with your pictures, or use the panel's upload button"
    if not in_colab():
        raise NotPossible(f"pictures can be chosen this way in Colab only: {instead}")
    from google.colab import files  # type: ignore[import-not-found]

    from ..pictures.concept_images import fresh_folder
    from ..pictures.folders import find_pictures

    folder = fresh_folder(Path(folder).expanduser())
    try:
        files.upload(target_dir=str(folder))
    except (Exception, KeyboardInterrupt) as error:
        raise NotPossible(f"the page did not hand over the pictures ({_said(error)}): {instead}") from error
    found, others = find_pictures(folder)
    passed = "; ".join(f"{name}: {why}" for name, why in others)
    if not found:
        raise NotPossible(f"no picture was chosen{f' ({passed})' if passed else ''}: run the cell again, or {instead}")
    if passed:
        warn(f"passed over {passed}")
    return [path for _, path in found if isinstance(path, Path)]


@checked()
def pictures_from(where: str | Path, folder: str = "") -> Path | list[Path]:
    """Pictures for `load_images`: of "example", "upload" (Colab), "drive" (Colab, in its `folder`), or a folder's path.

    Raises:
        RuntimeError: Colab did not hand them over; the message says what to do instead.
        FileNotFoundError: there is no such folder.
    """
    from ..pictures.concept_images import EXAMPLES

    if where == "upload":
        return choose_pictures()
    path = (
        mount_drive() / folder
        if where == "drive"
        else EXAMPLES / "penguin/pictures"
        if where == "example"
        else Path(where)
    )
    if not path.expanduser().exists():
        raise NoSuchFile(f"no such folder: {place(path)}")
    return path


def mount_drive() -> Path:
    """Ask to connect the user's Google Drive and return its folder; what is kept there outlives the session.

    Raises:
        RuntimeError: not in Colab, the user said no, or Drive did not answer in time.
    """
    if not in_colab():
        raise NotPossible("Google Drive can be mounted in Colab only: give a folder of this computer instead")
    from google.colab import drive  # type: ignore[import-not-found]

    without = "go on without it and download what you want to keep: files of the session vanish with it"
    try:
        drive.mount(str(DRIVE))
    except (Exception, KeyboardInterrupt) as error:
        said = _said(error)
        late = any(word in said.lower() for word in ("timeout", "timed out", "time-out"))
        reason = "did not answer in time" if late else "was not connected, as when permission is refused"
        raise NotPossible(f"Google Drive {reason} ({said}): run the cell again and allow it, or {without}") from error
    if not (DRIVE / "MyDrive").is_dir():
        raise NotPossible(f"Google Drive was connected but '{DRIVE / 'MyDrive'}' is not there: {without}")
    return DRIVE / "MyDrive"


def _said(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
