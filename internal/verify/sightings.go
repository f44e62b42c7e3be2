package verify

import (
	"fmt"

	"github.com/evento-oss/evento/runtime"
)

// order is I12: what one was shown of an aggregate comes in the order of its
// versions, and what comes again is recognisable by its source and id.
func (c *Checker) order(all []Sighting) {
	type stream struct {
		by        string
		aggregate runtime.AggregateID
	}
	type identity struct{ by, source, id string }
	last := map[stream]Sighting{}
	seen := map[identity]Sighting{}
	where := map[string]map[runtime.Coordinates]identity{}
	for _, s := range all {
		me := identity{s.By, s.Source, s.ID}
		if where[s.By] == nil {
			where[s.By] = map[runtime.Coordinates]identity{}
		}
		before, again := seen[me]
		switch other, known := where[s.By][s.At]; {
		case again && before.At != s.At:
			c.sighting(SinkOrder, s, "the event with its source %q and id %q was shown as %s, too: a repeat cannot be told from another one", s.Source, s.ID, before.At)
		case known && other != me:
			c.sighting(SinkOrder, s, "it was shown with source %q and id %q before: a repeat cannot be recognised", other.source, other.id)
		}
		seen[me], where[s.By][s.At] = s, me
		of := stream{s.By, s.Aggregate}
		if l := last[of]; !again && s.At.Topic == l.At.Topic && s.At.Offset < l.At.Offset {
			c.sighting(SinkOrder, s, "it is shown for the first time after %s, which is newer", l.At)
		}
		if l, ok := last[of]; !ok || !again || s.At.Offset > l.At.Offset {
			last[of] = s
		}
	}
}

func (c *Checker) sighting(i Invariant, s Sighting, format string, args ...any) {
	c.add(Violation{Invariant: i, At: s.At, Entity: string(s.Aggregate), Text: s.By + ": " + fmt.Sprintf(format, args...)})
}

// shown holds an event against what others were shown at its place.
func (c *Checker) shown(r Record) {
	all, ok := c.sightings[r.At]
	if !ok {
		return
	}
	for _, s := range all {
		if s.ID != r.M.ID || s.Aggregate != r.M.Aggregate() || s.Sequence != r.M.Sequence {
			c.sighting(CommittedOnly, s, "it was shown event %s of %s, version %d; committed is %s of %s, version %d", s.ID, s.Aggregate, s.Sequence, r.M.ID, r.M.Aggregate(), r.M.Sequence)
		}
	}
	delete(c.sightings, r.At)
}

// finishSightings is I6: what was shown is committed.
func (c *Checker) finishSightings() {
	for at, all := range c.sightings {
		if !c.read(at) {
			continue
		}
		for _, s := range all {
			c.sighting(CommittedOnly, s, "it was shown event %s, and no committed event stands there", s.ID)
		}
	}
}
