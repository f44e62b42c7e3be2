package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A state that need not be the newest is answered by any gateway, from the
// snapshot in Redis. That it need not be is said by the reader: with
// min-version (this one or a later), or with "Cache-Control: max-stale".
// Whoever says neither is answered by the owner (docs/decisions/0010).

// headerServedBy is in an answer that is not the owner's.
const (
	headerServedBy   = "Evento-Served-By"
	servedBySnapshot = "snapshot"
)

// cachedTimeout is how long a snapshot is looked for before the owner is asked.
const cachedTimeout = time.Second

// staleness is how old a state may be for its reader.
type staleness struct {
	minVersion uint64        // 0: any
	bounded    bool          // no older than max
	max        time.Duration // since the last event was recorded
}

// parseStaleness returns what age a reader takes; false when it wants the newest
// state. Of Cache-Control (RFC 9111, 5.2.1) two directives count: no-cache asks
// the owner whatever else is said, and max-stale takes what is older, by at most
// so many seconds if it has a number. A malformed one is as good as none.
func parseStaleness(cacheControl []string, minVersion uint64) (staleness, bool) {
	need, allowed := staleness{minVersion: minVersion}, minVersion > 0
	for _, h := range cacheControl {
		for directive := range strings.SplitSeq(h, ",") {
			name, value, given := strings.Cut(strings.TrimSpace(directive), "=")
			switch {
			case strings.EqualFold(name, "no-cache"):
				return staleness{}, false
			case !strings.EqualFold(name, "max-stale"):
			case !given:
				allowed = true
			default:
				seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 32)
				if err != nil {
					return staleness{}, false
				}
				limit := time.Duration(seconds) * time.Second
				if need.bounded {
					limit = min(limit, need.max)
				}
				allowed, need.bounded, need.max = true, true, limit
			}
		}
	}
	return need, allowed
}

// enough says whether a state will do. It was the newest one when its last event
// was recorded, so it has been out of date for at most as long as that is ago.
func (n staleness) enough(now time.Time, version uint64, recorded time.Time) bool {
	return version >= n.minVersion && (!n.bounded || now.Sub(recorded) <= n.max)
}

// answerCached answers with a snapshot that will do, if there is one. False
// means that nothing is written and the owner has to be asked: it alone knows
// that something is not there.
func (s *HTTPServer) answerCached(w http.ResponseWriter, r *http.Request, q aggregateQuery) (bool, error) {
	need, allowed := parseStaleness(r.Header.Values("Cache-Control"), q.minVersion)
	if !allowed || passedOn(r.Context()) {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.cached, fmt.Errorf("no snapshot within %s", s.cached))
	defer cancel()
	state, recorded, err := s.need.Reader.Cached(ctx, q.entity.Aggregate(), func(version uint64, recorded time.Time) bool {
		return need.enough(s.now(), version, recorded)
	})
	var shown aggregateAnswer
	if err == nil {
		shown, err = s.showAggregate(q, state, recorded)
	}
	result := "answered"
	var missing *problem
	switch {
	case err == nil:
	case errors.Is(err, ErrSnapshotMiss):
		result = "miss"
	case errors.Is(err, ErrBehind), errors.As(err, &missing): // an entity that may have come since
		result = "too-old"
	default:
		result = "away"
		s.need.Log.Debug("no snapshot; the owner is asked", "entity", string(q.entity), "err", err)
	}
	s.need.Metrics.cachedReads.WithLabelValues(result).Inc()
	if err != nil {
		return false, nil
	}
	h := w.Header()
	h.Set(headerServedBy, servedBySnapshot)
	h.Set("Age", strconv.FormatInt(int64(math.Ceil(max(0, s.now().Sub(recorded).Seconds()))), 10))
	return true, shown.write(w, r)
}
