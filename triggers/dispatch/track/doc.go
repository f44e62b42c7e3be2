// Package track is the pure state machine of one partition of events, as one
// dispatcher works it off: no clock, no goroutine, no client. The I/O around it
// is package dispatch.
//
// Its rules:
//
//   - The events of one aggregate are asked about in their order, one at a time;
//     those of different aggregates at the same time, up to a limit of calls.
//   - What was decided is recorded in a transaction that also moves the position:
//     the lowest unfinished event is the offset that is committed, the finished ones
//     above it stand in its metadata. So an event whose decision is recorded is
//     never asked about again.
//   - An event about which nothing was decided (no filter match, no command) is
//     finished without a record; the position moves by a plain commit.
//   - An event whose attempts are used up is parked: recorded as such, and its
//     aggregate goes on. An operator may have it asked about again.
//   - When the metadata would get too long, the lowest unfinished events are set
//     aside: recorded as waiting, so that the position can move past them. They are
//     tried on. What is set aside or parked is found again from one offset of the
//     dispatched topic on, which the metadata carries.
package track
