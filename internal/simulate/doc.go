// Package simulate plays whole installations of Evento in virtual time: clients,
// gateways that come and go, Kafka, Redis, functions, and all that goes wrong with
// them. Each follows from one seed, to the last letter. Its code is in the tests.
//
//	go test ./internal/simulate/                                     # 2,000 seeds; 100 with -race
//	make simulate SEEDS=20000 FROM=100000                            # any number of others
//	go test ./internal/simulate/ -run 'TestSimulation$' -seed 7      # one, with its history
//	go test ./internal/simulate/ -run 'TestSimulation$' -seed 7 -bug "no fence: positions are committed as nobody"
//
// # What is real in it, and what is not
//
// [shard.Shard] is the gateway's own, with [position] and the formats of positions
// and set-aside records; so is track.Track of the dispatchers. What drives them in
// gateway/engine*.go, internal/kafka and triggers/dispatch leaves the process at
// each step, so it is written here once more, in the same order and with the same
// decisions, file by file: who changes the one changes the other.
//
//   - clock_test.go, net_test.go: time, threads, and requests that are slow, lost,
//     carried out without an answer, or carried out late.
//   - kafka_*.go: logs with high watermark and last stable offset, control records,
//     compaction; transactions with producer epochs, as with transaction.version 2
//     and, in every fourth world, as before it; a group with generations.
//   - redis_test.go, functions_test.go: a cache that loses, goes back in time and is
//     stale; functions that are slow, fail, lie, answer differently each time, or
//     take the gateway with them.
//   - gateway_*.go: membership and fence, the fenced transaction, the engine, takeover,
//     loading. dispatcher_test.go: a dispatcher and the relay of what it decides.
//   - client_test.go: clients that repeat themselves, and operators.
//   - check_test.go: what is held against the promises, as it happens and at the end.
//   - bugs_test.go: mistakes, put in on purpose, that must be noticed.
//
// # What is checked
//
// Each committed event, when a committed reader is first shown it: its version, its
// links, that it is the next one of its command, in the same transaction as the others,
// of a command that is there, and that its handler saw a state that was. Each answer,
// snapshot and read, when it is given: that it says what is committed. Each takeover:
// that it finds every aggregate where the log has it. Each commit: that it is of the
// owner, moves no position without a record, and can be read again. At the end, after
// everything has been healed: that all came to rest in bounded time, that each command
// has one outcome and each client got it, in an order that agrees with real time, and
// that a new owner finds the same.
package simulate
