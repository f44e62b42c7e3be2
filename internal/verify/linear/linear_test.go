package linear

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

const entity runtime.Entity = "a:1"

var origin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return origin.Add(time.Duration(ms) * time.Millisecond) }

// run is what clients and log know of one aggregate.
type run struct {
	log     *Log
	history []verify.Operation
	reads   []verify.Read
	version uint64

	commands int64 // in the log, of those with an expected version
}

// command takes effect now, with so many events.
func (r *run) command(id string, events int, sent, done int) *verify.Operation {
	o := verify.Operation{Source: "/c", ID: id, Entity: entity, Attempts: []verify.Attempt{{Sent: at(sent), Done: at(done), Result: verify.OK, Outcome: &verify.Outcome{Status: "done"}}}}
	for pos := range events {
		r.version++
		r.log.Event(verify.Record{At: runtime.Coordinates{Topic: "events", Offset: int64(r.version)}, M: &runtime.Message{
			ID: o.Key().EventID(pos + 1), Type: "A.Done", Subject: entity, CausationID: id, Sequence: r.version, Pos: pos + 1, Count: events,
		}})
	}
	r.history = append(r.history, o)
	return &r.history[len(r.history)-1]
}

// rejected is a command that needs a version which is not there now.
func (r *run) rejected(id string, expect uint64, sent, done int) {
	o := verify.Operation{Source: "/c", ID: id, Entity: entity, Attempts: []verify.Attempt{{Sent: at(sent), Done: at(done), Result: verify.OK, Outcome: &verify.Outcome{Status: "rejected"}}}}
	r.commands++
	cause := runtime.Coordinates{Topic: "commands", Offset: r.commands}
	r.log.Command(verify.Record{At: cause, M: &runtime.Message{ID: id, Source: "/c", Subject: entity, Expect: &expect}})
	r.log.Event(verify.Record{M: &runtime.Message{ID: o.Key().EventID(1), Type: runtime.TypeCommandRejected, Subject: entity, CausationID: id, Cause: cause, Pos: 1, Count: 1}})
	r.history = append(r.history, o)
}

// conflict is another command with the id of one before.
func (r *run) conflict(id string, expect uint64) {
	r.commands++
	r.log.Command(verify.Record{At: runtime.Coordinates{Topic: "commands", Offset: r.commands}, M: &runtime.Message{ID: id, Source: "/c", Subject: entity, Expect: &expect}})
}

func (r *run) read(version uint64, sent, done int) {
	r.reads = append(r.reads, verify.Read{Entity: entity, Sent: at(sent), Done: at(done), Version: version, State: []byte{byte(version)}})
}

func (r *run) check() Result { return r.log.Check(r.history, r.reads, time.Minute) }

// honest is a run of clients that overlap, each operation taking effect at a moment
// between its call and its answer.
func honest(seed uint64) *run {
	random := rand.New(rand.NewPCG(seed, 7))
	r := &run{log: NewLog()}
	for i := range 60 {
		moment := 10 * i
		sent, done := moment-random.IntN(60), moment+random.IntN(60)
		switch random.IntN(8) {
		case 0, 1, 2:
			o := r.command(fmt.Sprint("c-", i), 1+random.IntN(2), sent, done)
			if random.IntN(4) == 0 { // nobody was told, or only later
				o.Attempts = append(o.Attempts[:0], verify.Attempt{Sent: at(sent), Done: at(done - 1000)})
			}
		case 3:
			r.rejected(fmt.Sprint("c-", i), r.version+1+random.Uint64N(3), sent, done)
		case 4: // never written, and nobody knows
			r.history = append(r.history, verify.Operation{Source: "/c", ID: fmt.Sprint("c-", i), Entity: entity, Attempts: []verify.Attempt{{Sent: at(sent)}}})
		default:
			r.read(r.version, sent, done)
		}
	}
	return r
}

func TestHonestHistoriesAreLinearizable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := honest(seed)
		result := r.check()
		if len(result.Violations) > 0 || len(result.Undecided) > 0 || result.Operations < 20 {
			t.Errorf("seed %d: %+v", seed, result)
		}
		// What others sent, takes effect whenever it does.
		r.history = slices.DeleteFunc(r.history, func(o verify.Operation) bool { return o.Type == "" && o.ID[len(o.ID)-1] == '3' })
		if result := r.check(); len(result.Violations) > 0 {
			t.Errorf("seed %d, commands of others: %+v", seed, result)
		}
	}
}

// What a command expected is known by its place: one that comes later with its id, and
// is refused for that, may expect anything.
func TestUsedIDSaysNothingOfTheFirst(t *testing.T) {
	t.Parallel()
	r := &run{log: NewLog()}
	r.rejected("c-1", 9, 0, 10)
	r.conflict("c-1", 0)
	if result := r.check(); len(result.Violations) > 0 || result.Operations != 1 {
		t.Errorf("%+v", result)
	}
}

func TestEachLieIsFound(t *testing.T) {
	t.Parallel()
	lies := map[string]struct {
		says string
		tell func(r *run)
	}{
		"a read of what was overwritten before it began": {"a read of version 1", func(r *run) { r.read(1, 500, 510) }},
		"a read of what nobody has written yet":          {"a read of version 5", func(r *run) { r.command("c-9", 1, 900, 950); r.read(5, 500, 510) }},
		"a read of half a command's events":              {"a read of version 2", func(r *run) { r.read(2, 0, 1000) }},
		"two reads that see time run backwards":          {"a read of version 1", func(r *run) { r.read(3, 125, 130); r.read(1, 135, 140) }},
		"who was answered first comes later": {"no order", func(r *run) {
			r.history[0].Attempts[0].Sent, r.history[0].Attempts[0].Done = at(700), at(710)
		}},
		"rejected for a version that was there all the time": {"was rejected", func(r *run) { r.rejected("c-9", 4, 500, 510) }},
		"unknown, and effective before it was sent": {"no order", func(r *run) {
			r.history[0].Attempts = []verify.Attempt{{Sent: at(700)}}
		}},
		"one version with two states": {"two states", func(r *run) {
			r.read(4, 500, 510)
			r.read(4, 520, 530)
			r.reads[len(r.reads)-1].State = []byte("else")
		}},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &run{log: NewLog()}
			r.command("c-1", 1, 0, 100)
			r.command("c-2", 2, 110, 200)
			r.rejected("c-3", 1, 210, 220)
			r.command("c-4", 1, 230, 300)
			r.read(4, 310, 320)
			if result := r.check(); len(result.Violations) > 0 {
				t.Fatalf("without the lie: %v", result.Violations)
			}
			lie.tell(r)
			result := r.check()
			if len(result.Violations) != 1 || !strings.Contains(result.Violations[0].Text, lie.says) {
				t.Errorf("found %q, want one with %q", result.Violations, lie.says)
			}
		})
	}
}

// An outcome that nobody was told may come to be at any later time, or never.
func TestUnknownIsNotFailed(t *testing.T) {
	t.Parallel()
	r := &run{log: NewLog()}
	r.command("c-1", 1, 0, 100)
	r.read(1, 500, 510)
	late := r.command("c-2", 1, 150, 0)
	late.Attempts = []verify.Attempt{{Sent: at(150), Done: at(160), Result: verify.Unknown}}
	r.read(1, 800, 810)
	r.read(2, 900, 910)
	if result := r.check(); len(result.Violations) > 0 {
		t.Errorf("found %v", result.Violations)
	}
}
