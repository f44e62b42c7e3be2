package simulate

import (
	"strconv"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/runtime"
)

// bug is a mistake that somebody could make, put into the world on purpose: the
// checker is worth nothing unless it finds each of them.
type bug string

const (
	bugNoFence               bug = "no fence: positions are committed as nobody"
	bugCachedGeneration      bug = "cached generation: that of the first assignment, for ever"
	bugPreJoinGeneration     bug = "pre-join generation: what the client reports while it is no member"
	bugRebalancingGeneration bug = "the generation that the client reports, of a rebalance in progress"
	bugTermIgnored           bug = "terms are ignored: whoever holds the partition now may commit an old batch"
	bugAbortedCounts         bug = "an aborted transaction is taken for a committed one"
	bugAbortCommits          bug = "what is to be aborted is committed"
	bugUncertainIsCommitted  bug = "an end that was not seen is taken for a commit"
	bugUncertainIsAborted    bug = "an end that was not seen is taken for an abort"
	bugNilIsProof            bug = "the client's nil is proof, with a request still on its way (transaction.version 1)"
	bugOffsetsAlone          bug = "offsets in a transaction without records"
	bugOffsetsBeforeFlush    bug = "offsets are committed before the events are flushed"
	bugOffsetFirst           bug = "a set-aside record without its offset: the position moves before the record is there"
	bugTombstoneWithOutcome  bug = "set-aside tombstone in the transaction of its outcome"
	bugAsideDropped          bug = "the position moves past what is set aside, and no record says so"
	bugSameBatchForEver      bug = "the same aborted batch is tried for ever"
	bugNoRewind              bug = "no rewind after an abort: its commands are forgotten"
	bugHighBeforePosition    bug = "takeover reads the high watermark before the committed position"
	bugReadToStable          bug = "takeover reads to the last stable offset and ends nobody's transaction"
	bugUncommittedRead       bug = "takeover reads what is not committed"
	bugAsidesNotRead         bug = "takeover does not read what is set aside"
	bugMetadataIgnored       bug = "offset metadata are ignored"
	bugMetadataTooLong       bug = "offset metadata of more than 4,096 bytes"
	bugDedupDropped          bug = "dedup dropped: a repeat is a new command"
	bugDedupWithoutSource    bug = "dedup without the source"
	bugAnswerBeforeCommit    bug = "answer before the commit"
	bugFunctionCache         bug = "speculative state is kept after an abort"
	bugLateAnswersCount      bug = "late answers of functions count for later calls"
	bugHeadsWithoutFence     bug = "heads are written without the fence"
	bugCheckpointAhead       bug = "a checkpoint is ahead of its heads"
	bugRedisWithoutHead      bug = "a value of Redis is used without its head"
	bugOlderNotBroughtUp     bug = "an older value of Redis is not brought up"
	bugStraysAreOwn          bug = "CRC32 partitioner: a command is done where it stands"
	bugAggregatorAfterCommit bug = "the aggregator is asked after the commit"
	bugParkedTwice           bug = "parked twice"
	bugReadNotConfirmed      bug = "who was an owner answers reads as before: the group is not asked"
	bugDispatchedEarly       bug = "a dispatcher's commands are sent before its decision is recorded"
)

var plantedBugs = []bug{
	bugNoFence, bugCachedGeneration, bugPreJoinGeneration, bugRebalancingGeneration, bugTermIgnored, bugAbortedCounts, bugAbortCommits,
	bugUncertainIsCommitted, bugUncertainIsAborted, bugNilIsProof, bugOffsetsAlone, bugOffsetsBeforeFlush, bugOffsetFirst,
	bugTombstoneWithOutcome, bugAsideDropped, bugSameBatchForEver, bugNoRewind, bugHighBeforePosition, bugReadToStable,
	bugUncommittedRead, bugAsidesNotRead, bugMetadataIgnored, bugMetadataTooLong, bugDedupDropped, bugDedupWithoutSource,
	bugAnswerBeforeCommit, bugFunctionCache, bugLateAnswersCount, bugHeadsWithoutFence, bugCheckpointAhead, bugRedisWithoutHead,
	bugOlderNotBroughtUp, bugStraysAreOwn, bugAggregatorAfterCommit, bugParkedTwice,
	bugReadNotConfirmed, bugDispatchedEarly,
}

func (w *world) has(b bug) bool { return w.bug == b }

// bugBatch puts what is wrong into a transaction.
func (w *world) bugBatch(cp commitPart, t *txn) {
	switch w.bug {
	case bugAnswerBeforeCommit:
		for i := range cp.batch.Records {
			m := cp.batch.Records[i].Message
			if m == nil || m.Pos != 1 {
				continue
			}
			c := w.command(&w.kafka.logs[commands][cp.pt.held.part].entries[m.Cause.Offset])
			o := shard.Outcome{Status: shard.Done}
			at := w.kafka.logs[events][cp.pt.held.part].end()
			for j, r := range cp.batch.Records[i : i+m.Count] {
				o.Records = append(o.Records, shard.Recorded{Message: r.Message, At: runtime.Coordinates{Offset: at + int64(i+j)}})
			}
			w.check.answered(cp.pt, shard.Answer{Command: c, Outcome: o})
			w.tell(cp.pt.n, c, o)
		}
	case bugTombstoneWithOutcome:
		for i := range cp.batch.Records {
			m := cp.batch.Records[i].Message
			if m == nil || m.Pos != 1 {
				continue
			}
			key := strconv.FormatInt(m.Cause.Offset, 10)
			live := false
			for _, e := range w.kafka.logs[parked][cp.pt.held.part].entries {
				if e.key == key && e.committed() {
					live = e.value != nil
				}
			}
			if live {
				t.records = append(t.records, record{topic: parked, part: cp.pt.held.part, key: key, id: cp.pt.n.identity(), owner: cp.pt.owner})
			}
		}
	case bugAsideDropped:
		for i := range t.records {
			if r := &t.records[i]; r.topic == parked && r.value != nil {
				r.key, r.value = "999999999", nil
			}
		}
	case bugMetadataTooLong:
		for i := range t.offsets {
			t.offsets[i].metadata += string(make([]byte, metadataMost))
		}
	case bugParkedTwice:
		for i := range cp.batch.Records {
			if m := cp.batch.Records[i].Message; m != nil && m.Type == runtime.TypeCommandParked {
				t.records = append(t.records, cp.pt.record(&cp.batch.Records[i]))
				return
			}
		}
	}
}
