import numpy as np
import pytest

from metrabs_like.data.readers import densepose_charts
from metrabs_like.data.readers.densepose_charts import SurfaceCharts
from metrabs_like.data.synthetic.body_model import procedural_body
from tests.native import charts


@pytest.fixture(scope="module")
def toy():
    return charts.toy_charts()


@pytest.fixture(scope="module")
def toy_surface(toy):
    return SurfaceCharts(*toy)


def mixed(weights, corners):
    return (weights[..., np.newaxis] * corners).sum(axis=-2)


def uv_of_vertices(parts, vertices, uv):
    """Chart place of each mesh vertex (in the toy mesh each has one)."""
    table = np.full((vertices.max() + 1, 2), np.nan)
    table[vertices] = uv
    return table


def test_there_are_24_charts_with_sides_as_documented():
    names = densepose_charts.CHART_NAMES
    assert len(names) == len(set(names)) == 24
    assert names[2:6] == ["right_hand", "left_hand", "left_foot", "right_foot"]
    rights = {i + 1 for i, name in enumerate(names) if name.startswith("right")}
    assert rights == {3, 6, 7, 9, 11, 13, 16, 18, 20, 22}
    assert {i + 1 for i, name in enumerate(names) if "thigh" in name} == {7, 8, 9, 10}


def test_a_point_by_hand(toy_surface):
    # Part 2 of 3 x 3 quads starts at vertex 16; (0.4, 0.1) lies in the quad of column 1, row 0,
    # 0.2 of a side from its left and 0.3 from its top: below the diagonal 17-22.
    ids, weights, is_inside = toy_surface.locate([2], [[0.4, 0.1]])
    expected = {17: 0.7, 21: 0.1, 22: 0.2}
    assert is_inside.all()
    for vertex, weight in zip(ids[0], weights[0], strict=True):
        assert weight == pytest.approx(expected.pop(int(vertex)), abs=1e-6)
    assert not expected


def test_points_come_back(toy, toy_surface, rng):
    parts, vertices, uv = toy
    faces = rng.integers(0, len(parts), 5000)
    weights = rng.dirichlet((1, 1, 1), 5000)
    points = mixed(weights, uv[faces])
    ids, found, is_inside = toy_surface.locate(parts[faces], np.clip(points, 0, 1))
    assert is_inside.all() and ids.dtype == np.int32 and found.dtype == np.float32
    np.testing.assert_array_equal(ids, vertices[faces])
    np.testing.assert_allclose(found, weights, atol=1e-5)


def test_corners_and_edges_are_inside(toy, toy_surface):
    parts, vertices, uv = toy
    ids, weights, is_inside = toy_surface.locate(np.repeat(parts, 3), uv.reshape(-1, 2))
    assert is_inside.all()
    places = mixed(weights, uv_of_vertices(*toy)[ids])
    np.testing.assert_allclose(places, uv.reshape(-1, 2), atol=1e-6)
    middles = (uv + np.roll(uv, 1, axis=1)) / 2
    assert toy_surface.locate(np.repeat(parts, 3), middles.reshape(-1, 2))[2].all()


def test_outside_the_triangles_the_nearest_corner_counts(toy):
    parts, vertices, uv = toy
    surface = SurfaceCharts(parts, vertices, 0.1 + 0.4 * uv)  # patches from 0.1 to 0.5
    points = [[0.0, 0.0], [0.9, 0.45], [0.3, 0.52], [0.5, 1.0]]
    ids, weights, is_inside = surface.locate([1, 1, 24, 24], points)
    assert not is_inside.any()
    np.testing.assert_array_equal(np.sort(weights, axis=-1), [[0, 0, 1]] * 4)
    nearest = ids[np.arange(4), weights.argmax(axis=-1)]
    first = 23 * 16
    # (0.3, 0.52) is nearest to the corner (0.3667, 0.5) or (0.2333, 0.5): equally far.
    assert nearest[0] == 0 and nearest[1] in (15, 11) and nearest[3] == first + 15
    assert nearest[2] in (first + 13, first + 14)


def test_of_overlapping_triangles_the_first_counts(toy):
    parts, vertices, uv = toy
    twice = (np.tile(parts, 2), np.concatenate([vertices, vertices + 1000]), np.tile(uv, (2, 1, 1)))
    ids, _, _ = SurfaceCharts(*twice).locate([5, 5], [[0.2, 0.7], [0.9, 0.1]])
    assert ids.max() < 1000


def test_triangles_without_area_hold_nothing(toy):
    parts, vertices, uv = toy
    flat = uv[:1] * [1, 0]
    surface = SurfaceCharts(
        np.append(1, parts), np.concatenate([vertices[:1] + 5000, vertices]), np.append(flat, uv, 0)
    )
    ids, weights, is_inside = surface.locate([1], [[0.2, 0.0]])
    assert is_inside.all() and ids.max() < 5000 and np.isfinite(weights).all()


