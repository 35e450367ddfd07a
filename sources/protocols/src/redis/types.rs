//! Commands and replies as rows show them, and which words are commands.

use super::fits::{self, Shape};
use crate::in_order::Asked;

/// Open arrays within arrays that are read; servers give a few.
pub(super) const DEPTH_MAX: usize = 32;
/// Longest line that is looked at: servers refuse longer inline commands.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest command name that is shown; modules' are shorter.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// A command.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// Upper case.
    pub(super) name: Vec<u8>,
    /// JSON array of the other words.
    pub(super) args: Vec<u8>,
    /// Words behind the name.
    pub(super) args_count: u64,
    pub(super) kind: CommandKind,
    /// Its time is known, and what became of it.
    pub(super) begin_ns: i64,
    /// There was no room for its text: it gets no row.
    pub(super) is_given_up: bool,
}

impl Asked for Command {
    type Shape = Shape;

    const HAS_PARTS: bool = true;

    fn fits(mut group: &mut dyn Iterator<Item = &Command>, shape: &Shape) -> bool {
        Iterator::all(&mut group, |command| fits::may_have(command, *shape))
    }

    fn may_be_part(shape: &Shape) -> bool {
        fits::may_be_element(*shape)
    }

    fn has_known_parts(&self) -> bool {
        fits::has_known_parts(self, self.is_plain())
    }

    fn is_counted(&self) -> bool {
        fits::is_counted(self.kind)
    }

    fn held_bytes(&self) -> usize {
        self.name.capacity() + self.args.capacity()
    }

    fn forget_text(&mut self) {
        self.is_given_up = true;
        (self.name, self.args) = (Vec::new(), Vec::new());
    }

    fn is_owed(&self) -> bool {
        !self.is_given_up
    }

    fn responses(&self) -> Option<u64> {
        match self.kind {
            CommandKind::Subscribe => Some(self.args_count.max(1)),
            CommandKind::Unsubscribe => Some(self.args_count).filter(|count| *count > 0),
            // What follows is told apart by its look only.
            CommandKind::Monitor | CommandKind::Replicate => None,
            _ => Some(1),
        }
    }

    fn is_plain(&self) -> bool {
        PLAIN.split_ascii_whitespace().any(|name| name.as_bytes() == self.name)
    }
}

/// Commands whose reply is never an array: behind a hole a part of one looks like a reply.
const PLAIN: &str = "APPEND AUTH BITCOUNT BITOP DBSIZE DECR DECRBY DEL DISCARD DUMP ECHO EXISTS EXPIRE \
    EXPIREAT FLUSHALL FLUSHDB GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HGET HINCRBY \
    HINCRBYFLOAT HLEN HMSET HSET HSETNX HSTRLEN INCR INCRBY INCRBYFLOAT LASTSAVE LINDEX LINSERT LLEN \
    LMOVE LPUSH LPUSHX LREM LSET LTRIM MSET MSETNX MULTI PERSIST PEXPIRE PEXPIREAT PFADD PFCOUNT PFMERGE \
    PSETEX PTTL PUBLISH RANDOMKEY RENAME RENAMENX RPOPLPUSH RPUSH RPUSHX SADD SCARD SELECT SET SETBIT \
    SETEX SETNX SETRANGE SISMEMBER SMOVE SREM STRLEN TOUCH TTL TYPE UNLINK UNWATCH WATCH XACK XADD XDEL \
    XLEN XTRIM ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZREM ZREMRANGEBYRANK ZREMRANGEBYSCORE ZSCORE";

/// What a command's reply is like, or what it changes for those behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CommandKind {
    /// One reply.
    #[default]
    Plain,
    /// A confirmation for each channel.
    Subscribe,
    /// The same; without channels one for each that is subscribed to.
    Unsubscribe,
    /// One reply; then lines that nobody asked for.
    Monitor,
    /// From here on the connection is a replica's.
    Replicate,
    ReplyOff,
    ReplySkip,
    ReplyOn,
    /// One reply, from which on the protocol has this version.
    Hello {
        is_resp3: bool,
    },
    /// One reply, from which on all is as at the beginning.
    Reset,
}

