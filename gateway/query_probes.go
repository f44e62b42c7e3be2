package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// getHealth says that the process answers: a probe that fails restarts it, so
// it knows nothing of Kafka, which a restart would not bring back.
func (s *HTTPServer) getHealth(w http.ResponseWriter, _ *http.Request, _ *AuthPrincipal) error {
	return writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
}

// readyTimeout is for all checks of one probe.
const readyTimeout = 2 * time.Second

// getReady says whether this gateway can do its work now, and what not.
func (s *HTTPServer) getReady(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	ctx, cancel := context.WithTimeoutCause(r.Context(), readyTimeout, fmt.Errorf("no answer within %s", readyTimeout))
	defer cancel()
	checks := map[string]string{}
	status, word := http.StatusOK, "ready"
	for name, err := range s.need.Readiness.Ready(ctx) {
		checks[name] = "ok"
		if err != nil {
			checks[name] = err.Error()
			status, word = http.StatusServiceUnavailable, "not ready"
		}
	}
	if s.stopping.Load() {
		status, word = http.StatusServiceUnavailable, "stopping"
	}
	return writeJSON(w, status, map[string]any{"status": word, "checks": checks})
}

func (s *HTTPServer) getMetrics(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	s.metrics.ServeHTTP(w, r)
	return nil
}
