package kafka

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// silence is the session of a member that a test lets fall silent: short, for the
// test waits for its end, and long enough for heartbeats of a busy machine before.
const silence = 6 * time.Second

// Members come, go and come back while transactions run: whatever moves between
// them, each input stands in the output once.
func TestRebalanceKeepsEachOnce(t *testing.T) {
	t.Parallel()
	const partitions, rounds, per = 8, 6, 400
	k := kafkatest.Start(t)
	in, out, group := k.Topic(t, "in", partitions), k.Topic(t, "out", partitions), k.Group("echo")
	member := func(address string) *echo {
		e := newEcho(t, echoConfig{in: in, out: out, group: group, address: address, member: k.Opts(), writer: k.Opts()})
		e.run()
		return e
	}
	fill(t, k, in, partitions, 0, per)
	a := member("127.0.0.1:1")
	defer a.close()
	var b *echo
	for i := 1; i < rounds; i++ {
		if b == nil {
			b = member("127.0.0.1:2")
		} else {
			b.close()
			b = nil
		}
		fill(t, k, in, partitions, i*per, per)
		waitEcho(t, k, group, in, partitions, i*per) // not all of it: the next change meets work under way
	}
	if b != nil {
		defer b.close()
	}
	waitEcho(t, k, group, in, partitions, rounds*per)
	wantEachOnce(t, k, out, partitions, rounds*per)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked == 0 {
		t.Error("no rebalance was met")
	}
}

// A whole process is held still in the middle of its work for longer than its
// session, somebody else takes over, and then it goes on.
func TestProcessHeldStillKeepsEachOnce(t *testing.T) {
	t.Parallel()
	const partitions, n = 4, 4000
	k := kafkatest.Start(t)
	in, out, group := k.Topic(t, "in", partitions), k.Topic(t, "out", partitions), k.Group("echo")
	wire := kafkatest.NewWire()
	broken := append(k.Opts(), wire.Opt())
	a := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:1", member: broken, writer: broken, session: silence})
	a.run()
	defer a.close()
	fill(t, k, in, partitions, 0, n/2)
	waitEcho(t, k, group, in, partitions, n/8)
	wire.Freeze()
	defer wire.Thaw()

	b := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:2", member: k.Opts(), writer: k.Opts()})
	b.run()
	defer b.close()
	fill(t, k, in, partitions, n/2, n/2)
	waitEcho(t, k, group, in, partitions, n)
	b.holding(partitions)
	wire.Thaw()
	// It finds out, and joins again: each then has its share.
	a.holding(partitions / 2)
	fill(t, k, in, partitions, n, partitions)
	waitEcho(t, k, group, in, partitions, n+partitions)
	wantEachOnce(t, k, out, partitions, n+partitions)
}

// lostMember is a member of a group of one partition whose heartbeats do not arrive:
// the group has thrown it out without its knowing, at home everything still looks like
// its own, and another one owns the partition.
type lostMember struct {
	lost, owner *echo
	had, has    Held
	thaw        func() // what the lost one sends arrives again
}

// loseMember makes one; before is called while it still is a member.
func loseMember(t *testing.T, k *kafkatest.Kafka, out string, before func(*echo, Held)) lostMember {
	t.Helper()
	in, group := k.Topic(t, "in", 1), k.Group("echo")
	wire := kafkatest.NewWire()
	a := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:1", member: append(k.Opts(), wire.Opt()), writer: k.Opts(), session: silence})
	t.Cleanup(a.close)
	l := lostMember{lost: a, had: a.join(1)[0], thaw: sync.OnceFunc(wire.Thaw)}
	before(a, l.had)
	wire.Freeze()
	t.Cleanup(l.thaw)

	l.owner = newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:2", member: k.Opts(), writer: k.Opts()})
	t.Cleanup(l.owner.close)
	l.has = l.owner.join(1)[0]
	if !a.group.Holds(l.had) {
		t.Fatal("the test is void: the lost member knows already")
	}
	return l
}

// The group refuses what a member commits that it has thrown out.
func TestLateCommitOfALostMemberIsRefused(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	out := k.Topic(t, "out", 1)
	l := loseMember(t, k, out, func(a *echo, h Held) {
		if first := a.txns.Commit(t.Context(), oneRecord(out, h, 1, "mine")); first.Outcome != Committed {
			t.Fatalf("first commit: %+v", first)
		}
	})
	a, h, b, hb := l.lost, l.had, l.owner, l.has
	late := a.txns.Commit(t.Context(), oneRecord(out, h, 2, "late"))
	if late.Outcome != Aborted || late.Reason != ReasonFenced {
		t.Errorf("late commit: %+v, want it aborted as %q", late, ReasonFenced)
	}
	err := a.txns.CommitPlain(t.Context(), []PartitionOffset{{Held: h, Offset: 7}})
	var oe *OffsetError
	if !errors.As(err, &oe) || !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.IllegalGeneration) {
		t.Errorf("late plain commit: %v, want the group's refusal", err)
	}
	if r := b.txns.Commit(t.Context(), oneRecord(out, hb, 2, "theirs")); r.Outcome != Committed {
		t.Errorf("new owner's commit: %+v", r)
	}
	if got := values(k.Committed(t, out)[0]); len(got) != 2 || got[0] != "mine" || got[1] != "theirs" {
		t.Errorf("committed: %q", got)
	}
	pos, err := b.look.StableOffsets(t.Context(), []int32{0})
	if err != nil || pos[0].Offset != 2 {
		t.Errorf("position %+v, %v, want 2", pos, err)
	}
}

