"""Promises about values between tasks: types survive, the rest is refused at the producer."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import math
import pathlib
import random
import sqlite3
import struct
import sys
import threading
import types
import typing
import unicodedata
import uuid
import zlib
import zoneinfo
from pathlib import Path

import pytest
from goclaw._goclaw import _decode, _encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pydantic = pytest.importorskip("pydantic")

HEADER = 13


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2
    CRIMSON = "red"  # an alias


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(typing.NamedTuple):
    left: object
    right: object = None


@dataclasses.dataclass
class Plain:
    name: str
    items: list = dataclasses.field(default_factory=list)
    made: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.made += 1
        self.beyond = "set by __post_init__"

    @functools.cached_property
    def lock(self) -> object:
        return threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: object
    y: object = None


@dataclasses.dataclass(slots=True)
class Unset:
    x: int
    y: int = dataclasses.field(init=False)


@dataclasses.dataclass
class ErrorData(Exception):
    why: str


class Outer:
    @dataclasses.dataclass
    class Inner:
        n: int


class Model(pydantic.BaseModel):
    name: str
    child: Model | None = None
    when: dt.datetime | None = None
    _cache: dict = pydantic.PrivateAttr(default_factory=dict)

    @pydantic.field_validator("name")
    @classmethod
    def refuse_rerun(cls, name: str) -> str:
        return name + "!"  # would be seen twice if validators ran again


class Open(pydantic.BaseModel, frozen=True):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    n: int = 0


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Name(str):
    pass


def same(a: object, b: object) -> bool:
    """Equal, and of exactly the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex) and isinstance(b, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):
        return a == b and sorted(map(repr, map(type, a))) == sorted(map(repr, map(type, b)))
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    if isinstance(a, dt.datetime | dt.time):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and (
            a.fold == b.fold and repr(a.tzinfo) == repr(b.tzinfo)
        )
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name, None), getattr(b, f.name, None)) for f in dataclasses.fields(a))
    return bool(a == b)


def there_and_back(value: object) -> typing.Any:
    return _decode(_encode(value))


def refused(value: object, **options: object) -> tuple[str, str, str, str]:
    with pytest.raises(ValueError) as caught:
        _encode(value, **options)
    return typing.cast("tuple[str, str, str, str]", caught.value.args)


def broken(envelope: bytes, **options: object) -> str:
    with pytest.raises(ValueError) as caught:
        _decode(envelope, **options)
    return str(caught.value.args[0])


def sealed(body: bytes, *, version: int = 1, codec: int = 1, flags: int = 0, kind: int = 0) -> bytes:
    """An envelope with a right checksum around any body."""
    head = bytes([0xC1, version, codec, flags, kind]) + struct.pack("<I", len(body))
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
IST = dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")
KINDS: list[object] = [
    None, True, False, 0, -1, 127, 128, -32, -33, 255, 256, 2**31, -(2**31) - 1, 2**63 - 1, 2**63,
    -(2**63), -(2**63) - 1, 2**64, 10**400, -(10**400),
    0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, 1 + 2j, complex(math.inf, -0.0),
    "", "a", "grüße", "😀" * 70, "a\0b", "lone \ud800 surrogate", b"", b"\0\xff", b"x" * 70_000,
    bytearray(b"ab"), [], [1, [2, []]], [None] * 70_000, (), (1,), (1, (2, [3])), {}, {"a": {"b": 1}},
    {1: "int", "1": "str", (1, 2): "tuple", None: 0, b"k": 1, 1.5: 2, frozenset({1}): 3, True + 1: 4},
    {"\ud800": 1, "k" * 40: 2, "": 3}, {str(n): n for n in range(70_000)},
    set(), {1, "a", (2,)}, frozenset(), frozenset({frozenset({1})}), range(3), range(10, 0, -(2**70)),
    dt.date(1, 1, 1), dt.datetime(2026, 11, 3, 1, 2, 3, 4), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), dt.datetime.max, dt.datetime.min,
    dt.datetime(2026, 1, 1, tzinfo=IST), dt.time(1, 2, 3, 4), dt.time(2, 30, tzinfo=IST, fold=1),
    dt.timedelta(days=-1, microseconds=1), dt.timedelta.max, dt.timedelta.min, dt.UTC, IST, BERLIN,
    dt.timezone(dt.timedelta(seconds=-1, microseconds=5)),
    uuid.UUID(int=0), uuid.uuid4(), decimal.Decimal("1.10"), decimal.Decimal("-0E-30"),
    decimal.Decimal("sNaN123"), decimal.Decimal("-Infinity"), decimal.Decimal("9" * 500),
    pathlib.Path("/a/b c"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath(r"C:\x\y"),
    pathlib.Path("lone\udcff"), collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("abca"), collections.deque([1, [2]], 5), collections.deque(),
    collections.defaultdict(list, {"a": [1]}), collections.defaultdict(None, {1: 2}),
    Colour.RED, Colour.CRIMSON, Level.LOW, Word.YES, Rights.READ, Rights.READ | Rights.WRITE, Rights(0),
    {Colour.GREEN: Level.LOW}, Pair(1), Pair(left=[Pair(2)], right={"x": (Pair(3),)}),
    Frozen(1), Frozen(Frozen((1,)), {1}), {Frozen(1): 2}, Outer.Inner(5), [Plain("a", [Plain("b")])],
    Model(name="a"), Model(name="a", child=Model(name="b"), when=dt.datetime(2026, 1, 1)),
    Open(n=1, more=[1, (2,)]), Numbers([1, 2]), [Open(), Model(name="x"), Open()],
]  # fmt: skip


