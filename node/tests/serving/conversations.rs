//! What each command answers: one client, a cluster of one.

use crate::world::World;
use node::COMMANDS;

/// A client of a cluster of one says each line and hears each answer.
fn check(script: &[(&str, &str)]) {
    let mut world = World::new(1, |_| {});
    world.elect();
    let client = world.connect(1);
    for (line, expected) in script {
        assert_eq!(world.ask(client, line), *expected, "{line}");
    }
}

const STRINGS: &[(&str, &str)] = &[
    ("SET a 1", "OK"),
    ("GET a", "\"1\""),
    ("GET b", "nil"),
    ("get A", "nil"),
    ("SET a 2 NX", "nil"),
    ("SET a 2 XX GET", "\"1\""),
    ("SET a 3 IFEQ 1", "nil"),
    ("SET a 3 IFEQ 2", "OK"),
    ("SET a 4 IFNE 3", "nil"),
    ("SET a 4 IFNE 9 GET KEEPTTL", "\"3\""),
    ("SET new 1 NX GET", "nil"),
    ("SET a 1 NX XX", "-ERR syntax error"),
    ("SET a 1 IFEQ", "-ERR syntax error"),
    ("SET a 1 EX 10", "-ERR expiry is not supported by this version"),
    ("SET a 1 SIDEWAYS", "-ERR syntax error"),
    ("SETNX a 9", ":0"),
    ("SETNX c 9", ":1"),
    ("GETSET c 10", "\"9\""),
    ("GETDEL c", "\"10\""),
    ("GETDEL c", "nil"),
    ("MSET k1 v1 k2 v2", "OK"),
    ("MSET k1 v1 k2", "-ERR wrong number of arguments for 'mset' command"),
    ("MSETNX k3 v3 k1 w", ":0"),
    ("MSETNX k3 v3 k4 v4", ":1"),
    ("MGET k1 nosuch k2 k3", "[\"v1\" nil \"v2\" \"v3\"]"),
    ("EXISTS k1 k1 nosuch", ":2"),
    ("TYPE k1", "string"),
    ("TYPE nosuch", "none"),
    ("DEL k1 k2 nosuch", ":2"),
    ("UNLINK k3 k4", ":2"),
    ("INCR n", ":1"),
    ("INCRBY n 41", ":42"),
    ("DECR n", ":41"),
    ("DECRBY n 50", ":-9"),
    ("GET n", "\"-9\""),
    ("SET max 9223372036854775807", "OK"),
    ("INCR max", "-ERR increment or decrement would overflow"),
    ("DECRBY n -9223372036854775808", "-ERR increment or decrement would overflow"),
    ("INCRBY n x", "-ERR value is not an integer or out of range"),
    ("SET word abc", "OK"),
    ("INCR word", "-ERR value is not an integer or out of range"),
    ("APPEND word def", ":6"),
    ("APPEND fresh x", ":1"),
    ("STRLEN word", ":6"),
    ("STRLEN nosuch", ":0"),
    ("GETRANGE word 1 3", "\"bcd\""),
    ("GETRANGE word -3 -1", "\"def\""),
    ("GETRANGE word 4 2", "\"\""),
    ("GETRANGE word 0 99", "\"abcdef\""),
    ("GETRANGE word 0 -99", "\"a\""),
    ("GETRANGE word x 1", "-ERR value is not an integer or out of range"),
    ("DELIFEQ word abc", ":0"),
    ("DELIFEQ word abcdef", ":1"),
    ("DELIFEQ word abcdef", ":0"),
    ("DBSIZE", ":5"),
    ("SCAN 0 COUNT 100 MATCH m*", "[\"0\" [\"max\"]]"),
    ("SCAN 0 TYPE list COUNT 100", "[\"0\" []]"),
    ("SCAN x", "-ERR value is not an integer or out of range"),
    ("SCAN 0 COUNT 0", "-ERR syntax error"),
    ("SCAN 0 MATCH", "-ERR syntax error"),
    ("GETVER nosuch", "nil"),
];

