"""Writes MATLAB 7.3 files with h5py, as MATLAB lays them out."""

import h5py
import numpy as np

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 "
CLASSES = {"f8": "double", "f4": "single", "i4": "int32", "u1": "uint8", "b1": "logical"}


class MatlabFile:
    """Collects variables; cells are lists of rows, structs dicts, text `str`."""

    def __init__(self, path):
        self.path = str(path)
        self.file = h5py.File(self.path, "w", userblock_size=512)
        self.references = self.file.create_group("#refs#")

    def close(self):
        """Writes MATLAB's header into the user block."""
        self.file.close()
        with open(self.path, "r+b") as file:
            file.write(HEADER.ljust(124) + b"\x00\x02IM")

    def write(self, group, name, value):
        """Writes one variable, field or cell."""
        if isinstance(value, dict):
            target = group.create_group(name)
            target.attrs["MATLAB_class"] = np.bytes_("struct")
            for key, item in value.items():
                self.write(target, key, item)
        elif isinstance(value, list):
            places = np.array([[self.reference(item) for item in row] for row in value], object)
            target = group.create_dataset(name, data=places.T, dtype=h5py.ref_dtype)
            target.attrs["MATLAB_class"] = np.bytes_("cell")
        elif isinstance(value, str):
            codes = np.frombuffer(value.encode("utf-16-le"), np.uint16)
            target = group.create_dataset(name, data=codes[:, np.newaxis])
            target.attrs["MATLAB_class"] = np.bytes_("char")
        else:
            self.write_numbers(group, name, np.asarray(value))
        return group[name]

    def write_numbers(self, group, name, value):
        """Writes an array of two or more dimensions; an empty one as its sizes."""
        stored = value.T if value.size else np.array(value.shape, np.uint64)
        if value.dtype == bool:
            stored = stored.astype(np.uint8)
        if value.dtype.kind == "c":
            pairs = np.empty(stored.shape, [("real", "f8"), ("imag", "f8")])
            pairs["real"], pairs["imag"] = stored.real, stored.imag
            stored = pairs
        target = group.create_dataset(name, data=stored)
        target.attrs["MATLAB_class"] = np.bytes_(CLASSES.get(value.dtype.str[1:], "double"))
        if not value.size:
            target.attrs["MATLAB_empty"] = np.uint8(1)

    def reference(self, value):
        """Writes a value among the references and returns the reference."""
        return self.write(self.references, f"r{len(self.references)}", value).ref


def write_mat73(path, variables):
    """Writes a whole file and returns its path as text."""
    file = MatlabFile(path)
    for name, value in variables.items():
        file.write(file.file, name, value)
    file.close()
    return str(path)