@pytest.mark.parametrize("value", KINDS, ids=lambda value: type(value).__name__)
def test_every_kind_comes_back_as_it_was(value: object) -> None:
    assert same(there_and_back(value), value)


ARRAYS = [
    np.arange(6, dtype="<i4").reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.zeros((0, 3)), np.array(5), np.array([True, False]), np.array(["a", "bcd"]), np.array([b"x"]),
    np.array(["2026-01-01"], dtype="M8[ns]"), np.array([1], dtype=">u2"), np.arange(9)[::2],
    np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]), np.array([1 + 2j], dtype="c8"),
    np.array([np.nan, np.inf], dtype="f2"),
]  # fmt: skip
SCALARS = [
    np.int8(-3), np.uint64(2**64 - 1), np.float32(1.5), np.float64(-0.0), np.bool_(True),
    np.complex128(1j), np.str_(""), np.str_("aé"), np.bytes_(b"a\0"), np.datetime64("2026-01-01", "D"),
    np.timedelta64(5, "s"), np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")])[0],
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_an_array_keeps_dtype_shape_and_layout(array: np.ndarray) -> None:
    back = there_and_back([array])[0]
    assert same(back, array)
    assert back.flags.writeable
    assert back.flags.f_contiguous or not array.flags.f_contiguous


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_a_numpy_scalar_keeps_its_type(scalar: np.generic) -> None:
    back = there_and_back(scalar)
    assert type(back) is type(scalar) and back.dtype == scalar.dtype and back == scalar


@pytest.mark.parametrize("view", [memoryview(b"abc"), memoryview(b"abcdefgh").cast("i")])
def test_a_memoryview_keeps_its_format(view: memoryview) -> None:
    back = there_and_back(view)
    assert type(back) is memoryview and back == view and back.format == view.format


def test_a_dataclass_is_rebuilt_from_its_state_and_not_by_its_constructor() -> None:
    value = Plain("a", [1])
    value.lock  # noqa: B018  a cached property, which cannot be written down, is left out
    back = there_and_back(value)
    assert type(back) is Plain and back == value
    assert (back.made, back.beyond) == (1, "set by __post_init__")
    assert "lock" not in vars(back)


def test_a_field_without_a_value_stays_without_one() -> None:
    back = there_and_back(Unset(1))
    assert back.x == 1 and not hasattr(back, "y")


def test_a_frozen_dataclass_stays_frozen_and_hashable() -> None:
    back = there_and_back(Frozen(1))
    assert hash(back) == hash(Frozen(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        back.x = 2


def test_a_model_keeps_fields_set_private_and_extra_and_runs_no_validator() -> None:
    value = Model(name="a")
    value._cache["k"] = (1,)
    back = there_and_back(value)
    assert back.name == "a!" and back._cache == {"k": (1,)}
    assert back.model_fields_set == {"name"}
    more = there_and_back(Open(n=1, more=2))
    assert more.model_extra == {"more": 2} and more.model_fields_set == {"n", "more"}


def test_a_decoded_enum_member_is_the_member() -> None:
    assert there_and_back(Colour.CRIMSON) is Colour.RED


def test_small_values_take_few_bytes() -> None:
    assert len(_encode(7)) == HEADER + 1
    one, two = (len(_encode([Frozen(1)] * n)) for n in (1, 2))
    assert two - one < 10, "a class is named once"


atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
    | st.complex_numbers() | st.decimals() | st.uuids() | st.dates() | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.timezones()) | st.times()
    | st.sampled_from([*Colour, *Level, *Word])
    | st.integers(-(2**200), 2**200)
)  # fmt: skip
keys = st.integers() | st.text() | st.binary() | st.uuids() | st.sampled_from(Colour) | st.dates()
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.sets(keys, max_size=4)
        | st.lists(inner, max_size=4).map(collections.deque)
        | st.builds(Frozen, inner, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(Plain, st.text(), st.lists(inner, max_size=2))
    ),
    max_leaves=20,
)


