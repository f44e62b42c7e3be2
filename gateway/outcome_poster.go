package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/evento-oss/evento/internal/crash"
	"github.com/evento-oss/evento/runtime"
)

// Limits of the outcomes that are on their way to other gateways. A waiter
// that misses its outcome gets 202 at its deadline, so dropping is always right.
const (
	outcomeQueue       = 8192            // outcomes that wait to be sorted by gateway
	outcomePeerQueue   = 4096            // outcomes that wait for one gateway
	outcomeBatchCount  = 256             // outcomes in one post
	outcomeBatchBytes  = 1 << 20         // bytes after which a post is sent
	outcomePostTimeout = 2 * time.Second // for one post, connecting included
	outcomePeerIdle    = time.Minute     // after which a gateway is forgotten
	outcomeBodyLimit   = 16 << 20        // bytes that the receiver takes; one outcome may be big
	outcomePostPath    = "/internal/v1/outcomes"
)

// OutcomePoster brings outcomes to the gateways where they are awaited: after
// the commit the owner of a partition posts each outcome whose command carries
// a [runtime.Waiter]. Outcomes for the same gateway that come while a post is
// on its way share the next one; one alone goes at once.
type OutcomePoster struct {
	local   *Waiters
	client  *http.Client
	signer  *internalSigner
	metrics *Metrics
	log     *slog.Logger
	now     func() time.Time
	timeout time.Duration // of one post
	in      chan outcomeFor
}

type outcomeFor struct {
	waiter  runtime.Waiter
	outcome *Outcome
}

// NewOutcomePoster makes the poster. Secrets are those of [HTTPConfig].
func NewOutcomePoster(local *Waiters, secrets [][]byte, metrics *Metrics, log *slog.Logger) *OutcomePoster {
	return &OutcomePoster{
		local:   local,
		client:  newInternalClient(),
		signer:  newInternalSigner(secrets, time.Now),
		metrics: metrics,
		log:     log,
		now:     time.Now,
		timeout: outcomePostTimeout,
		in:      make(chan outcomeFor, outcomeQueue),
	}
}

// newInternalClient makes the client for calls to other gateways. It follows
// no redirect and asks no proxy: it is to reach the address it is given.
func newInternalClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			ResponseHeaderTimeout:  0, // each call has its own deadline
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Post hands on an outcome. It never blocks and never fails: what cannot be
// delivered is dropped and counted. A waiter at this gateway is answered
// before Post returns. Safe for concurrent use, also before Run and after it.
func (p *OutcomePoster) Post(w runtime.Waiter, o *Outcome) {
	switch {
	case w.Address == "":
		return
	case w.Address == p.local.Address():
		result := "nobody"
		if p.local.Resolve(w.Nonce, o) {
			result = "local"
		}
		p.metrics.outcomesPosted.WithLabelValues(result).Inc()
		return
	case !w.Deadline.IsZero() && p.now().After(w.Deadline):
		p.metrics.outcomesPosted.WithLabelValues("expired").Inc()
		return
	}
	select {
	case p.in <- outcomeFor{w, o}:
	default:
		p.metrics.outcomesPosted.WithLabelValues("dropped").Inc()
	}
}

// Run sends until ctx ends, and returns when no post is on its way any more.
func (p *OutcomePoster) Run(ctx context.Context) {
	var peers sync.WaitGroup
	defer peers.Wait()
	defer p.client.CloseIdleConnections()
	queues := make(map[string]chan outcomeFor)
	ended := make(chan string) // a peer that was idle; it ends when its queue is closed
	for {
		select {
		case <-ctx.Done():
			for _, q := range queues {
				close(q)
			}
			return
		case address := <-ended:
			close(queues[address])
			delete(queues, address)
		case o := <-p.in:
			q := queues[o.waiter.Address]
			if q == nil {
				q = make(chan outcomeFor, outcomePeerQueue)
				queues[o.waiter.Address] = q
				peers.Go(func() { p.runPeer(ctx, o.waiter.Address, q, ended) })
			}
			select {
			case q <- o:
			default:
				p.metrics.outcomesPosted.WithLabelValues("dropped").Inc()
			}
		}
	}
}

// runPeer sends to one gateway until its queue is closed. After a while
// without work it asks for that.
func (p *OutcomePoster) runPeer(ctx context.Context, address string, q <-chan outcomeFor, ended chan<- string) {
	idle := time.NewTimer(outcomePeerIdle)
	defer idle.Stop()
	for {
		select {
		case o, ok := <-q:
			if !ok {
				return
			}
			if ctx.Err() == nil {
				p.send(ctx, address, o, q)
			}
			idle.Reset(outcomePeerIdle)
		case <-idle.C:
			select {
			case ended <- address:
			case <-ctx.Done():
			}
			idle.Reset(outcomePeerIdle)
		}
	}
}

// send posts first and whatever else is queued by now.
func (p *OutcomePoster) send(ctx context.Context, address string, first outcomeFor, q <-chan outcomeFor) {
	body := []byte(`{"outcomes":[`)
	n := 0
	add := func(o outcomeFor) {
		text, err := json.Marshal(toOutcomeWire(o.waiter.Nonce, o.outcome))
		if err != nil {
			p.log.Error("outcome cannot be written", "entity", o.outcome.Entity, "err", err)
			return
		}
		if n > 0 {
			body = append(body, ',')
		}
		body = append(body, text...)
		n++
	}
	add(first)
collect:
	for n < outcomeBatchCount && len(body) < outcomeBatchBytes {
		select {
		case o, ok := <-q:
			if !ok {
				break collect
			}
			add(o)
		default:
			break collect
		}
	}
	body = append(body, ']', '}')
	p.metrics.outcomeBatch.Observe(float64(n))
	result := "sent"
	crash.At(crash.PostBegin)
	if err := p.post(ctx, address, body); err != nil {
		result = "failed"
		p.log.Warn("outcomes not delivered; their clients get 202 at their deadline", "gateway", address, "outcomes", n, "err", err)
	} else {
		crash.At(crash.PostDone)
	}
	p.metrics.outcomesPosted.WithLabelValues(result).Add(float64(n))
}

func (p *OutcomePoster) post(ctx context.Context, address string, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("no answer within %s", p.timeout))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+outcomePostPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	p.signer.sign(r, body)
	// Lets the transport repeat the post when a kept connection turns out to be
	// dead; a second delivery finds nobody waiting.
	r.Header.Set("Idempotency-Key", "outcomes")
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	detail, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // read, so that the connection can be used again
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("it answered %s: %s", resp.Status, detail)
	}
	return nil
}
