package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// An aggregate that takes no more commands (its function fails, or it is sent
// more than it can work off) is known to its owner. A command that is in Kafka
// cannot be refused any more, so the other gateways must know, too: each asks
// the owners every now and then. What slips through meanwhile is bounded by the
// time between two questions.

const (
	crowdedPath  = "/internal/v1/crowded"
	crowdedEvery = time.Second
)

// watchCrowded keeps the set of aggregates that take no more until ctx ends.
func (s *HTTPServer) watchCrowded(ctx context.Context) {
	for sleep(ctx, crowdedEvery) {
		s.learnCrowded(ctx)
	}
}

// learnCrowded asks the other gateways. One that does not answer refuses
// nothing: it is slow or gone, and the next owner of its partitions will tell.
func (s *HTTPServer) learnCrowded(ctx context.Context) {
	others, err := s.need.Reader.Others(ctx)
	if err != nil {
		return
	}
	crowded := map[runtime.AggregateID]struct{}{}
	for _, address := range others {
		var theirs []runtime.AggregateID
		if err := s.askPeer(ctx, address, crowdedPath, &theirs); err != nil {
			s.need.Log.Debug("a gateway does not tell which aggregates take no more", "gateway", address, "err", err)
			continue
		}
		for _, id := range theirs {
			crowded[id] = struct{}{}
		}
	}
	s.crowded.Store(&crowded)
}

// takesNoMore says whether the owner of the message's aggregate has said so.
// The platform's own orders always pass: they are what gets it going again.
func (s *HTTPServer) takesNoMore(m *runtime.Message) bool {
	crowded := s.crowded.Load()
	if crowded == nil || m.Platform() {
		return false
	}
	_, is := (*crowded)[m.Aggregate()]
	return is
}

// getCrowdedHere answers another gateway's learnCrowded.
func (s *HTTPServer) getCrowdedHere(w http.ResponseWriter, _ *http.Request, _ *AuthPrincipal) error {
	list := s.need.Reader.Crowded()
	if list == nil {
		list = []runtime.AggregateID{}
	}
	return writeJSON(w, http.StatusOK, list)
}
