"""Frames resized in memory shared with a daemon, as numpy arrays. The guide is docs/python.md.

Options, StreamOptions and what is named here for types alone, such as Format, is for type checkers: import it under
TYPE_CHECKING."""

from asyncio import Future
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Never, TypeAlias, TypedDict, final, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer, Self, Unpack

__version__: str

Format: TypeAlias = Literal["gray", "rgb", "bgr", "rgba", "bgra", "i420", "nv12", "i420p10", "p010"]
"""Arrays are (H, W) for gray; (H, W, 3); (H, W, 4); and (H * 3/2, W) for the others, luma above chroma, as OpenCV has
them. uint8, but uint16 for the last two: ten bits in the lower bits (i420p10) or the upper ones (p010)."""

Numbers: TypeAlias = Sequence[float] | NDArray[Any]
Size: TypeAlias = Sequence[int | None] | NDArray[Any]
"""Width and height. One may be None, and follows from the shape of what is resized: the nearest, and the nearest even one for
results whose chroma is halved."""

Range: TypeAlias = Literal["limited", "full"]
Matrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]
Siting: TypeAlias = Literal["left", "centre"]

class Options(TypedDict, total=False):
    """What a stream does. What is left out, or None, is as described."""

    to: Format | None
    """Format of the results, converted in the same pass. Default: that of the source."""
    dtype: Literal["uint8", "float32", "float16", "int8"] | DTypeLike | None
    """Results are tensors of such numbers; with uint8, pictures of a format that has these. Default: pictures."""
    layout: Literal["chw", "hwc"] | None
    """Of a tensor: "chw" is (3, H, W), "hwc" (H, W, 3). This and the next three are for tensors only. Default: "chw"."""
    order: Literal["rgb", "bgr"] | None
    """Of a tensor's channels. Default: "rgb"."""
    mean: Numbers | None
    """A tensor's numbers are (sample - mean) * scale, for each channel in its order, of samples of 0 to 255. Default:
    0."""
    scale: Numbers | None
    """See mean. Default: 1/255."""
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos3", "area", "mitchell"] | None
    """All but nearest are antialiased. Default: "bicubic" (Catmull-Rom)."""
    mode: Literal["stretch", "fit", "fill"] | None
    """How a picture becomes one of another shape. "stretch": each side by its own ratio; "fit": whole, with padding around
    it; "fill": cut off evenly at both ends. Default: "stretch"."""
    align: Literal["start", "centre", "end"] | None
    """Where a fitted picture lies. For mode="fit" only. Default: "centre"."""
    pad: Sequence[int] | NDArray[Any] | None
    """Red, green and blue around a fitted picture. For mode="fit" only. Default: black."""
    crop: Numbers | None
    """Left, top, width and height of the part of the source that is resized, in its pixels. Default: all of
    it."""
    alpha: Literal["apart", "weighs"] | None
    """Whether colours count by their opacity ("weighs") or not ("apart"). Default: "apart"."""
    range: Range | None
    """The source's. Default: limited for the planar formats, full for others."""
    matrix: Matrix | None
    """The source's. Default: BT.709 above 576 rows, else BT.601."""
    siting: Siting | None
    """Where the source's chroma lies. Default: "left"."""
    to_range: Range | None
    """The results'. Default: the source's if both are planar or of the same format, else what is usual for the format."""
    to_matrix: Matrix | None
    """See to_range."""
    to_siting: Siting | None
    """See to_range."""
    slots: int | None
    """Frames that may be in flight or held at once, up to 256. Default: 4."""
    weight: int | None
    """Share of the daemon's time among its user's streams while the daemon is busy, up to 100. Default: 1."""
    deadline: float | None
    """Seconds after which a frame that no device has taken is dropped, and raises Late. With 0 only frames that a device takes at
    once are resized. Default: None or math.inf, for never."""