def test_no_points_and_wrong_points(toy_surface):
    ids, weights, is_inside = toy_surface.locate([], np.zeros((0, 2)))
    assert ids.shape == weights.shape == (0, 3) and is_inside.shape == (0,)
    for part, uv in [(0, 0.5), (25, 0.5), (1, -0.01), (1, 1.01), (1, np.nan)]:
        with pytest.raises(ValueError, match="parts must be 1 to 24 and uv in 0..1"):
            toy_surface.locate([part], [[uv, 0.5]])


def test_brute_force_agrees_on_the_body(rng):
    """Every triangle against every point, without the grid."""
    parts, vertices, uv = charts.body_charts(procedural_body())
    surface = SurfaceCharts(parts, vertices, uv)
    points, wanted = rng.random((800, 2)), rng.integers(1, 25, 800)
    ids, weights, is_inside = surface.locate(wanted, points)
    assert 0.2 < is_inside.mean() < 0.9
    for point, part, found, weight, inside in zip(
        points, wanted, ids, weights, is_inside, strict=True
    ):
        mine = parts == part
        corners = uv[mine]
        edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=-1)
        with np.errstate(all="ignore"):
            flat = np.abs(np.linalg.det(edges)) < 1e-12
            edges[flat] = np.nan
            two = np.linalg.inv(edges) @ (point - corners[:, 0])[..., np.newaxis]
        bary = np.concatenate([1 - two.sum(axis=1), two[..., 0]], axis=-1)
        holding = np.flatnonzero((bary >= -1e-6).all(axis=-1))
        assert inside == bool(holding.size)
        if inside:
            np.testing.assert_array_equal(found, vertices[mine][holding[0]])
            np.testing.assert_allclose(weight, np.clip(bary[holding[0]], 0, 1), atol=1e-5)
        else:
            distances = np.linalg.norm(corners - point, axis=-1)
            at = vertices[mine][distances == distances.min()]
            assert found[weight.argmax()] in at


def test_charts_of_the_body_do_not_overlap():
    parts, _, uv = charts.body_charts(procedural_body())
    assert uv.min() >= 0 and uv.max() <= 1 and set(parts) == set(range(1, 25))
    surface_points = np.stack(np.meshgrid(*[np.arange(0.0025, 1, 0.005)] * 2), -1).reshape(-1, 2)
    surface = SurfaceCharts(parts, np.arange(uv.size // 2).reshape(-1, 3), uv)
    for part in range(1, 25):
        edges = uv[parts == part, 1:] - uv[parts == part, :1]
        area = np.abs(np.linalg.det(edges)).sum() / 2
        covered = surface.locate(np.full(len(surface_points), part), surface_points)[2].mean()
        # Sum of the triangles against their union: equal where none lies on another.
        assert area == pytest.approx(covered, abs=0.01)


def test_the_file_is_read_as_it_was_written(tmp_path, toy, toy_surface, rng):
    path = tmp_path / "UV_data" / "UV_Processed.mat"
    charts.write_uv_processed(path, *toy)
    surface = densepose_charts.load_charts(str(path))
    assert surface.n_vertices == 24 * 16
    parts, points = rng.integers(1, 25, 500), rng.random((500, 2))
    for read, known in zip(
        surface.locate(parts, points), toy_surface.locate(parts, points), strict=True
    ):
        np.testing.assert_allclose(read, known, atol=1e-6)
    assert densepose_charts.load_charts(str(path)) is surface  # read once
    charts.write_uv_processed(path, toy[0], toy[1] + 7, toy[2])
    assert densepose_charts.load_charts(str(path)).n_vertices == 24 * 16 + 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"All_Faces": None}, "All_Faces"),
        ({"All_Faces": np.ones((432, 4))}, "All_Faces has shape"),
        ({"All_Faces": np.full((432, 3), 99999)}, "names vertex 99999"),
        ({"All_Faces": np.zeros((432, 3))}, "whole numbers from 1"),
        ({"All_FaceIndices": np.full((432, 1), 2)}, "holds the parts"),
        ({"All_FaceIndices": np.ones((17, 1))}, "All_Faces has shape"),
        ({"All_U_norm": np.zeros((5, 1))}, "All_U_norm has shape"),
        ({"All_V_norm": np.full((384, 1), np.nan)}, "All_V_norm is not finite"),
        ({"All_vertices": np.full((1, 384), 0.5)}, "All_vertices"),
    ],
)
def test_files_of_a_wrong_form_are_refused(tmp_path, toy, changes, message):
    path = tmp_path / "UV_Processed.mat"
    charts.write_uv_processed(path, *toy, **changes)
    with pytest.raises(ValueError, match=f"UV_Processed.mat: .*{message}"):
        densepose_charts.load_charts(str(path))


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is missing: the charts .*--uv_processed"):
        densepose_charts.load_charts(str(tmp_path / "UV_Processed.mat"))
    (tmp_path / "UV_Processed.mat").write_bytes(b"x" * 500)
    with pytest.raises(ValueError, match="UV_Processed.mat"):
        densepose_charts.load_charts(str(tmp_path / "UV_Processed.mat"))
