// Package shard is the state machine of one partition: the rules by which
// commands become events, with no clock, no goroutine and no client inside. The
// gateway does the I/O around it; the simulations in this package's tests and in
// internal/simulate drive the same code against a world that crashes, aborts and repeats.
//
// # The way of a command through a shard
//
//  1. [Shard.Record] takes it from the commands topic. The same command (source,
//     id, aggregate) that is under way already becomes a repeat of it.
//  2. The first command of an aggregate makes it load: [Load], [Shard.Loaded].
//     What is loaded must end at the head that the shard knows from the log.
//  3. A command that looks like one with an outcome is held against the history:
//     [Confirm], [Shard.Confirmed]. A repeat gets the original outcome.
//  4. [Invoke] calls the functions, [Shard.Computed] takes their result. The next
//     command of the aggregate is computed on it at once, before it is committed.
//  5. [Shard.Take] gathers results of many aggregates in one batch, with the
//     position that holds after it. The caller commits both in one transaction.
//  6. [Shard.Committed] makes the results the truth, answers, offers snapshots.
//     [Shard.Aborted] drops them and all that was built on them.
//
// # Rules that have been broken before
//
//   - A set-aside record is deleted in a transaction after the one of its outcome,
//     and a command restored from it is held against the history before an
//     operator's verdict on it counts: the deletion may have been lost.
//   - Where to begin to read the parked topic is never "nowhere": the first record
//     set aside in a transaction stands at an offset that the position in the same
//     transaction cannot know.
//   - Restored set-aside records are ordered by their place in the parked topic, not
//     by their commands' offsets.
//   - An aggregate takes nothing, not even a platform record, before it is loaded:
//     the record would stand outside its chain.
package shard