// While it gives partitions up, an owner can still commit for them; afterwards
// not. The next owner finds what it did.
func TestLastTransactionInsideRevocation(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"rebalance", "close"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			k := kafkatest.Start(t)
			in, out, group := k.Topic(t, "in", 2), k.Topic(t, "out", 2), k.Group("echo")
			a := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
			inside := make(chan Result, 10)
			a.group.cfg.OnRevoked = func(ctx context.Context, held []Held) {
				for _, h := range held {
					inside <- a.txns.Commit(ctx, oneRecord(out, h, 10+int64(h.Partition), "last"))
				}
				a.onRevoked(ctx, held)
			}
			held := a.join(2)
			b := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:2", member: k.Opts(), writer: k.Opts()})
			defer b.close()
			if how == "close" {
				if err := a.group.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.join(2)
			} else {
				b.join(1)
			}
			for range 2 {
				if r := <-inside; r.Outcome != Committed {
					t.Errorf("inside the revocation: %+v", r)
				}
			}
			if r := a.txns.Commit(t.Context(), oneRecord(out, held[0], 99, "after")); r.Outcome != Aborted || r.Reason != ReasonStale {
				t.Errorf("after it: %+v", r)
			}
			pos, err := b.look.StableOffsets(t.Context(), []int32{0, 1})
			if err != nil || pos[0].Offset != 10 || pos[1].Offset != 11 {
				t.Errorf("positions %+v, %v", pos, err)
			}
			a.close()
		})
	}
}

// A partition does not go to its next owner while a transaction of it is open.
func TestRebalanceWaitsForAnOpenTransaction(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	in, out, group := k.Topic(t, "in", 2), k.Topic(t, "out", 2), k.Group("echo")
	a := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
	defer a.close()
	held := a.join(2)
	pass, err := a.group.fence.enter(t.Context(), []Held{held[0]})
	if err != nil {
		t.Fatal(err)
	}
	b := newEcho(t, echoConfig{in: in, out: out, group: group, address: "127.0.0.1:2", member: k.Opts(), writer: k.Opts()})
	defer b.close()
	if err := b.group.Join(); err != nil {
		t.Fatal(err)
	}
	a.holding(0) // OnRevoked has returned: now only the open transaction is waited for
	kafkatest.Wait(t, time.Minute, func() error {
		if a.group.Holds(held[0]) {
			return errors.New("the term has not ended")
		}
		return nil
	})
	member, generation := a.group.reported()
	if member != pass.member || generation != pass.generation {
		t.Errorf("joined generation %d with a transaction of generation %d open", generation, pass.generation)
	}
	b.holding(0)
	a.group.fence.leave(pass)
	b.holding(1)
	a.holding(1)
}

func TestOwnersAreFoundByAddress(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	in, out, group := k.Topic(t, "in", 4), k.Topic(t, "out", 4), k.Group("echo")
	c := echoConfig{in: in, out: out, group: group, member: k.Opts(), writer: k.Opts()}
	c.address = "127.0.0.1:7001"
	a := newEcho(t, c)
	defer a.close()
	c.address = "[::1]:7002"
	b := newEcho(t, c)
	defer b.close()
	if _, err := a.group.Owners(t.Context()); !errors.Is(err, ErrNoMember) {
		t.Errorf("before joining: %v, want %v", err, ErrNoMember)
	}
	a.join(4)
	b.join(2)
	a.holding(2)
	owners, err := b.group.Owners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		want := "[::1]:7002"
		if a.group.Holds(a.heldOf(p)) {
			want = "127.0.0.1:7001"
		}
		if owners[p] != want {
			t.Errorf("owner of partition %d is %q, want %q", p, owners[p], want)
		}
	}
}

func (e *echo) heldOf(p int32) Held {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[p]
}

