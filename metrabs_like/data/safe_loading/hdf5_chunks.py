"""Checks that the packed chunks of an HDF5 dataset unpack to their size, before HDF5 unpacks them.

HDF5 inflates whatever a chunk holds and only then looks at the chunk's size.
"""

import zlib

import h5py

_SMALL_BYTES = 1 << 16  # packed chunks up to this inflate to at most 68 MB
_SLACK_BYTES = 64  # checksums
_PIECE_BYTES = 1 << 20


def are_honest(dataset_id: h5py.h5d.DatasetID, n_bytes: int, filters: list[int]) -> bool:
    """Tells whether no chunk is larger than it should be, packed or unpacked.

    Args:
      dataset_id: of a dataset with chunks; none if it is empty.
      n_bytes: size of an unpacked chunk, 0 for an empty dataset.
      filters: HDF5's numbers of its filters, each once.

    Returns:
      True if all chunks may be unpacked.
    """
    large = []

    def remember(chunk):
        if chunk.size > _SMALL_BYTES:
            large.append(chunk)

    if not n_bytes:
        return True
    dataset_id.chunk_iter(remember)
    return all(_is_honest(dataset_id, chunk, n_bytes, filters) for chunk in large)


def _is_honest(dataset_id, chunk, n_bytes, filters):
    if chunk.size > 1.01 * n_bytes + _SMALL_BYTES:
        return False
    masked = chunk.filter_mask  # bit i: this chunk skips filter i
    used = [kind for i, kind in enumerate(filters) if not masked >> i & 1]
    if h5py.h5z.FILTER_DEFLATE not in used:
        return chunk.size <= n_bytes + _SLACK_BYTES
    _, packed = dataset_id.read_direct_chunk(chunk.chunk_offset)
    return _inflates_within(packed, n_bytes + _SLACK_BYTES)


def _inflates_within(packed, n_left):
    """Inflates piece by piece and forgets the pieces; what is no stream is left to HDF5."""
    unpacker = zlib.decompressobj()
    try:
        while n_left >= 0 and not unpacker.eof:
            piece = unpacker.decompress(packed, _PIECE_BYTES)
            packed = unpacker.unconsumed_tail
            n_left -= len(piece)
            if not piece and not packed:
                return False
    except zlib.error:
        return False
    return n_left >= 0
