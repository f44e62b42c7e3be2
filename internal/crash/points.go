package crash

// Points where the process can be made to end. What each of them means is in [Points].
const (
	IntakeAppend   Point = "intake-append"
	IntakeSent     Point = "intake-sent"
	IntakeAcked    Point = "intake-acked"
	IntakeAnswer   Point = "intake-answer"
	IntakeAnswered Point = "intake-answered"

	FeedRead  Point = "feed-read"
	FeedTaken Point = "feed-taken"

	LoadBegin    Point = "load-begin"
	LoadRedis    Point = "load-redis"
	LoadLog      Point = "load-log"
	LoadApplied  Point = "load-applied"
	ConfirmBegin Point = "confirm-begin"
	ConfirmFound Point = "confirm-found"

	CallBegin   Point = "call-begin"
	CallHandled Point = "call-handled"
	CallDone    Point = "call-done"

	TxnBegin    Point = "txn-begin"
	TxnBegun    Point = "txn-begun"
	TxnPartly   Point = "txn-partly"
	TxnProduced Point = "txn-produced"
	TxnOffsets  Point = "txn-offsets"
	TxnEnding   Point = "txn-ending"
	TxnEnded    Point = "txn-ended"
	TxnAbort    Point = "txn-abort"
	TxnAborted  Point = "txn-aborted"
	TxnUnseen   Point = "txn-unseen"
	TxnResolved Point = "txn-resolved"
	PlainBegin  Point = "plain-begin"
	PlainDone   Point = "plain-done"

	CommitKnown   Point = "commit-known"
	CommitTold    Point = "commit-told"
	AnswerBegin   Point = "answer-begin"
	AnswerGiven   Point = "answer-given"
	PostBegin     Point = "post-begin"
	PostDone      Point = "post-done"
	PostReceived  Point = "post-received"
	PostResolved  Point = "post-resolved"
	SnapshotSave  Point = "snapshot-save"
	SnapshotSaved Point = "snapshot-saved"

	AsideWrite   Point = "aside-write"
	AsideWritten Point = "aside-written"
	AsideDelete  Point = "aside-delete"
	AsideDeleted Point = "aside-deleted"
	ParkBegin    Point = "park-begin"
	ParkDone     Point = "park-done"
	ParkList     Point = "park-list"
	ParkListed   Point = "park-listed"
	OrderRead    Point = "order-read"
	OrderObeyed  Point = "order-obeyed"

	HeadsWrite   Point = "heads-write"
	HeadsWritten Point = "heads-written"
	RevokeBegin  Point = "revoke-begin"
	RevokeDone   Point = "revoke-done"

	TakeoverBegin       Point = "takeover-begin"
	TakeoverSchemas     Point = "takeover-schemas"
	TakeoverEndWriter   Point = "takeover-end-writer"
	TakeoverWriterEnded Point = "takeover-writer-ended"
	TakeoverSettled     Point = "takeover-settled"
	TakeoverPosition    Point = "takeover-position"
	TakeoverAsides      Point = "takeover-asides"
	TakeoverHeads       Point = "takeover-heads"
	TakeoverEvents      Point = "takeover-events"
	TakeoverShard       Point = "takeover-shard"
	TakeoverDone        Point = "takeover-done"

	DispatchAsked   Point = "dispatch-asked"
	DispatchDecided Point = "dispatch-decided"
	RelayRead       Point = "relay-read"
	RelaySent       Point = "relay-sent"
)

// Where says which part of the program passes a point.
type Where string

const (
	Engine   Where = "engine"   // from a message's coming to its answer, and the takeover of partitions
	Dispatch Where = "dispatch" // from an event to the commands that dispatchers make of it
)

// Row is what there is to know of a point.
type Row struct {
	Point Point
	Where Where
	Says  string // how things stand there
}

