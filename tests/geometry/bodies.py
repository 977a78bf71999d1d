"""Small body models for tests."""

import numpy as np

from metrabs_like.geometry.smpl import BodyModel

#: A trunk with a branching: joint 2 and 3 hang on 1.
PARENTS = (-1, 0, 1, 1, 2)


def random_model(rng, n_vertices=20, n_betas=4, with_pose_blend=True, parents=PARENTS, **fields):
    """A random model; about 1 m large."""
    n_joints = len(parents)
    weights = rng.dirichlet(np.ones(n_joints), n_vertices)
    return BodyModel(
        name="random",
        v_template=rng.normal(0.0, 0.5, (n_vertices, 3)),
        shapedirs=rng.normal(0.0, 0.05, (n_vertices, 3, n_betas)),
        posedirs=rng.normal(0.0, 0.02, (n_vertices, 3, 9 * (n_joints - 1)))
        if with_pose_blend
        else None,
        joint_regressor=rng.dirichlet(np.ones(n_vertices), n_joints),
        weights=weights / weights.sum(axis=1, keepdims=True),
        faces=rng.permuted(np.tile(np.arange(n_vertices), (30, 1)), axis=1)[:, :3],
        parents=parents,
        **fields,
    )


def random_people(rng, model, n=3):
    """Poses `[n, J, 3]`, betas `[n, S]` and translations `[n, 3]`, float32."""
    pose = rng.normal(0.0, 0.8, (n, model.n_joints, 3))
    betas, translation = rng.normal(size=(n, model.n_betas)), rng.normal(size=(n, 3))
    return [x.astype(np.float32) for x in (pose, betas, translation)]


def random_corners(rng, model, *shape):
    """Corners of surface points: ids and weights `[..., 3]`."""
    ids = rng.integers(0, model.n_vertices, (*shape, 3)).astype(np.int32)
    return ids, rng.dirichlet(np.ones(3), shape).astype(np.float32)