const CONNECTION: &[(&str, &str)] = &[
    ("PING", "PONG"),
    ("PING hi", "\"hi\""),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
    ("ECHO hi", "\"hi\""),
    ("ASKING", "OK"),
    ("SELECT 0", "OK"),
    ("SELECT 1", "-ERR SELECT is not allowed in cluster mode"),
    ("AUTH default anything", "OK"),
    ("AUTH other x", "-WRONGPASS invalid username-password pair or user is disabled."),
    ("CLIENT ID", ":1"),
    ("CLIENT GETNAME", "nil"),
    ("CLIENT SETNAME worker", "OK"),
    ("CLIENT GETNAME", "\"worker\""),
    ("CLIENT SETINFO LIB-NAME redis-py", "OK"),
    ("CLIENT SETINFO lib-ver 7.0", "OK"),
    ("CLIENT SETINFO lib-x 7.0", "-ERR Unrecognized option"),
    ("CLIENT NO-EVICT on", "OK"),
    ("CLIENT INFO", r#""id=1 addr=?:0 laddr=?:0 name=worker db=0 flags=N resp=2 lib-name=redis-py lib-ver=7.0\n""#),
    ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command"),
    ("CLIENT KILL x", "-ERR unknown subcommand 'kill'. The command CLIENT does not have it."),
    ("READONLY", "OK"),
    ("READWRITE", "OK"),
    ("CONFIG GET save", "[\"save\" \"\"]"),
    ("CONFIG GET nosuch", "[]"),
    ("CONFIG SET save 1", "-ERR unknown subcommand 'SET'. The command CONFIG does not have it."),
    ("HELLO 4", "-NOPROTO unsupported protocol version"),
    ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
    ("HELLO 2 WHAT", "-ERR Syntax error in HELLO option 'WHAT'"),
    (
        "HELLO 3 AUTH default x SETNAME me",
        r#"{"server": "redis", "version": "7.2.4", "proto": :3, "id": :1, "mode": "cluster", "role": "master", "modules": []}"#,
    ),
    ("CLIENT GETNAME", "\"me\""),
    ("GET nosuch", "nil"),
    ("CONFIG GET save", "{\"save\": \"\"}"),
    ("RESET", "RESET"),
    ("CONFIG GET save", "[\"save\" \"\"]"),
    ("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
    ("MULTI", "-ERR transactions are not supported by this version"),
    ("EXPIRE a 1", "-ERR expiry is not supported by this version"),
    ("GET", "-ERR wrong number of arguments for 'get' command"),
    ("QUIT", "OK"),
];

const CLUSTER: &[(&str, &str)] = &[
    ("CLUSTER MYID", "\"07ed37774a4965c6241b322b59f337e900000001\""),
    ("CLUSTER KEYSLOT foo", ":12182"),
    ("CLUSTER SLOTS", "[[:0 :16383 [\"127.0.0.1\" :7001 \"07ed37774a4965c6241b322b59f337e900000001\" []]]]"),
    (
        "CLUSTER NODES",
        r#""07ed37774a4965c6241b322b59f337e900000001 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-16383\n""#,
    ),
    (
        "CLUSTER SHARDS",
        concat!(
            r#"[["slots" [:0 :16383] "nodes" [["id" "07ed37774a4965c6241b322b59f337e900000001" "ip" "127.0.0.1" "#,
            r#""endpoint" "127.0.0.1" "port" :7001 "replication-offset" :0 "role" "master" "health" "online"]]]]"#
        ),
    ),
    ("CLUSTER SLOTS x", "-ERR wrong number of arguments for 'cluster|slots' command"),
    ("ROLE", "[\"master\" :0 []]"),
    ("COMMAND COUNT", ":46"),
    (
        "COMMAND INFO get nosuch once",
        r#"[["get" :2 [readonly fast] :1 :1 :1 [] [] [] []] nil ["once" :-2 [write denyoom movablekeys] :0 :0 :0 [] [] [] []]]"#,
    ),
    ("COMMAND GETKEYS mset a 1 b 2", "[\"a\" \"b\"]"),
    ("COMMAND GETKEYS once 7 1 set k v", "[\"k\"]"),
    ("COMMAND GETKEYS ping", "-ERR The command has no key arguments"),
    ("COMMAND GETKEYS nosuch", "-ERR Invalid command specified"),
    ("COMMAND DOCS get", r#"["get" ["summary" "The value of a key." "since" "1.0.0" "group" "string"]]"#),
    (
        "PAXOS MEMBERS",
        r#"[["node" :1 "incarnation" "000000000000000b" "kind" "voter" "host" "127.0.0.1" "port" :7001]]"#,
    ),
    ("PAXOS NOSUCH", "-ERR unknown subcommand 'nosuch'. The command PAXOS does not have it."),
    ("PAXOS DIGEST 1", "nil"),
    ("INFO keyspace", "\"# Keyspace\\r\\n\""),
    ("SET a 1", "OK"),
    ("INFO keyspace", "\"# Keyspace\\r\\ndb0:keys=1,expires=0,avg_ttl=0\\r\\n\""),
];

const LOG: &[(&str, &str)] = &[
    ("LOG.LEN", ":0"),
    ("LOG.APPEND one", ":1"),
    ("LOG.GET 1", "\"one\""),
    ("SET a 1", "OK"),
    ("GETVER a", ":2"),
    ("LOG.GET 2", "[\"SET\" \"a\" \"1\"]"),
    ("LOG.GET 3", "nil"),
    ("LOG.GET 0", "-ERR value is not an integer or out of range"),
    ("LOG.GET x", "-ERR value is not an integer or out of range"),
    ("LOG.BARRIER", "[:3 [\"SET\" \"a\" \"1\"]]"),
    ("ONCE NEW", ":4"),
    ("ONCE 4 1 LOG.APPEND two", ":5"),
    ("ONCE 4 1 LOG.APPEND two", ":5"),
    ("ONCE 4 2 INCR a", ":2"),
    (
        "LOG.RANGE 1 99",
        r#"["one" ["SET" "a" "1"] ["LOG.BARRIER"] ["ONCE" "NEW"] "two" "two" ["ONCE" "4" "2" "INCR" "a"]]"#,
    ),
    ("LOG.RANGE 5 4", "[]"),
    ("LOG.RANGE 50 60", "[]"),
    ("LOG.LEN", ":7"),
];

const ONCE: &[(&str, &str)] = &[
    ("ONCE 1 1 INCR a", "-SESSIONEXPIRED no such session: open another one with ONCE NEW"),
    ("ONCE NEW", ":2"),
    ("ONCE 2 7 INCR a", ":1"),
    ("ONCE 2 7 INCR a", ":1"),
    ("ONCE 2 6 INCR a", ":2"),
    ("ONCE 2 80 GET a", "\"2\""),
    ("INCR a", ":3"),
    ("ONCE 2 80 GET a", "\"2\""),
    (
        "ONCE 2 6 INCR a",
        "-STALE this sequence is below the window of its session: it ran or never will, its reply is gone",
    ),
    ("ONCE 2 81 MGET a b", "[\"3\" nil]"),
    ("ONCE 2 82 INCR", "-ERR wrong number of arguments for 'incr' command"),
    ("ONCE 2 82 SCAN 0", "-ERR ONCE cannot run 'scan'"),
    ("ONCE 2 82 PING", "-ERR ONCE cannot run 'ping'"),
    ("ONCE 2 82 ONCE NEW", "-ERR ONCE cannot run 'once'"),
    ("ONCE x 82 INCR a", "-ERR session and sequence must be integers from 0 on"),
    ("ONCE NEW x", "-ERR wrong number of arguments for 'once' command"),
];

#[test]
fn strings_answer_as_redis_does() {
    check(STRINGS);
}

#[test]
fn connections_answer_as_redis_does() {
    check(CONNECTION);
}

#[test]
fn a_cluster_shows_one_shard() {
    check(CLUSTER);
}

#[test]
fn the_log_shows_what_its_slots_hold() {
    check(LOG);
}

#[test]
fn a_sequence_of_a_session_runs_once() {
    check(ONCE);
}

#[test]
fn every_command_of_the_table_has_a_conversation() {
    let said: Vec<String> = [STRINGS, CONNECTION, CLUSTER, LOG, ONCE]
        .concat()
        .iter()
        .filter_map(|(line, _)| line.split(' ').next().map(str::to_uppercase))
        .collect();
    for spec in COMMANDS {
        assert!(said.iter().any(|name| name == spec.name), "nobody says {}", spec.name);
    }
}
