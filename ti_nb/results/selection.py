"""Choose among words: the steps of a run, or several runs, seeds, presets and downloaded words, scored side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue
from ..host.arguments import checked
from ..host.plain_text import NO_MATH, in_page, quoted
from ..training.records import SavedRun
from ..training.run import Run
from ..training.start import together
from ..words import edit
from ..words.arithmetic import average
from ..words.concept import Concept
from .judge import Judge, name_of, pair
from .measures import gap_closed, interval, mean, paired, real_fidelity
from .scores import Measured, ScoreProtocol, measure, protocol_of

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from ..training.records import StepRecord

START = "initializer"
STEPS = 8  # of a run that are scored


@dataclass(frozen=True, eq=False)
class Comparison:
    """Words scored side by side on the same seeds, one of them chosen: by default the knee.

    Attributes:
        concepts, measured: each word by the name it has here, and what its samples score.
        real: likeness of real pictures. chosen: the name of the chosen word. judges: of likeness and of prompts.
        start: what the initializer's samples score; None where it is not known.
        settings, records: of those that are runs, by name.
    """

    concepts: Mapping[str, Concept]
    measured: Mapping[str, Measured]
    real: float
    chosen: str = ""
    judges: tuple[str, str] = ("", "")
    start: Measured | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    records: Mapping[str, Sequence[StepRecord]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.chosen:
            object.__setattr__(self, "chosen", self.knee())

    def point(self, name: str) -> tuple[float, float]:
        """Subject and prompt fidelity."""
        one = self._of(name)
        return mean(one.subject), mean(one.prompt)

    def interval(self, name: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where subject and prompt fidelity lie with a chance of 95 %, were other samples drawn."""
        one = self._of(name)
        return interval(one.subject), interval(one.prompt)

    def product(self, name: str) -> float:
        """How good it is on both axes: the gap in subject fidelity it closes, times the share of prompt fidelity it keeps.

        Where the initializer or real pictures are not known, the product of the cosines.
        """
        subject, prompt = self.point(name)
        if self.start is None or not isfinite(self.real):
            return max(0.0, subject) * max(0.0, prompt)
        first, kept = mean(self.start.subject), prompt / mean(self.start.prompt)
        return max(0.0, gap_closed(first, subject, self.real)) * max(0.0, kept)

    def difference(self, name: str, other: str) -> dict[str, tuple[float, float, float]]:
        """How much more "likeness", and of the "prompt", a word has than another: mean, and its interval of 95 %, in pairs."""
        one, two = self._of(name), self._of(other)
        return {"likeness": paired(one.subject, two.subject), "prompt": paired(one.prompt, two.prompt)}

    def __or__(self, other: Comparison) -> Comparison:
        """Both together, as of words of several models, drawn on the same seeds; what is not a word's own is the first's."""
        concepts, measured = {**self.concepts, **other.concepts}, {**self.measured, **other.measured}
        settings, records = {**self.settings, **other.settings}, {**self.records, **other.records}
        return replace(self, concepts=concepts, measured=measured, settings=settings, records=records, chosen="")

    def front(self) -> list[str]:
        """The names that no other word beats on both axes (the Pareto front), from most prompt fidelity to most likeness."""
        return front({name: self.point(name) for name in self.measured})

    def knee(self) -> str:
        """The word of the largest product on both axes; of equal ones the first."""
        return max(self.measured, key=self.product)

    def choose(self, name: str | int) -> Comparison:
        """The same with another word chosen: its name, or the number of a step."""
        chosen = f"step {name}" if isinstance(name, int) else name
        self._of(chosen)
        return replace(self, chosen=chosen)

    def best(self) -> Concept:
        """The chosen word."""
        return self.concepts[self.chosen]

    @property
    def step(self) -> int:
        """After how many steps the chosen word was learned; `run.best` takes it from here."""
        return int(self.best().facts.get("steps", 0))

    def average(self, word: str | None = None) -> Concept:
        """The mean of all words: see the function `average`."""
        return average(list(self.concepts.values()), word)

    def differences(self) -> dict[str, dict[str, Any]]:
        """The settings in which they differ: setting -> name -> value."""
        names = dict.fromkeys(key for own in self.settings.values() for key in own)
        rows = {key: {name: own.get(key) for name, own in self.settings.items()} for key in names}
        return {key: row for key, row in rows.items() if len({repr(value) for value in row.values()}) > 1}

    def rows(self) -> list[dict[str, str]]:
        """The comparison as a table in words: a row for each, the chosen one marked."""
        out, differ = [], self.differences()
        for name in self.measured:
            scored = zip(("likeness", "prompt"), self.point(name), self.interval(name))
            row = {"": "→" if name == self.chosen else "", "word": name}
            row |= {key: f"{values.get(name)}" for key, values in differ.items()}
            row |= {axis: f"{value:.3f} ({low:.3f} to {high:.3f})" for axis, value, (low, high) in scored}
            out.append({**row, "both": f"{self.product(name):.3f}"})
        return out

    def _repr_html_(self) -> str:
        rows = self.rows()
        cells = [f"<th style='text-align:left'>{in_page(key)}</th>" for key in rows[0]]
        lines = ["".join(f"<td style='text-align:left'>{in_page(v)}</td>" for v in row.values()) for row in rows]
        body = "".join(f"<tr>{line}</tr>" for line in ["".join(cells), *lines])
        return f"<table {NO_MATH}>{body}</table>"

    def __str__(self) -> str:
        return "\n".join(", ".join(f"{key} {value}".strip() for key, value in row.items()) for row in self.rows())

    __repr__ = __str__

    def _of(self, name: str) -> Measured:
        if name not in self.measured:
            raise InvalidValue(f"nothing here is called {quoted(name)}: there are {', '.join(self.measured)}")
        return self.measured[name]


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points that no other is at least as good as on both axes and better on one, by falling second axis."""

    def is_beaten(own: tuple[float, float]) -> bool:
        return any(o[0] >= own[0] and o[1] >= own[1] and o != own for o in points.values())

    return sorted((name for name, own in points.items() if not is_beaten(own)), key=lambda name: -points[name][1])


@checked("pictures", "prompts")
def score_steps(
    model: Model,
    run: Run | SavedRun,
    judge: Judge | tuple[Judge, Judge],
    pictures: Sequence[Image.Image],
    *,
    steps: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    protocol: ScoreProtocol | str | None = None,
    held_back: Sequence[Image.Image] = (),
    start: Concept | None = None,
    progress: bool = True,
) -> Comparison:
    """Score a run's word after several of its steps, and choose the knee; give the result to `run.best`, or `choose` another.

    Every step's vectors are kept with a run, so that this can be done at any time after the training.

    Args:
        judge, prompts, protocol, held_back: as for `score`.
        steps: which; by default eight, evenly over those that were done. start: the initializer; by default the run's.

    Raises:
        ValueError: no step was done, or one of `steps` was not; no prompts.

    Examples:
        >>> import ti_nb as ti
        >>> model, judge, photos = ti.load_model("tiny"), ti.load_judge("tiny"), ti.example_images("penguin")
        >>> run = ti.train(model, photos, word="<my-penguin>", init="animal", steps=2)
        >>> records = list(run)
        >>> quick = ti.ScoreProtocol(("a {} in the snow",), seeds=1, subject_prompt=None, steps=2)
        >>> scores = ti.score_steps(model, run, judge, photos.images, protocol=quick)
        >>> list(scores.measured)
        ['step 1', 'step 2']
        >>> run.best(scores.choose(1)).facts["steps"]
        1
    """
    done = len(run.records)
    if not done:
        raise InvalidValue("the run has no steps to score: train first")
    chosen = sorted({max(1, round(done * i / STEPS)) for i in range(1, STEPS + 1)} if steps is None else set(steps))
    concepts = {f"step {step}": run.concept(step) for step in chosen}
    start = start or getattr(run, "start", None)
    plan = protocol_of(protocol, prompts=None if prompts is None else tuple(prompts))
    return _compared(model, concepts, judge, pictures, plan, held_back, start, progress)


@checked("words", "pictures", "prompts")
def compare_words(
    model: Model,
    words: Mapping[str, Any] | Sequence[Run | SavedRun | Concept],
    judge: Judge | tuple[Judge, Judge],
    pictures: Sequence[Image.Image],
    *,
    prompts: Sequence[str] | None = None,
    protocol: ScoreProtocol | str | None = None,
    held_back: Sequence[Image.Image] = (),
    start: Concept | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare runs, seeds, presets or downloaded words on the same seeds: what they were trained with, and what they score.

    Args:
        words: runs (those that have not begun are trained first, side by side), saved runs, words; or a name for each:
            {"fast": run, "paper": other}. Without names they are called by their words, and by what differs.
        judge, prompts, protocol, held_back: as for `score`.
        start: the initializer; by default the first that is known.

    Raises:
        ValueError: nothing to compare, words of another model, no prompts.

    Examples:
        >>> import ti_nb as ti
        >>> model, judge, photos = ti.load_model("tiny"), ti.load_judge("tiny"), ti.example_images("penguin")
        >>> runs = ti.train_seeds(model, photos, seeds=2, word="<my-penguin>", init="animal", steps=1, batch=1, watch=0)
        >>> quick = ti.ScoreProtocol(("a {} in the snow",), seeds=1, subject_prompt=None, steps=2)
        >>> both = ti.compare_words(model, runs, judge, photos.images, protocol=quick, progress=False)
        >>> both.differences()
        {'seed': {'seed 0': 0, 'seed 1': 1}}
        >>> both.average().word
        '<my-penguin>'
    """
    plan = protocol_of(protocol, prompts=None if prompts is None else tuple(prompts))
    items = dict(words) if isinstance(words, Mapping) else named(words)
    for name, item in items.items():
        if not isinstance(item, Run | SavedRun | Concept):
            raise InvalidValue(f"{quoted(name)} is of type {type(item).__name__}: give a run or a word")
    fresh = [item for item in items.values() if isinstance(item, Run) and not item.records]
    for _ in together(fresh) if fresh else ():
        pass
    concepts = {name: item if isinstance(item, Concept) else item.concept() for name, item in items.items()}
    runs = {name: item for name, item in items.items() if not isinstance(item, Concept)}
    known = (getattr(run, "start", None) for run in runs.values())
    made = (edit.initializer(model, concept) for concept in concepts.values())
    start = start or next((one for one in (*known, *made) if one is not None), None)
    found = _compared(model, concepts, judge, pictures, plan, held_back, start, progress)
    settings = {name: settings_of(run) for name, run in runs.items()}
    return replace(found, settings=settings, records={name: run.records for name, run in runs.items()})


