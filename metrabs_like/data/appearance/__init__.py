"""Changes of what crops look like: occlusion, background, blur, colour, JPEG artefacts.

Conventions: crops are float `[B, S, S, 3]` in 0..1 with S known when the graph is made. Every
change is computed for the whole batch and kept for the drawn examples; all draws are stateless
and the same with and without XLA. Numbers are ours.
"""

from metrabs_like.data.appearance.changes import CHANGES, change_appearance

__all__ = ["CHANGES", "change_appearance"]
