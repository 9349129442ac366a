/*
 * resized: resizes frames in memory that is shared with a daemon, without copying them.
 *
 *     resized_connect(NULL, &client);
 *     resized_stream_spec_init(&spec, sizeof spec, RESIZED_FORMAT_RGB24, 1920, 1080, 640, 360);
 *     resized_stream_open(client, &spec, &stream);
 *
 *     resized_stream_loan(stream, -1, &slot);
 *     resized_slot_plane(slot, 0, &plane);     // write plane.rows rows of plane.row_bytes bytes there
 *     resized_slot_submit(slot);               // several slots may be in flight
 *     resized_slot_wait(slot, -1);
 *     resized_slot_view(slot, 0, &view);       // the resized frame, where it lies
 *     resized_slot_release(slot);
 *
 *     resized_stream_close(stream);
 *     resized_disconnect(client);
 *
 * Errors: every function that can fail gives a resized_status; resized_last_error() has the words.
 * Whatever a function was given is checked before it does anything. A handle that was released, or
 * never given out, is refused, and nothing is read or written at NULL. What no library can check
 * is the caller's to see to: that other pointers point to what their types say, buffers to as many
 * bytes as the length beside them says, and that nobody else writes there during the call.
 *
 * Threads: every function may be called in any thread, at the same time, with the same handles. A
 * slot is one thread's at a time: where another is submitting it or waiting for it, calls with it
 * end as RESIZED_STATUS_STATE. No function may be called in a signal's handler, nor in a child of
 * fork with handles of its parent's, and no thread be cancelled (pthread_cancel) in one. The
 * library starts a thread for each connection to a bridge, and one to look for a daemon that went
 * away while all who wait have time-outs; so it stays loaded after dlclose. It sets no signal's
 * handler.
 *
 * Time: only the functions that say so take a time-out. Any may wait for a daemon that is busy or
 * has gone away, for as long as resized_connect_with said. There is no descriptor to poll: who
 * runs an event loop asks with a time-out of 0, or waits in a thread.
 *
 * Growth: constants and functions may come, and members at the end of structs that begin with
 * their size. Initialise those with the function that is there for it.
 *
 * Made by cbindgen of bindings/c/src: change it there.
 */


#ifndef RESIZED_H
#define RESIZED_H

#include <stddef.h>
#include <stdint.h>

// How a call ended. New ones may come: take what you do not know for an error.
typedef enum {
  // As asked for.
  RESIZED_STATUS_OK = 0,
  // Nothing went wrong, but the time is over. Ask again, or release.
  RESIZED_STATUS_TIMEOUT = 1,
  // An argument is NULL, not aligned, or no value that it may have.
  RESIZED_STATUS_ARGUMENT = 2,
  // No such handle: NULL, released before, or never given out.
  RESIZED_STATUS_HANDLE = 3,
  // Not what may be done with a slot now: it is not loaned, not submitted or not resized, or
  // another thread is in a call with it.
  RESIZED_STATUS_STATE = 4,
  // A buffer is too short, or not of the length that it must have.
  RESIZED_STATUS_LENGTH = 5,
  // No endpoint: the text is none, or no daemon answers in the usual places.
  RESIZED_STATUS_ENDPOINT = 6,
  // Nobody answers at the endpoint, or nobody whom the client understands, trusts or may reach.
  RESIZED_STATUS_CONNECT = 7,
  // The daemon does not grant it: a limit, a frame of no pixels, a crop that is not within its
  // frame. Nothing else is affected.
  RESIZED_STATUS_REFUSED = 8,
  // All devices that can do it failed at this frame, or the only one twice. The next may be
  // resized, unless the memory of the stream's ring is gone: then all its frames fail, so open
  // another; the next resized_resize does that by itself.
  RESIZED_STATUS_FAILED = 9,
  // The frame waited longer than its stream's deadline, and was dropped.
  RESIZED_STATUS_LATE = 10,
  // The frame is no JPEG of the stream's extent.
  RESIZED_STATUS_UNREADABLE = 11,
  // The stream's shared memory can't be mapped.
  RESIZED_STATUS_MEMORY = 12,
  // The daemon is gone, and was not found again in time: everything on this connection fails
  // from here on.
  RESIZED_STATUS_LOST = 13,
  // The daemon said something that it may not say: everything on this connection fails from here
  // on.
  RESIZED_STATUS_PROTOCOL = 14,
  // A bug in this library.
  RESIZED_STATUS_INTERNAL = 15,
} resized_status;

