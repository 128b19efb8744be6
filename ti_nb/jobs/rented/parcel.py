"""What goes to rented machines, and how they read it: the jobs, and their pictures without metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import InvalidValue
from ...pictures.concept_images import load_images, save_images
from ..job import Job, is_of_hub

LIST, PICTURES, WORDS = "jobs.json", "pictures", "words"


def write(jobs: Sequence[Job], folder: Path, how: Mapping[str, Any]) -> int:
    """Write all that is sent into `folder`; returns its bytes. Pictures are loaded, so that those that can't be are found here.

    Raises:
        ValueError, OSError: pictures that can't be loaded; the message names the word.
    """
    rows = []
    for job in jobs:
        row: dict[str, Any] = {"word": job.word, "init": job.init, "settings": asdict(job.settings)}
        if is_of_hub(job.pictures):
            row |= {"pictures": job.pictures, "captions": job.captions, "masks": job.masks, "flip": job.flip}
        else:
            row |= _pictures(job, folder)
        rows.append(row)
    (folder / LIST).write_text(json.dumps({"version": 1, "how": dict(how), "jobs": rows}), encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _pictures(job: Job, folder: Path) -> dict[str, Any]:
    try:
        images = job.images()
    except (OSError, ValueError) as error:
        raise InvalidValue(f"{job.word}: {error}") from error
    save_images(images, folder / PICTURES / job.folder)
    captions = "files" if any(images.captions) else ""
    return {"pictures": "", "captions": captions, "masks": "files" if any(images.masks) else "", "flip": images.flip}


def read(folder: Path) -> tuple[list[Job], dict[str, Any]]:
    """The jobs that `write` wrote, and how they are to be done. Pictures are found beside, wherever the list says that they are.

    Raises:
        ValueError: it is none of ours.
    """
    data = json.loads((folder / LIST).read_text(encoding="utf-8"))
    if data.get("version") != 1:
        raise InvalidValue(f"{LIST} is of another version of ti_nb: submit the jobs again")
    return [_job(row, folder) for row in data["jobs"]], data["how"]


def _job(row: Mapping[str, Any], folder: Path) -> Job:
    settings = {**row["settings"], "timesteps": tuple(row["settings"]["timesteps"])}
    templates = settings["templates"]
    settings["templates"] = templates if isinstance(templates, str) else tuple(templates)
    bare = Job(row["pictures"] or str(folder), row["word"], row["init"], settings, flip=row["flip"])
    if row["pictures"]:
        return Job(row["pictures"], bare.word, bare.init, bare.settings, row["captions"], row["masks"], row["flip"])
    place = folder / PICTURES / bare.folder
    images = load_images(place, captions=row["captions"] or (), masks=row["masks"] or (), flip=row["flip"])
    return Job(images, bare.word, bare.init, bare.settings)
