//! Which replies a command can have, where order does not tell: behind a loss.
//!
//! Said is only what holds for every server: what is not known fits.

use super::parse::{Opening, Read, Token, one_reply, opening, token};
use super::types::{Command, CommandKind};

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Error,
    /// Within a transaction anything is answered so.
    Queued,
    Status,
    Int,
    Double,
    Bulk,
    Null,
    /// An array, map or set of so many elements.
    Many(u64),
    Other,
}

/// Fewest bytes of a command, as clients write it, and as a line: a name of one letter is answered, too.
const COMMAND_BYTES_MIN: u64 = 11;
const LINE_BYTES_MIN: u64 = 2;
/// Fewest bytes of a reply: an empty status.
const REPLY_BYTES_MIN: u64 = 3;
/// Of `CLIENT REPLY SKIP`, by which a reply less comes.
const SKIP_BYTES: u64 = 37;

/// The reply that begins here, and how many bytes it has.
pub(super) fn shape(bytes: &[u8]) -> Read<Shape> {
    let shape = match token(bytes) {
        Read::Is(Token::Scalar { kind: b'-', .. } | Token::String { kind: b'!', .. }, _) => {
            Shape::Error
        }
        Read::Is(Token::Scalar { kind: b'+', text: b"QUEUED" }, _) => Shape::Queued,
        // What is monitored.
        Read::Is(Token::Scalar { kind: b'+', text: [b'0'..=b'9', ..] }, _) => return Read::Invalid,
        Read::Is(Token::Scalar { kind: b'+', .. }, _) => Shape::Status,
        Read::Is(Token::Scalar { kind: b':', .. }, _) => Shape::Int,
        Read::Is(Token::Scalar { kind: b',', .. }, _) => Shape::Double,
        Read::Is(Token::String { .. }, _) => Shape::Bulk,
        Read::Is(Token::Null, _) => Shape::Null,
        // What is said of a reply, and what is none.
        Read::Is(Token::Open { kind: b'|' | b'>', .. }, _) | Read::Invalid => return Read::Invalid,
        // What it says of channels.
        Read::Is(Token::Open { .. }, _) if is_of_channels(bytes) => return Read::Invalid,
        Read::Is(Token::Open { elements, .. }, _) => Shape::Many(elements),
        Read::Is(Token::Scalar { .. }, _) => Shape::Other,
        Read::Short => return Read::Short,
    };
    match one_reply(bytes) {
        Read::Is((), used) => Read::Is(shape, used),
        Read::Short => Read::Short,
        Read::Invalid => Read::Invalid,
    }
}

/// What is said of channels, or looks like it.
fn is_of_channels(bytes: &[u8]) -> bool {
    let words = "message smessage pmessage subscribe unsubscribe psubscribe punsubscribe ssubscribe \
        sunsubscribe pong";
    match opening(bytes) {
        Read::Is(Opening { word, .. }, _) => is_in(words, word),
        Read::Short | Read::Invalid => false,
    }
}

/// How many commands may have been in so many bytes, by their replies; lines are commands, too: `has_lines`.
pub(super) fn commands_missing(bytes: u64, has_lines: bool, is_rest: bool) -> (i64, i64) {
    let each = if has_lines { LINE_BYTES_MIN } else { COMMAND_BYTES_MIN };
    let most = bytes / each;
    let least = match bytes / SKIP_BYTES {
        0 => i64::from(!is_rest && most > 0),
        skips => -count(skips),
    };
    (least, count(most))
}