// Where a picture lies along the side that is padded.
typedef enum {
  // At the left or upper end.
  RESIZED_ALIGN_START = 0,
  // In the middle.
  RESIZED_ALIGN_CENTRE = 1,
  // At the right or lower end.
  RESIZED_ALIGN_END = 2,
} resized_align;

// What opacity means to the colours of a source that has it.
typedef enum {
  // Nothing: it is resized like a colour. Faster.
  RESIZED_ALPHA_APART = 0,
  // Colours count by it, so that what is transparent does not bleed into what is not.
  RESIZED_ALPHA_WEIGHS = 1,
} resized_alpha;

// Where a tensor's channels lie.
typedef enum {
  // Channel, row, column (CHW): three planes.
  RESIZED_ARRANGEMENT_PLANAR = 0,
  // Row, column, channel (HWC): one plane.
  RESIZED_ARRANGEMENT_INTERLEAVED = 1,
} resized_arrangement;

// Which of a tensor's channels comes first.
typedef enum {
  // Red, green, blue.
  RESIZED_CHANNEL_ORDER_RGB = 0,
  // Blue, green, red.
  RESIZED_CHANNEL_ORDER_BGR = 1,
} resized_channel_order;

// A tensor's type of number; little-endian.
typedef enum {
  // IEEE 754 binary32.
  RESIZED_ELEMENT_F32 = 0,
  // IEEE 754 binary16.
  RESIZED_ELEMENT_F16 = 1,
  // Two's complement, saturated.
  RESIZED_ELEMENT_I8 = 2,
} resized_element;

// Reconstruction filter. All but NEAREST widen with the ratio when shrinking, so that nothing
// aliases.
typedef enum {
  // The source sample whose centre is nearest; never antialiased.
  RESIZED_FILTER_NEAREST = 0,
  // Triangle.
  RESIZED_FILTER_BILINEAR = 1,
  // Catmull-Rom.
  RESIZED_FILTER_BICUBIC = 2,
  // Sinc windowed by a sinc, three lobes.
  RESIZED_FILTER_LANCZOS3 = 3,
  // Mean over the exact area that a destination pixel covers.
  RESIZED_FILTER_AREA = 4,
  // Mitchell and Netravali's cubic: softer than Catmull-Rom, rings less.
  RESIZED_FILTER_MITCHELL = 5,
} resized_filter;

// How the samples of a frame are arranged. Eight bits a sample unless it says otherwise.
typedef enum {
  // One plane of luma.
  RESIZED_FORMAT_GRAY8 = 0,
  // Planes Y, Cb, Cr; the chroma planes halved in both directions, sides rounded up.
  RESIZED_FORMAT_I420 = 1,
  // Planes Y and interleaved CbCr; the chroma plane halved in both directions.
  RESIZED_FORMAT_NV12 = 2,
  // One plane, R G B.
  RESIZED_FORMAT_RGB24 = 3,
  // One plane, B G R.
  RESIZED_FORMAT_BGR24 = 4,
  // One plane, R G B A; alpha is straight, not premultiplied.
  RESIZED_FORMAT_RGBA = 5,
  // One plane, B G R A; alpha is straight, not premultiplied.
  RESIZED_FORMAT_BGRA = 6,
  // As I420; ten bits a sample, in the lower bits of 16, little-endian.
  RESIZED_FORMAT_I420P10 = 7,
  // As NV12; ten bits a sample, in the upper bits of 16, little-endian.
  RESIZED_FORMAT_P010 = 8,
  // Numbers for a neural network, without padding; as a destination only. The stream's
  // tensor_element, tensor_arrangement and tensor_order say which.
  RESIZED_FORMAT_TENSOR = 9,
} resized_format;

