"""Learns a word in each of several processes; `tests/test_engine.py` launches it with accelerate."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)

from accelerate import PartialState  # noqa: E402

import ti_nb as ti  # noqa: E402
from tests.families import pipeline  # noqa: E402

PartialState(cpu=True)  # or a machine's GPU would be shared
out = Path(sys.argv[1])
model = ti.from_pipeline(pipeline("sd1"))
images = ti.example_images("penguin")
number = PartialState().process_index
run = ti.train(model, images, word="<new>", init="animal", steps=4, batch=5, watch=2, out=out / "run")
run.plan = replace(run.plan, micro=(3, 1)[number])  # as if their devices had different room
for _ in run:
    pass
ti.save(run.concept(), out / f"{number}.safetensors")
(out / f"{number}.gains").write_text(repr([record.gain for record in run.records]))  # all decide alike when to stop