class StreamOptions(Options, total=False):
    """What frames of a stream are where they are not arrays: through a bridge they may be JPEGs, of gray, rgb, bgr, rgba,
    bgra and i420. A daemon of this machine raises Refused."""

    jpeg_in: bool | None
    """Source frames are JPEGs of the source's size, which are made into the source's format; i420 costs the bridge least. Their
    colour is a JPEG's: full range, BT.601, siting "centre". Default: False, for arrays."""
    jpeg_out: bool | None
    """Results are JPEGs, and have a JPEG's colour. Default: False, for arrays."""
    quality: int | None
    """Of results that are JPEGs, 1 to 100, as libjpeg counts it. This and the next are for jpeg_out=True only. Default: 85."""
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] | None
    """Of the chroma of results that are JPEGs; those made of i420 are 4:2:0. Default: "4:2:0"."""

@final
class Client:
    """A connection to a daemon. Threads may share it. Not for a process forked later: make one there. Arrays of slots and
    frames are the parent's memory in such a process."""

    def __new__(cls, endpoint: str | None = None, *, reconnect: float = 30.0) -> Self:
        """Connects to `endpoint`: "unix:PATH", "tcp://HOST:PORT", "tls://HOST:PORT", "nats://HOST:PORT/stream", or "embedded"
        for a daemon in this process. Without one, to $RESIZED_ENDPOINT, the user's or the machine's daemon, else an embedded
        one, which uses the cores alone.

        A daemon that goes away is looked for as many seconds as `reconnect` says, for ever if that is infinite, and no
        frame is lost with it if the next one speaks the same version of the protocol. An embedded one does not go away.

        What a bridge wants to see, and whom to trust, is in files that the environment names: RESIZED_TOKEN_FILE, RESIZED_CA,
        RESIZED_CERTIFICATE with RESIZED_KEY, and RESIZED_NATS_CREDENTIALS for a NATS service, whose answers come to
        RESIZED_NATS_INBOX if that is set.
        """

    def resize(
        self,
        array: ArrayLike | Buffer,
        size: Size,
        format: Format | None = None,
        **options: Unpack[Options],
    ) -> NDArray[Any]:
        """Resizes one frame to `size`, width and height; (640, None) is as high as the frame's shape has it.

        `format` is the array's; without one it is gray, rgb or rgba by its shape. The array is copied into shared memory
        once, and another time first if its pixels do not lie in rows. The result is C-contiguous. It shares memory with the
        daemon if there is enough of it, and no gap between its rows there, else it is a copy; it is the caller's either
        way, and may be written. But not a forked child's, where it changes when the parent drops it: copy it before the
        fork. What is kept open for other kinds of frames is closed where there would be no room for this one.
        """

    def stream(
        self,
        source_format: Format,
        source_size: Sequence[int] | NDArray[Any],
        size: Size,
        **options: Unpack[StreamOptions],
    ) -> Stream:
        """Opens a stream: frames of one format and size (width, height) that become frames of another."""

    def stats(self) -> dict[str, Any]:
        """What the daemon has done since it started: its `sessions` and `streams`, `ring_bytes` of rings, frames `queued`
        now, what was `refused`, `copied_bytes` of pixels for devices that do not work where these lie, and `devices`, each
        with `name`, `frames`, `failed`, `pixels`, `busy` seconds of all its lanes, and `copied_bytes`."""

    def close(self) -> None:
        """Closes what resize keeps open, and the connection as soon as no streams, frames and arrays of it are left. All but
        close raises ValueError from then on. The end of a `with` does it, too."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    @property
    def endpoint(self) -> str | None:
        """Where the daemon is. None: in this process."""
    @property
    def devices(self) -> list[str]:
        """Names of the daemon's devices."""
    @property
    def copied_bytes(self) -> int:
        """Bytes of pixels, and of source frames that are JPEGs, that this client has copied in this process."""

