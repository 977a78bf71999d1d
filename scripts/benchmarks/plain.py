"""Plain formulations of the graph library, written as one reads them in the paper.

They are the baselines of the speed rows and an independent oracle for tests: no plane layout, no
closed form, a [2P, 3] matrix and `tf.linalg.lstsq` for the solver. Any float dtype. Masks multiply
and NaN is not treated: use finite input.
"""

import tensorflow as tf


def mean_stdev(x, mask):
    """Returns the masked mean [B, 1, D] and one standard deviation [B, 1, 1]."""
    mask = tf.cast(mask, x.dtype)[..., tf.newaxis]
    count = tf.reduce_sum(mask, 1, keepdims=True)
    mean = tf.math.divide_no_nan(tf.reduce_sum(x * mask, 1, keepdims=True), count)
    return mean, rms(x - mean, mask, count)


def rms(x, mask, count):
    """Returns the root mean square norm [B, 1, 1] of the valid vectors."""
    square = tf.reduce_sum(tf.square(x) * mask, axis=[1, 2], keepdims=True)
    return tf.sqrt(tf.math.divide_no_nan(square, count) + 1e-10)


def reconstruct_ref_weakpersp(normalized_2d, coords3d_rel, mask):
    """Returns the weak-perspective reference point [B, 3]."""
    mean2d, stdev2d = mean_stdev(normalized_2d, mask)
    mean3d, _ = mean_stdev(coords3d_rel, mask)
    _, stdev3d = mean_stdev(coords3d_rel[..., :2], mask)
    floor = tf.constant(1e-5, stdev2d.dtype)
    depth = tf.maximum(stdev3d, floor) / tf.maximum(stdev2d, floor)
    homogeneous = tf.concat([mean2d, tf.ones_like(mean2d[..., :1])], -1)
    return (homogeneous * depth - mean3d)[:, 0]


def reconstruct_ref_fullpersp(normalized_2d, coords3d_rel, mask, l2_regularizer=1e-4):
    """Returns the full-perspective reference point [B, 3], by a [2P, 3] least-squares system."""
    dtype = coords3d_rel.dtype
    valid = tf.cast(mask, dtype)[..., tf.newaxis]
    count = tf.reduce_sum(valid, 1, keepdims=True)
    right = normalized_2d * coords3d_rel[..., 2:] - coords3d_rel[..., :2]
    scale_n, scale_r = rms(normalized_2d, valid, count), rms(right, valid, count)
    n_points = tf.shape(normalized_2d)[1]
    shape = tf.shape(normalized_2d)
    eye = tf.broadcast_to(tf.eye(2, dtype=dtype), tf.concat([shape, [2]], 0))
    matrix = tf.concat([eye, (-normalized_2d / scale_n)[..., tf.newaxis]], axis=-1)
    weight = valid + tf.cast(1e-4, dtype)
    matrix = tf.reshape(matrix * weight[..., tf.newaxis], [-1, 2 * n_points, 3])
    right = tf.reshape(right / scale_r * weight, [-1, 2 * n_points, 1])
    unknown = tf.linalg.lstsq(matrix, right, l2_regularizer=l2_regularizer)[..., 0]
    scale_n, scale_r = scale_n[:, 0], scale_r[:, 0]
    return tf.concat([unknown[:, :2] * scale_r, unknown[:, 2:] * scale_r / scale_n], axis=-1)


def project_pose(coords3d, intrinsics):
    """Returns pixels [B, P, 2], with the depth clamped to 1 mm."""
    near = tf.constant(0.001, coords3d.dtype)
    normalized = coords3d / tf.maximum(near, coords3d[..., 2:])
    return tf.einsum("bpc,bic->bpi", normalized, intrinsics[:, :2])


def is_within_fov(pixels, grid, border_factor):
    """Returns bool [B, P]."""
    offset = 0.0 if grid.centered_stride else -grid.stride / 2
    low = tf.cast(tf.constant(grid.stride * border_factor + offset), pixels.dtype)
    high = grid.proc_side - grid.stride * border_factor + offset
    high = tf.cast(tf.constant(high), pixels.dtype)
    return tf.reduce_all((pixels >= low) & (pixels <= high), axis=-1)


