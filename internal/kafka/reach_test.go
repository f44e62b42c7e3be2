package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/evento-oss/evento/internal/kafkatest"
)

// stopped is a broker that can be stopped as a process is: the kernel goes on
// accepting connections, and nothing is answered.
type stopped struct {
	addr string

	mu        sync.Mutex
	silent    bool
	changed   chan struct{} // closed and replaced when silent changes
	questions int           // connections that asked whether it is there
	others    int           // all other connections that asked for something
}

func newStopped(t *testing.T) *stopped {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &stopped{addr: l.Addr().String(), changed: make(chan struct{})}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(t.Context(), conn)
		}
	}()
	return b
}

// serve answers ApiVersions; no other request is ever answered.
func (b *stopped) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for first := true; ; first = false {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		request := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		key, number := binary.BigEndian.Uint16(request), request[4:8]
		who := string(request[10 : 10+binary.BigEndian.Uint16(request[8:])])
		if first {
			b.mu.Lock()
			if who == "evento-reach" {
				b.questions++
			} else {
				b.others++
			}
			b.mu.Unlock()
		}
		if kmsg.Key(key) != kmsg.ApiVersions || !b.awake(ctx) {
			continue
		}
		// No error, and not one request that it knows.
		answer := append(append([]byte{0, 0, 0, 10}, number...), 0, 0, 0, 0, 0, 0)
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// awake waits until the broker is not silent.
func (b *stopped) awake(ctx context.Context) bool {
	for {
		b.mu.Lock()
		silent, changed := b.silent, b.changed
		b.mu.Unlock()
		if !silent {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (b *stopped) set(silent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.silent = silent
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *stopped) connections() (questions, others int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.questions, b.others
}

func (b *stopped) dialer() *dialer {
	return &dialer{reach: newReach(), limit: 30 * time.Second, log: quiet()}
}

// ask sends a request that the broker answers when it is not silent, or one that it never answers.
func ask(t *testing.T, conn net.Conn, request kmsg.Request) {
	t.Helper()
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, request, 7)); err != nil {
		t.Fatal(err)
	}
}

// answer waits for as many bytes as an answer of [stopped] has.
func answer(conn net.Conn) error {
	_, err := io.ReadFull(conn, make([]byte, 14))
	return err
}

func TestConnectionsToASilentBrokerAreClosedAndNotOpened(t *testing.T) {
	t.Parallel()
	b := newStopped(t)
	d := b.dialer()
	conn, err := d.DialContext(soon(t), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	idle, err := d.DialContext(soon(t), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ask(t, conn, kmsg.NewPtrApiVersionsRequest())
	if err := answer(conn); err != nil {
		t.Fatal(err)
	}

	b.set(true)
	ask(t, conn, kmsg.NewPtrApiVersionsRequest())
	deadline, _ := soon(t).Deadline()
	for _, c := range []net.Conn{conn, idle} {
		if err := c.SetReadDeadline(deadline); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if err := answer(c); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("reading from a silent broker: %v; want the connection closed", err)
		}
	}
	var refused *net.OpError
	if _, err := d.DialContext(soon(t), "tcp", b.addr); !errors.As(err, &refused) || refused.Op != "dial" || refused.Timeout() {
		t.Fatalf("dialing a silent broker: %v; want it refused as a failed dial, at once", err)
	}
	if other, err := d.DialContext(soon(t), "tcp", newStopped(t).addr); err != nil {
		t.Fatalf("dialing another broker: %v", err)
	} else {
		_ = other.Close()
	}

	b.set(false)
	kafkatest.Wait(t, time.Minute, func() error {
		again, err := d.DialContext(t.Context(), "tcp", b.addr)
		if err != nil {
			return fmt.Errorf("a broker that answers again is still not dialed: %w", err)
		}
		return again.Close()
	})
}

func TestSlowAnswersOfABrokerThatIsThereAreWaitedFor(t *testing.T) {
	t.Parallel()
	b := newStopped(t)
	conn, err := b.dialer().DialContext(soon(t), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn, kmsg.NewPtrJoinGroupRequest())
	ended := make(chan error, 1)
	go func() { ended <- answer(conn) }()
	// It is asked again and again, as long as the wait goes on.
	kafkatest.Wait(t, time.Minute, func() error {
		if questions, _ := b.connections(); questions < 2 {
			return errors.New("nobody asked twice whether the broker is there")
		}
		return nil
	})
	select {
	case err := <-ended:
		t.Fatalf("the connection ended: %v", err)
	default:
	}
	_ = conn.Close()
	<-ended
}

// A broker that takes long to answer on a new connection, and answers on an old one, is
// there.
func TestBrokersThatAnswerSomebodyAreNotSilent(t *testing.T) {
	t.Parallel()
	const addr = "broker:9092"
	for name, c := range map[string]struct {
		heard  bool
		err    error
		silent bool
	}{
		"nothing is heard":       {false, os.ErrDeadlineExceeded, true},
		"something is heard":     {true, os.ErrDeadlineExceeded, false},
		"it answers":             {false, nil, false},
		"it refuses connections": {false, syscall.ECONNREFUSED, false},
		"its name is not told":   {false, &net.DNSError{IsTimeout: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReach()
			cut := make(chan struct{})
			p, _, err := r.open(addr, func() { close(cut) })
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if c.heard {
				p.heard.Store(began.Add(time.Millisecond).UnixNano())
			}
			p.wanted, p.asked = began, true
			if again := r.noAnswer(addr, p, began, c.err, quiet()); again != c.silent {
				t.Errorf("it is asked again: %v, want %v", again, c.silent)
			}
			if _, _, err := r.open(addr, nil); (err != nil) != c.silent {
				t.Errorf("opening another connection: %v", err)
			}
			if c.silent {
				<-cut
			}
		})
	}
}

// The limits on requests and connections are those of a user who is patient with
// slow brokers; only what the clients tell each other gets them past the silent one.
func TestClientsDoNotWaitForASilentBroker(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	b := newStopped(t)
	b.set(true)
	patient, err := NewSettings(map[string]string{
		"bootstrap.servers": b.addr + "," + l.settings.Get("bootstrap.servers"), "socket.timeout.ms": "120000",
	})
	if err != nil {
		t.Fatal(err)
	}
	describe := func() {
		t.Helper()
		opts, err := patient.Franz(quiet())
		if err != nil {
			t.Fatal(err)
		}
		client, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := kmsg.NewPtrMetadataRequest().RequestWith(soon(t), client); err != nil {
			t.Fatal(err)
		}
	}
	// A client asks its seeds in an order of its own.
	before := 0
	for tries := 0; before == 0; tries++ {
		if tries == 100 {
			t.Fatal("the silent broker was never tried: this test shows nothing")
		}
		describe()
		_, before = b.connections()
	}
	for range 20 {
		describe()
	}
	if _, after := b.connections(); after != before {
		t.Fatalf("%d more connections were opened to a broker known to be silent", after-before)
	}
}
