package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/httplimit"
)

// HTTPNeeds are the parts of the gateway that the HTTP face works with. All
// are required but Registrar, Triggers, Causes and Streams, without which their routes answer 503.
type HTTPNeeds struct {
	Appender  Appender
	Reader    Reader
	Schemas   Schemas
	Readiness Readiness
	Waiters   *Waiters
	Metrics   *Metrics
	Gatherer  prometheus.Gatherer // what /metrics shows
	Log       *slog.Logger

	Registrar SchemaRegistrar
	Triggers  TriggerLister
	Causes    *Causes
	Streams   *Streams

	Dispatching Dispatching  // may be nil: nothing is dispatched
	Partitions  int32        // of the commands topic, and of those cut like it; 0: not known, and no list is called incomplete
	Topics      kafka.Topics // tells coordinates of events from those of commands
}

// HTTPServer is the HTTP face of a gateway: intake, queries and operation on
// the public listener, outcomes and owned reads on the internal one.
type HTTPServer struct {
	config   HTTPConfig
	need     HTTPNeeds
	auth     Authenticator
	classify classifier
	bodies   bodyReader
	answers  *httplimit.Answers
	outcomes bodyReader // of other gateways
	inflight limitGauge
	seats    *streamSeats
	signer   *internalSigner
	proxy    *http.Client  // to owning gateways
	cached   time.Duration // how long a snapshot is looked for before the owner is asked
	metrics  http.Handler
	stopping atomic.Bool
	crowded  atomic.Pointer[map[runtime.AggregateID]struct{}] // told by other gateways
	now      func() time.Time
}

// NewHTTPServer makes the HTTP face; it opens nothing. The error lists every
// wrong setting ([HTTPConfig.Check]).
func NewHTTPServer(c HTTPConfig, need HTTPNeeds) (*HTTPServer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &HTTPServer{
		config:   c,
		need:     need,
		auth:     c.Auth,
		classify: classifier{schemas: need.Schemas, maxData: c.MaxData, now: time.Now},
		bodies:   bodyReader{&httplimit.Bodies{Max: c.MaxBody, Total: c.MaxBuffered}},
		answers:  &httplimit.Answers{Total: c.MaxBuffered},
		outcomes: bodyReader{&httplimit.Bodies{Max: outcomeBodyLimit, Total: internalMaxBuffered}},
		inflight: limitGauge{limit: int64(c.MaxInflight)},
		seats:    &streamSeats{limit: c.MaxStreams},
		signer:   newInternalSigner(c.InternalSecrets, time.Now),
		proxy:    newInternalClient(),
		cached:   cachedTimeout,
		metrics:  promhttp.HandlerFor(need.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}),
		now:      time.Now,
	}
	if s.auth == nil {
		s.auth = authAnonymous{source: c.anonymousSource()}
	}
	return s, nil
}

// HTTPListeners are the open listeners of a gateway.
type HTTPListeners struct{ Public, Internal net.Listener }

// Close closes both.
func (l HTTPListeners) Close() error {
	return errors.Join(l.Public.Close(), l.Internal.Close())
}

// ListenHTTP checks the settings and opens the listeners, so that the address
// that other gateways reach ([HTTPConfig.AdvertiseOn]) is known before
// anything else is made.
func ListenHTTP(ctx context.Context, c HTTPConfig) (HTTPListeners, error) {
	if err := c.Check(); err != nil {
		return HTTPListeners{}, err
	}
	c = c.withDefaults()
	var config net.ListenConfig
	public, err := config.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return HTTPListeners{}, fmt.Errorf("%s: %w", settingListen, err)
	}
	internal, err := config.Listen(ctx, "tcp", c.Internal)
	if err != nil {
		return HTTPListeners{}, errors.Join(fmt.Errorf("%s: %w", settingInternal, err), public.Close())
	}
	return HTTPListeners{Public: httplimit.Limit(public, c.MaxConns), Internal: httplimit.Limit(internal, internalMaxConns)}, nil
}

// AdvertiseOn returns host:port of the internal listener as other gateways reach it.
func (c HTTPConfig) AdvertiseOn(l HTTPListeners) string {
	if c.Advertise != "" {
		return c.Advertise
	}
	return l.Internal.Addr().String()
}

// Run serves on both listeners until ctx ends, then lets waiting clients go
// (they get 202), finishes what is being answered and returns. The error is
// that of a listener that failed, or of a grace that ran out.
func (s *HTTPServer) Run(ctx context.Context, l HTTPListeners) error {
	public, internal := s.newServer(s.PublicHandler()), s.newServer(s.InternalHandler())
	s.limit(public, l.Public, s.bodies)
	s.limit(internal, l.Internal, s.outcomes)
	watch, unwatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { s.watchCrowded(watch) })
	defer watching.Wait()
	defer unwatch()
	failed := make(chan error, 2)
	for _, x := range []struct {
		server   *http.Server
		listener net.Listener
	}{{public, l.Public}, {internal, l.Internal}} {
		go func() { failed <- x.server.Serve(x.listener) }()
	}
	var err error
	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	// 1 No new work is announced, 2 who waits is let go, 3 what runs ends. The
	// internal listener is the last, as it brings outcomes and owned reads.
	s.stopping.Store(true)
	s.need.Waiters.Close()
	if s.need.Streams != nil {
		s.need.Streams.Close()
	}
	grace, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.config.Grace, fmt.Errorf("requests were still being answered after %s", s.config.Grace))
	defer cancel()
	for _, server := range []*http.Server{public, internal} {
		if e := server.Shutdown(grace); e != nil {
			err = errors.Join(err, context.Cause(grace), server.Close())
		}
	}
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	s.proxy.CloseIdleConnections()
	return err
}

// limit has the connections of a server give way to new ones: those without a
// request, then those whose body comes slowly, then those that take their answer slowly.
func (s *HTTPServer) limit(server *http.Server, l net.Listener, bodies bodyReader) {
	if limited, ok := l.(*httplimit.Listener); ok {
		server.ConnState = limited.State
		limited.GiveWay = func() bool { return bodies.GiveWay() || s.answers.GiveWay() }
	}
}

// Times of the HTTP server that are nobody's to set.
const (
	httpHeaderTimeout = 5 * time.Second  // for the headers of a request
	httpReadTimeout   = 30 * time.Second // for a whole request
	httpIdleTimeout   = 2 * time.Minute  // of a connection without requests
)

// newServer has a limit for everything that a client can stretch.
func (s *HTTPServer) newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      s.config.MaxWait + s.config.AppendTimeout + 30*time.Second, // begins with the headers
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    s.config.MaxHeader,
		ErrorLog:          slog.NewLogLogger(s.need.Log.Handler(), slog.LevelDebug), // broken handshakes and the like
	}
}