impl CommandKind {
    /// By its name, and its first two words behind it.
    pub(super) fn of(name: &[u8], first: &[u8], second: &[u8]) -> CommandKind {
        match name {
            b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" => CommandKind::Subscribe,
            b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" => CommandKind::Unsubscribe,
            b"MONITOR" => CommandKind::Monitor,
            b"PSYNC" | b"SYNC" => CommandKind::Replicate,
            b"HELLO" if !first.is_empty() => CommandKind::Hello { is_resp3: first == b"3" },
            b"RESET" => CommandKind::Reset,
            b"CLIENT" if first.eq_ignore_ascii_case(b"reply") => {
                match second.to_ascii_lowercase().as_slice() {
                    b"off" => CommandKind::ReplyOff,
                    b"skip" => CommandKind::ReplySkip,
                    _ => CommandKind::ReplyOn,
                }
            }
            _ => CommandKind::Plain,
        }
    }
}

/// A reply, or what the server sent of its own accord.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) text: Vec<u8>,
    pub(super) begin_ns: i64,
    pub(super) end_ns: i64,
    /// A line, and neither a string nor an array.
    pub(super) is_simple: bool,
    /// Its type is that of pushes, which only RESP3 has.
    pub(super) is_push3: bool,
    /// The last number in it: how many channels are subscribed to, if it confirms that.
    pub(super) number: u64,
}

/// Commands by which a connection that was open before is told from others, sorted.
const COMMANDS: &str = "ACL APPEND ASKING AUTH BGREWRITEAOF BGSAVE BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS \
    BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN CLIENT CLUSTER COMMAND CONFIG COPY DBSIZE \
    DEBUG DECR DECRBY DEL DISCARD DUMP ECHO EVAL EVALSHA EVALSHA_RO EVAL_RO EXEC EXISTS EXPIRE EXPIREAT \
    EXPIRETIME FAILOVER FCALL FCALL_RO FLUSHALL FLUSHDB FUNCTION GEOADD GEODIST GEOHASH GEOPOS GEORADIUS \
    GEORADIUSBYMEMBER GEOSEARCH GEOSEARCHSTORE GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HELLO HEXISTS \
    HEXPIRE HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE HPTTL \
    HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY INCRBYFLOAT INFO KEYS LASTSAVE \
    LATENCY LCS LINDEX LINSERT LLEN LMOVE LMPOP LOLWUT LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MEMORY \
    MGET MIGRATE MODULE MONITOR MOVE MSET MSETNX MULTI OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD \
    PFCOUNT PFMERGE PING PSETEX PSUBSCRIBE PSYNC PTTL PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY \
    READWRITE RENAME RENAMENX REPLCONF REPLICAOF RESET RESTORE ROLE RPOP RPOPLPUSH RPUSH RPUSHX SADD SAVE \
    SCAN SCARD SCRIPT SDIFF SDIFFSTORE SELECT SENTINEL SET SETBIT SETEX SETNX SETRANGE SHUTDOWN SINTER \
    SINTERCARD SINTERSTORE SISMEMBER SLAVEOF SLOWLOG SMEMBERS SMISMEMBER SMOVE SORT SORT_RO SPOP SPUBLISH \
    SRANDMEMBER SREM SSCAN SSUBSCRIBE STRLEN SUBSCRIBE SUBSTR SUNION SUNIONSTORE SUNSUBSCRIBE SWAPDB SYNC \
    TIME TOUCH TTL TYPE UNLINK UNSUBSCRIBE UNWATCH WAIT WAITAOF WATCH XACK XADD XAUTOCLAIM XCLAIM XDEL \
    XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZDIFF \
    ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD ZINTERSTORE ZLEXCOUNT ZMPOP ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER \
    ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK \
    ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE";

/// Whether a word is a command, or one of a module's (`FT.SEARCH`).
pub(super) fn is_command(word: &[u8]) -> bool {
    let is_known = || {
        COMMANDS.split_ascii_whitespace().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    let of_module = |dot: usize| {
        let (module, name) = (&word[..dot], &word[dot + 1..]);
        let is_word = |part: &[u8]| part.len() >= 2 && part.iter().all(u8::is_ascii_alphanumeric);
        is_word(module) && is_word(name) && word.iter().all(|byte| !byte.is_ascii_lowercase())
    };
    word.len() <= NAME_BYTES_MAX
        && (is_known() || memchr::memchr(b'.', word).is_some_and(of_module))
}