@final
class Stream:
    """An open stream. Closed when it was closed or is gone, and its slots, pendings, frames and arrays are gone.

    With jpeg_in=True the bytes of a JPEG take an array's place: bytes, or what has some as a buffer of one dimension. TypeError
    for others, LengthError for a JPEG that is longer than a frame's samples and 4 KiB."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    def loan(self, timeout: float | None = None) -> Slot:
        """A free slot, waited for, as many seconds as `timeout` says: None or infinity are for ever. Slots become free as
        frames are released: who holds all of them waits for ever, or until TimeoutError."""
    def try_loan(self) -> Slot | None:
        """A free slot if there is one."""
    def submit(self, array: ArrayLike | Buffer, timeout: float | None = None) -> Pending:
        """Copies a frame into a free slot, waited for as in loan, and submits it."""
    def resize(self, array: ArrayLike | Buffer, timeout: float | None = None) -> Frame:
        """Copies a frame into a free slot, submits it and waits: in all as many seconds as `timeout` says, then TimeoutError
        gives the frame up."""
    def map(self, arrays: Iterable[ArrayLike | Buffer]) -> Iterator[Frame]:
        """Resizes one array after another, several at once: the next are copied and submitted while you are at a result.
        Results come in the order of their arrays, an error where its result would, and then no more. Each is a slot until it is
        released: keep fewer than stream.slots, or the next waits for ever. Before the first result as many arrays are taken
        as there are slots."""
    def resize_async(self, array: ArrayLike | Buffer, timeout: float | None = None) -> Future[Frame]:
        """As resize, for coroutines: copies and waits in another thread, which gives up if the coroutine is cancelled. The
        array is looked at there, perhaps only once a slot is free: leave it as it is until the frame is there."""
    def close(self) -> None:
        """Closes it as soon as no slots, pendings, frames and arrays of it are left. All but close raises ValueError from then
        on. The end of a `with` does it, too."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    @property
    def source_format(self) -> Format: ...
    @property
    def source_size(self) -> tuple[int, int]: ...
    @property
    def format(self) -> Format | Literal["tensor"]: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def jpeg_in(self) -> bool:
        """Whether it takes JPEGs."""
    @property
    def jpeg_out(self) -> bool:
        """Whether its results are JPEGs."""
    @property
    def slots(self) -> int: ...
    @property
    def placement(self) -> Placement:
        """Of frames that have no crop of their own."""

@final
class Slot:
    """A free slot of a stream. As a context manager it is released unless it was submitted."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    @property
    def array(self) -> NDArray[Any]:
        """The source frame, to be written: shares the slot's memory, where each row begins at a multiple of 64 bytes.
        ValueError once it was submitted or released, and for i420 whose width is no multiple of 128 (i420p10: 64) and
        planar frames of odd sides, which are no one array there: see planes. A slot of a stream that takes JPEGs has neither,
        ValueError: see write."""
    @property
    def planes(self) -> tuple[NDArray[Any], ...]:
        """An array for each plane, of any size: (H, W), or (H, W, channels) where samples are interleaved."""
    def write(self, array: ArrayLike | Buffer) -> None:
        """Copies a frame, or a JPEG, into the slot, which other threads can't use meanwhile: ValueError. BufferError as with
        submit."""
    def set_crop(self, left: float, top: float, width: float, height: float) -> None:
        """Has this part of the frame resized in place of the stream's crop. Refused if it is not within the frame."""
    def submit(self) -> Pending:
        """Gives the slot to the daemon. BufferError while arrays, or tensors made of them, share its memory."""
    def release(self) -> None:
        """Frees the slot. BufferError as with submit."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Pending:
    """A submitted frame. Cancelled when it is dropped. May be awaited, and is cancelled with the coroutine that does."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    def result(self, timeout: float | None = None) -> Frame:
        """Waits for the resized frame, or raises why there is none. It can be had once; after TimeoutError or
        KeyboardInterrupt it can be waited for again."""
    def done(self) -> bool:
        """Whether result would return or raise at once. False while a thread or coroutine waits for it: result raises
        ValueError for another."""
    def cancel(self) -> bool:
        """Gives the frame up: it is not resized if the daemon hears of that before a device takes it, and result raises
        ValueError. False, and nothing is changed, while a thread or coroutine waits for it, and once its frame was had or
        it was cancelled."""
    def __await__(self) -> Generator[Any, None, Frame]: ...

