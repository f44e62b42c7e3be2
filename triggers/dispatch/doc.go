// Package dispatch gives committed events to dispatchers, records what they
// decide, and sends their commands.
//
// # The life of a decision
//
//  1. Start (starts.go). When a dispatcher Trigger first appears, the ends of all
//     events partitions are written to the schemas topic as its start: what is
//     recorded afterwards is its to see. A rewind writes another start, with the
//     next replay epoch.
//  2. Ownership (runner.go). Each dispatcher has a consumer group of its own, whose
//     members are the gateways. Who holds partition n of the dispatched topic works
//     off partition n of every events topic: they are cut alike.
//  3. Takeover (takeover.go): transactions of dead writers have ended, the committed
//     position is read, what was parked or set aside is found, a lost position is
//     rebuilt from the decisions.
//  4. Feed (feed.go): events go to the partition's [track.Track]; those that the
//     Trigger's filter does not let pass are finished at once.
//  5. Ask: a goroutine for each call, through the gateway's functions.
//  6. Commit (commit.go): decisions and the positions behind them in one transaction,
//     fenced by the generation of the group.
//  7. Relay (relay.go): whoever reads the dispatched topic in the relay's group
//     produces the commands of decisions, with ids derived from event, dispatcher,
//     epoch and index, until Kafka has acknowledged them. Sent twice they are one
//     command: the aggregate's writer sees to that.
//
// A crash between any two of these loses work, and nothing else: before 6 the
// event is asked about again, after it never.
package dispatch
