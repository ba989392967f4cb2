// SPDX-License-Identifier: GPL-2.0-or-later
//! Every bound of the analysis, with the reason for it.
//!
//! Captures and logs are untrusted: whoever sent the traffic chose their bytes. Nothing that
//! they hold may make the host grow without bound.

/// Frames that can be looked up. A capture of this many frames is beyond what Wireshark opens.
pub const FRAMES: u32 = 1 << 30;

/// TCP streams of one capture. Each costs some 200 bytes.
pub const STREAMS: u32 = 1 << 26;

/// Seconds that a log entry and its packet may be said to lie apart: a day, beyond which the
/// zone is wrong rather than the clock.
pub const WINDOW: f64 = 86_400.0;

/// Seconds that may be said to be added to log times: ten years, for hosts that lost their
/// clock.
pub const CLOCK_OFFSET: f64 = 315_576_000.0;

/// Bytes of early segments that one direction keeps until the ones before them arrive: more
/// than a usual receive window holds of message heads. What exceeds it is only counted.
pub const PENDING_BYTES: usize = 256 * 1024;

/// Early segments that one direction keeps. A hole with more behind it is a gap in the
/// capture, not a retransmission that is still to come.
pub const PENDING_SEGMENTS: usize = 1024;

/// Bytes of a message head. Servers refuse longer ones (nginx: 4 x 8 KiB).
pub const HEAD: usize = 64 * 1024;

/// Header lines of a message head.
pub const HEADERS: usize = 256;

/// Bytes of `METHOD URI` that are kept of a request: what nginx's 2,048 byte log line holds.
pub const REQUEST: usize = 2048;

/// Bytes that are kept of all requests that wait on one connection of HTTP/2, where a few bytes
/// may repeat a long one: 256 bytes for each of [`PIPELINED`]. Of more, nothing is told.
pub const REQUESTS: usize = 64 * 1024;

/// Requests of HTTP/2 before one that it shares its memory with if they are equal. Who goes round
/// among more different ones has sent them all, and what is kept is no more than a few times that.
pub const SHARING: usize = 16;

/// Requests of one connection that wait for their responses. Real clients pipeline a handful.
pub const PIPELINED: usize = 256;

/// Addresses that are kept of those that a request's header names as its client's: chains of
/// proxies are shorter, and each takes some ten bytes.
pub const FORWARDED: usize = 4;

/// Bytes of the table of header fields that HTTP/2 keeps by direction. Browsers offer 65,536; what
/// is larger than that is not followed.
pub const HEADER_TABLE: u32 = 64 * 1024;

/// Bytes that the fields of one header block may have when they are unpacked, 32 more for each (RFC
/// 9113, section 6.5.2): what Chrome takes, and several times what servers do. A byte can stand for
/// a field of [`HEADER_TABLE`], and what is beyond this is made to be dear.
pub const HEADER_LIST: u32 = 256 * 1024;

/// Different requests open at one end that a log entry is compared with. Where there are more,
/// the entry may be about any.
pub const OPEN_REQUESTS: usize = 16;

/// Clients' exchanges that one exchange with an upstream is compared with. Where more have its
/// request and go on at its time, it may be for any.
pub const ASKERS: usize = 64;

/// Bytes of a RST's payload that are kept; RFC 9293 expects a short text.
pub const RESET_TEXT: usize = 256;

/// Bytes of one log line that are looked at; nginx writes at most 2,048, forks 4,096. What
/// lies behind is skipped, so a binary file without line ends costs nothing.
pub const LOG_LINE: usize = 16 * 1024;

/// Places in one log line at which the context of an entry may begin. A client can put as many
/// into a URI as fit it, and each costs a look at the rest of the line; an honest line has one.
pub const LOG_CONTEXTS: usize = 32;

/// Quotation marks of one quoted part that may be the closing one. Only a client that puts the
/// words of the log's own grammar into its request needs more than one.
pub const LOG_QUOTES: usize = 16;

/// Bytes of an `access_log_format`; nginx reads no word longer than 4,096.
pub const LOG_FORMAT: usize = 8192;

/// Variables and texts of an `access_log_format`. Each makes the patterns larger that every
/// line is compared with.
pub const LOG_FORMAT_PARTS: usize = 256;

/// Places of an `access_log_format` behind which a line is read anew, because what stands before
/// may end elsewhere. Each costs two more patterns and, on a line that needs it, two more
/// readings; formats in use have a few, and what lies behind is left out.
pub const LOG_FORMAT_TAILS: usize = 8;