/// How many replies may have been in so many bytes at the most.
pub(super) fn replies_missing(bytes: u64) -> i64 {
    count(bytes / REPLY_BYTES_MIN)
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Fewest bytes of a command that is answered so.
pub(super) fn least_asked_bytes(has_lines: bool) -> u64 {
    if has_lines { LINE_BYTES_MIN } else { COMMAND_BYTES_MIN }
}

const STATUS: &str = "DISCARD FLUSHALL FLUSHDB HMSET LSET LTRIM MSET MULTI PSETEX RENAME SELECT SETEX TYPE \
    UNWATCH WATCH";
const INT: &str = "APPEND BITCOUNT BITOP DBSIZE DECR DECRBY DEL EXISTS EXPIRE EXPIREAT GETBIT HDEL HEXISTS \
    HINCRBY HLEN HSET HSETNX HSTRLEN INCR INCRBY LASTSAVE LINSERT LLEN LPUSH LPUSHX LREM MSETNX PERSIST \
    PEXPIRE PEXPIREAT PFADD PFCOUNT PTTL PUBLISH RENAMENX RPUSH RPUSHX SADD SCARD SDIFFSTORE SETBIT SETNX \
    SETRANGE SISMEMBER SMOVE SREM STRLEN TOUCH TTL UNLINK XACK XDEL XLEN XTRIM ZCARD ZCOUNT ZLEXCOUNT ZREM \
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE";
const BULK: &str = "DUMP ECHO GET GETDEL GETEX GETRANGE GETSET HGET HINCRBYFLOAT INCRBYFLOAT LINDEX LMOVE \
    RANDOMKEY RPOPLPUSH XADD";
const MANY: &str = "HGETALL HKEYS HVALS KEYS LRANGE SDIFF SINTER SMEMBERS SUNION ZRANGE ZRANGEBYSCORE \
    ZREVRANGE ZREVRANGEBYSCORE";
/// Arrays of strings.
const STRINGS: &str = "HGETALL HKEYS HMGET HVALS KEYS LRANGE MGET SDIFF SINTER SMEMBERS SUNION";
/// A cursor and an array.
const SCANS: &str = "HSCAN SCAN SSCAN ZSCAN";

fn is_in(names: &str, name: &[u8]) -> bool {
    names.split_ascii_whitespace().any(|known| known.as_bytes() == name)
}

/// Whether a command can have such a reply.
pub(super) fn may_have(command: &Command, shape: Shape) -> bool {
    let name = command.name.as_slice();
    if command.is_given_up || matches!(shape, Shape::Error | Shape::Queued) {
        return true;
    }
    let is_many = || matches!(shape, Shape::Many(_) | Shape::Null);
    match (name, command.args_count) {
        (b"SET", 2) | (b"PING", 0) => shape == Shape::Status,
        (b"SET", _) => matches!(shape, Shape::Status | Shape::Null | Shape::Bulk),
        (b"PING", 1) => shape == Shape::Bulk,
        (b"MGET", count) => shape == Shape::Many(count),
        (b"HMGET", count) => shape == Shape::Many(count.saturating_sub(1)),
        (b"LPOP" | b"RPOP" | b"SPOP", 1) => matches!(shape, Shape::Bulk | Shape::Null),
        (b"ZSCORE", _) => matches!(shape, Shape::Bulk | Shape::Null | Shape::Double),
        (b"EXEC", 0) => is_many(),
        (name, _) if is_in(SCANS, name) => shape == Shape::Many(2),
        (name, _) if is_in(INT, name) => shape == Shape::Int,
        (name, _) if is_in(BULK, name) => matches!(shape, Shape::Bulk | Shape::Null),
        (name, _) if is_in(STATUS, name) => shape == Shape::Status,
        (name, _) if is_in(MANY, name) => is_many(),
        _ => true,
    }
}

/// Whether this can be an element of an array of strings.
pub(super) fn may_be_element(shape: Shape) -> bool {
    matches!(shape, Shape::Bulk | Shape::Null)
}

/// The reply is no array, or one of strings.
pub(super) fn has_known_parts(command: &Command, is_plain: bool) -> bool {
    is_plain || is_in(STRINGS, &command.name)
}

/// Behind it replies come as before, one each.
pub(super) fn is_counted(kind: CommandKind) -> bool {
    kind == CommandKind::Plain
}
