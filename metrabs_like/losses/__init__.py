"""Pure, maskable losses."""

from metrabs_like.losses import metric3d, robust, terms

__all__ = ["metric3d", "robust", "terms"]