/// Lines that are not of the `access_log_format` and are shown as examples.
pub const MISFITS: usize = 3;

/// Upstreams that one access entry names: a request is passed on to a few at most.
pub const UPSTREAMS: usize = 64;

/// Seconds before the capture's first packet from which on entries are of interest: the log's
/// zone is unknown, and its clock may be wrong by hours.
pub const LOG_BEFORE: i64 = 2 * 86_400;

/// Files that a directory or pattern may stand for, also those that appear there later; and of
/// those that are no longer followed, how many are remembered.
pub const LOG_FILES: usize = 4096;

/// Logs of a kind that are looked after. Each costs two calls of the system a second.
pub const LOGS_FOLLOWED: usize = 64;

/// Bytes at the beginning of a log that was read, by which a copy is known: the better part of
/// its first line, which a time and a connection's number make unlike any other.
pub const LOG_BEGIN: usize = 256;

/// Bytes that are unpacked once more to find what was written to a log after it had been looked
/// at last and before it was packed. It takes half a second.
pub const LOG_SKIPPED: u64 = 128 * 1024 * 1024;

/// Bytes of growth that are read at once, so that a live capture never waits for long.
pub const LOG_GROWTH: u64 = 8 * 1024 * 1024;

/// Unpacked bytes at the beginning of a file by which it is known to be a log or not.
pub const LOG_HEAD: u64 = 64 * 1024;

/// How many times its own size a packed log may unpack to, and bytes that all packed logs of a session
/// may unpack to beyond that: few logs shrink to a hundredth, and then they are not many. More than
/// that is made to waste time.
pub const LOG_UNPACKED_RATIO: u64 = 100;
/// See [`LOG_UNPACKED_RATIO`].
pub const LOG_UNPACKED: u64 = 1 << 30;

/// Binary logarithm of the memory that unpacking zstd may take: what `zstd -d` takes itself.
pub const LOG_ZSTD_WINDOW: u32 = 27;

/// Entries that are kept of all logs together, at most 150 bytes each.
pub const LOG_ENTRIES: usize = 2_000_000;

/// Entries of access logs among them that only packets can tell from those of a request that went
/// well: what follows must not find the room taken.
pub const QUIET_ENTRIES: usize = 1_000_000;

/// Seconds before the capture's first packet from which on those are of interest: an hour, by which
/// the clock of a server is hardly ever wrong. At most [`LOG_BEFORE`].
pub const QUIET_BEFORE: i64 = 3600;

/// Pairs of an entry's second and an end's that are counted to find the log's clock. Each is
/// an addition; what lies behind is left out.
pub const CLOCK_PAIRS: usize = 20_000_000;

/// Pairs of entries and streams near one end that are weighed while the capture is still being
/// read. Where more happens at once, the answer waits until all of it has been read.
pub const NEIGHBOURS: usize = 1024;

/// Pairs of entries and streams of crowds that are weighed one by one, some 200 bytes each. What
/// goes beyond that is weighed as groups.
pub const PAIRS: usize = 1_000_000;

/// Streams that an entry may fit to be weighed by itself; with more, it is one of a crowd.
pub const COUNTED: usize = 512;

/// Streams whose ends are kept at hand while entries are compared with them, some 300 bytes
/// each: those of a few seconds of a storm.
pub const ENDS: usize = 65_536;

/// Streams for each entry of a storm, on average, that are weighed against the order of all
/// entries at a time, some 100 bytes each. Entries that fit more wait until the others have
/// narrowed them down.
pub const LINKS: usize = 64;

/// Seconds before an entry "no answer" in which the SYN may have been sent: Linux gives up
/// after 127.
pub const SILENCE: i64 = 130;

/// Seconds after an error entry about an upstream in which nginx may be done with the request.
pub const REQUEST_TIME: i64 = 60;

/// Access entries of one client's request near one time among which the one of an error entry is
/// looked for. Where there are more, it is not the only one.
pub const ALIKE: usize = 256;

/// Seconds that entries of one connection number may lie apart to be about one connection:
/// numbers begin anew when nginx is started anew.
pub const CONNECTION_TIME: i64 = 3600;

/// Entries that are shown on one stream. A host takes a million items in all for a frame, and a log
/// can repeat a line as often as it likes.
pub const SHOWN: usize = 100;

/// Notices of one session: more than there are ways to misspell a setting or a path.
pub const NOTICES: usize = 16;