@final
class Frame:
    """A resized frame. Its slot is free when it and all arrays of it are gone, or at once by release."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    @property
    def array(self) -> NDArray[Any]:
        """The frame as one array. Rows, and ValueError, as with Slot.array; tensors have no gaps. A frame that is a JPEG has
        neither this nor planes, ValueError: see jpeg."""
    @property
    def planes(self) -> tuple[NDArray[Any], ...]:
        """An array for each plane, of any size."""
    @property
    def jpeg(self) -> bytes:
        """The frame as a JPEG, a copy that stays when it is released. ValueError if the stream was not opened with
        jpeg_out=True, and once the frame was released."""
    @property
    def placement(self) -> Placement: ...
    @property
    def receipt(self) -> Receipt: ...
    def release(self) -> None:
        """Frees the slot. BufferError while arrays, or tensors made of them, share its memory."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Placement:
    """Which part of the source became which part of the resized frame."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    @property
    def source(self) -> tuple[float, float, float, float]:
        """Left, top, width, height, in the source's pixels."""
    @property
    def destination(self) -> tuple[int, int, int, int]:
        """Left, top, width, height, in the resized frame's pixels. Around it is padding."""
    @overload
    def to_source(self, x: float, y: float) -> tuple[float, float]: ...
    @overload
    def to_source(
        self, x: NDArray[Any] | Sequence[float], y: NDArray[Any] | Sequence[float]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Where points of the resized frame lie in the source, in pixels from the upper left corner."""

@final
class Receipt:
    """How a frame was resized."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    @property
    def device(self) -> str | None:
        """Its name; None where the daemon that has it was gone when the frame was had."""
    @property
    def queued(self) -> float:
        """Seconds from submission until a device took the frame."""
    @property
    def worked(self) -> float:
        """Seconds from then until it was done."""
    @property
    def copied_bytes(self) -> int:
        """Bytes of pixels, or of a JPEG, that were copied in this process to have the frame resized: none if it was written into
        its slot's arrays. What the daemon copies is in Client.stats."""

@final
class View:
    """A part of a slot as a buffer: what arrays are made of. Counted, see docs/python.md."""

    def __new__(cls, made_elsewhere: Never, /) -> Self: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Error(Exception):
    """Why a call failed; base of all below."""

class EndpointError(Error):
    """What was given, or $RESIZED_ENDPOINT, is no endpoint."""

class EmbeddedError(Error):
    """No daemon can be started in this process; the text says why."""

class ConnectError(Error):
    """Nobody answers at the endpoint, or says welcome, or nobody whom the client understands and trusts: `resizectl doctor` says
    why."""

class Silent(Error):
    """Who is at the other end does not say the rest of a message. Connect anew, later."""

class Refused(Error):
    """The daemon did not grant the request, and says why; the client works on. If it is a quota: fewer streams or slots, or
    smaller frames."""

class LengthError(Error):
    """A frame is not as long as the stream's source frames, or a JPEG is longer than these may be."""

class Unreadable(Error):
    """The frame was no JPEG of the stream's source size, or of a kind that is not read; the stream goes on."""

class Failed(Error):
    """All devices that can do it failed at this frame, or the only one twice; or the memory of the stream's ring is gone, and then
    all its frames fail: open another. The next call of `Client.resize` does so by itself."""

class Late(Error):
    """No device began this frame before the stream's deadline."""

class Goodbye(Error):
    """The daemon ended the connection and said why. Connect anew, later."""

class Disconnected(Error):
    """The daemon went away without a word. Connect anew, later: what was in flight is lost."""

class GivenUp(Error):
    """The daemon went away, and none was found in its place in time. Connect anew, later: what was in flight is lost."""

class SocketError(Error):
    """The socket to the daemon failed. Connect anew, later."""

class RegionError(Error):
    """The stream's shared memory can't be mapped: close other streams, or raise RLIMIT_AS."""

class CodecError(Error):
    """The daemon's bytes are no message: a bug, please report it."""

class Unexpected(Error):
    """The daemon said something that it may not say here: a bug, please report it."""
