"""`PublishPanel`: preview what would be published on the Hub and who could see it, confirm, and publish it."""

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
from .form import Form

if TYPE_CHECKING:
    from ...pictures.concept_images import ConceptImages
    from ...results.drawing.samples import Sample
    from ...results.scores import Scores
    from ...training.run import Run

SHOW, PUBLISH, PUBLISH_TO_ALL = "Show what will go", "Publish", "Publish for EVERYBODY to see"
FIRST = f"First press '{SHOW}'."
CHANGED = f"out of date, as something was changed since: press '{SHOW}' again."
MINE, ALL = "I may publish this", "Yes, everybody may see and download it"
RETRYING = "trying again in"  # in the warnings of the Hub functions
CONSENT = "(the pictures are mine, or I have the consent of their makers and of whom they show)"


class PublishPanel(parts.Panel):
    """Publish a word on the Hub: `plan()` shows what would be sent, `publish()` sends it; the buttons do the same.

    By default only you can see it, and the training pictures are not sent. Controls can be set from a cell, as in
    `panel.repository.value = "my-cat"`; `ti.publish(panel.concept, **panel.settings())` does the same in code.

    Args:
        concept: the word. samples: drawn pictures for its page; each can be left out.
        pictures: the training pictures, sent only if `training` is ticked. run, scores: for the page to report.
        endpoint: another Hub's address.

    Attributes:
        repository, owner, kind, license, visible ("private" or "public"), people ("", "none", "with consent"), training: controls.
        ticks: one for each sample. confirm, everybody: check boxes to allow publishing, and publishing for everybody.
        publication: the last one published here.
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
        self.form = Form(concept, samples, pictures, kind=kind, endpoint=endpoint, changed=self._refresh)
        self.account, self.ticks = self.form.account, self.form.ticks
        for name, control in self.form.public().items():
            setattr(self, name, control)
        super().__init__([parts.heading(f"Publish {concept.word}"), self.form, *self._sending()])
        for control in (self.training, self.visible):
            control.observe(lambda _: self._reset_confirmation(), "value")
        for tick in (self.confirm, self.everybody):
            tick.observe(lambda _: self._refresh(), "value")
        self.account.refresh()

    def settings(self) -> dict[str, Any]:
        """The arguments for `ti.publish`.

        Raises:
            ValueError: a name that the Hub would not accept.
        """
        return {**self.form.settings(), **self._about}

    def plan(self) -> Publication:
        """Show what would be published, as `ti.publish(..., dry_run=True)` does; nothing is sent.

        Raises:
            ValueError: a name that the Hub would not accept. RuntimeError: the panel is busy.
        """
        with self._busy("Looking what would go ..."):
            if not self.account.user:  # perhaps logged in from a cell since
                self.account.refresh()
            chosen, settings = self.form.chosen(), self.settings()
            plan = publish(self.concept, **settings, dry_run=True)
            self._planned = (chosen, plan)
            self.files.value, self.page.value = plan_view.table(plan), plan_view.page(plan)
            self.shown.layout.display = ""
            parts.say(self.message, "")
        return plan

    def publish(self) -> Publication:
        """Send what `plan` showed, once `confirm` is ticked and, to publish for everybody, `everybody` too.

        Raises:
            ValueError: not shown since the last change, or not confirmed. HubError: not logged in, no right, no answer: call it
            again. RuntimeError: the panel is busy.
        """
        refusal, planned = self._refusal(), self._planned
        if refusal is not None or planned is None:
            raise refusal or ValueError(self._unplanned)
        with self._busy(plan_view.sending(planned[1])):
            done = publish(self.concept, **self.settings())
            self.publication, self._planned = done, None
            self._unplanned = f"It is published. To do so again, press '{SHOW}'."
            self.shown.layout.display = "none"
            self._reset_confirmation()
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

    def _reset_confirmation(self) -> None:
        """Ask again when more would be published, or more people could see it."""
        self.confirm.value = self.everybody.value = False

    def _refusal(self) -> Exception | None:
        """Why publishing is not allowed now; None if it is."""
        try:
            self.form.repo()
        except ValueError as error:
            return error
        if self._planned is None:
            return ValueError(self._unplanned)
        chosen, shown = self._planned
        if chosen != self.form.chosen():
            return ValueError(f"What is shown is {CHANGED}")
        if shown.note:
            return HubError(shown.note)
        if not self.confirm.value:
            return ValueError(f"Tick '{MINE}' first.")
        if not shown.private and not self.everybody.value:
            return ValueError(f"Tick '{ALL}' first.")
        return None

    def _refresh(self) -> None:
        """Enable the Publish button if publishing is allowed, else show why not."""
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
        if chosen != self.form.chosen():
            return parts.say(self.where, f"This is {CHANGED}", "warning")
        return parts.say(self.where, *plan_view.where(shown, self.account.user))

    @contextmanager
    def _busy(self, text: str) -> Iterator[None]:
        """Within the block the panel is locked; it shows `text`, warnings of retries, and the error if there is one."""
        if not self._lock.acquire(blocking=False):  # clicks may come in a thread of their own (ipykernel 7.0 to 7.3)
            raise NotPossible("the panel is busy: wait until it is done")
        try:
            parts.say(self.message, text)
            self.plan_button.disabled = self.publish_button.disabled = True
            with _retries_shown(partial(parts.say, self.message)):
                yield
        except KeyboardInterrupt:
            parts.say(self.message, "Interrupted: press the button again to go on.", "warning")
            raise
        except (ValueError, HubError) as error:
            parts.say(self.message, str(error), "error")
            raise
        except Exception as error:  # not this package's: its text may hold secrets
            parts.say(self.message, f"unexpected error ({type(error).__name__})", "error")
            raise
        finally:
            self.plan_button.disabled = False
            self._lock.release()
            self._refresh()

    def _clicked(self, work: Callable[[], Any]) -> None:
        with suppress(ValueError, RuntimeError, KeyboardInterrupt):  # shown in the panel
            work()


@contextmanager
def _retries_shown(say: Callable[[str, str], None]) -> Iterator[None]:
    """Within the block, pass warnings that a request is being retried to `say`."""
    with warnings.catch_warnings():
        show_warning = warnings.showwarning

        def show(message: Any, *args: Any, **kwargs: Any) -> None:
            if RETRYING in str(message):
                say(str(message), "warning")
            else:
                show_warning(message, *args, **kwargs)

        warnings.filterwarnings("always", f".*{RETRYING}")
        warnings.showwarning = show
        yield
