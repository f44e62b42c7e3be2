package runtime_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/evento-oss/evento/runtime"
)

// Of a function that sends without end, only so much is in memory as a few
// answers may have. Another function's large answers do not wait for it.
func TestOneFunctionsLargeAnswersAreReadAFewAtATime(t *testing.T) {
	const calls, atATime, size = 5, 2, 24 << 20 // more than sockets hold
	sent, end := make(chan struct{}, calls), make(chan struct{})
	chunk := make([]byte, 1<<20)
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ce-type", "evento.results.v1")
		for range size / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		if r.URL.Path == "/endless" {
			sent <- struct{}{}
			http.NewResponseController(w).Flush()
			<-end
		}
	})
	f := both()
	client := newClient(t, runtime.ClientOptions{MaxAnswer: 2 * size})
	call := func(ctx context.Context, path string) error {
		_, _, err := client.Invoke(ctx, url+path, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
		return err
	}
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if err := call(within(t), "/endless"); err == nil || strings.Contains(err.Error(), "large answers") {
				t.Errorf("%v, want that it is no answer", err)
			}
		})
	}
	patience := within(t)
	await := func() {
		select {
		case <-sent:
		case <-patience.Done():
			t.Fatal("the answers are not read")
		}
	}
	for range atATime {
		await()
	}
	var failure *runtime.CallError
	if err := call(within(t), "/another"); !errors.As(err, &failure) || failure.Kind != runtime.CallFailed {
		t.Errorf("the large answer of another function: %v, want that it was read", err)
	}
	late, cancel := context.WithCancel(within(t))
	cancel()
	if err := call(late, "/endless"); !errors.As(err, &failure) || failure.Kind != runtime.CallUnavailable {
		t.Errorf("%v, want a call that is given up", err)
	}
	if n := len(sent); n > 0 {
		t.Errorf("%d answers of one function were read at the same time, want %d", atATime+n, atATime)
	}
	close(end)
	all.Wait()
	for range calls - atATime {
		await()
	}
}
