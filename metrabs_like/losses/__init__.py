"""Pure, maskable losses."""

from metrabs_like.losses import heatmap, metric3d, robust, terms

__all__ = ["heatmap", "metric3d", "robust", "terms"]