// How a picture of one shape becomes a frame of another.
typedef enum {
  // Fills the destination, each direction by its own ratio.
  RESIZED_FRAMING_STRETCH = 0,
  // As large as it can be at its own shape; the rest of the destination is padded (letterbox).
  RESIZED_FRAMING_FIT = 1,
  // Fills the destination at its own shape; what is too much is cut off evenly at both ends.
  RESIZED_FRAMING_FILL = 2,
} resized_framing;

// How luma and chroma are made of red, green and blue (ITU-T H.273, MatrixCoefficients).
typedef enum {
  // JPEG, and video of standard definition (types 5 and 6).
  RESIZED_MATRIX_BT601 = 0,
  // Video of high definition (type 1).
  RESIZED_MATRIX_BT709 = 1,
  // Video of ultra-high definition, non-constant luminance (type 9).
  RESIZED_MATRIX_BT2020 = 2,
} resized_matrix;

// Nominal range of samples (ITU-T H.273, VideoFullRangeFlag).
typedef enum {
  // Luma 16 to 235, chroma 16 to 240: nearly all video.
  RESIZED_RANGE_LIMITED = 0,
  // 0 to 255: JPEG, and pictures from a computer.
  RESIZED_RANGE_FULL = 1,
} resized_range;

// Where chroma samples lie horizontally where they are halved (ITU-T H.273, ChromaLocType).
typedef enum {
  // On the left one of two luma samples: MPEG-2, H.264, HEVC (type 0).
  RESIZED_SITING_LEFT = 0,
  // Midway between two luma samples: JPEG, MPEG-1 (type 1).
  RESIZED_SITING_CENTRE = 1,
} resized_siting;

// In which directions a JPEG's chroma is halved.
typedef enum {
  // In none: 4:4:4.
  RESIZED_SUBSAMPLING_NEITHER = 0,
  // In rows: 4:2:2.
  RESIZED_SUBSAMPLING_HORIZONTAL = 1,
  // In both: 4:2:0.
  RESIZED_SUBSAMPLING_BOTH = 2,
} resized_subsampling;

// A connection to a daemon.
typedef struct resized_client resized_client;

// A slot of a stream: a source frame, and what becomes of it.
typedef struct resized_slot resized_slot;

// A stream of frames that are all resized alike.
typedef struct resized_stream resized_stream;

// Everything about a frame but its pixels.
typedef struct {
  // A resized_format.
  uint32_t format;
  // Pixels in a row, 1 to 16384.
  uint32_t width;
  // Rows, 1 to 16384.
  uint32_t height;
  // A resized_range.
  uint32_t range;
  // A resized_siting; without meaning where chroma is not halved.
  uint32_t siting;
  // A resized_matrix; without meaning where there are only colours.
  uint32_t matrix;
} resized_frame_spec;

// A part of the source frame, in its pixels from the upper left corner; fractions are allowed. No
// sample beyond the pixels that it touches is used.
typedef struct {
  // From the left edge of the frame to that of the crop.
  double left;
  // From the upper edge of the frame to that of the crop.
  double top;
  // At least 1/256.
  double width;
  // At least 1/256.
  double height;
} resized_crop;

