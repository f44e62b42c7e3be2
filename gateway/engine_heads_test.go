package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/evento-oss/evento/gateway/shard"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// headEvent is record pos of count of a command, as it stands in the events topic.
func headEvent(offset int64, command string, pos, count int, sequence uint64) kafka.Record {
	key := (&runtime.Message{ID: command, Source: "/test", Subject: "acc:1"}).Key()
	r := kafka.NewRecord("events", 0, &runtime.Message{
		ID: key.EventID(pos), Type: "Acc.Done", Source: "/evento/test/f", Subject: "acc:1", Pos: pos, Count: count, Sequence: sequence,
		Schema: "urn:evento:avro:Acc.Done:0000000000000001", CausationID: command, CorrelationID: command, Prev: runtime.NoPrev,
		Cause: runtime.Coordinates{Topic: "commands"}, Time: time.UnixMilli(1), RecordedTime: time.UnixMilli(1), Hash: "h", By: "f",
	})
	r.Offset = offset
	return r
}

func TestHeadScanFindsTornCommands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		records []kafka.Record
		torn    bool
	}{
		"whole":                {[]kafka.Record{headEvent(0, "a", 1, 2, 1), headEvent(1, "a", 2, 2, 2), headEvent(3, "b", 1, 1, 3)}, false},
		"first one missing":    {[]kafka.Record{headEvent(1, "a", 2, 2, 2)}, true},
		"last one missing":     {[]kafka.Record{headEvent(0, "a", 1, 2, 1), headEvent(3, "b", 1, 1, 2)}, true},
		"nothing after it":     {[]kafka.Record{headEvent(0, "a", 1, 2, 1)}, true},
		"a version is missing": {[]kafka.Record{headEvent(0, "a", 1, 1, 1), headEvent(3, "b", 1, 1, 3)}, true},
	} {
		take := &takeover{e: &Engine{cfg: EngineConfig{EventsID: func(string) string { return "id" }}}}
		take.forgetHeads()
		scan := newHeadScan(take)
		for i := range c.records {
			if err := scan.add(&c.records[i]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		scan.end()
		if got := take.torn["acc:1"]; (got != "") != c.torn {
			t.Errorf("%s: torn %q, want %v", name, got, c.torn)
		}
		if _, ok := take.unsaved["acc:1"]; !ok {
			t.Errorf("%s: the next checkpoint would leave the aggregate out", name)
		}
	}
}

func TestCheckpointDeletesHeadsOfNobody(t *testing.T) {
	t.Parallel()
	e := &Engine{process: "p-"}
	p := &partition{last: map[string]lastRecord{"events": {TopicID: "id", Offset: 7, Event: "e"}}}
	known := shard.Head{Version: 3, Offset: 7, Pos: 1}
	records := e.headRecords(p, shard.Checkpoint{Heads: map[runtime.AggregateID]shard.Head{"acc:1": known, "acc:2": {}}})
	got := map[string]string{}
	for _, r := range records {
		got[string(r.Key)] = fmt.Sprint(r.Value != nil)
	}
	if want := (map[string]string{"acc:1": "true", "acc:2": "false", checkpointKey: "true"}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("records with a value: %v, want %v", got, want)
	}
	if h, broken, err := parseHead(records[0].Value); err != nil || h != known || broken != "" {
		t.Errorf("read back: %+v, %v", h, err)
	}
}
