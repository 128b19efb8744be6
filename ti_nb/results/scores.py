"""Scores of a word: does it look like the pictures, and does it do what the prompt says (paper, section 4.3)?

Each is a mean of cosines over samples, with an interval, beside references drawn on the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ..errors import InvalidValue
from ..host.arguments import checked
from ..words.prompts import DREAMBOOTH_PROMPTS, PAPER_PROMPTS, fill, without_word
from . import measures
from .drawing import sampling
from .judge import Judge, Judges, name_of, pair
from .measures import interval, mean

if TYPE_CHECKING:
    from PIL import Image

    from ..models.model import Model
    from ..words.concept import Concept
    from .drawing.samples import Sample


@dataclass(frozen=True)
class ScoreProtocol:
    """What is drawn to score a word.

    Attributes:
        prompts: templates for prompt fidelity. seeds: samples of each.
        subject_prompt: the template for subject fidelity; None to take the samples of `prompts` for that too.
        subject_seeds: samples of it. steps, guidance: of `sample`.
        without_word: draw each prompt without the word as well, to see how well the model follows the rest of it.
        instead: what the judge reads in the word's place, such as its class, "cat"; "" deletes the word, as the paper does.
    """

    prompts: tuple[str, ...] = ()
    seeds: int = 4
    subject_prompt: str | None = "a photo of a {}"
    subject_seeds: int = 16
    steps: int = 25
    guidance: float = 5.0
    without_word: bool = False
    instead: str = ""

    def pictures(self, words: int = 1) -> int:
        """Samples of so many words."""
        scenes = len(self.prompts) * self.seeds
        return words * (scenes + (self.subject_seeds if self.subject_prompt else 0)) + scenes * self.without_word


QUICK = ScoreProtocol()
_DREAMBOOTH = ScoreProtocol(DREAMBOOTH_PROMPTS["objects"], 4, None, steps=50, guidance=7.5, without_word=True)
PROTOCOLS: Mapping[str, ScoreProtocol] = {
    "quick": QUICK,
    "paper": ScoreProtocol(PAPER_PROMPTS, 64, "a photo of {}", 64, steps=50, without_word=True),
    "dreambooth": _DREAMBOOTH,
    "dreambooth-alive": replace(_DREAMBOOTH, prompts=DREAMBOOTH_PROMPTS["alive"]),
}


@dataclass(frozen=True)
class Measured:
    """What one word's samples score.

    Attributes:
        subject, prompt: each sample's cosine. portraits, scenes: the samples of the subject prompt, and of the prompts.
        diversity, background: see the functions `diversity` and `background_likeness`.
    """

    subject: tuple[float, ...]
    prompt: tuple[float, ...]
    portraits: tuple[Sample, ...]
    scenes: tuple[Sample, ...]
    diversity: float
    background: float


@dataclass(frozen=True)
class Scores:
    """The scores of a word, and of what to compare it with.

    Attributes:
        subject_fidelity: of samples with the "initializer", of samples with the "word", and of "real" held-back pictures
            (without any: of the training pictures with each other; nan for a single one).
        prompt_fidelity: of samples with the "initializer" and with the "word"; of "no word" if it was drawn.
        before, after: the samples for `prompts`, drawn with the initializer and with the word.
        each: (axis, name) -> each sample's value, such as ("subject", "word").
        diversity: 1 less the mean cosine of two samples. background: likeness of the samples' edges to the pictures' edges.
        judges: the names of the judges of subject and of prompt fidelity.
    """

    subject_fidelity: dict[str, float]
    prompt_fidelity: dict[str, float]
    before: list[Sample]
    after: list[Sample]
    each: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict, repr=False)
    diversity: dict[str, float] = field(default_factory=dict)
    background: dict[str, float] = field(default_factory=dict)
    judges: tuple[str, str] = ("", "")

    @property
    def gap_closed(self) -> float:
        """See the function `gap_closed`."""
        s = self.subject_fidelity
        return measures.gap_closed(s["initializer"], s["word"], s["real"])

    @property
    def prompt_kept(self) -> float:
        """The word's prompt fidelity as a share of the initializer's."""
        return self.prompt_fidelity["word"] / self.prompt_fidelity["initializer"]

    def interval(self, axis: str, name: str, *, share: float = 0.95) -> tuple[float, float]:
        """Where a score lies with the chance `share`, were other samples drawn; nan where that is not known.

        Args:
            axis: "subject" or "prompt". name: such as "word".
        """
        return interval(self.each.get((axis, name), ()), share=share)


def protocol_of(given: ScoreProtocol | str | None, **changes: Any) -> ScoreProtocol:
    """The protocol of a name, or the one given, with those of the `changes` that are not None.

    Raises:
        ValueError: no such protocol; one without prompts.
    """
    if isinstance(given, str) and given not in PROTOCOLS:
        raise InvalidValue(f"no protocol {given!r}: there are {', '.join(PROTOCOLS)}")
    known = PROTOCOLS[given] if isinstance(given, str) else given or QUICK
    chosen = replace(known, **{name: value for name, value in changes.items() if value is not None})
    if not chosen.prompts:
        raise InvalidValue("no prompts to score: give prompts=['a {} in the snow'], or protocol='paper'")
    return chosen


@checked("pictures", "prompts", seeds=(1, None), subject_seeds=(1, None))
def score(
    model: Model,
    judge: Judge | tuple[Judge, Judge],
    concept: Concept,
    start: Concept,
    pictures: Sequence[Image.Image],
    *,
    prompts: Sequence[str] | None = None,
    protocol: ScoreProtocol | str | None = None,
    held_back: Sequence[Image.Image] = (),
    subject_prompt: str | None = None,
    seeds: int | None = None,
    subject_seeds: int | None = None,
    progress: bool = True,
) -> Scores:
    """Draw with the word and with its initializer on the same seeds, and compare both with the pictures and the prompts.

    Before anything is drawn the progress bar says how many pictures that takes, and about how many seconds.

    Args:
        judge: one, or a pair: of subject and of prompt fidelity (`load_judges`).
        start: the word before training (`run.start`). prompts: templates for prompt fidelity.
        protocol: what is drawn: "quick" (the default, for your own prompts); "paper", as Gal et al.; "dreambooth" or
            "dreambooth-alive", as Ruiz et al.; or a `ScoreProtocol`. The arguments below replace parts of it.
        held_back: pictures of the subject that were not trained on, as the reference for subject fidelity.
        subject_prompt: the template for subject fidelity, "a photo of a {}" by default.
        seeds, subject_seeds: samples of each prompt, and of the subject prompt; 4 and 16 by default.

    Examples:
        >>> import ti_nb as ti
        >>> model, judge, photos = ti.load_model("tiny"), ti.load_judge("tiny"), ti.example_images("penguin")
        >>> run = ti.train(model, photos, word="<my-penguin>", init="animal", steps=2)
        >>> records = list(run)
        >>> prompts = ["a {} in the snow"]
        >>> scores = ti.score(
        ...     model, judge, run.concept(), run.start, photos.images, prompts=prompts, seeds=2, subject_seeds=2
        ... )
        >>> list(scores.subject_fidelity)
        ['initializer', 'word', 'real']
        >>> low, high = scores.interval("subject", "word")
        >>> low <= scores.subject_fidelity["word"] <= high
        True
        >>> [s.prompt for s in scores.before + scores.after]
        ['a <my-penguin> in the snow', ..., 'a <my-penguin> in the snow']
    """
    changes = {"seeds": seeds, "subject_prompt": subject_prompt, "subject_seeds": subject_seeds}
    plan = protocol_of(protocol, prompts=None if prompts is None else tuple(prompts), **changes)
    found, plain = measure(model, judge, {"initializer": start, "word": concept}, pictures, plan, progress)
    subject: dict[str, Sequence[float]] = {name: one.subject for name, one in found.items()}
    prompt: dict[str, Sequence[float]] = {name: one.prompt for name, one in found.items()}
    if plain:
        prompt["no word"] = plain
    axes = {"subject": subject, "prompt": prompt}
    likeness, following = pair(judge)
    real = measures.real_fidelity(likeness, held_back or pictures, pictures)
    return Scores(
        {**{name: mean(values) for name, values in subject.items()}, "real": real},
        {name: mean(values) for name, values in prompt.items()},
        list(found["initializer"].scenes),
        list(found["word"].scenes),
        {(axis, name): values for axis, names in axes.items() for name, values in names.items()},
        {name: one.diversity for name, one in found.items()},
        {name: one.background for name, one in found.items()},
        (name_of(likeness), name_of(following)),
    )


def measure(
    model: Model,
    judge: Judges,
    words: Mapping[str, Concept],
    pictures: Sequence[Image.Image],
    plan: ScoreProtocol,
    progress: bool = True,
) -> tuple[dict[str, Measured], tuple[float, ...]]:
    """Each word's scores by the name it is given, all on the same seeds; and those of the prompts without it, if asked for."""
    likeness, following = pair(judge)
    count = plan.pictures(len(words))
    seconds = sampling.seconds_to_draw(model, count, steps=plan.steps, guidance=plan.guidance) if progress else 0
    found, plain = {}, []
    with tqdm(total=count, desc=f"{count} pictures, about {in_time(seconds)}", disable=not progress) as bar:
        for name, concept in words.items():
            portraits, scenes = _draw(model, plan, concept, bar)
            found[name] = _measured(likeness, following, concept, portraits, scenes, pictures, plan.instead)
        if plan.without_word:
            word = next(iter(words.values())).word
            bare = [without_word(fill(text, word), word) for text in plan.prompts]
            drawn = _drawn(model, bare, (), plan.seeds, plan, bar)
            plain = measures.following(following, measures.embed(following, drawn), drawn, word)
    return found, tuple(plain)


