import collections
import pickle

import numpy as np

from metrabs_like.data.readers import counted_fits


def test_fits_are_read_or_counted(tmp_path):
    path, dropped = tmp_path / "fit.pkl", collections.Counter()
    assert counted_fits.load_fit(str(path), dropped) is None
    assert dropped.pop("bodies: the fit's file is missing") == 1
    content = {"pose": np.arange(72.0), "betas": np.ones(10), "trans": np.zeros(3)}
    path.write_bytes(pickle.dumps(content))
    fit = counted_fits.load_fit(str(path), dropped)
    np.testing.assert_array_equal(fit.pose_rotvecs.ravel(), np.arange(72.0))
    assert not dropped
    path.write_bytes(pickle.dumps({**content, "pose": np.full(72, np.nan)}))
    assert counted_fits.load_fit(str(path), dropped) is None
    path.unlink()
    path.mkdir()
    assert counted_fits.load_fit(str(path), dropped) is None
    assert dropped == {counted_fits.UNREADABLE: 2}
