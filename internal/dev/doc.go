// Package dev runs all of Evento on one machine, for people who develop with
// it: a Kafka-protocol broker that keeps its data on disk, a Redis in memory,
// the functions of a stack.yml as processes of their own, and the gateway.
// `evento dev` is its face.
//
// # What it promises
//
//   - Everything listens on the loopback interface alone.
//
//   - Everything that is started is stopped again, in order, whatever goes
//     wrong on the way. On Linux the functions end even when this process is
//     killed.
//
//   - The broker's data are in the data directory and are there after the next
//     start. Redis begins empty each time: its contents can always be rebuilt.
//
//   - Functions are built from the files that their images would be built from,
//     by the same script. When their files change, the new one takes over when it
//     is built, tested and healthy, and no call is lost; else the former one goes on.
//
// # What it does not
//
// The embedded broker (franz-go's kfake) is no Apache Kafka: it writes to the
// page cache only, and when it is killed (not stopped) in the instant in which
// a transaction over several partitions ends, one partition may have the
// transaction's end and another not. Tests of ownership and fencing count on a
// real Kafka only.
//
// # The data directory
//
//	lock          held while an instance runs
//	dev.json      what runs where ([State]); there only while an instance runs
//	ports.json    the ports of the last run, to be used again
//	broker/       the broker's data
//	build/<name>  what a function was built from last
//	bin/<name>-*  the functions, built; their names change with their contents
//	schemas/      the schema files that the gateway registered at its start
//	logs/<name>.log, logs/gateway.log, logs/broker.log
package dev
