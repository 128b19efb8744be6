"""`Parcel`: what of a word goes to the Hub, where, and who can see it, set by hand and checked while it is typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import InvalidValue
from ...hub.client import repository
from ...hub.page import license_of
from ...words.concept import Concept
from .. import parts
from ..parts import enlarged
from .account import Account

if TYPE_CHECKING:
    from PIL import Image

    from ...pictures.concept_images import ConceptImages
    from ...results.sampling import Sample

TILE = 130  # px: a thumbnail
TRAINING, CLEANED = "Publish my training pictures too", "(what the camera and GPS said is taken out of them)"
NONE = "none were given: PublishPanel(concept, pictures=...)"


class Parcel(widgets.VBox):
    """The controls of `PublishPanel` for all that `ti.publish` is told; `changed` is called after each change."""

    def __init__(
        self,
        concept: Concept,
        samples: Sequence[Sample],
        pictures: ConceptImages | None,
        *,
        kind: str,
        endpoint: str | None,
        changed: Callable[[], None],
    ) -> None:
        self.concept, self.samples, self.pictures, self._tell = concept, list(samples), pictures or None, changed
        self.account = Account(endpoint, self._changed)
        self.owner = self.account.owner
        super().__init__([self.account, *self._where(kind), *self._page()])
        # All that changes what goes, or where.
        self._controls = [self.repository, self.owner, self.kind, self.license, self.visible, self.training]
        self._controls += self.ticks
        for control in self._controls:
            control.observe(lambda _: self._changed(), "value")

    def settings(self) -> dict[str, Any]:
        """Arguments of `ti.publish`.

        Raises:
            ValueError: a name that the Hub would not take.
        """
        said = self.license.value.strip()
        return {
            "repo": self.repo(),
            "samples": [sample for sample, tick in zip(self.samples, self.ticks) if tick.value],
            "pictures": self.pictures if self.training.value else None,
            "kind": self.kind.value,
            "license": None if said in ("", license_of(self.concept)) else said,
            "private": self.visible.value == "private",
        }

    def chosen(self) -> tuple[Any, ...]:
        """Who is logged in, and the value of every control: equal as long as the same would go to the same place."""
        return (self.account.user, self.account.may_write, *(control.value for control in self._controls))

    def repo(self) -> str:
        """The repository, with its owner if somebody is logged in.

        Raises:
            ValueError: a name that the Hub would not take.
        """
        name, owner = self.repository.value.strip(), self.owner.value
        if "/" in name:
            raise InvalidValue(f"{name!r} has a '/': write only the repository's own name; whose it is, 'Owner' says")
        try:
            repository(f"{owner or 'owner'}/{name}")
        except ValueError:
            can = f"write letters, digits and single '-', '_' or '.', such as {name_of(name)}"
            raise InvalidValue(f"{name!r} is no repository's name: {can}") from None
        return f"{owner}/{name}" if owner else name

    def _where(self, kind: str) -> list[widgets.Widget]:
        kinds = (("a thing or creature", "object"), ("a style", "style"))
        seen = (("only me (private)", "private"), ("everybody (public)", "public"))
        self.repository = parts.control(widgets.Text, "Repository", value=name_of(self.concept.word))
        self.kind = parts.control(widgets.Dropdown, "Kind", options=kinds, value=kind)
        self.license = parts.control(widgets.Text, "Licence", value=license_of(self.concept) or "")
        self.visible = parts.control(widgets.Dropdown, "Who can see it", options=seen, value="private")
        self.repository_note, self.license_note, self.visible_note = (parts.note() for _ in range(3))
        return [
            parts.row(self.owner),
            parts.row(self.repository, self.repository_note),
            parts.row(self.kind),
            parts.row(self.license, self.license_note),
            parts.row(self.visible, self.visible_note),
        ]

    def _page(self) -> list[widgets.Widget]:
        self.ticks = [parts.tick(f"Picture {number} goes", value=True) for number in range(1, len(self.samples) + 1)]
        drawn = [_tile(s.image, f"{s.prompt} · seed {s.seed}", tick) for s, tick in zip(self.samples, self.ticks)]
        self.training = parts.tick(TRAINING, disabled=self.pictures is None)
        self.tiles_of_training = _tiles([])
        return [
            parts.heading("On its page"),
            _tiles(drawn) if drawn else parts.note("no drawn pictures were given: PublishPanel(concept, samples=...)"),
            parts.row(self.training, parts.note(CLEANED if self.pictures else NONE)),
            self.tiles_of_training,
        ]

    def _changed(self) -> None:
        """Check what was set, and show what follows."""
        try:
            where = self.repo() if self.owner.value else ""
            parts.say(self.repository_note, f"it will be at {where}" if where else "a name that can be taken", "good")
        except ValueError as error:
            parts.say(self.repository_note, str(error), "error")
        parts.say(self.license_note, *self._license_in_words())
        parts.say(self.visible_note, *self._seers_in_words())
        if bool(self.tiles_of_training.children) != self.training.value and self.pictures is not None:
            pairs = zip(self.pictures.names, self.pictures.images) if self.training.value else ()
            self.tiles_of_training.children = [_tile(picture, name) for name, picture in pairs]
        self._tell()

    def _license_in_words(self) -> tuple[str, str]:
        inherited, chosen = license_of(self.concept), self.license.value.strip()
        if inherited is None:
            return "empty for what the page of its model says; or its name on the Hub, such as apache-2.0", "plain"
        if chosen in ("", inherited):
            return f"{inherited}, that of the model it was learned on", "good"
        return f"the model it was learned on is under {inherited}, whose terms hold for the word too", "warning"

    def _seers_in_words(self) -> tuple[str, str]:
        owner = self.owner.value
        if self.visible.value == "public":
            return "PUBLIC: strangers too", "warning"
        return (f"all members of {owner} too" if owner != self.account.user else ""), "plain"


def name_of(word: str) -> str:
    """A repository's name that the Hub takes, made of a word."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-")[:90].strip("-")
    return name or "my-word"


def _tile(image: Image.Image, caption: str, *below: widgets.Widget) -> widgets.VBox:
    tile = parts.captioned(enlarged(image), caption, width=TILE)
    tile.children = [*tile.children, *below]
    return tile


def _tiles(tiles: Sequence[widgets.Widget]) -> widgets.HBox:
    layout = dict(flex_flow="row wrap", align_items="flex-start", grid_gap="8px", margin="0 0 6px")
    return widgets.HBox(list(tiles), layout=widgets.Layout(**layout))