// What a stream resizes, fixed for its life. Have it filled by resized_stream_spec_init, then
// change what should be otherwise. Later versions may have more at its end.
typedef struct {
  // Bytes of this struct, as the program was compiled: resized_stream_spec_init sets it.
  size_t size;
  // Frames that the program writes.
  resized_frame_spec source;
  // Frames that it gets, in any format and colour: resized_stream_spec_with_format sets both.
  resized_frame_spec destination;
  // A resized_filter.
  uint32_t filter;
  // A resized_framing.
  uint32_t framing;
  // A resized_align; for RESIZED_FRAMING_FIT.
  uint32_t align;
  // A resized_alpha; without meaning for sources that have none.
  uint32_t alpha;
  // The part of the source that is resized; all of it if all four are zero.
  resized_crop crop;
  // Frames that may be in flight at once, 1 to 256. Each has memory of its own.
  uint32_t slots;
  // Its share of the daemon's time among its user's streams, while more waits than can be done:
  // 1, as is usual, to 100. One of weight 2 gets twice as much as one of weight 1.
  uint32_t weight;
  // Nanoseconds after its submission for which a frame is worth beginning; 0: for ever. One that
  // no device has taken by then ends as RESIZED_STATUS_LATE.
  uint64_t deadline_ns;
  // A resized_element, of RESIZED_FORMAT_TENSOR.
  uint32_t tensor_element;
  // A resized_arrangement.
  uint32_t tensor_arrangement;
  // A resized_channel_order.
  uint32_t tensor_order;
  // A tensor's numbers are (sample - mean) * scale, for samples of 0 to 255, in its order of
  // channels.
  float mean[3];
  // See there.
  float scale[3];
  // 1: source frames are JPEGs, of the source's extent; 0: planes of samples. Through a bridge
  // only. The format is then gray, I420, RGB24, BGR24, RGBA or BGRA, and of RESIZED_RANGE_FULL;
  // I420 also of RESIZED_SITING_CENTRE and RESIZED_MATRIX_BT601. resized_stream_spec_init sets
  // what videos have instead.
  uint32_t jpeg_in;
  // 1 to 100: results are JPEGs of that quality, as libjpeg counts it; 0: planes of samples.
  // Through a bridge only. For formats and colours as for jpeg_in.
  uint32_t jpeg_quality;
  // A resized_subsampling, of JPEGs that are results; for I420 RESIZED_SUBSAMPLING_BOTH.
  uint32_t jpeg_subsampling;
  // Red, green and blue of the padding, full range; for RESIZED_FRAMING_FIT.
  uint8_t pad[3];
  // Zeros.
  uint8_t unused[5];
} resized_stream_spec;

// A plane that is written: of a slot's source frame, or of a buffer for a result. Rows of
// row_bytes that begin stride bytes apart.
typedef struct {
  // The first byte of the first row.
  uint8_t *data;
  // Bytes from data to the end of the plane.
  size_t len;
  // Bytes from one row to the next.
  size_t stride;
  // Bytes of a row that carry pixels; what is behind them means nothing.
  size_t row_bytes;
  // Rows.
  size_t rows;
} resized_plane;

// A plane that is read.
typedef struct {
  // The first byte of the first row.
  const uint8_t *data;
  // Bytes from data to the end of the plane.
  size_t len;
  // Bytes from one row to the next.
  size_t stride;
  // Bytes of a row that carry pixels; what is behind them means nothing.
  size_t row_bytes;
  // Rows.
  size_t rows;
} resized_view;

// A part of the destination frame, in pixels.
typedef struct {
  // Columns before it.
  uint32_t left;
  // Rows above it.
  uint32_t top;
  // Columns of it.
  uint32_t width;
  // Rows of it.
  uint32_t height;
} resized_rectangle;

// Which part of the source became which part of the destination.
typedef struct {
  // What is seen of the source.
  resized_crop source;
  // Where it is seen in the destination; around it is padding.
  resized_rectangle destination;
} resized_placement;

// How a frame was resized.
typedef struct {
  // Nanoseconds from its submission until a device took it.
  uint64_t queued_ns;
  // Nanoseconds from then until it was done.
  uint64_t worked_ns;
  // Which device it was: see resized_device_name.
  uint32_t device;
  // Zero.
  uint32_t unused;
} resized_receipt;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Why the last call of this thread failed that did, in English, without a line's end. Never NULL;
// empty before the first. Valid until the next call of this thread that fails.
const char *resized_last_error(void);

// A few words for a status. Never NULL, valid for ever.
const char *resized_status_name(uint32_t status);

// This library's version, such as "0.1.0". Never NULL, valid for ever.
const char *resized_version(void);

