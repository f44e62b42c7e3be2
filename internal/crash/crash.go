// Package crash ends the process at a named point, for tests of what happens
// then. Only programs built with the tag crashpoints do so; in all others At is
// nothing, and costs nothing.
package crash

// Points where the process can be made to end.
const (
	// DispatchAsked: a dispatcher has answered, and nothing is recorded.
	DispatchAsked Point = "dispatch-asked"
	// DispatchDecided: the decision is recorded, its commands are perhaps not sent.
	DispatchDecided Point = "dispatch-decided"
	// RelayRead: a relay has read a decision and sent none of its commands.
	RelayRead Point = "relay-read"
	// RelaySent: Kafka has acknowledged a command, the relay's position stands before it.
	RelaySent Point = "relay-sent"
)

// Point is the name of a place in the code.
type Point string

// Variable of the environment that names the point where the process ends, and
// after how many times that it got there: "dispatch-decided:3"; without a number
// the first time.
const Variable = "EVENTO_CRASH_AT"
