package gateway

import (
	"net/http"

	"github.com/evento-oss/evento/internal/crash"
)

// postOutcomes takes outcomes from owning gateways and wakes who waits for
// them. One that comes for nobody is no fault: its client is gone, or has its 202.
func (s *HTTPServer) postOutcomes(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	// The public limit of all bodies does not count here: it would let clients
	// that send much keep away the answers that others wait for.
	body, release, err := s.outcomes.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	if err := s.signer.verify(r, body); err != nil {
		return fail(problemUnauthenticated, "%s", errInternalSignature).because(err)
	}
	wires, outcomes, err := parseOutcomeBatch(body)
	if err != nil && outcomes == nil {
		return fail(problemMalformed, "the outcomes cannot be read: do the gateways have the same version?").because(err)
	}
	if err != nil {
		s.need.Log.Warn("outcomes from another gateway cannot be read; their clients get 202 at their deadline", "err", err)
	}
	crash.At(crash.PostReceived)
	for i, o := range outcomes {
		result := "nobody"
		switch {
		case o == nil:
			result = "unreadable"
		case s.need.Waiters.Resolve(wires[i].Nonce, o):
			result = "resolved"
		}
		s.need.Metrics.outcomesReceived.WithLabelValues(result).Inc()
	}
	crash.At(crash.PostResolved)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
