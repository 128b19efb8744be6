"""`Controls`: all settings of a drawing, checked while the user types, and turned into a `Drawing` yet to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ...errors import InvalidValue
from ...models.tokens import split_on_words
from ...words.concept import Concept, check_fits, initial_concept
from ...words.edit import adjust, initializer, named
from ...words.prompts import check_prompt, fill
from .. import parts
from .grid import Drawing, Row
from .typed import count_tokens, read_numbers, read_seeds, unknown_words

if TYPE_CHECKING:
    from ...models.model import Model
    from ...training.records import SavedRun
    from ...training.run import Run

MAX_PICTURES = 120  # of one drawing
# What to compare by -> the values suggested for it; empty where none are to be given.
COMPARISONS = {
    "nothing": "",
    "initializer and word": "",
    "concepts": "",
    "steps": "5, 15, 25",
    "guidance": "1, 3, 5, 8",
    "strength": "0.5, 0.75, 1, 1.5",
    "editability": "0, 0.1, 0.2, 0.4",
    "match_length": "0, 0.5, 1",
    "after_step": "",
}
RANGES: dict[str, tuple[float, float]] = {  # of compared values
    "steps": (1, 1000),
    "guidance": (1, 100),
    "strength": (0, 10),
    "editability": (0, 1),
    "match_length": (0, 1),
    "after_step": (0, 10**7),
}
DRAWN_WITH = ("steps", "guidance")  # the sliders that are arguments of `sample`; the others edit the word
TURNED_BY = ("editability", "match_length")  # which need a word to turn to
PUBLIC = ("concept", "prompt", "negative", "seeds", *RANGES, "class_word", "compare_by", "values")


class Controls(widgets.VBox):  # type: ignore[misc]
    """Prompt, seeds, settings, edits and comparison; the arguments are those of `ExplorePanel`."""

    def __init__(
        self, model: Model, concepts: Sequence[Concept], toward: Concept | None, run: Run | SavedRun | None = None
    ) -> None:
        _check_concepts(concepts, model, toward)
        self.model, self.run = model, run
        self.concepts = {c.word: c for c in concepts}
        fits = {c.word: toward is not None and len(toward) == len(c) for c in concepts}
        self.starts = {c.word: toward if fits[c.word] else initializer(model, c) for c in concepts}
        self._own_starts = dict(self.starts)
        self._words = {c.word: len(c) for c in concepts}
        self._make()
        self._update_for_concept()
        self._check()
        self.concept.observe(lambda _: self._update_for_concept(), "value")
        self.compare_by.observe(lambda _: self._update_for_comparison(), "value")
        self.class_word.observe(lambda _: self._update_class_word(), "value")
        for control in (self.concept, self.prompt, self.negative, self.seeds, self.compare_by, self.values):
            control.observe(lambda _: self._check(), "value")
        super().__init__(
            [
                *([self.concept] if len(self.concepts) > 1 else []),
                self.prompt,
                self.check,
                self.negative,
                parts.row(self.seeds, self.steps),
                parts.row(self.guidance, self.strength),
                parts.row(self.editability, self.match_length),
                parts.row(self.class_word, self.editing),
                *([self.after_step] if run is not None else []),
                parts.row(self.compare_by, self.values),
            ]
        )

    def public(self) -> dict[str, widgets.Widget]:
        """The controls that are attributes of the panel too, by name."""
        return {name: getattr(self, name) for name in PUBLIC}

    def plan(self) -> Drawing:
        """The drawing that the controls describe, checked; nothing is drawn.

        Raises:
            ValueError: a control's text can't be read or is out of range, a prompt is too long or has no word.
        """
        by, seeds = self.compare_by.value, read_seeds(self.seeds.value)
        if by == "initializer and word":
            rows = [self._row("initializer", start=True), self._row("word")]
        elif by == "concepts":
            rows = [self._row(word, word=word) for word in self.concepts]
        elif by == "nothing":
            rows = [self._row("")]
        else:
            whole = isinstance(getattr(self, by), widgets.IntSlider)
            allowed = (self.after_step.min, self.after_step.max) if by == "after_step" else RANGES[by]
            numbers = read_numbers(self.values.value, by, allowed, whole=whole)
            rows = [self._row(f"{by.replace('_', ' ')} {number:g}", by=by, value=number) for number in numbers]
        title = rows[0].prompt + (f", compared by {by}" if by != "nothing" else "")
        drawing = Drawing(title, rows, seeds, self.negative.value.strip())
        if len(drawing) > MAX_PICTURES:
            raise InvalidValue(
                f"that makes {len(drawing)} pictures, of at most {MAX_PICTURES}: take fewer seeds or values"
            )
        return drawing

    def _row(self, label: str, *, word: str = "", start: bool = False, by: str = "", value: float = 0) -> Row:
        """A row with the controls' settings, except `by`, which is `value`; `start`: with the initializer in place of the word."""
        settings = {name: getattr(self, name).value for name in RANGES}
        if by:
            settings[by] = type(settings[by])(value)  # steps are whole numbers
        concept = self.concepts[word or self.concept.value]
        prompt, negative = fill(" ".join(self.prompt.value.split()), concept.word), self.negative.value.strip()
        check_prompt(prompt, [concept.word])
        for text in (prompt, negative):
            count_tokens(text, self.model, self._words)
        edited = self._edited(concept, start, settings)
        concepts = [edited if c is concept else c for c in self.concepts.values()]
        used = tuple(c for c in concepts if c.word in split_on_words(f"{prompt}\n{negative}", self._words))
        early = self.run is not None and not start and settings["after_step"] < self.after_step.max
        taken = f"after step {settings['after_step']:g}" if early else ""
        return Row(label, prompt, used, {name: settings[name] for name in DRAWN_WITH}, taken)

    def edited(self) -> Concept:
        """The chosen word as the controls have it.

        Raises:
            ValueError: it can't be turned so.
        """
        return self._edited(
            self.concepts[self.concept.value], False, {name: getattr(self, name).value for name in RANGES}
        )

    def _edited(self, concept: Concept, start: bool, settings: Mapping[str, float]) -> Concept:
        toward = self.starts[concept.word]
        if start and toward is not None:
            return Concept(concept.word, toward.vectors, {**toward.facts, "edits": f"the initializer {named(toward)}"})
        if self.run is not None and settings["after_step"] < self.after_step.max:
            concept = self.run.concept(int(settings["after_step"]))
        # Without a word to turn to, only the length can change.
        turned = {name: settings[name] for name in TURNED_BY} if toward is not None else {}
        return adjust(concept, toward, strength=settings["strength"], **turned)

    def _make(self) -> None:
        self.concept = parts.control(widgets.Dropdown, "Word", options=list(self.concepts))
        self.prompt = parts.control(widgets.Textarea, "Prompt", value="a photo of a {word}", rows=2, width="44em")
        self.negative = parts.control(
            widgets.Text, "Negative prompt", placeholder="what to steer away from", width="44em"
        )
        self.seeds = parts.control(widgets.Text, "Seeds", value="0-3")
        self.steps = parts.control(
            widgets.IntSlider, "Denoising steps", continuous_update=False, value=25, min=1, max=100
        )
        self.guidance = parts.control(
            widgets.FloatSlider, "Guidance", continuous_update=False, value=5.0, min=1.0, max=15.0, step=0.5
        )
        self.strength = parts.control(
            widgets.FloatSlider, "Strength", continuous_update=False, value=1.0, min=0.0, max=2.0, step=0.05
        )
        share: dict[str, Any] = dict(value=0.0, min=0.0, max=1.0, step=0.05, continuous_update=False)
        self.editability = parts.control(widgets.FloatSlider, "Editability", **share)
        self.match_length = parts.control(widgets.FloatSlider, "Match length", **share)
        self.class_word = parts.control(widgets.Text, "Class word", placeholder="such as cat")
        first, last = (0 if hasattr(self.run, "start") else 1, len(self.run.records)) if self.run else (0, 0)
        self.after_step = parts.control(
            widgets.IntSlider, "After step", value=last, min=first, max=last, width="44em", continuous_update=False
        )
        self.compare_by = parts.control(widgets.Dropdown, "Compare by", options=["nothing"])
        self.values = parts.control(widgets.Text, "Values", disabled=True, placeholder="none to give")
        self.check, self.editing = parts.note(), parts.note()
        self.check.layout.margin = f"0 0 0 {parts.LABEL}"
        self.prompt.layout.max_width = self.negative.layout.max_width = "98%"

    def _update_for_concept(self) -> None:
        """Enable only what the chosen word allows."""
        start = self.starts[self.concept.value]
        for name in TURNED_BY:
            slider = getattr(self, name)
            slider.disabled = start is None
            slider.value = slider.value if start else 0.0
        if start is None:
            parts.say(self.editing, "Its initializer is not known: write a class word, or give it as toward=...")
        else:
            parts.say(self.editing, f"At 0 it is as learned; at 1 it points where {named(start)} does, or is as long.")
        unavailable = {"concepts"} if len(self.concepts) == 1 else set()
        unavailable |= {"initializer and word", *TURNED_BY} if start is None else set()
        unavailable |= {"after_step"} if self.run is None else set()
        chosen, options = self.compare_by.value, tuple(name for name in COMPARISONS if name not in unavailable)
        if options != self.compare_by.options:
            self.compare_by.options = options
            self.compare_by.value = chosen if chosen in options else "nothing"

    def _update_class_word(self) -> None:
        """Turn to the class word that was written; to the initializer again if it was emptied."""
        word, text = self.concept.value, self.class_word.value.strip()
        try:
            start = (
                initial_concept(self.model, word, text, len(self.concepts[word])) if text else self._own_starts[word]
            )
        except ValueError as error:
            return parts.say(self.editing, str(error), "error")
        self.starts[word] = start
        self._update_for_concept()

    def _update_for_comparison(self) -> None:
        suggested = COMPARISONS[self.compare_by.value]
        if self.compare_by.value == "after_step":
            last = self.after_step.max
            suggested = ", ".join(str(step) for step in sorted({max(1, round(last * i / 4)) for i in (1, 2, 3, 4)}))
        self.values.value = suggested
        self.values.disabled = not self.values.value

    def _check(self) -> None:
        """Show below the prompt whether it can be drawn."""
        try:
            drawing = self.plan()
        except ValueError as error:
            return parts.say(self.check, str(error), "error")
        prompts, words = [row.prompt for row in drawing.rows], self._words
        unknown = unknown_words(f"{prompts[0]} {drawing.negative}", self.model, words)
        used = ", ".join(word for word in words if any(word in split_on_words(prompt, words) for prompt in prompts))
        tokens = max(count_tokens(prompt, self.model, words) for prompt in prompts)
        long = f"{tokens} tokens" if tokens > 75 else f"{tokens} of 75 tokens"
        text = f"Uses {used}; {long}; draws {len(drawing)} pictures."
        if unknown:
            return parts.say(self.check, f"{text} The model does not know {', '.join(unknown)}.", "warning")
        return parts.say(self.check, text, "good")


def _check_concepts(concepts: Sequence[Concept], model: Model, toward: Concept | None) -> None:
    words = [c.word for c in concepts]
    if not words:
        raise InvalidValue("no concept to explore: give one, or several")
    if len(set(words)) < len(words):
        raise InvalidValue(f"two concepts share a word ({', '.join(words)}): rename one when loading it")
    for concept in concepts if toward is None else [*concepts, toward]:
        check_fits(concept, model)
    if toward is not None and not any(len(c) == len(toward) for c in concepts):
        raise InvalidValue(f"toward has {len(toward)} vectors and {words[0]} {len(concepts[0])}: both need as many")
