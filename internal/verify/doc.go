// Package verify holds what an installation of Evento has recorded against what is
// promised: the invariants I1 to I13 ([Invariant]). It asks nobody and opens
// nothing: who has the records gives them to a [Checker], a partition at a time,
// and gets the [Violation]s. It is used by tests, which also give it what their
// clients have seen ([Operation], [Sighting]), and by `evento verify`, which has
// the topics alone.
//
// A client's outcome is ok, failed or unknown. Unknown may or may not have
// happened, at once or later: it is never counted as failed.
//
// # What must be given, and in which order
//
// All that is about one partition is given to one [Partition]: first what others
// say of the log (the committed [position.Position], [Aside], [Head], [Checkpoint],
// [Snapshot], [Sighting], decisions), then the commands, then the events, each by
// offset. Everything else is in doubt until it is read, so nothing has to be kept
// of an event but that its aggregate has come so far.
//
// A log that grows is read up to ends that were taken before. [Options.End] says
// where: what lies there or behind is "not yet", and never a violation. For that to
// be the truth, the ends are taken in this order: committed positions, set-aside
// records, heads, events, commands, decisions. (What a position says is in the
// events of a later end; what an event says of its command, in the commands of a
// later one still; and so on.)
//
// # What it keeps in memory
//
// Of the partition that is being read, and forgotten when that is closed: for each
// command about 100 bytes, for each aggregate 200 bytes and 8 for each of its last
// 64 records at most, for each head, snapshot and decision about 150 bytes until
// the event that it is about has been read. Over the whole run: for each command
// that a dispatcher sent about 120 bytes, for each operation of a client what the
// client knows of it, and the first violations. Values of records are not kept.
package verify
