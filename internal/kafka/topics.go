package kafka

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultPrefix is the beginning of all topics' names unless the installation chose another.
const DefaultPrefix = "kf-evento"

// Layout says how the events are spread over topics. It is chosen at
// installation and never changed.
type Layout string

const (
	// Single keeps the events of all aggregates in one topic.
	Single Layout = "single"
	// PerAggregate keeps the events of each type of aggregate in a topic of its own.
	PerAggregate Layout = "per-aggregate"
)

// Topics names the topics of an installation. The zero value has the default
// prefix and the layout [Single].
type Topics struct {
	Prefix string
	Layout Layout
}

// MaxTopicName is the greatest length of a topic's name that Kafka takes.
const MaxTopicName = 249

// Check says what is wrong with the prefix or the layout.
func (t Topics) Check() error {
	if t.Layout != "" && t.Layout != Single && t.Layout != PerAggregate {
		return fmt.Errorf("layout %q is neither %q nor %q", t.Layout, Single, PerAggregate)
	}
	if p := t.prefix(); !validTopic(p) || len(p) > MaxTopicName/2 {
		return fmt.Errorf("topic prefix %q is not 1 to %d letters, digits, '.', '_' or '-'", p, MaxTopicName/2)
	}
	return nil
}

func validTopic(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return name != "" && name != "." && name != ".."
}

func (t Topics) prefix() string {
	if t.Prefix == "" {
		return DefaultPrefix
	}
	return t.Prefix
}

func (t Topics) layout() Layout {
	if t.Layout == "" {
		return Single
	}
	return t.Layout
}

// Commands holds commands and events to publish, before they are decided.
func (t Topics) Commands() string { return t.prefix() + "-commands" }

// Events holds the events of this type of aggregate ("CheckingAccount"); in the
// layout [Single] it is the same for all.
func (t Topics) Events(aggregate string) string {
	if t.layout() == PerAggregate {
		return t.prefix() + "-events." + aggregate
	}
	return t.prefix() + "-events"
}

// IsEvents says whether a topic holds events, and in the layout [PerAggregate] of which type of aggregate.
func (t Topics) IsEvents(topic string) (aggregate string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.prefix()+"-events")
	if t.layout() == Single {
		return "", ok && rest == ""
	}
	aggregate, ok = strings.CutPrefix(rest, ".")
	return aggregate, ok && aggregate != "" && strings.HasPrefix(topic, t.prefix()+"-events")
}

// Dispatched holds what dispatchers decided.
func (t Topics) Dispatched() string { return t.prefix() + "-dispatched" }

// Parked holds the commands that are set aside, by their offset in [Topics.Commands]. Compacted.
func (t Topics) Parked() string { return t.prefix() + "-parked" }

// Heads holds the last record of each aggregate. Compacted.
func (t Topics) Heads() string { return t.prefix() + "-heads" }

// Schemas holds the registered schemas and the installation's record, in one partition. Compacted.
func (t Topics) Schemas() string { return t.prefix() + "-schemas" }

// topicKind says what a topic's settings must be.
type topicKind uint8

const (
	keeps    topicKind = iota // everything is kept for ever
	compacts                  // the last value of each key is kept for ever
	quickly                   // the same, in small segments: the active one is never compacted
)

// topicPlan is one topic as it should be.
type topicPlan struct {
	name       string
	kind       topicKind
	partitions int32
}

// plan lists the topics of an installation with these types of aggregates.
func (t Topics) plan(partitions int32, aggregates []string) []topicPlan {
	plan := []topicPlan{
		{t.Schemas(), compacts, 1},
		{t.Commands(), keeps, partitions},
		{t.Dispatched(), keeps, partitions},
		{t.Parked(), quickly, partitions},
		{t.Heads(), compacts, partitions},
	}
	if t.layout() == Single {
		return append(plan, topicPlan{t.Events(""), keeps, partitions})
	}
	// Who registers another version of an aggregate names it twice; a broker does not take that.
	for _, a := range slices.Compact(slices.Sorted(slices.Values(aggregates))) {
		plan = append(plan, topicPlan{t.Events(a), keeps, partitions})
	}
	return plan
}

// configs are what a topic is made with.
func (p topicPlan) configs(o Ensure) map[string]string {
	c := map[string]string{"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
	if p.kind != keeps {
		c["cleanup.policy"] = "compact"
	}
	if p.kind == quickly {
		// A command that is set aside and settled leaves two records; what a
		// takeover must read stays small only if they are compacted soon.
		c["segment.ms"] = "600000"
		c["segment.bytes"] = "16777216"
		c["min.cleanable.dirty.ratio"] = "0.1"
	}
	if o.MinInSync > 0 {
		c["min.insync.replicas"] = fmt.Sprint(o.MinInSync)
	}
	if o.MaxMessageBytes > 0 {
		c["max.message.bytes"] = fmt.Sprint(o.MaxMessageBytes)
	}
	return c
}

// verify says what is wrong with the settings that a topic has.
func (p topicPlan) verify(has map[string]string, o Ensure) (problems []error) {
	bad := func(setting, want, why string) {
		problems = append(problems, fmt.Errorf("topic %q: %s is %q, it must be %s: %s", p.name, setting, has[setting], want, why))
	}
	want, why := "delete", "events and commands are the only truth, and compaction would drop all but the last of each aggregate"
	if p.kind != keeps {
		want, why = "compact", "the last value of each key is needed for ever"
	}
	if has["cleanup.policy"] != want {
		bad("cleanup.policy", `"`+want+`"`, why)
	}
	// Under compaction alone retention has no effect, but one who adds "delete"
	// to the policy later would lose what the retention then says.
	for _, setting := range []string{"retention.ms", "retention.bytes"} {
		if v := has[setting]; v != "-1" {
			bad(setting, `"-1" (infinite)`, "history is kept for ever")
		}
	}
	var n int
	if _, err := fmt.Sscan(has["min.insync.replicas"], &n); o.MinInSync > 0 && (err != nil || n < o.MinInSync) {
		bad("min.insync.replicas", fmt.Sprintf("at least %d", o.MinInSync), "what is acknowledged must survive the loss of a broker")
	}
	if _, err := fmt.Sscan(has["max.message.bytes"], &n); o.MaxMessageBytes > 0 && (err != nil || n < o.MaxMessageBytes) {
		bad("max.message.bytes", fmt.Sprintf("at least %d", o.MaxMessageBytes), "a smaller limit refuses records that the gateway takes")
	}
	return problems
}
