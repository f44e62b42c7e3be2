// Package gateway is the HTTP face of Evento and the I/O around its engine.
//
// # The life of a command
//
// What happens to a command from the client's request to the answer, where, and
// what a crash of the process at that step means.
//
//  1. Intake (intake*.go, classify.go), on the request's goroutine. The message is
//     read, its type looked up, its data checked against the schema, its envelope
//     filled. A crash: the client has no answer and nothing is written.
//  2. Append (engine_reads.go), still there. The message is produced to the commands
//     topic under its aggregate's key, with the address of this gateway and a nonce
//     if the client waits, and acknowledged by all in-sync replicas. Only now can the
//     client be told 202. A crash before the answer: the client does not know, sends
//     the command again with the same id, and it is a repeat.
//  3. Feed (engine_feed.go), on the poll goroutine of the gateway that owns the
//     partition. The record goes to the partition's [shard.Shard]. A record whose
//     schema has not been read yet makes its partition wait, and no other: a goroutine
//     of that partition feeds the rest. One that stands in the wrong partition is
//     written to its own (engine_strays.go) while its partition goes on; where Kafka
//     does not take it there, it is set aside, shown, and tried again. From here on, until
//     step 8, a crash loses only work: the committed position still stands before
//     the command, or its set-aside record does, and the next owner begins again.
//  4. Load (engine_load.go), a goroutine for each aggregate that is not in memory:
//     from Redis if what is there ends at the head that the log has, else from the
//     aggregate's own events, applied by its aggregator.
//  5. Confirm (engine_load.go), only for a command that looks like one that has an
//     outcome: the record is read, and a repeat gets that outcome.
//  6. Compute (compute*.go, functions*.go), a goroutine for each call: handler, check
//     of its events, aggregator, check of its state. Calls to one function that are
//     ready together share a request. A crash here may be the command's own doing: the
//     next owner records the attempt before it calls (shard: announce).
//  7. Commit (engine_commit.go), the commit goroutine: one transaction with the events
//     of many commands, set-aside records, and the positions of their partitions,
//     fenced by the generation of the consumer group. While it is under way the next
//     one fills. A crash: the next owner ends the transaction, one way or the other,
//     before it reads anything; all of it is there or nothing. Should a part of one be
//     missing nevertheless, the aggregate concerned is stopped: here, and by a takeover,
//     which counts each command's events. The heads say so to later owners.
//  8. Answer and snapshot (engine_outputs.go, outcome*.go, snapshots*.go), after the
//     commit is known. Whoever waits is told, at this gateway or by a post to the one
//     where he waits. A crash: the client gets 202 at its deadline and asks its
//     Location; the aggregate loads some events more.
//
// Between any two of these steps stands a crash point (internal/crash), where the
// tests of internal/proof have a gateway die.
//
// Events then go to dispatchers (dispatching.go); whoever does that is put in by the
// program, and has its own groups and transactions.
//
// # Ownership
//
// The consumer group assigns partitions (engine.go). A partition that comes is taken
// over first (engine_takeover.go: dead writers' transactions, position, set-aside
// records, heads, events, in this order). One that goes has no open transaction when
// the callback returns, leaves a checkpoint of its heads (engine_heads.go) and a
// position that says that nothing was under way.
//
// # Locks
//
// Engine.mu guards the table of partitions; partition.mu its shard. The first is never
// held while the second is awaited, and neither while anything leaves the process.
package gateway