// What a partition is not started for is not read, what is paused is read after
// Resume, and a start outside of the log is told, not reset.
func TestReadingIsStartedPausedAndNeverReset(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	in, out := k.Topic(t, "in", 3), k.Topic(t, "out", 3)
	fill(t, k, in, 3, 0, 30)
	e := newEcho(t, echoConfig{in: in, out: out, group: k.Group("echo"), address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
	defer e.close()
	held := e.join(3)
	if err := e.group.Start(Held{Partition: 0, Term: held[0].Term + 100}, 0); !errors.Is(err, ErrStaleTerm) {
		t.Errorf("start in another term: %v, want %v", err, ErrStaleTerm)
	}
	if err := errors.Join(e.group.Start(held[0], 4), e.group.Start(held[1], 9999)); err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	var outside *PartitionError
	for outside == nil || len(offsets) < 6 {
		fetched, err := poll(t, e.group)
		errors.As(err, &outside)
		for _, f := range fetched {
			if f.Held != held[0] {
				t.Fatalf("read from %+v", f.Held)
			}
			for _, r := range f.Records {
				offsets = append(offsets, r.Offset)
			}
		}
	}
	if offsets[0] != 4 || len(offsets) != 6 {
		t.Errorf("offsets %d, want 4 to 9", offsets)
	}
	if outside.Held != held[1] || !errors.Is(outside, kerr.OffsetOutOfRange) {
		t.Errorf("start outside of the log: %v", outside)
	}
	if err := e.group.Pause(held[0]); err != nil {
		t.Fatal(err)
	}
	fill(t, k, in, 3, 30, 3)
	if err := e.group.Start(held[2], 10); err != nil {
		t.Fatal(err)
	}
	if fetched, err := poll(t, e.group); err != nil || len(fetched) != 1 || fetched[0].Held != held[2] {
		t.Errorf("while paused: %+v, %v", fetched, err)
	}
	if err := e.group.Resume(held[0]); err != nil {
		t.Fatal(err)
	}
	if fetched, err := poll(t, e.group); err != nil || len(fetched) != 1 || fetched[0].Records[0].Offset != 10 {
		t.Errorf("after resume: %+v, %v", fetched, err)
	}
}

func TestPollEndsWithItsContextAndWithTheGroup(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	in, out := k.Topic(t, "in", 1), k.Topic(t, "out", 1)
	e := newEcho(t, echoConfig{in: in, out: out, group: k.Group("echo"), address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
	h := e.join(1)[0]
	if err := e.group.Start(h, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := e.group.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("poll beyond its deadline: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := e.group.Poll(context.Background())
		ended <- err
	}()
	e.close()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("poll after close: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("poll goes on after close")
	}
	if r := e.txns.Commit(t.Context(), oneRecord(out, h, 1, "x")); r.Outcome != Aborted || !errors.Is(r.Err, ErrClosed) {
		t.Errorf("commit after close: %+v", r)
	}
}

// Close comes back also when Kafka does not answer.
func TestCloseWithoutKafka(t *testing.T) {
	t.Parallel()
	k := kafkatest.Start(t)
	wire := kafkatest.NewWire()
	defer wire.Thaw()
	broken := append(k.Opts(), wire.Opt())
	e := newEcho(t, echoConfig{in: k.Topic(t, "in", 1), out: k.Topic(t, "out", 1), group: k.Group("echo"), address: "127.0.0.1:1", member: broken, writer: broken})
	e.join(1)
	if err := e.txns.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	wire.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := e.group.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close of the group: %v", err)
	}
	if err := e.txns.Close(t.Context()); err != nil {
		t.Errorf("close of the transactor: %v", err)
	}
	e.look.Close()
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	if err := e.group.Close(ctx); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// Not parallel: it counts the goroutines of the whole process.
func TestNothingIsLeftRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	k := kafkatest.Start(t)
	in, out := k.Topic(t, "in", 2), k.Topic(t, "out", 2)
	ours := goleak.IgnoreCurrent() // the embedded broker's and its admin client's
	wire := kafkatest.NewWire()
	e := newEcho(t, echoConfig{in: in, out: out, group: k.Group("echo"), address: "127.0.0.1:1", member: k.Opts(), writer: append(k.Opts(), wire.Opt())})
	e.run()
	wire.Cut(kmsg.EndTxn, kafkatest.BeforeSend, 1)
	fill(t, k, in, 2, 0, 20)
	waitEcho(t, k, e.group.cfg.Group, in, 2, 20)
	e.close()
	kafkatest.Wait(t, time.Minute, func() error {
		return goleak.Find(before, ours, goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"),
			goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write"))
	})
}

// A partition is started in the moment in which the assignment ends: for the race detector.
func TestAssignmentEndsWhileReadingStarts(t *testing.T) {
	t.Parallel()
	const partitions = 40
	k := kafkatest.Start(t)
	in, out := k.Topic(t, "in", partitions), k.Topic(t, "out", 1)
	fill(t, k, in, partitions, 0, partitions)
	e := newEcho(t, echoConfig{in: in, out: out, group: k.Group("echo"), address: "127.0.0.1:1", member: k.Opts(), writer: k.Opts()})
	defer e.close()
	var held []Held
	for p := range int32(partitions) {
		held = append(held, Held{Partition: p, Term: 1})
	}
	for range 50 {
		s, err := newSession(e.group, held)
		if err != nil {
			t.Fatal(err)
		}
		e.group.replace(s)
		if err := e.group.Start(held[0], 0); err != nil {
			t.Fatal(err)
		}
		if _, err := poll(t, e.group); err != nil {
			t.Fatal(err)
		}
		for _, h := range held[1:] {
			if err := e.group.Start(h, 0); err != nil {
				t.Fatal(err)
			}
		}
		e.group.replace(nil)
	}
}

func poll(t testing.TB, g *Group) ([]Fetched, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fetched, err := g.Poll(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("nothing was read")
	}
	return fetched, err
}