// Points are all there are, in the order in which a command passes them.
var Points = []Row{
	{IntakeAppend, Engine, "a message is checked, and Kafka has nothing of it"},
	{IntakeSent, Engine, "a message is on its way to Kafka, and not acknowledged"},
	{IntakeAcked, Engine, "Kafka has acknowledged a message, and its sender does not know"},
	{IntakeAnswer, Engine, "what a sender is to be answered is known, and nothing of it is written"},
	{IntakeAnswered, Engine, "a sender has been answered"},

	{FeedRead, Engine, "commands have been read from their topic, and their shard knows nothing of them"},
	{FeedTaken, Engine, "a shard has taken what was read, and has asked for what it needs"},

	{LoadBegin, Engine, "an aggregate is to be loaded, and nobody has been asked for it"},
	{LoadRedis, Engine, "Redis has said what it has of an aggregate"},
	{LoadLog, Engine, "an aggregate's events are about to be read"},
	{LoadApplied, Engine, "an aggregate's events are read and applied, and its shard has no state yet"},
	{ConfirmBegin, Engine, "a command looks like a repeat, and the history has not been read"},
	{ConfirmFound, Engine, "the history has said whether a command is a repeat"},

	{CallBegin, Engine, "functions are about to be called for commands of an aggregate"},
	{CallHandled, Engine, "a handler has answered, and the aggregator has not been asked"},
	{CallDone, Engine, "the functions have answered, and the shard has no result"},

	{TxnBegin, Engine, "a transaction is to be made, and its producer has not begun it"},
	{TxnBegun, Engine, "a transaction is begun, and has no record"},
	{TxnPartly, Engine, "Kafka has acknowledged a record of a transaction, perhaps not all"},
	{TxnProduced, Engine, "Kafka has acknowledged all records of a transaction, and knows no offsets"},
	{TxnOffsets, Engine, "the offsets are in the transaction, and its end has not been asked for"},
	{TxnEnding, Engine, "the end of a transaction has been asked for, and not answered"},
	{TxnEnded, Engine, "Kafka has acknowledged the end of a transaction, and nobody here knows"},
	{TxnAbort, Engine, "a transaction is to be aborted"},
	{TxnAborted, Engine, "a transaction is aborted, and its commands have not been given back"},
	{TxnUnseen, Engine, "the end of a transaction was not seen, and nobody has looked for it"},
	{TxnResolved, Engine, "what became of a transaction was found in the log"},
	{PlainBegin, Engine, "positions are to be moved without a transaction"},
	{PlainDone, Engine, "positions were moved without a transaction"},

	{CommitKnown, Engine, "what became of a transaction is known, and no shard has been told"},
	{CommitTold, Engine, "a shard knows what became of a transaction, and nobody has an answer"},
	{AnswerBegin, Engine, "a recorded outcome is to be given to who waits for it"},
	{AnswerGiven, Engine, "an outcome was given to who waits here, or is queued for where he waits"},
	{PostBegin, Engine, "outcomes are to be posted to another gateway"},
	{PostDone, Engine, "another gateway has taken outcomes"},
	{PostReceived, Engine, "outcomes have come from another gateway, and who waits has none"},
	{PostResolved, Engine, "who waits has the outcomes from another gateway, which does not know"},
	{SnapshotSave, Engine, "snapshots are to be written to Redis"},
	{SnapshotSaved, Engine, "snapshots are written to Redis"},

	{AsideWrite, Engine, "a command is to be set aside"},
	{AsideWritten, Engine, "a command is set aside"},
	{AsideDelete, Engine, "a set-aside record is to be deleted: its command has its outcome"},
	{AsideDeleted, Engine, "a set-aside record is deleted"},
	{ParkBegin, Engine, "a command is to be parked, beside a record that says that this is its end"},
	{ParkDone, Engine, "a command is parked, and not listed"},
	{ParkList, Engine, "a parked command is to be listed"},
	{ParkListed, Engine, "a parked command is listed"},
	{OrderRead, Engine, "an operator's order about a command has been read"},
	{OrderObeyed, Engine, "an operator's order about a command is obeyed, and nothing of that is recorded"},

	{HeadsWrite, Engine, "a checkpoint of the heads is to be written"},
	{HeadsWritten, Engine, "a checkpoint of the heads is written"},
	{RevokeBegin, Engine, "partitions are to be given up"},
	{RevokeDone, Engine, "partitions are given up, and the group has not been told"},

	{TakeoverBegin, Engine, "a partition is to be taken over"},
	{TakeoverSchemas, Engine, "all schemas are known"},
	{TakeoverEndWriter, Engine, "the open transaction of another writer is to be ended"},
	{TakeoverWriterEnded, Engine, "the open transaction of another writer is ended"},
	{TakeoverSettled, Engine, "no transaction is open that might still change what is read next"},
	{TakeoverPosition, Engine, "the committed position is read"},
	{TakeoverAsides, Engine, "the set-aside records are read, with their commands"},
	{TakeoverHeads, Engine, "the heads are read"},
	{TakeoverEvents, Engine, "the events behind the heads are read"},
	{TakeoverShard, Engine, "a shard is there, and no command is being read"},
	{TakeoverDone, Engine, "commands of a partition that was taken over are being read"},

	{DispatchAsked, Dispatch, "a dispatcher has answered, and nothing is recorded"},
	{DispatchDecided, Dispatch, "the decision is recorded, its commands are perhaps not sent"},
	{RelayRead, Dispatch, "a relay has read a decision and sent none of its commands"},
	{RelaySent, Dispatch, "Kafka has acknowledged a command, the relay's position stands before it"},
}
