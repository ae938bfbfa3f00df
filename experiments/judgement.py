"""How good the answers of a quantized model are: against float, and against the twin that shows what an effort was worth.

A technique that trains has a control, trained in float for as long; one that rounds better than plainly has a plainly rounded
twin. Both answered the same samples, so the difference is a paired one.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks import quality
from experiments.material import Material
from quantizers.adapter import Batch, QuantizedModel

UNTRAINED = "only quantization-aware training trains"
PLAIN = "every weight is rounded to its nearest code: no option asked for more"


def judge(candidate: QuantizedModel, float_logits: Batch, logits: Batch, material: Material) -> dict[str, Any]:
    """The sections `quality`, `training` and `improvement` of a result; the last two are None, with the reason, for most."""
    against_float = asdict(quality.compare(float_logits, logits, material.labels, _classes(logits, material)))
    return {
        "quality": against_float,
        **_training(candidate, float_logits, logits, material),
        **_improvement(candidate, float_logits, logits, material),
    }


def unjudged(why_not: str) -> dict[str, Any]:
    """The same sections of a model that gives no answers."""
    absent = {"quality": why_not, "training": UNTRAINED, "improvement": PLAIN}
    return dict.fromkeys(absent) | {f"{name}_why_not": reason for name, reason in absent.items()}


def _training(candidate: QuantizedModel, float_logits: Batch, logits: Batch, material: Material) -> dict[str, Any]:
    """How the model was trained, and what that was worth."""
    if candidate.training is None:
        return {"training": None, "training_why_not": UNTRAINED}
    control, against_control = _beside(candidate.training.control, float_logits, logits, material)
    section = {
        "epochs": [asdict(epoch) for epoch in candidate.training.history],
        "seconds": candidate.training.seconds,
        "control": control,
        "against_control": against_control,
    }
    return {"training": section}


def _improvement(candidate: QuantizedModel, float_logits: Batch, logits: Batch, material: Material) -> dict[str, Any]:
    """What better rounding was worth."""
    plain: QuantizedModel | None = getattr(candidate, "plain", None)  # of a model that is `Improvable`
    if plain is None:
        return {"improvement": None, "improvement_why_not": PLAIN}
    quality_of_plain, against_plain = _beside(plain, float_logits, logits, material)
    return {"improvement": {"plain": quality_of_plain, "against_plain": against_plain}}


def _beside(
    twin: QuantizedModel, float_logits: Batch, logits: Batch, material: Material
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The twin's quality against float, and how far `logits` fall behind the twin; a negative drop is a gain."""
    answers = twin.predict(material.evaluation)
    classes = _classes(logits, material)
    difference = quality.compare(answers, logits, material.labels, classes)
    names = ("drop_pp", "drop_pp_ci95", "within_noise", "mcnemar_p")
    own = asdict(quality.compare(float_logits, answers, material.labels, classes))
    return own, {name: getattr(difference, name) for name in names}


def _classes(logits: Batch, material: Material) -> int | None:
    """How many classes the model tells apart; None where its output is another."""
    return int(logits.shape[1]) if material.model.info.classifies else None
