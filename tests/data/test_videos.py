import cv2
import numpy as np
import pytest

from metrabs_like.data import image_files, videos


@pytest.fixture
def video(tmp_path, rng):
    """Twenty frames of 64 x 48 px; frame i is grey 10 i beside a patch of noise."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 15, (64, 48))
    for i in range(20):
        frame = np.full((48, 64, 3), 10 * i, np.uint8)
        frame[20:40, 20:40] = rng.integers(0, 255, (20, 20, 3))
        writer.write(frame)
    writer.release()
    return path


def numbers_seen(path, wanted):
    """The numbers that the pictures themselves show."""
    found = []
    for number, picture in videos.read_frames(str(path), wanted):
        found.append((number, None if picture is None else round(picture[:8, :8].mean() / 10)))
    return found


def start_of_frame(content, number):
    position = -1
    for _ in range(number + 1):
        position = content.index(b"\xff\xd8\xff", position + 1)
    return position


def test_header_and_frames(video):
    assert videos.read_header(str(video)) == (20, 64, 48)
    assert numbers_seen(video, [0, 1, 5, 19]) == [(0, 0), (1, 1), (5, 5), (19, 19)]
    assert numbers_seen(video, []) == []


def test_frames_after_the_end_are_none(video):
    assert numbers_seen(video, [18, 20, 25]) == [(18, 18), (20, None), (25, None)]
    content = video.read_bytes()
    video.write_bytes(content[: start_of_frame(content, 7) + 60])
    assert [n for n, seen in numbers_seen(video, range(20)) if seen is None] == [*range(7, 20)]


def test_a_damaged_frame_does_not_shift_the_others(video):
    content = bytearray(video.read_bytes())
    start, end = start_of_frame(content, 8), start_of_frame(content, 9) - 16
    content[start:end] = bytes(end - start)
    video.write_bytes(content)
    expected = [(n, None if n == 8 else n) for n in range(4, 12)]
    assert numbers_seen(video, range(4, 12)) == expected


def test_what_is_no_video_is_refused(tmp_path, video):
    list_of_files = b"ffconcat version 1.0\nfile clip.avi\n"
    header_alone = video.read_bytes()[:12]
    contents = {"text": b"no video", "empty": b"", "list": list_of_files, "head": header_alone}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        for read in (videos.read_header, lambda path: next(videos.read_frames(path, [0]))):
            with pytest.raises(image_files.UnusableImage, match="cannot be opened"):
                read(str(tmp_path / name))
    with pytest.raises(image_files.UnusableImage, match="missing"):
        videos.read_header(str(tmp_path / "absent.avi"))