def settings_of(run: Run | SavedRun) -> dict[str, Any]:
    """A run's settings by name."""
    return dict(run.settings) if isinstance(run, SavedRun) else asdict(run.settings)


def named(items: Sequence[Run | SavedRun | Concept]) -> dict[str, Any]:
    """A name for each: its word; if others share that, what differs in their settings ("seed 1"); else a number as well."""
    words = [item.word if isinstance(item, Concept | SavedRun) else item.start.word for item in items]
    own = [{} if isinstance(item, Concept) else settings_of(item) for item in items]
    runs = [settings for settings in own if settings]
    differ = [key for key in runs[0] if len({repr(settings.get(key)) for settings in runs}) > 1] if runs else []
    out: dict[str, Any] = {}
    for item, word, settings in zip(items, words, own):
        told = ", ".join(f"{key} {settings[key]}" for key in differ if key in settings)
        name = told if words.count(word) == len(words) > 1 and told else word
        out[name if name not in out else f"{name} ({len(out) + 1})"] = item
    return out


def _compared(
    model: Model,
    concepts: Mapping[str, Concept],
    judge: Judge | tuple[Judge, Judge],
    pictures: Sequence[Image.Image],
    plan: ScoreProtocol,
    held_back: Sequence[Image.Image],
    start: Concept | None,
    progress: bool,
) -> Comparison:
    likeness, following = pair(judge)
    every = {**({START: start} if start else {}), **concepts}
    found, _ = measure(model, judge, every, pictures, replace(plan, without_word=False), progress)
    first = found.pop(START) if start else None
    real = real_fidelity(likeness, held_back or pictures, pictures)
    return Comparison(concepts, found, real, judges=(name_of(likeness), name_of(following)), start=first)
