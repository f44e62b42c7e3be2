// Package crash ends the process at a named point, for tests of what happens
// then. Only programs built with the tag crashpoints do so; in all others At is
// nothing, and costs nothing.
//
// The points stand between the steps that leave the process: before a step
// nothing of it has happened, after it nobody has been told. All of them are in
// [Points].
package crash

// Point is the name of a place in the code.
type Point string

// Variable of the environment that names the point where the process ends, and
// after how many times that it got there: "dispatch-decided:3"; without a number
// the first time.
const Variable = "EVENTO_CRASH_AT"

// Armed is the line that the process says when it begins to count after the signal.
const Armed = "crash point is armed"

// OnSignal ends the variable when what happens before the process gets a SIGUSR1
// is not to be counted: "txn-begin:3@signal".
const OnSignal = "@signal"
