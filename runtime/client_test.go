package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// answering is a server that is no function.
func answering(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

func callOne(t *testing.T, url string) error {
	t.Helper()
	f := both()
	_, _, err := newClient(t, runtime.ClientOptions{}).Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
	return err
}

func TestAStatusIsReadAsWhatItMeans(t *testing.T) {
	unavailable := map[int]bool{401: true, 403: true, 404: true, 408: true, 429: true, 502: true, 503: true, 504: true}
	for _, status := range []int{200, 202, 204, 301, 307, 400, 401, 402, 403, 404, 405, 408, 409, 412, 413, 415, 418, 422, 428, 429, 500, 501, 502, 503, 504, 507} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			url := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			want := runtime.CallFailed
			if unavailable[status] {
				want = runtime.CallUnavailable
			}
			err := callOne(t, url)
			var call *runtime.CallError
			if !errors.As(err, &call) || call.Kind != want || call.Status != status || call.RetryAfter != 7*time.Second {
				t.Errorf("%#v, want kind %d, status %d", err, want, status)
			}
		})
	}
}

func TestAFunctionThatDoesNotAnswerIsUnavailable(t *testing.T) {
	hang := make(chan struct{})
	slow := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	cut := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nce-type: evento.results.v1\r\n\r\nhalf")
		conn.Close()
	})
	for name, url := range map[string]string{"refuses": closed.URL, "is cut off": cut, "is slow": slow, "has no such host": "http://function.invalid."} {
		t.Run(name, func(t *testing.T) {
			f := both()
			ctx, cancel := context.WithTimeout(within(t), 300*time.Millisecond)
			defer cancel()
			_, _, err := newClient(t, runtime.ClientOptions{}).Invoke(ctx, url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
			var call *runtime.CallError
			if !errors.As(err, &call) || call.Kind != runtime.CallUnavailable {
				t.Errorf("%#v, want unavailable", err)
			}
			if name == "is slow" && !strings.Contains(err.Error(), "did not answer in time") {
				t.Errorf("reason %q does not say what happened", err)
			}
		})
	}
}

// What a function answers may be hostile: it must not take the caller down.
func TestNonsenseIsAFailedCall(t *testing.T) {
	f := both()
	good := ask(t, serve(t, f, runtime.Config{}), invocation(runtime.KindHandle, add(t, f, "tea", 1)))
	if len(good) != 1 {
		t.Fatal("no answer")
	}
	for name, body := range map[string]string{
		"empty":              "",
		"text":               "hello",
		"2^40 results":       "\x00\x00\x80\x80\x80\x80\x80\x80\x01",
		"2 GB of text":       "\xfe\xff\xff\xff\x0f",
		"bytes behind":       "\x00\x00\x00\x00",
		"no result":          "\x00\x00\x00",
		"another's result":   "\x00\x00\x02\x02x\x00\x00\x00\x00\x00\x00\x00",
		"failure of no code": "\x00\x00\x02\x06i-1\x00\x00\x00\x20\x00\x00\x00",
		"two steps":          "\x00\x00\x02\x06i-1\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			err := callOne(t, answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ce-type", "evento.results.v1")
				fmt.Fprint(w, body)
			}))
			var call *runtime.CallError
			if !errors.As(err, &call) || call.Kind != runtime.CallFailed {
				t.Errorf("%v, want a failed call", err)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		err := callOne(t, answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ce-type", "evento.results.v1")
			chunk := make([]byte, 1<<20)
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}))
		if err == nil || !strings.Contains(err.Error(), "longer than the limit") {
			t.Errorf("%v, want the limit named", err)
		}
	})
}

func TestADescriptionMustFitItsHash(t *testing.T) {
	d := both().Description()
	d.StateVersion++ // and not the hash
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ce-type", "evento.description.v1")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusPreconditionFailed)
		}
		w.Write(text)
	})
	var call *runtime.CallError
	if _, err := newClient(t, runtime.ClientOptions{}).Describe(within(t), url); !errors.As(err, &call) || call.Kind != runtime.CallFailed {
		t.Errorf("describe: %v, want a failed call", err)
	}
	if err := callOne(t, url); !errors.As(err, &call) || call.Kind != runtime.CallFailed {
		t.Errorf("invoke: %v, want a failed call", err)
	}
}

func TestTheAudienceIsTheFunction(t *testing.T) {
	for in, want := range map[string]string{
		"http://gateway.openfaas:8080/function/checking-handler":          "checking-handler",
		"http://127.0.0.1:8080/function/checking-handler.bank/":           "checking-handler",
		"http://gateway:8080/function/checking-handler/.evento/describe":  "checking-handler",
		"http://checking-handler.bank.svc.cluster.local":                  "checking-handler",
		"http://checking-handler.bank.svc.cluster.local/.evento/describe": "checking-handler",
		"http://localhost:9000":                                           "localhost",
		"http://127.0.0.1:9000/":                                          "127.0.0.1:9000",
		"http://[::1]:9000/":                                              "[::1]:9000",
		"http://checking-handler/":                                        "checking-handler",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := runtime.Audience(u); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestAKeyIsLongAndHidesItself(t *testing.T) {
	keys, err := runtime.ParseKeys([]byte("\n0123456789abcdef\r\nfedcba9876543210\n"))
	if err != nil || len(keys) != 2 || len(keys[0]) != 16 {
		t.Errorf("keys %v, %v; want two", keys, err)
	}
	if s := fmt.Sprintf("%v %s %#v %+v", keys[0], keys[0], keys[0], runtime.Config{Keys: keys}); strings.Contains(s, "0123") || strings.Contains(s, "48 49") {
		t.Errorf("a key prints itself: %s", s)
	}
	for _, text := range []string{"", "\n\n", "short"} {
		if _, err := runtime.ParseKeys([]byte(text)); err == nil {
			t.Errorf("the key %q is taken", text)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	f := both()
	url := serve(b, f, runtime.Config{})
	client := newClient(b, runtime.ClientOptions{})
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("commands=%d", n), func(b *testing.B) {
			var in []runtime.Invocation
			for i := range n {
				inv := invocation(runtime.KindHandle, add(b, f, "tea", 1))
				inv.ID = fmt.Sprint(i)
				in = append(in, inv)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := client.Invoke(context.Background(), url, "", in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/command")
		})
	}
}

// A hot aggregate: 100 commands handled and folded in one call.
func BenchmarkExecute100(b *testing.B) {
	f := both()
	in := invocation(runtime.KindExecute)
	in.Messages = append(in.Messages, add(b, f, "tea", 1))
	for range 99 {
		in.Messages = append(in.Messages, message(b, f, "change", "basket:1/line:tea", &basket.ChangeQuantity{Quantity: 3}))
	}
	b.Run("in process", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r := f.Invoke(context.Background(), in, nil); r.Failure != nil {
				b.Fatal(r.Failure)
			}
		}
	})
	b.Run("over HTTP", func(b *testing.B) {
		url := serve(b, f, runtime.Config{})
		client := newClient(b, runtime.ClientOptions{})
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := client.Invoke(context.Background(), url, "", []runtime.Invocation{in}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Bringing a state up to date: 100 events folded in one call.
func BenchmarkApply100(b *testing.B) {
	f := both()
	in := invocation(runtime.KindApply, message(b, f, "e", "basket:1/line:tea", &basket.ItemAdded{Quantity: 1}))
	for range 99 {
		in.Messages = append(in.Messages, message(b, f, "e", "basket:1/line:tea", &basket.QuantityChanged{Quantity: 3}))
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := f.Invoke(context.Background(), in, nil); r.Failure != nil {
			b.Fatal(r.Failure)
		}
	}
}