// Connects to a daemon: at an endpoint, "unix:/path/to/socket", "tcp://host:port",
// "tls://host:port" or "nats://host:port/stream"; or, if endpoint is NULL, at $RESIZED_ENDPOINT,
// else at the socket of the user's own service or of the system's. A daemon that goes away later
// is looked for at the same place for half a minute; calls wait meanwhile, and no frame is lost,
// unless the next daemon speaks another version of the protocol.
//
// Credentials for a bridge come from $RESIZED_TOKEN_FILE, $RESIZED_CA, $RESIZED_CERTIFICATE and
// $RESIZED_KEY, and for a service of many of them from $RESIZED_NATS_CREDENTIALS, whose answers
// come to $RESIZED_NATS_INBOX, if that is set.
// *client is what resized_disconnect takes; NULL unless the status is RESIZED_STATUS_OK.
resized_status resized_connect(const char *endpoint, resized_client **client);

// As resized_connect. A daemon that goes away is looked for reconnect_ms milliseconds; 0: not at
// all; negative: the usual, half a minute.
resized_status resized_connect_with(const char *endpoint,
                                    int32_t reconnect_ms,
                                    resized_client **client);

// Ends a client's handle. Streams that are open, and their slots, stay as they are; the connection
// is closed with the last of them.
resized_status resized_disconnect(resized_client *client);

// Writes the name of one of the daemon's devices, such as a receipt speaks of, and a zero, into a
// buffer of so many bytes. Names are seldom longer than 100 bytes. They are those of the daemon
// that is there now: of a frame that an earlier one resized this may name another device.
// RESIZED_STATUS_ARGUMENT: there is no such device.
resized_status resized_device_name(resized_client *client,
                                   uint32_t device,
                                   char *buffer,
                                   size_t buffer_len);

// Fills a spec for frames of width x height pixels of a format (a resized_format) that become
// frames of to_width x to_height pixels of the same: bicubic, stretched, four slots, in the colour
// that is usual for the format: limited range and left-sited chroma where that is halved, full
// range elsewhere; BT.709 where the source has more than 576 rows, else BT.601. A tensor's numbers
// are float32 from 0 to 1, planar, red first.
//
// spec_size is sizeof(resized_stream_spec).
resized_status resized_stream_spec_init(resized_stream_spec *spec,
                                        size_t spec_size,
                                        uint32_t format,
                                        uint32_t width,
                                        uint32_t height,
                                        uint32_t to_width,
                                        uint32_t to_height);

// Has the stream's results be of another format (a resized_format). What both formats have of a
// colour stays the source's; the rest is what is usual for the new one: NV12 of limited range becomes
// RGB24 of full range. Setting destination.format alone leaves the source's range.
resized_status resized_stream_spec_with_format(resized_stream_spec *spec,
                                               uint32_t format);

// Bytes of a stream's frames without any padding: plane after plane, row after row. Of JPEGs, the
// most that one may have. Either pointer may be NULL.
resized_status resized_stream_spec_lengths(const resized_stream_spec *spec,
                                           size_t *source,
                                           size_t *destination);

// Opens a stream: the daemon makes memory for its slots, which is mapped into this process. The
// stream outlives the client's handle.
// *stream is what resized_stream_close takes; NULL unless the status is RESIZED_STATUS_OK.
resized_status resized_stream_open(resized_client *client,
                                   const resized_stream_spec *spec,
                                   resized_stream **stream);

// Ends a stream's handle. Its slots stay as they are; the stream is closed with the last of them.
resized_status resized_stream_close(resized_stream *stream);

// Loans a free slot, waiting for one timeout_ms milliseconds at the most; 0: not at all; negative:
// for ever. A stream has as many slots as its spec says, and a thread that holds all of them itself
// would wait in vain. RESIZED_STATUS_TIMEOUT: there is none.
// *slot is what resized_slot_release takes, once for each loan, whatever happens to the slot in
// between; NULL unless the status is RESIZED_STATUS_OK.
resized_status resized_stream_loan(resized_stream *stream, int32_t timeout_ms, resized_slot **slot);

