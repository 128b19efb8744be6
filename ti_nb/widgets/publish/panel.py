"""`PublishPanel`: see what of a word would go to the Hub and who could see it, say yes, and send it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import HubError, NotPossible
from ...host.arguments import checked
from ...hub.publication import Publication
from ...hub.publishing import publish
from ...words.concept import Concept
from .. import parts
from . import plan_view
from .form import Parcel

if TYPE_CHECKING:
    from ...pictures.concept_images import ConceptImages
    from ...results.judge import Scores
    from ...results.sampling import Sample
    from ...training.run import Run

SHOW, PUBLISH, PUBLISH_TO_ALL = "Show what will go", "Publish", "Publish for EVERYBODY to see"
FIRST = f"First press '{SHOW}'."
CHANGED = f"out of date, as something was changed since: press '{SHOW}' again."
MINE, ALL = "I may publish this", "Yes, everybody may see and download it"
TRYING = "trying again in"  # what the functions of the Hub warn of
CONSENT = "(the pictures are mine, or I have the consent of their makers and of whom they show)"


class PublishPanel(parts.Panel):
    """A word to the Hub: `plan()` shows what would go, `publish()` sends it; the buttons do the same.

    By default only you can see it, and the training pictures stay here. A cell may set the controls' `value`s, as in
    `panel.repository.value = "my-cat"`; `ti.publish(panel.concept, **panel.settings())` is the same in code.

    Args:
        concept: the word. samples: drawn pictures for its page; each can be left out.
        pictures: the training pictures, which go only if `training` is ticked. run, scores: what the page tells of.
        endpoint: another Hub's address.

    Attributes:
        repository, owner, kind, license, visible ("private" or "public"), training: controls of what goes where.
        ticks: one for each sample. confirm, everybody: the yes to publishing, and to everybody seeing it.
        publication: the last that was published here.
    """

    @checked()
    def __init__(
        self,
        concept: Concept,
        *,
        samples: Sequence[Sample] = (),
        pictures: ConceptImages | None = None,
        run: Run | None = None,
        scores: Scores | None = None,
        endpoint: str | None = None,
    ) -> None:
        self.concept = concept
        self.publication: Publication | None = None
        self._about = {"run": run, "scores": scores, "endpoint": endpoint}
        self._planned: tuple[Any, Publication] | None = None
        self._unplanned = FIRST
        self._lock = threading.Lock()
        kind = "style" if run is not None and run.settings.templates == "style" else "object"
        ask = Parcel(concept, samples, pictures, kind=kind, endpoint=endpoint, changed=self._refresh)
        self.account, self.owner, self.repository, self.kind = ask.account, ask.owner, ask.repository, ask.kind
        self.license, self.visible, self.training, self.ticks = ask.license, ask.visible, ask.training, ask.ticks
        self.parcel = ask
        super().__init__([parts.heading(f"Publish {concept.word}"), ask, *self._sending()])
        for control in (self.training, self.visible):
            control.observe(lambda _: self._ask_again(), "value")
        for tick in (self.confirm, self.everybody):
            tick.observe(lambda _: self._refresh(), "value")
        self.account.refresh()

    def settings(self) -> dict[str, Any]:
        """The arguments of `ti.publish` that the controls say.

        Raises:
            ValueError: a name that the Hub would not take.
        """
        return {**self.parcel.settings(), **self._about}

    def plan(self) -> Publication:
        """Show what would go, as `ti.publish(..., dry_run=True)` finds it; changes nothing.

        Raises:
            ValueError: a name that the Hub would not take. RuntimeError: the panel is at work.
        """
        with self._at_work("Looking what would go ..."):
            if not self.account.user:  # logged in meanwhile, in a cell?
                self.account.refresh()
            chosen, settings = self.parcel.chosen(), self.settings()
            found = publish(self.concept, **settings, dry_run=True)
            self._planned = (chosen, found)
            self.files.value, self.page.value = plan_view.table(found), plan_view.page(found)
            self.shown.layout.display = ""
            parts.say(self.message, "")
        return found

    def publish(self) -> Publication:
        """Send what `plan` showed, once `confirm` is ticked and, to publish for everybody, `everybody` too.

        Raises:
            ValueError: not shown as it now is, or not confirmed. HubError: not logged in, no right, no answer: call it again.
            RuntimeError: the panel is at work.
        """
        refusal, planned = self._refusal(), self._planned
        if refusal is not None or planned is None:
            raise refusal or ValueError(self._unplanned)
        with self._at_work(plan_view.sending(planned[1])):
            done = publish(self.concept, **self.settings())
            self.publication, self._planned = done, None
            self._unplanned = f"It is published. To do so again, press '{SHOW}'."
            self.shown.layout.display = "none"
            self._ask_again()
            parts.say(self.message, plan_view.sent(done, self.account.user), "good", link=("Open its page", done.url))
        return done

    def _sending(self) -> list[widgets.Widget]:
        self.plan_button = parts.button(SHOW, partial(self._clicked, self.plan), style="primary")
        self.publish_button = parts.button(PUBLISH, partial(self._clicked, self.publish), style="success")
        self.where, self.ready, self.message = parts.note(), parts.note(), parts.note()
        self.files, self.page = widgets.HTML(), widgets.HTML()
        self.shown = parts.column(self.where, self.files, self.page)
        self.shown.layout.display = "none"
        self.confirm, self.everybody = parts.tick(MINE), parts.tick(ALL)
        return [
            parts.row(self.plan_button),
            self.shown,
            parts.row(self.confirm, parts.note(CONSENT)),
            self.everybody,
            parts.row(self.publish_button, self.ready),
            self.message,
        ]

    def _ask_again(self) -> None:
        """A yes that was said before more was to go, or more people to see it, does not count."""
        self.confirm.value = self.everybody.value = False

    def _refusal(self) -> Exception | None:
        """Why nothing may be published now; None if it may."""
        try:
            self.parcel.repo()
        except ValueError as error:
            return error
        if self._planned is None:
            return ValueError(self._unplanned)
        chosen, shown = self._planned
        if chosen != self.parcel.chosen():
            return ValueError(f"What is shown is {CHANGED}")
        if shown.note:
            return HubError(shown.note)
        if not self.confirm.value:
            return ValueError(f"Tick '{MINE}' first.")
        if not shown.private and not self.everybody.value:
            return ValueError(f"Tick '{ALL}' first.")
        return None

    def _refresh(self) -> None:
        """Let Publish be pressed when it may, and say beside it why not."""
        public, refusal = self.visible.value == "public", self._refusal()
        self.everybody.layout.display = "" if public else "none"
        self.publish_button.description = PUBLISH_TO_ALL if public else PUBLISH
        self.publish_button.disabled = refusal is not None
        if refusal is not None:
            parts.say(self.ready, str(refusal))
        if self._planned is None:
            return
        chosen, shown = self._planned
        if refusal is None:
            parts.say(self.ready, plan_view.ready(shown, self.account.user), "warning" if public else "plain")
        if chosen != self.parcel.chosen():
            return parts.say(self.where, f"This is {CHANGED}", "warning")
        return parts.say(self.where, *plan_view.where(shown, self.account.user))

    @contextmanager
    def _at_work(self, text: str) -> Iterator[None]:
        """Says what is being done, what the Hub says meanwhile, and what went wrong."""
        if not self._lock.acquire(blocking=False):  # clicks may come in a thread of their own (ipykernel 7.0 to 7.3)
            raise NotPossible("the panel is at work: wait for it")
        try:
            parts.say(self.message, text)
            self.plan_button.disabled = self.publish_button.disabled = True
            with _heard(partial(parts.say, self.message)):
                yield
        except KeyboardInterrupt:
            parts.say(self.message, "Interrupted: press the button again to go on.", "warning")
            raise
        except (ValueError, HubError) as error:
            parts.say(self.message, str(error), "error")
            raise
        except Exception as error:  # none of ours: its text is not known to be free of secrets
            parts.say(self.message, f"something went wrong that should not ({type(error).__name__})", "error")
            raise
        finally:
            self.plan_button.disabled = False
            self._lock.release()
            self._refresh()

    def _clicked(self, work: Callable[[], Any]) -> None:
        with suppress(ValueError, RuntimeError, KeyboardInterrupt):  # said in the panel
            work()


@contextmanager
def _heard(say: Callable[[str, str], None]) -> Iterator[None]:
    """What the Hub's functions warn of while they try again is said in the panel, at once."""
    with warnings.catch_warnings():
        plainly = warnings.showwarning

        def hear(message: Any, *rest: Any, **more: Any) -> None:
            if TRYING in str(message):
                say(str(message), "warning")
            else:
                plainly(message, *rest, **more)

        warnings.filterwarnings("always", f".*{TRYING}")
        warnings.showwarning = hear
        yield
