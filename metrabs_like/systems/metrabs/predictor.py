"""The network behind the published image-level interface."""

from metrabs_like import serving
from metrabs_like.systems.metrabs.codec import decode
from metrabs_like.systems.metrabs.points import joint_network, point_predictor


def make_predictor(model, config, pipeline=None):
    """Puts a network behind `estimate_poses` and the other published methods.

    Args:
      model: of `build_model(config)`.
      config: `Config`.
      pipeline: `data.pipeline.PipelineConfig` of the crops that it was trained on; None takes the
        default padding of boxes.

    Returns:
      `serving.PosePredictor`.
    """
    padding = {} if pipeline is None else {"box_padding": pipeline.box_padding}
    return serving.PosePredictor(
        serving.crop_predictor(
            joint_network(model), lambda outputs, inputs: decode(outputs, inputs, config)
        ),
        config.proc_side,
        config.joints,
        point_predictor=point_predictor(model, config),
        **padding,
    )