// Where to write a plane of a loaned slot's source frame. Good until the slot is submitted or
// released. The bytes there are those of an earlier frame, or zero.
resized_status resized_slot_plane(resized_slot *slot, uint32_t index, resized_plane *out);

// Writes a loaned slot's source frame from bytes without any padding: plane after plane, row after
// row. There must be as many as the frame has: see resized_stream_spec_lengths.
resized_status resized_slot_write(resized_slot *slot, const uint8_t *bytes, size_t len);

// Writes a loaned slot's source frame where the stream takes JPEGs.
resized_status resized_slot_write_jpeg(resized_slot *slot, const uint8_t *jpeg, size_t len);

// Has a part of a loaned slot's frame resized in place of the stream's crop. Preparing another
// crop takes the daemon 0.2 to 0.8 ms at 1080p; frames in a row that have the same share it.
resized_status resized_slot_crop(resized_slot *slot, const resized_crop *crop);

// Gives a loaned slot to the daemon, which resizes the frame as soon as a device is free. Several
// slots may be submitted before the first is waited for. From here on until it is resized nobody
// may touch its memory. A daemon that went away is not waited for.
resized_status resized_slot_submit(resized_slot *slot);

// Waits until a submitted slot is resized, timeout_ms milliseconds at the most; 0: not at all;
// negative: for ever.
// RESIZED_STATUS_TIMEOUT: it is not, and may be waited for again, or released. Any other failure
// is the frame's, or the connection's: all that is left to do is to release it.
resized_status resized_slot_wait(resized_slot *slot, int32_t timeout_ms);

// Where a plane of a resized slot's result lies. Good until the slot is released.
resized_status resized_slot_view(resized_slot *slot, uint32_t index, resized_view *out);

// Copies a resized slot's result into a buffer, without any padding: plane after plane, row after
// row. It must be as long as the frame is: see resized_stream_spec_lengths.
resized_status resized_slot_read(resized_slot *slot, uint8_t *buffer, size_t len);

// Where a resized slot's result lies if the stream gives JPEGs: one of len bytes. Good until the
// slot is released. The other members of the view are zero.
resized_status resized_slot_jpeg(resized_slot *slot, resized_view *out);

// Which part of a resized slot's source became which part of its result: what a letterbox left of
// it.
resized_status resized_slot_placement(resized_slot *slot, resized_placement *out);

// Maps a point of a result back to the source, both in pixels from the upper left corner: where
// something that was found in the resized picture is in the picture. x and y are replaced.
resized_status resized_placement_to_source(const resized_placement *placement,
                                           double *x,
                                           double *y);

// How a resized slot was resized.
resized_status resized_slot_receipt(resized_slot *slot, resized_receipt *out);

// Ends a slot's handle, once for each loan and at any stage: one that was only loaned is free
// again, a result is given back, and one that was submitted is cancelled: it is not resized if the
// daemon hears of that before a device takes it. RESIZED_STATUS_HANDLE: it was released before.
// RESIZED_STATUS_STATE: another thread is submitting or waiting for it, and it is not released.
resized_status resized_slot_release(resized_slot *slot);

// Resizes one frame from and into planes of the caller's memory, in the order of the format's
// planes; of those, data, len and stride count. For a frame now and then, or where pixels have to
// lie in certain memory: both frames are copied, which a stream's slots are not. The last four
// streams are kept until resized_disconnect, or until another is not granted beside them, so
// frames that are resized alike open none. Source and destination may be the same memory: the one
// is read before the other is written. Waits as long as it takes.
resized_status resized_resize(resized_client *client,
                              const resized_stream_spec *spec,
                              const resized_view *source,
                              size_t source_planes,
                              const resized_plane *destination,
                              size_t destination_planes);

// As resized_resize, from and into bytes without any padding: plane after plane, row after row.
// There must be as many as resized_stream_spec_lengths says.
resized_status resized_resize_packed(resized_client *client,
                                     const resized_stream_spec *spec,
                                     const uint8_t *source,
                                     size_t source_len,
                                     uint8_t *destination,
                                     size_t destination_len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RESIZED_H */
