// Package bench measures a gateway as its clients see it: a number of clients
// each send a command, wait for its outcome, and send the next. It reports
// commands per second, how long they took, what they cost in processor time of
// each process, and what went wrong.
//
// The clients are a closed loop: a slow system is asked less often, so the
// latencies are those of the load that it could take, not of a load that
// arrives by itself.
//
// The commands are deposits to checking accounts of the bank example. The
// accounts are opened first; that is not measured.
package bench
