"""Jobs from a table: a CSV file, a pandas frame, a folder of folders, a list of dictionaries."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ..errors import InvalidValue, NoSuchFile, TiError
from ..host.plain_text import brief, place
from ..pictures.folders import find_pictures
from ..training.settings import TrainSettings, as_settings
from .job import Job, is_of_hub

OWN = ("pictures", "word", "init", "settings", "captions", "masks", "flip")
KINDS = get_type_hints(TrainSettings)
MOST_FAULTS = 8  # named in one message
Rows = Iterator[tuple[str, Mapping[str, Any]]]


def jobs_from(table: Any, *, init: str | None = None, settings: Any = None, **changes: Any) -> list[Job]:
    """Jobs from a table with the columns `pictures`, `word`, `init`, and any setting of `train` (an empty cell: not given).

    Args:
        table: a CSV file, whose paths start at its own folder; a pandas frame; a list of dictionaries; or a folder with a folder of
            pictures for each word, which is named by it ("red-mug" makes "<red-mug>").
        init: the initializer of rows that have none. A folder of folders may hold a file "init.txt" in each.
        settings, changes: of all rows, as `train` takes them; a row's own come first.

    Raises:
        ValueError: rows that are wrong, each named with its row; columns that mean nothing; no row at all.
        FileNotFoundError: no such file or folder.

    Examples:
        >>> import ti_nb as ti
        >>> things = [{"pictures": ti.example_images(name), "word": f"<my-{name}>"} for name in ("penguin", "taco")]
        >>> [job.word for job in ti.jobs_from(things, init="thing", steps=100)]
        ['<my-penguin>', '<my-taco>']
    """
    shared = as_settings(settings, changes)
    jobs: list[Job] = []
    faults: list[str] = []
    rows: dict[str, str] = {}
    for where, row in _rows(table):
        try:
            job = _job(row, init, shared)
            _check_there(job)
            if job.folder in rows:
                raise InvalidValue(f"word {job.word!r} is also in {rows[job.folder]}: each needs a word of its own")
            rows[job.folder] = where
            jobs.append(job)
        except (TiError, OSError) as error:
            faults.append(f"{where}: {brief(error, 300)}")
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise InvalidValue(
            f"{len(faults)} of {len(faults) + len(jobs)} rows are wrong:\n" + "\n".join(faults[:MOST_FAULTS]) + more
        )
    if not jobs:
        raise InvalidValue("the table has no rows: give one for each word, with the columns pictures, word, init")
    return jobs


def check_apart(jobs: Iterable[Job]) -> Iterator[Job]:
    """The same jobs, as long as no two would keep their words in one folder.

    Raises:
        ValueError: two do; the message says which, counted from 1.
    """
    seen: dict[str, int] = {}
    for number, job in enumerate(jobs, 1):
        if not isinstance(job, Job):
            raise InvalidValue(f"job {number} is of type {type(job).__name__}: give ti.Job, or ti.jobs_from of a table")
        if (first := seen.setdefault(job.folder, number)) != number:
            raise InvalidValue(f"jobs {first} and {number} both learn {job.word!r}: each needs a word of its own")
        yield job


def _rows(table: Any) -> Rows:
    """Each row with the words that name it in a message."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):  # a pandas frame, without importing pandas
        table = table.to_dict("records")
    if isinstance(table, str | Path):
        path = Path(table).expanduser()
        if not path.exists():
            raise NoSuchFile(f"no such table or folder: {place(path)}")
        return _of_folder(path) if path.is_dir() else _of_csv(path)
    if isinstance(table, Mapping) or not isinstance(table, Iterable):
        raise InvalidValue(
            f"table is of type {type(table).__name__}: give a CSV file, a folder of folders, a pandas frame or a list of dictionaries"
        )
    return _of_list(table)


def _of_list(table: Iterable[Any]) -> Rows:
    for number, row in enumerate(table, 1):
        if not isinstance(row, Mapping):
            raise InvalidValue(
                f"row {number} is of type {type(row).__name__}: give dictionaries, such as {{'word': '<my-cat>', ...}}"
            )
        yield f"row {number}", row


def _of_csv(path: Path) -> Rows:
    """Its rows, paths made to start at its folder; rows are named by their line, as an editor counts them."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                where = f"line {reader.line_num}"
                if None in row or None in row.values():
                    raise InvalidValue(f"{where} of {place(path)} has another number of cells than the header")
                yield where, {**row, "pictures": _from(path.parent, row.get("pictures", ""))}
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidValue(f"{place(path)} can't be read as a table ({error}): save it as CSV in UTF-8") from error


def _from(folder: Path, cell: str) -> Any:
    """One place, or several between semicolons."""
    parts = [part.strip() for part in cell.split(";") if part.strip()]
    placed = [part if is_of_hub(part) else str(folder / Path(part).expanduser()) for part in parts]
    return placed[0] if len(placed) == 1 else placed


def _of_folder(path: Path) -> Rows:
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        told = folder / "init.txt"
        init = told.read_text(encoding="utf-8-sig").strip() if told.is_file() else ""
        yield f"folder {place(folder.name)}", {"pictures": folder, "word": f"<{_as_word(folder.name)}>", "init": init}


def _as_word(name: str) -> str:
    return "-".join(name.lower().split())


def _job(row: Mapping[str, Any], init: str | None, shared: TrainSettings) -> Job:
    given = {str(key).strip(): value for key, value in row.items() if key is not None and not _is_empty(value)}
    if unknown := [key for key in given if key not in OWN and key not in KINDS]:
        raise InvalidValue(f"no setting {unknown[0]!r}: columns are {', '.join(OWN)}, and settings such as steps")
    if missing := [key for key in ("pictures", "word") if key not in given]:
        raise InvalidValue(f"it has no {missing[0]}")
    own = {key: _value(key, value) for key, value in given.items() if key in KINDS}
    settings = as_settings(given.get("settings", shared), own)
    extra = {key: given[key] for key in ("captions", "masks") if key in given}
    flip = bool(_value("flip", given.get("flip", False)))
    return Job(given["pictures"], given["word"], given.get("init", init), settings, flip=flip, **extra)


def _is_empty(value: Any) -> bool:
    """An empty cell: None, "", or pandas' NaN, which differs from itself."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, float) and value != value


def _value(name: str, cell: Any) -> Any:
    """A cell's value as its setting takes it: text of a CSV is a number, True, None or a list where that is meant."""
    kinds = (bool,) if name == "flip" else get_args(KINDS[name]) or (KINDS[name],)
    if not isinstance(cell, str):
        whole = isinstance(cell, float) and cell.is_integer() and int in kinds and float not in kinds
        return int(cell) if whole else cell  # pandas makes a column with gaps one of floats
    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(cell.strip(), cell.strip()))
    except ValueError:
        return cell.strip()
    return cell.strip() if kinds == (str,) else value


def _check_there(job: Job) -> None:
    """Refuse a row whose pictures are not there at all; that they can be read shows when they are."""
    if isinstance(job.pictures, str) and not is_of_hub(job.pictures):
        named, skipped = find_pictures(job.pictures)
        if not named:
            raise InvalidValue(
                f"no usable picture in {place(job.pictures)}"
                + (f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else "")
            )
    elif isinstance(job.pictures, Sequence) and (
        gone := [p for p in job.pictures if isinstance(p, str) and not Path(p).is_file()]
    ):
        raise NoSuchFile(f"no such picture: {place(gone[0])}")
