//! The written form: plain MessagePack, plus one way to say what MessagePack has no word for.
//!
//! `None`, `bool`, `int` of 64 bits, `float`, `str`, `bytes`, `list` and `dict` are themselves. Every
//! other kind is an array whose first item is the extension `TAG_EXT` holding one [`Tag`]:
//! `(1, 2)` is `[Tuple, 1, 2]`. A list never begins so, because a bare extension is no value.
//! Tags are only ever added: files of users hold them.

/// MessagePack extension type that marks the first item of a tagged array.
pub(super) const TAG_EXT: u8 = 1;
/// Levels of nesting that are encoded and decoded; beyond it, `payload.too_deep`.
pub(super) const DEPTH_MAX: usize = 200;

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $byte:literal),* $(,)?) => {
        /// What a tagged array is; behind each, its items.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Tag { $($(#[$doc])* $name = $byte),* }

        impl Tag {
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$name),)* _ => None }
            }
        }
    };
}

tags! {
    /// The items.
    Tuple = 1,
    /// The items.
    Set = 2,
    /// The items.
    FrozenSet = 3,
    /// Two's complement, little endian.
    BigInt = 4,
    /// UTF-8 with lone surrogates (`surrogatepass`).
    Surrogates = 5,
    ByteArray = 6,
    /// Bytes, format.
    MemoryView = 7,
    /// Real, imaginary.
    Complex = 8,
    /// Start, stop, step.
    Range = 9,
    /// Year, month, day, hour, minute, second, microsecond, fold, zone.
    DateTime = 10,
    /// Year, month, day.
    Date = 11,
    /// Hour, minute, second, microsecond, fold, zone.
    Time = 12,
    /// Days, seconds, microseconds.
    TimeDelta = 13,
    /// Offset (a time delta), name or nil.
    FixedZone = 14,
    /// Key.
    NamedZone = 15,
    /// Sixteen bytes.
    Uuid = 16,
    /// Text.
    Decimal = 17,
    /// Path of the system at hand, as text.
    Path = 18,
    PurePosixPath = 19,
    PureWindowsPath = 20,
    /// Pairs: key, value, key, value, …
    OrderedDict = 21,
    /// Pairs.
    Counter = 22,
    /// Name of the built-in factory or nil, then pairs.
    DefaultDict = 23,
    /// Bound or nil, then items.
    Deque = 24,
    /// Class, name of the member.
    Enum = 25,
    /// Class, value: a combination of flags has no name.
    Flag = 26,
    /// Class, items.
    NamedTuple = 27,
    /// Class, attributes beyond the fields (map or nil), the fields' values.
    Dataclass = 28,
    /// Class, fields (map), fields set, extra, private.
    Model = 29,
    /// Dtype (text, or descr of a structured one), shape, Fortran order, bytes.
    Array = 30,
    /// Dtype, bytes.
    Scalar = 31,
    /// A field that has no value.
    Missing = 32,
    /// Pickled bytes; the envelope's `PICKLE` flag is up.
    Pickle = 33,
}
