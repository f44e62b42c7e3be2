package proof

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/internal/verify"
)

// probe is a sender of commands to one partition alone, one after the other: it
// tells how long the partition is silent, whatever the others are. It turns to the
// next gateway as soon as one does not answer well, as a good load balancer does, so
// that what it measures is the partition and not the gateway that it asks.
type probe struct {
	partition int32
	account   string

	mu    sync.Mutex    // guards what follows
	told  []time.Time   // when outcomes came
	reads []verify.Read // of the account, at all gateways in turn
}

const (
	probePace  = 100 * time.Millisecond // between an outcome and the next command
	probeHedge = 300 * time.Millisecond // without answer, another gateway is asked, too
)

// startProbes opens an account in each partition and begins to send to it. The
// returned function ends that, and returns when no command is under way.
func (tr *trial) startProbes() (stop func()) {
	for p := range int32(partitions) {
		for i := 0; ; i++ {
			id := fmt.Sprintf("checking:%s-probe-%d", tr.world.run, i)
			if kafka.Partition(id, partitions) == p {
				tr.probes = append(tr.probes, &probe{partition: p, account: id})
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var stopped atomic.Bool
	var all sync.WaitGroup
	tr.Cleanup(func() {
		cancel()
		all.Wait()
	})
	for _, p := range tr.probes {
		all.Go(func() {
			open := &command{ID: "open", Source: "/proof/probe", Entity: p.account, Type: "OpenCheckingAccount",
				Payload: map[string]any{"client": "client:none", "currency": "USD"}}
			p.send(ctx, tr, open, 0, &all)
			all.Go(func() { p.read(tr, &stopped) })
			for n := 1; !stopped.Load() && ctx.Err() == nil; n++ {
				c := &command{ID: fmt.Sprint("probe-", n), Source: "/proof/probe", Entity: p.account, Type: "ReceiveDeposit",
					Payload: map[string]any{"transaction_id": fmt.Sprint(n), "source": "proof", "amount": money(1)}}
				p.send(ctx, tr, c, n, &all)
				pause(probePace)
			}
		})
	}
	return func() {
		stopped.Store(true)
		all.Wait()
	}
}

// send sends a command until an outcome is there, whoever tells it. Those who have
// been asked and are silent are left alone.
func (p *probe) send(ctx context.Context, tr *trial, c *command, n int, all *sync.WaitGroup) {
	tr.load.history.add(c)
	told := make(chan struct{})
	var once sync.Once
	ask := func(g *gateway, failed chan<- struct{}) {
		for ctx.Err() == nil {
			a := g.sendWithin(c, tr.load.wait, tr.load.answerIn)
			if a.Outcome.final() {
				once.Do(func() {
					p.mu.Lock()
					p.told = append(p.told, a.Done)
					p.mu.Unlock()
					close(told)
				})
				return
			}
			select {
			case failed <- struct{}{}:
			default:
			}
			select {
			case <-told:
				return
			case <-ctx.Done():
				return
			case <-time.After(probePace):
			}
		}
	}
	gateways := tr.world.gateways
	for i := range gateways {
		g, failed := gateways[(n+i)%len(gateways)], make(chan struct{}, 1)
		all.Go(func() { ask(g, failed) })
		select {
		case <-told:
			return
		case <-failed:
		case <-time.After(probeHedge):
		}
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// read reads the account at each gateway in turn. Reads that are not answered prove
// nothing.
func (p *probe) read(tr *trial, stopped *atomic.Bool) {
	for n := 0; !stopped.Load(); n++ {
		gateways := tr.world.gateways
		if r, ok := gateways[n%len(gateways)].readOnce(p.account); ok {
			p.mu.Lock()
			p.reads = append(p.reads, r)
			p.mu.Unlock()
		}
		pause(probePace)
	}
}

// answeredSince says whether an outcome has come since then.
func (p *probe) answeredSince(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.told) == 0 {
		return errors.New("no command of a probe has an outcome")
	}
	if last := p.told[len(p.told)-1]; !last.After(at) {
		return fmt.Errorf("partition %d has been silent for %v", p.partition, ago(last))
	}
	return nil
}
