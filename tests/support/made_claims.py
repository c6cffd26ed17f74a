"""Claims that are judged from made-up samples."""

from collections.abc import Sequence

import numpy as np

from scaling_study.analysis.claims import Claim
from scaling_study.analysis.confidence import Confidence, part_of
from scaling_study.analysis.samples import Sample
from scaling_study.analysis.verdicts import Verdict, judge_samples

CLAIM = Claim("T1", "a sentence", measure=("made",), blocks=("b",), by=("cell",), smallest=0.5)


def judged(seed: int, centres: Sequence[float], claim: Claim = CLAIM, n: int = 50) -> Verdict:
    """Judge a claim from a normal sample around each centre, with standard deviation 0.5."""
    random = np.random.default_rng(seed)
    found = []
    for place, centre in enumerate(centres):
        values = centre + 0.5 * random.standard_normal(n)
        part = part_of(values, share=False)
        assert part is not None
        confidence = Confidence(float(values.mean()), n, (part,), (1.0,))
        found.append(Sample({"cell": str(place)}, np.arange(n), values, confidence, 0.0, 0.0))
    return judge_samples(claim, found, [])
