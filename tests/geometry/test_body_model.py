"""The arrays of a body model: conversion, checks, identity."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.smpl import BodyModel
from tests.geometry.bodies import random_model


def test_arrays_are_float32_and_read_only(rng):
    model = random_model(rng, with_pose_blend=False)
    assert (model.n_vertices, model.n_joints, model.n_betas) == (20, 5, 4)
    assert model.v_template.dtype == np.float32 and model.faces.dtype == np.int32
    assert model.posedirs.shape == (20, 3, 0)
    np.testing.assert_array_equal(model.canonical_pose_rotvecs, np.zeros((5, 3)))
    with pytest.raises(ValueError):
        model.weights[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"


def test_joints_follow_from_the_regressor(rng):
    model = random_model(rng)
    betas = rng.normal(size=4)
    shaped = model.v_template + model.shapedirs @ betas
    joints = model.joint_template + model.joint_shapedirs @ betas
    np.testing.assert_allclose(joints, model.joint_regressor @ shaped, atol=1e-6)


def test_models_are_traced_by_identity(rng):
    first = random_model(rng)
    second = dataclasses.replace(first)
    assert first != second and len({first, second, first}) == 2

    @tf.function(autograph=False)
    def n_vertices(model, x):
        return x + model.n_vertices

    for model in (first, first, second, first):
        n_vertices(model, tf.constant(1))
    assert n_vertices.experimental_get_tracing_count() == 2


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"v_template": np.zeros((20, 2))}, r"v_template has shape \(20, 2\)"),
        ({"shapedirs": np.zeros((20, 4))}, "shapedirs"),
        ({"shapedirs": np.zeros((19, 3, 4))}, "shapedirs"),
        ({"posedirs": np.zeros((20, 3, 35))}, r"posedirs has shape .*36"),
        ({"joint_regressor": np.zeros((20, 5))}, r"joint_regressor has shape \(20, 5\)"),
        ({"weights": np.zeros((20, 4))}, "weights"),
        ({"weights": np.full((20, 5), np.nan)}, "weights holds NaN"),
        ({"faces": np.zeros((3, 4))}, "faces"),
        ({"faces": [[0, 1, 20]]}, "faces has vertex numbers from 0 to 20"),
        ({"parents": (-1, 0, 3, 1, 2)}, "parents"),
        ({"parents": (0, 0, 1, 1, 2)}, "parents"),
        ({"canonical_pose_rotvecs": np.zeros(15)}, "canonical_pose_rotvecs"),
    ],
)
def test_what_does_not_fit_is_named(rng, changed, message):
    model = random_model(rng)
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    with pytest.raises(ValueError, match=f"BodyModel.{message}"):
        BodyModel(**(fields | changed))