def reconstruct_absolute(coords2d, coords3d_rel, intrinsics, mask, mix, grid, **options):
    """Returns (absolute points [B, P, 3], the pixels that decide, the z that decides).

    Options: weak (False), border_factor1 (0.75), border_factor2 (as 1), mix_based_on_3d (True),
    l2_regularizer (1e-4).
    """
    ones = tf.ones_like(coords2d[..., :1])
    inverse = tf.linalg.inv(intrinsics)
    rays = tf.einsum("bpc,bic->bpi", tf.concat([coords2d, ones], -1), inverse)
    normalized = rays[..., :2]
    border_factor1 = options.get("border_factor1", 0.75)
    reference = is_within_fov(coords2d, grid, border_factor1)
    if mask is not None:
        reference &= mask
    if options.get("weak", False):
        ref = reconstruct_ref_weakpersp(normalized, coords3d_rel, reference)
    else:
        l2 = options.get("l2_regularizer", 1e-4)
        ref = reconstruct_ref_fullpersp(normalized, coords3d_rel, reference, l2)
    translated = coords3d_rel + ref[:, tf.newaxis]
    lifted = tf.concat([normalized, ones], -1) * translated[..., 2:]
    if mix is not None:
        lifted = mix * translated + (1 - mix) * lifted
    deciding = translated if options.get("mix_based_on_3d", True) else lifted
    pixels = project_pose(tf.stop_gradient(deciding), intrinsics)
    border_factor2 = options.get("border_factor2") or border_factor1
    is_lifted = is_within_fov(pixels, grid, border_factor2) & (translated[..., 2] > 0.001)
    output = tf.where(is_lifted[..., tf.newaxis], lifted, translated)
    return output, pixels, translated[..., 2]


def charbonnier(x, epsilon):
    """Returns the scaled, smoothed length [B, P]."""
    n_dims = tf.cast(tf.shape(x)[-1], x.dtype)
    if epsilon > 0:
        return tf.sqrt(tf.reduce_mean(tf.square(x), -1) + epsilon**2) - epsilon
    square = tf.reduce_sum(tf.square(x), -1)
    positive = square > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, square, 1.0)), 0.0) / tf.sqrt(n_dims)


def uncertainty_norm(x, uncert, config):
    """Returns the likelihood-weighted error norm [B, P]."""
    if uncert is None:
        return charbonnier(x, 0.02)
    if not config.nll_loss:
        return charbonnier(x, config.charb_eps)
    root = tf.sqrt(tf.cast(tf.shape(x)[-1], x.dtype))
    factor = 1 / root if config.fix_uncert_factor else root
    loss = charbonnier(x / uncert[..., tf.newaxis], config.charb_eps)
    loss += factor * tf.math.log(uncert)
    return loss * tf.stop_gradient(uncert) ** config.beta_nll if config.beta_nll else loss


def masked_mean(x, mask):
    """Returns the mean over the valid points of the batch."""
    mask = tf.cast(mask, x.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(x * mask), tf.reduce_sum(mask))


def loss2d(true2d, pred2d, uncert, mask, config):
    """Returns the reprojection loss."""
    border = -20 * config.grid.proc_side / 256
    mask &= is_within_fov(true2d, config.grid, border) & is_within_fov(pred2d, config.grid, border)
    scale = config.box_size_m / config.grid.proc_side
    return masked_mean(uncertainty_norm((true2d - pred2d) * scale, uncert, config), mask)


def compute_loss_with_3d_gt(true, pred, uncert, intrinsics, root_index, mask, config, started):
    """Returns (loss3d, loss3d_abs, loss2d, total)."""
    diff = true - pred
    mean, _ = mean_stdev(diff, mask)
    root_index = tf.broadcast_to(root_index, tf.shape(true)[:1])
    root = tf.gather(diff, tf.maximum(root_index, 0), axis=1, batch_dims=1)[:, tf.newaxis]
    center = tf.where(root_index[:, tf.newaxis, tf.newaxis] < 0, mean, root)
    loss3d = masked_mean(uncertainty_norm(diff - center, uncert, config), mask)
    far = tf.minimum(tf.ones([], true.dtype), 5 / tf.abs(true[..., 2:]))
    diff_abs = tf.concat([tf.abs(diff[..., :2]), tf.abs(diff[..., 2:]) * far], -1)
    uncert_abs = None if uncert is None else 4 * uncert
    mask = mask & (true[..., 2] > 0.3)
    loss3d_abs = masked_mean(uncertainty_norm(diff_abs, uncert_abs, config), mask)
    true2d, pred2d = project_pose(true, intrinsics), project_pose(pred, intrinsics)
    in_image = loss2d(true2d, pred2d, uncert, mask & (pred[..., 2] > 0.001), config)
    gated = loss3d_abs if started else tf.stop_gradient(loss3d_abs)
    return loss3d, loss3d_abs, in_image, loss3d + in_image + config.absloss_factor * gated
