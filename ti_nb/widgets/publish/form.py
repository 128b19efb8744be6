"""`Form`: what to publish, where, and who can see it; checked while the user types."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import InvalidValue
from ...hub.client import repository
from ...hub.page import PEOPLE, began_as_a_person, license_of
from ...words.concept import Concept, fingerprint
from .. import parts
from ..parts import enlarged
from .account import Account

if TYPE_CHECKING:
    from PIL import Image

    from ...pictures.concept_images import ConceptImages
    from ...results.drawing.samples import Sample

TILE = 130  # px: a thumbnail
PUBLIC = ("repository", "owner", "kind", "license", "visible", "people", "training")
TRAINING, CLEANED = "Publish my training pictures too", "(without their camera and GPS metadata)"
OTHER = " · with other vectors than these"
NONE = "none were given: PublishPanel(concept, pictures=...)"


class Form(widgets.VBox):
    """The controls for the arguments of `ti.publish`; `changed` is called after each change."""

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
        self.concept, self.samples, self.pictures, self._on_change = concept, list(samples), pictures or None, changed
        self.account = Account(endpoint, self._changed)
        self.owner = self.account.owner
        super().__init__([self.account, *self._where(kind), *self._page()])
        self._inputs = [*self.public().values(), *self.ticks]  # all that changes what is published, or where
        for control in self._inputs:
            control.observe(lambda _: self._changed(), "value")

    def public(self) -> dict[str, widgets.Widget]:
        """The controls that are attributes of the panel too, by name."""
        return {name: getattr(self, name) for name in PUBLIC}

    def settings(self) -> dict[str, Any]:
        """The arguments of `ti.publish` that the controls set.

        Raises:
            ValueError: a name that the Hub would not accept.
        """
        chosen = self.license.value.strip()
        return {
            "repo": self.repo(),
            "samples": [sample for sample, tick in zip(self.samples, self.ticks) if tick.value],
            "pictures": self.pictures if self.training.value else None,
            "kind": self.kind.value,
            "license": None if chosen in ("", license_of(self.concept)) else chosen,
            "people": self.people.value or None,
            "private": self.visible.value == "private",
        }

    def chosen(self) -> tuple[Any, ...]:
        """The user and the value of every control: equal as long as the same would be published in the same place."""
        return (self.account.user, self.account.may_write, *(control.value for control in self._inputs))

    def repo(self) -> str:
        """The repository's name, with its owner if somebody is logged in.

        Raises:
            ValueError: a name that the Hub would not accept.
        """
        name, owner = self.repository.value.strip(), self.owner.value
        if "/" in name:
            raise InvalidValue(
                f"{name!r} has a '/': write only the repository's own name, and choose the owner under 'Owner'"
            )
        try:
            repository(f"{owner or 'owner'}/{name}")
        except ValueError:
            advice = f"write letters, digits and single '-', '_' or '.', such as {name_of(name)}"
            raise InvalidValue(f"{name!r} is not a valid repository name: {advice}") from None
        return f"{owner}/{name}" if owner else name

    def _where(self, kind: str) -> list[widgets.Widget]:
        kinds = (("a thing or creature", "object"), ("a style", "style"))
        visibilities = (("only me (private)", "private"), ("everybody (public)", "public"))
        self.repository = parts.control(widgets.Text, "Repository", value=name_of(self.concept.word))
        self.kind = parts.control(widgets.Dropdown, "Kind", options=kinds, value=kind)
        self.license = parts.control(widgets.Text, "Licence", value=license_of(self.concept) or "")
        self.visible = parts.control(widgets.Dropdown, "Who can see it", options=visibilities, value="private")
        shown = (("not said", ""), ("no real person", "none"), ("a real person, who agrees", "with consent"))
        self.people = parts.control(widgets.Dropdown, "It shows", options=shown, value="")
        self.repository_note, self.license_note, self.visible_note, self.people_note = (parts.note() for _ in range(4))
        return [
            parts.row(self.owner),
            parts.row(self.repository, self.repository_note),
            parts.row(self.kind),
            parts.row(self.license, self.license_note),
            parts.row(self.visible, self.visible_note),
            parts.row(self.people, self.people_note),
        ]

    def _page(self) -> list[widgets.Widget]:
        own = [_is_of(sample, self.concept) for sample in self.samples]
        self.ticks = [parts.tick(f"Publish picture {number}", value=value) for number, value in enumerate(own, 1)]
        said = [f"{s.prompt} · seed {s.seed}{'' if mine else OTHER}" for s, mine in zip(self.samples, own)]
        drawn = [_tile(s.image, text, tick) for s, text, tick in zip(self.samples, said, self.ticks)]
        self.training = parts.tick(TRAINING, disabled=self.pictures is None)
        self.training_tiles = _tiles([])
        return [
            parts.heading("On its page"),
            _tiles(drawn) if drawn else parts.note("no drawn pictures were given: PublishPanel(concept, samples=...)"),
            parts.row(self.training, parts.note(CLEANED if self.pictures else NONE)),
            self.training_tiles,
        ]

    def _changed(self) -> None:
        """Check the values and update the notes."""
        try:
            where = self.repo() if self.owner.value else ""
            parts.say(self.repository_note, f"it will be at {where}" if where else "a valid name", "good")
        except ValueError as error:
            parts.say(self.repository_note, str(error), "error")
        parts.say(self.license_note, *self._license_in_words())
        parts.say(self.visible_note, *self._visibility_in_words())
        parts.say(self.people_note, *self._people_in_words())
        if bool(self.training_tiles.children) != self.training.value and self.pictures is not None:
            pairs = zip(self.pictures.names, self.pictures.images) if self.training.value else ()
            self.training_tiles.children = [_tile(picture, name) for name, picture in pairs]
        self._on_change()

    def _license_in_words(self) -> tuple[str, str]:
        inherited, chosen = license_of(self.concept), self.license.value.strip()
        if inherited is None:
            return "empty: the licence on its model's page; or a licence's name on the Hub, such as apache-2.0", "plain"
        if chosen in ("", inherited):
            return f"{inherited}, that of the model it was learned on", "good"
        return f"the model it was learned on is under {inherited}, whose terms hold for the word too", "warning"

    def _visibility_in_words(self) -> tuple[str, str]:
        owner = self.owner.value
        if self.visible.value == "public":
            return "PUBLIC: strangers too", "warning"
        return (f"all members of {owner} too" if owner != self.account.user else ""), "plain"

    def _people_in_words(self) -> tuple[str, str]:
        if self.people.value:
            return f"its page will say: {PEOPLE[self.people.value]}", "plain"
        init = began_as_a_person(self.concept)
        if init and self.visible.value == "public":
            return f"the word began as '{init}': say it before everybody may see it", "error"
        return "other sites ask this of a word for a person, and so does who is shown", "plain"


def name_of(word: str) -> str:
    """A valid repository name made from a word."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-")[:90].strip("-")
    return name or "my-word"


def _is_of(sample: Sample, concept: Concept) -> bool:
    """Whether nothing says that a picture was drawn with other vectors, such as the initializer's beside it."""
    drawn = [c for c in sample.concepts if c.word == concept.word]
    return not drawn or any(fingerprint(c) == fingerprint(concept) for c in drawn)


def _tile(image: Image.Image, caption: str, *below: widgets.Widget) -> widgets.VBox:
    tile = parts.captioned(enlarged(image), caption, width=TILE)
    tile.children = [*tile.children, *below]
    return tile


def _tiles(tiles: Sequence[widgets.Widget]) -> widgets.HBox:
    layout = dict(flex_flow="row wrap", align_items="flex-start", grid_gap="8px", margin="0 0 6px")
    return widgets.HBox(list(tiles), layout=widgets.Layout(**layout))