def in_time(seconds: float) -> str:
    """A time as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _draw(model: Model, plan: ScoreProtocol, concept: Concept, bar: Any) -> tuple[list[Sample], list[Sample]]:
    """The portraits and the scenes; where there is no subject prompt, the scenes are both."""
    portraits = []
    if plan.subject_prompt:
        portraits = _drawn(model, [plan.subject_prompt], concept, plan.subject_seeds, plan, bar)
    scenes = _drawn(model, plan.prompts, concept, plan.seeds, plan, bar)
    return portraits or scenes, scenes


def _drawn(
    model: Model, prompts: Sequence[str], concept: Any, seeds: int, plan: ScoreProtocol, bar: Any
) -> list[Sample]:
    drawn: list[Sample] = []
    at_once = max(1, sampling.usual_batch(model) // seeds)
    for first in range(0, len(prompts), at_once):
        some = list(prompts[first : first + at_once])
        drawn += sampling.sample(
            model, some, concept, seeds=seeds, steps=plan.steps, guidance=plan.guidance, progress=False
        )
        bar.update(len(some) * seeds)
    return drawn


def _measured(
    likeness: Judge,
    following: Judge,
    concept: Concept,
    portraits: list[Sample],
    scenes: list[Sample],
    pictures: Sequence[Image.Image],
    instead: str,
) -> Measured:
    seen = measures.embed(likeness, portraits)
    read = seen if following is likeness and portraits is scenes else measures.embed(following, scenes)
    return Measured(
        tuple(measures.likeness(seen, measures.embed(likeness, pictures))),
        tuple(measures.following(following, read, scenes, concept.word, instead)),
        tuple(portraits),
        tuple(scenes),
        measures.spread(seen),
        measures.background_likeness(likeness, scenes, pictures),
    )
