package proof

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/internal/verify/linear"
	"github.com/evento-oss/evento/runtime"
)

// readOnce reads an aggregate's newest state as Avro. A read that is not answered
// proves nothing: then ok is false.
func (g *gateway) readOnce(entity string) (r verify.Read, ok bool) {
	r = verify.Read{Entity: runtime.Entity(entity), Sent: time.Now()}
	request, err := http.NewRequest(http.MethodGet, g.url+"/v1/aggregates/"+url.PathEscape(entity), nil)
	if err != nil {
		return r, false
	}
	request.Header.Set("Accept", "application/avro")
	answer, err := plainClient.Do(request)
	if err != nil {
		return r, false
	}
	body, err := readAll(answer)
	r.Done = time.Now()
	switch {
	case err != nil:
		return r, false
	case answer.StatusCode == http.StatusNotFound:
		return r, true
	case answer.StatusCode != http.StatusOK:
		return r, false
	}
	r.State = body
	_, err = fmt.Sscan(strings.Trim(answer.Header.Get("Etag"), `"`), &r.Version)
	return r, err == nil
}

// TestLinearizable has clients send commands to few accounts, with and without the
// version that they expect, and read them, at both gateways, while one of those is
// killed and comes back: there is an order of it all in which each operation takes
// effect between its call and its answer.
func TestLinearizable(t *testing.T) {
	w := newWorld(t, setup{gateways: 2})
	const clients, accounts = 12, 3
	each := max(40, *flagCommands/100)
	h := &history{}
	account := func(n int) string { return fmt.Sprintf("checking:%s-linear-%d", w.run, n) }
	for n := range accounts {
		// Before all reads: a refusal takes a version and leaves an aggregate without
		// state, which a read cannot tell from one that never was.
		open := h.add(&command{ID: fmt.Sprint("open-", n), Source: "/proof/linear", Entity: account(n), Type: "OpenCheckingAccount",
			Payload: map[string]any{"client": "client:1", "currency": "USD"}})
		wait(t, func() error {
			if a := w.gateways[0].send(open, 5*time.Second); a.Status != http.StatusOK {
				return fmt.Errorf("%s: %d %s %s", open, a.Status, a.Problem, a.Err)
			}
			return nil
		})
	}
	var mu sync.Mutex // guards reads and done
	var reads []verify.Read
	done := 0
	half := make(chan struct{})
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(*flagSeed, uint64(client)))
			versions := map[string]uint64{}
			for i := range each {
				g := w.gateways[random.IntN(2)]
				account := account(random.IntN(accounts))
				if random.IntN(2) == 0 {
					if r, ok := g.readOnce(account); ok {
						versions[account] = r.Version
						mu.Lock()
						reads = append(reads, r)
						mu.Unlock()
					}
				} else {
					c := h.add(&command{ID: fmt.Sprintf("l-%d-%d", client, i), Source: "/proof/linear", Entity: account, Type: "ReceiveDeposit",
						Payload: map[string]any{"transaction_id": fmt.Sprintf("%d-%d", client, i), "source": "x", "amount": money(1)}})
					switch random.IntN(8) {
					case 0:
						c.Type, c.Payload = "OpenCheckingAccount", map[string]any{"client": "client:1", "currency": "USD"}
					case 1, 2, 3:
						c.Expect = fmt.Sprint(versions[account])
					}
					g.send(c, 5*time.Second) // once: what it does not know may happen, now or later
				}
				mu.Lock()
				if done++; done == clients*each/2 {
					close(half)
				}
				mu.Unlock()
			}
		})
	}
	<-half
	w.gateways[0].now().kill()
	w.gateways[0].start(t)
	w.gateways[0].awaitReady(t)
	all.Wait()
	w.awaitAllOwned(t)
	e := w.evidence(t, h)
	report(t, check(e))
	result := e.linear(t, reads)
	if len(result.Undecided) > 0 || len(reads) < each {
		t.Errorf("%d reads; not decided: %q", len(reads), result.Undecided)
	}
	t.Logf("%d operations of %d aggregates are in order, %d of them reads; %s", result.Operations, accounts, len(reads), h.counts())
}

// linear fails the test where what the clients were told, and these reads, have no
// order.
func (e evidence) linear(t testing.TB, reads []verify.Read) linear.Result {
	t.Helper()
	log := linear.NewLog()
	for _, r := range e.Commands {
		log.Command(r)
	}
	for _, r := range e.Events {
		log.Event(r)
	}
	result := log.Check(e.operations(), reads, time.Minute)
	for _, v := range result.Violations {
		t.Error(v)
	}
	return result
}
