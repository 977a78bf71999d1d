"""Pickles that would run code: each calls `trip`, or does something that an honest file never does.

Conventions: opcodes are spelled out, because `pickle.dumps` writes only some of them.
"""

import pickle
import struct

TRACES = []


def trip(*args, **kwargs):
    """Remembers that it was called."""
    TRACES.append((args, kwargs))
    return list(args)


class Tripwire:
    """A class whose making, state and items leave a trace."""

    def __init__(self, *args):
        trip("init", *args)

    def __setstate__(self, state):
        trip("state", state)

    def append(self, item):
        trip("append", item)


def text(value):
    """The opcode that pushes a text."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def name(dotted):
    """The opcode that pushes a global, `module.name`."""
    module, attribute = dotted.rsplit(".", 1)
    return f"c{module}\n{attribute}\n".encode()


def stack_name(dotted):
    """The same by STACK_GLOBAL."""
    module, attribute = dotted.rsplit(".", 1)
    return text(module) + text(attribute) + b"\x93"


def whole(*parts):
    """A pickle of protocol 4 without frames."""
    return b"\x80\x04" + b"".join(parts) + b"."


def call(dotted, *args):
    """REDUCE of a global with arguments (each an opcode sequence)."""
    return name(dotted) + b"(" + b"".join(args) + b"tR"


TRIP, TRIPWIRE = "tests.data.hostile.trip", "tests.data.hostile.Tripwire"
GADGET = call(TRIP, text("gadget"))
MODULE = b"tests.data.hostile\n"
SOURCE_CODE = "__import__('tests.data.hostile').data.hostile.trip()"

# Name -> (pickle, dotted name that the reason must hold). Plain `pickle.loads` runs each of them.
RUNNING = {
    "reduce": (whole(GADGET), TRIP),
    "reduce_protocol0": (b"ctests.data.hostile\ntrip\n(S'a'\ntR.", TRIP),
    "stack_global": (whole(stack_name(TRIP), b"(", text("a"), b"tR"), TRIP),
    "inst": (whole(b"(", text("a"), b"i", MODULE, b"Tripwire\n"), TRIPWIRE),
    "obj": (whole(b"(", name(TRIPWIRE), text("a"), b"o"), TRIPWIRE),
    "build": (whole(name(TRIPWIRE), b")\x81", text("s"), b"b"), TRIPWIRE),
    "append": (whole(name(TRIPWIRE), b")\x81", text("s"), b"a"), TRIPWIRE),
    "in_list": (whole(b"](", GADGET, b"e"), TRIP),
    "in_dict": (whole(b"}(", text("k"), GADGET, b"u"), TRIP),
    "in_tuple": (whole(b"(K\x01", GADGET, b"t"), TRIP),
    "popped": (whole(GADGET, b"0N"), TRIP),
    "in_memo_only": (whole(GADGET, b"q\x000N"), TRIP),
    "in_ordered_dict": (
        whole(call("collections.OrderedDict"), b"(", text("k"), GADGET, b"u"),
        TRIP,
    ),
    "in_array_state": (
        whole(
            call("numpy._core.multiarray._reconstruct", name("numpy.ndarray"), b"(K\x00t",
                 b"C\x01b"),
            b"(K\x01(K\x01t",
            call("numpy.dtype", text("O8"), b"\x89", b"\x88"),
            b"\x89](",
            GADGET,
            b"et",
            b"b",
        ),
        TRIP,
    ),
    "getattr": (
        whole(call("builtins.getattr", call("importlib.import_module", text("tests.data.hostile")),
                   text("trip")), b"(", text("a"), b"tR"),
        "builtins.getattr",
    ),
    "attrgetter": (
        whole(call("operator.attrgetter", text("trip")), b"(",
              call("importlib.import_module", text("tests.data.hostile")), b"tR)R"),
        "operator.attrgetter",
    ),
    "eval": (whole(call("builtins.eval", text(SOURCE_CODE))), "builtins.eval"),
    "python2_eval": (
        b"c__builtin__\neval\n(S\"" + SOURCE_CODE.encode() + b"\"\ntR.",
        "builtins.eval",
    ),
    "partial": (whole(call("functools.partial", name(TRIP)), b")R"), "functools.partial"),
    "map": (
        whole(call("builtins.list", call("builtins.map", name(TRIP), b"](K\x01e"))),
        "builtins.list",
    ),
    "numpy_function": (
        whole(call("numpy.apply_along_axis", name(TRIP), b"K\x00", b"](K\x01e")),
        "numpy.apply_along_axis",
    ),
    "pandas_eval": (
        whole(call("pandas.eval", text("@" + SOURCE_CODE))),
        "pandas.eval",
    ),
    "copyreg_reconstructor": (
        b"ccopy_reg\n_reconstructor\n(ctests.data.hostile\nTripwire\nc__builtin__\nobject\nNtR(dp0\nb.",
        TRIPWIRE,
    ),
}  # fmt: skip
# `pandas.eval` has no such builtins in every version: it is refused, but not shown to run.
NOT_SHOWN_TO_RUN = ("pandas_eval",)

ARRAY = call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), b"(K\x00t", b"C\x01b")
FLOAT = call("numpy.dtype", text("f8"), b"\x89", b"\x88")
SPARSE = name("scipy.sparse._csc.csc_matrix") + b")\x81"
CHUMPY = name("chumpy.ch.Ch") + b")\x81"


def dtype(code, state=b""):
    """A dtype, with a state of protocol 2 and later."""
    return call("numpy.dtype", text(code), b"\x89", b"\x88") + (state and state + b"b")


def array(shape, element, data):
    """An array by `_reconstruct` and BUILD; `shape` and `data` are opcode sequences."""
    return ARRAY + b"(K\x01" + shape + element + b"\x89" + data + b"tb"


def pushed_bytes(content):
    """The opcode that pushes bytes."""
    return b"B" + struct.pack("<I", len(content)) + content


def with_state(instance, **state):
    """BUILD of an instance with a dict of attributes."""
    items = b"".join(text(key) + value for key, value in state.items())
    return instance + b"}(" + items + b"ub"


_OBJECT_FIELD_STATE = (
    b"(K\x03" + text("|") + b"N" + b"(" + text("f") + b"t"
    + b"}" + text("f") + dtype("O8") + b"K\x00\x86s" + b"K\x08K\x01K\x00t"
)  # fmt: skip
_PLACES = array(b"(K\x01t", dtype("i8"), pushed_bytes(struct.pack("<q", 10**6)))
_ENDS = array(b"(K\x02t", dtype("i8"), pushed_bytes(struct.pack("<2q", 0, 1)))
_ONE = array(b"(K\x01t", FLOAT, pushed_bytes(struct.pack("<d", 1)))
_SIZE = b"J" + struct.pack("<i", 1 << 24)

# Name -> (pickle, text that the reason must hold). They misuse what is on the allow-list.
MISUSED = {
    "persistent_id": (b"\x80\x04\x8c\x01aQ.", "persistent id"),
    "persistent_id_text": (b"Pabc\n.", "persistent id"),
    "extension_1": (b"\x80\x02\x82\x01)R.", "extension code"),
    "extension_2": (b"\x80\x02\x83\x01\x00)R.", "extension code"),
    "extension_4": (b"\x80\x02\x84\x01\x00\x00\x00)R.", "extension code"),
    "buffer": (b"\x80\x05\x97.", "out-of-band buffer"),
    "numpy_load": (whole(call("numpy.load", text("x.npy"))), "numpy.load"),
    "numpy_fromfile": (whole(call("numpy.fromfile", text("x"))), "numpy.fromfile"),
    "read_pickle": (whole(call("pandas.read_pickle", text("x"))), "pandas.read_pickle"),
    "dotted_name": (
        whole(text("numpy.core.multiarray"), text("_reconstruct.__self__"), b"\x93"),
        "_reconstruct.__self__",
    ),
    "name_of_no_text": (whole(b"K\x01K\x02\x93"), "no text"),
    "codecs_other": (whole(call("_codecs.encode", text("a"), text("rot13"))), "_codecs.encode"),
    "codecs_decode": (whole(call("_codecs.decode", text("a"))), "_codecs.decode"),
    "bytearray_size": (whole(call("builtins.bytearray", b"J\xff\xff\xff\x7f")), "bytearray"),
    "bytes_size": (whole(call("builtins.bytes", b"J\xff\xff\xff\x7f")), "bytes"),
    "set_of_tuples": (whole(call("builtins.set", b"](", b")", b"e")), "set of something else"),
    "slice_of_text": (whole(call("builtins.slice", text("a"), b"N", b"N")), "slice"),
    "complex_of_text": (whole(call("builtins.complex", text("1"), b"K\x01")), "complex"),
    "ordered_dict_keys": (
        whole(call("collections.OrderedDict", b"](](]K\x01ee")),
        "small whole numbers as a key",
    ),
    "call_of_a_value": (whole(text("a"), b")R"), "no plain global"),
    "call_of_a_result": (whole(call("collections.OrderedDict"), b")R"), "no plain global"),
    "call_of_a_bare_name": (whole(call("numpy.ndarray", b"(K\x02t")), "numpy.ndarray"),
    "bare_name": (whole(name("numpy.dtype")), "itself as a value"),
    "bare_name_in_list": (whole(b"](", name("collections.OrderedDict"), b"e"), "itself as a value"),
    "build_of_a_name": (whole(name("numpy.dtype"), b"}b"), "no new object"),
    "build_of_a_dict": (whole(b"}", b"}b"), "no new object"),
    "build_twice": (whole(with_state(CHUMPY, x=_ONE), b"}b"), "no new object"),
    "slot_state_of_a_name": (
        whole(name("numpy.dtype"), b"N}", text("x"), b"K\x01s\x86b"),
        "no new object",
    ),
    "append_to_an_array": (whole(_ONE, b"K\x01a"), "no list"),
    "items_of_an_array": (whole(_ONE, b"K\x00K\x01s"), "no dict"),
    "items_of_a_name": (whole(name("numpy.dtype"), b"K\x00K\x01s"), "no dict"),
    "add_to_a_list": (whole(b"](K\x01\x90"), "no set"),
    "key_of_an_object": (whole(b"}", _ONE, b"K\x01s"), "as a key"),
    "keywords": (
        whole(name("numpy.dtype"), b"(", text("f8"), b"t}", text("metadata"), b"}s\x92"),
        "unusual dtype",
    ),
    "array_subclass": (
        whole(call("numpy.core.multiarray._reconstruct", name("numpy.dtype"), b"(K\x00t",
                   b"C\x01b"), b"}b"),
        "unusual class",
    ),
    "array_shape_too_large": (
        whole(array(b"(" + b"J\xff\xff\xff\x7f" * 2 + b"t", FLOAT, pushed_bytes(b"x" * 8))),
        "do not fill its shape",
    ),
    "array_negative_shape": (
        whole(array(b"(J\xff\xff\xff\xfft", FLOAT, pushed_bytes(b"x" * 8))),
        "strange shape",
    ),
    "array_object_bytes": (
        whole(array(b"(K\x01t", dtype("O8"), pushed_bytes(b"x" * 8))),
        "does not fill its shape",
    ),
    "array_object_list_short": (
        whole(array(b"(J\xff\xff\xff\x7ft", dtype("O8"), b"](Ne")),
        "does not fill its shape",
    ),
    "array_in_itself": (
        whole(ARRAY, b"q\x00(K\x01(K\x01t", dtype("O8"), b"\x89](h\x00etb"),
        "contains itself",
    ),
    "array_state_text": (whole(ARRAY, text("x"), b"b"), "without its usual state"),
    "array_without_state": (whole(ARRAY), "without its usual state"),
    "dtype_object_field": (
        # With the flags 0 of this state NumPy itself would take the bytes for pointers.
        whole(array(b"(K\x01t", dtype("V8", _OBJECT_FIELD_STATE), pushed_bytes(b"A" * 8))),
        "objects in it",
    ),
    "dtype_by_comma_text": (whole(dtype("O8,O8")), "unusual dtype"),
    "dtype_of_a_list": (whole(call("numpy.dtype", b"]", b"\x89", b"\x88")), "unusual dtype"),
    "dtype_item_bomb": (whole(dtype("S99999999")), "bytes an element"),
    "scalar_object": (
        whole(call("numpy.core.multiarray.scalar", dtype("O8"), b"](Ne")),
        "scalar of objects",
    ),
    "scalar_short": (
        whole(call("numpy.core.multiarray.scalar", FLOAT, pushed_bytes(b"x"))),
        "do not fill its shape",
    ),
    "chumpy_poisoned_class": (whole(with_state(CHUMPY, __class__=b"N")), "not of numbers"),
    "chumpy_text": (whole(with_state(CHUMPY, x=text("a"))), "not of numbers"),
    "chumpy_state_list": (whole(CHUMPY, b"]b"), "without its usual state"),
    "chumpy_other": (whole(name("chumpy.ch.CallInner"), b")\x81"), "chumpy.ch.CallInner"),
    "chumpy_selection_outside": (
        whole(
            with_state(
                name("chumpy.reordering.Select") + b")\x81",
                a=with_state(CHUMPY, x=_ONE),
                idxs=_PLACES,
            )
        ),
        "outside of its array",
    ),
    "sparse_outside": (
        whole(
            with_state(
                SPARSE, _shape=b"(K\x03K\x01t", data=_ONE, indices=_PLACES, indptr=_ENDS
            )
        ),
        "outside of its shape",
    ),
    "sparse_bomb": (
        whole(
            with_state(
                name("scipy.sparse._coo.coo_matrix") + b")\x81",
                _shape=b"(" + _SIZE * 2 + b"t",
                data=_ONE,
                row=array(b"(K\x01t", dtype("i8"), pushed_bytes(bytes(8))),
                col=array(b"(K\x01t", dtype("i8"), pushed_bytes(bytes(8))),
            )
        ),
        "max_bytes",
    ),
    "sparse_shape_text": (whole(with_state(SPARSE, _shape=text("ab"))), "strange shape"),
    "index_bomb": (
        whole(
            call(
                "pandas.core.indexes.base._new_Index",
                name("pandas.core.indexes.range.RangeIndex"),
                b"}(" + text("start") + b"K\x00" + text("stop") + b"\x8a\x09" + b"\xff" * 8
                + b"\x00" + text("step") + b"K\x01u",
            )
        ),
        "without labels or range",
    ),
    "frame_without_blocks": (
        whole(with_state(name("pandas.core.frame.DataFrame") + b")\x81", _mgr=b"N")),
        "DataFrame",
    ),
    "torch": (whole(call("torch._utils._rebuild_tensor_v2", b"N")), "PyTorch tensors to NumPy"),
}  # fmt: skip

# Files that are damaged or too much, and the text that the reason must hold.
DEPTH = 200_000
BROKEN = {
    "empty": (b"", "no whole pickle"),
    "truncated": (pickle.dumps([1.5] * 100, 4)[:-20], "no whole pickle"),
    "text": (b"hello", "no whole pickle"),
    "unknown_opcode": (b"\x80\x04\xff.", "unknown opcode"),
    "announced_too_much": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "announced"),
    "bytearray_too_much": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "announced"),
    "frame_too_much": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "announced"),
    "memo_missing": (b"\x80\x04h\x05.", "no whole pickle"),
    "deep_lists": (b"\x80\x02" + b"]" * DEPTH + b"a" * (DEPTH - 1) + b".", "deep"),
    "deep_tuples": (b"\x80\x02N" + b"\x85" * DEPTH + b".", "deep"),
    "deep_tuple_as_key": (b"\x80\x02}N" + b"\x85" * DEPTH + b"K\x01s.", "as a key"),
    "deep_dicts": (b"\x80\x02" + b"}K\x00" * DEPTH + b"N" + b"s" * DEPTH + b".", "deep"),
    "list_in_itself": (b"\x80\x02]q\x00h\x00a.", "contains itself"),
}