# Hypothesis keeps its table of characters in a folder that a fresh clone does not have yet.
Path(".hypothesis/unicode_data/" + unicodedata.unidata_version).mkdir(parents=True, exist_ok=True)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_nested_values_come_back_as_they_were(value: object) -> None:
    assert same(there_and_back(value), value)


def local_class() -> object:
    @dataclasses.dataclass
    class Local:
        x: int

    return Local(1)


class Holder:
    pass


class Weird(tuple):
    pass


class FixedOffset(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)


CONN = sqlite3.connect(":memory:")
REFUSED: list[tuple[object, str, str]] = [
    (CONN, "", "sqlite3.Connection"),
    ({"user": Plain("a", [0, CONN])}, '["user"].items[1]', "sqlite3.Connection"),
    ({"user": Frozen(CONN)}, '["user"].x', "sqlite3.Connection"),
    ([(1, {2: Pair(CONN)})], "[0][1][2].left", "sqlite3.Connection"),
    ({(1, 2): CONN}, "[<tuple>]", "sqlite3.Connection"),
    ({Frozen(len): 1}, f".keys()[<{__name__}.Frozen>].x", "builtin_function_or_method"),
    (Model.model_construct(name=CONN), ".name", "sqlite3.Connection"),
    (Open(n=1, conn=CONN), ".conn", "sqlite3.Connection"),
    (Name("x"), "", "str(value)"), ([Weird((1,))], "[0]", "tuple(value)"),
    (Holder, "", "type"), (lambda: 1, "", "function"), ((n for n in ()), "", "generator"),
    (Ellipsis, "", "ellipsis"), (local_class(), "", "top of a module"), (ErrorData("x"), "", "ErrorData"),
    (dt.datetime(2026, 1, 1, tzinfo=FixedOffset()), ".tzinfo", "FixedOffset"),
    (collections.defaultdict(lambda: 1), "", "factory"), (np.array([object()]), "", "tolist"),
    ({"a": np.ma.array([1])}, '["a"]', "MaskedArray"), (memoryview(np.zeros((2, 2))), "", "numpy"),
    (pydantic.SecretStr("s"), "", "SecretStr"), ([threading.Lock()], "[0]", "lock"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "path", "hint"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_has_no_lasting_form_is_refused_with_its_path(value: object, path: str, hint: str) -> None:
    code, where, message, help = refused(value)
    assert (code, where) == ("payload.unsupported", path)
    assert hint in message + help and help
    assert message.startswith(f"`value{path}` ")


def test_a_class_that_was_replaced_is_refused_at_the_producer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = Frozen(1)
    monkeypatch.setattr(sys.modules[__name__], "Frozen", dataclasses.make_dataclass("Frozen", ["x"]))
    code, _, message, _ = refused([old])
    assert code == "payload.unsupported" and "another class" in message


def test_what_python_code_raises_while_it_is_read_is_the_cause() -> None:
    bad = collections.OrderedDict(a=1)
    bad.items = lambda: 1 / 0  # type: ignore[method-assign,assignment]
    with pytest.raises(ValueError) as caught:
        _encode([bad])
    assert caught.value.args[:2] == ("payload.unsupported", "[0]")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_too_large_names_size_bound_and_the_biggest_part() -> None:
    code, path, message, help = refused({"small": 1, "big": list(range(10_000))}, max_bytes=5_000)
    assert (code, path) == ("payload.too_large", '["big"]')
    assert "5000" in message and "payload_max" in help
    assert refused({"a": b"x" * 9_000}, max_bytes=5_000)[1] == '["a"]'
    assert refused([1] * 9_000, max_bytes=5_000)[1] == ""
    assert refused(np.zeros(10**6), max_bytes=5_000)[0] == "payload.too_large"
    assert refused(2**100_000, max_bytes=5_000)[0] == "payload.too_large"
    assert len(_encode(b"x" * 4_980, max_bytes=4_996)) == 4_996
    assert refused(b"x" * 4_981, max_bytes=4_996)[0] == "payload.too_large"


def test_shared_parts_cannot_blow_up() -> None:
    value: list = [1]
    for _ in range(100):
        value = [value, value]
    assert refused(value, max_bytes=100_000)[0] == "payload.too_large"


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded_on_both_sides() -> None:
    assert there_and_back(nested(200)) == nested(200)
    for depth in (201, 100_000):
        code, path, _, _ = refused(nested(depth))
        assert code == "payload.too_deep" and path.startswith("[0]") and len(path) < 60
    value: object = None
    for _ in range(200):
        value = Frozen(value)
    assert same(there_and_back(value), value)
    for unit in (b"\x91", b"\x81\x01", b"\x92\xd4\x01\x01"):
        assert broken(sealed(unit * 100_000 + b"\xc0")) in {"payload.too_deep", "payload.damaged"}
    assert broken(sealed(b"\x91" * 100_000 + b"\xc0")) == "payload.too_deep"


def test_depth_needs_little_stack() -> None:
    before = threading.stack_size(1 << 20)
    try:
        done: list[object] = []
        value: object = None
        for _ in range(66):
            value = Frozen([{"k": value}])
        thread = threading.Thread(target=lambda: done.append(there_and_back(value)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert same(done[0], value)


def test_a_value_that_holds_itself_is_refused_where_it_closes() -> None:
    loop: dict = {"name": "a", "children": [{}]}
    loop["children"][0]["parent"] = loop
    code, path, message, _ = refused({"top": loop})
    assert (code, path) == ("payload.too_deep", '["top"]["children"][0]["parent"]')
    assert 'back to ["top"]' in message
    own: list = []
    own.append(own)
    assert "the value itself" in refused(own)[2]


SAMPLES = [7, "text", {"a": [1, 2.5]}, (1, Frozen({1}), Colour.RED), np.arange(4), uuid.UUID(int=5)]


@pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)
def test_every_changed_byte_is_seen(value: object) -> None:
    good = _encode(value)
    for at in range(len(good)):
        for byte in range(256):
            if byte != good[at]:
                bad = good[:at] + bytes([byte]) + good[at + 1 :]
                assert broken(bad) == "payload.damaged"
        assert broken(good[:at]) == "payload.damaged"
    assert broken(good + b"\0") == "payload.damaged"


def test_what_a_later_goclaw_wrote_is_told_from_damage() -> None:
    assert _decode(sealed(b"\x07")) == 7
    for later in (sealed(b"\x07", version=2), sealed(b"\x07", codec=9), sealed(b"\x07", flags=128)):
        assert broken(later) == "payload.too_new"


BODIES = [_encode(value)[HEADER:] for value in KINDS + ARRAYS + SCALARS if len(_encode(value)) < 400]


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x95\xd4\x01" + tail))
def test_hostile_bytes_are_refused_or_decoded(body: bytes) -> None:
    try:
        _decode(sealed(body))
    except ValueError as error:
        assert str(error.args[0]).startswith("payload.")


@pytest.mark.parametrize("body", BODIES)
def test_hostile_changes_of_real_bodies_are_refused_or_decoded(body: bytes) -> None:
    rng = random.Random(repr(body))
    for _ in range(150):
        bad = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] = rng.choice([rng.randrange(256), 0xFF, 0, 0xD4, 0xDD, 0x9F])
        try:
            _decode(sealed(bytes(bad)))
        except ValueError as error:
            assert str(error.args[0]).startswith("payload.")


def test_a_lie_about_a_length_allocates_nothing() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = b"\xff\xff\xff\xff"
    for lie in (b"\xdd", b"\xdf", b"\xdb", b"\xc6"):
        assert broken(sealed(lie + many + b"\xc0" * 50)) == "payload.damaged"
        assert broken(sealed((lie + many) * 150)) == "payload.damaged"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_only_classes_of_the_known_kinds_are_made() -> None:
    holder = f"{__name__}:Holder".encode()
    for name in (b"os:system", b"builtins:dict", holder, b"subprocess:Popen", b"os"):
        for tag in (25, 26, 27, 28, 29):
            klass = b"\x91" + bytes([0xA0 + len(name)]) + name
            body = b"\x93\xd4\x01" + bytes([tag]) + klass + b"\xa1x"
            assert broken(sealed(body)) == "payload.unknown_type"


def moved(value: object, monkeypatch: pytest.MonkeyPatch, name: str, now: object) -> object:
    """What `value` decodes to after its class became `now`."""
    envelope = _encode(value)
    if now is None:
        monkeypatch.delattr(sys.modules[__name__], name)
    else:
        monkeypatch.setattr(sys.modules[__name__], name, now)
    return _decode(envelope)


def test_a_class_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError) as caught:
        moved([Frozen(1)], monkeypatch, "Frozen", None)
    assert caught.value.args[0] == "payload.unknown_type"
    assert f"{__name__}:Frozen" in caught.value.args[2]


def test_a_class_may_gain_defaults_and_lose_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Now:
        y: object
        z: list = dataclasses.field(default_factory=list)

    assert moved(Frozen(1, 2), monkeypatch, "Frozen", Now) == Now(2, [])

    Pair2 = collections.namedtuple("Pair2", ["right", "more"], defaults=[5])
    assert moved(Pair(1, 2), monkeypatch, "Pair", Pair2) == Pair2(2, 5)

    class Later(pydantic.BaseModel):
        n: int
        tags: list = pydantic.Field(default_factory=list)

    assert moved(Open(n=3), monkeypatch, "Open", Later) == Later(n=3, tags=[])


def test_a_class_that_gained_a_field_without_a_default_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for value, name, now in [
        (Frozen(1), "Frozen", dataclasses.make_dataclass("Frozen", ["x", "new"])),
        (Pair(1), "Pair", collections.namedtuple("Pair", ["left", "new"])),
        (Open(), "Open", pydantic.create_model("Open", n=int, new=int)),
        (Colour.GREEN, "Colour", enum.Enum("Colour", ["RED"])),
        (Frozen(1), "Frozen", Colour),
    ]:
        with monkeypatch.context() as patch, pytest.raises(ValueError) as caught:
            moved(value, patch, name, now)
        assert caught.value.args[0] == "payload.shape_changed"


def test_a_class_of_main_is_found_in_main(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataclasses.make_dataclass("Cell", ["x"])
    made.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "Cell", made, raising=False)
    assert type(there_and_back(made(1))) is made


def test_a_module_is_imported_when_it_is_needed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_shapes.py").write_text("import enum\nclass Late(enum.Enum):\n    A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import late_shapes  # type: ignore[import-not-found]

    envelope = _encode(late_shapes.Late.A)
    monkeypatch.delitem(sys.modules, "late_shapes")
    assert _decode(envelope).name == "A"
    assert isinstance(sys.modules["late_shapes"], types.ModuleType)


def test_pickle_is_opt_in_on_both_sides() -> None:
    value = {"plain": (1,), "odd": Weird((1, 2)), "in": [Frozen(Name("x")), Frozen(Frozen(1))]}
    assert refused(value)[0] == "payload.unsupported"
    envelope = _encode(value, allow_pickle=True)
    assert broken(envelope) == "payload.pickle_refused"
    assert same(_decode(envelope, allow_pickle=True), value)
    assert refused([CONN], allow_pickle=True)[:2] == ("payload.unsupported", "[0]")
    # The flag in the header cannot be taken off to get past the refusal.
    assert broken(sealed(envelope[HEADER:])) == "payload.pickle_refused"


def test_a_dict_that_changes_while_it_is_written_is_refused() -> None:
    target: dict = {}

    bad = collections.OrderedDict()
    bad.items = lambda: target.update(new=1) or []  # type: ignore[assignment,func-returns-value]
    target["a"] = bad
    target["b"] = 1
    assert refused(target)[0] == "payload.unsupported"
    row: list = [bad]
    bad.items = lambda: row.clear() or []  # type: ignore[assignment,func-returns-value]
    row.append(2)
    assert refused(row)[0] == "payload.unsupported"
