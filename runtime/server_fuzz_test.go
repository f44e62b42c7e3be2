package runtime_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

// FuzzServer: whatever is posted to a function is answered, and never as its own failure to read.
func FuzzServer(f *testing.F) {
	function := both()
	s, err := runtime.NewServer(function, runtime.Config{MaxBody: 1 << 20, StateCache: 1 << 20}, quiet())
	if err != nil {
		f.Fatal(err)
	}
	// What a gateway sends.
	var body []byte
	taker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.ServeHTTP(w, r)
	}))
	for kind, messages := range map[runtime.InvocationKind][]*runtime.Message{
		runtime.KindHandle: {add(f, function, "tea", 1)}, runtime.KindApply: {message(f, function, "e", "basket:1/line:tea", &basket.ItemAdded{Quantity: 1})},
	} {
		ask(f, taker.URL, invocation(kind, messages...))
		f.Add(runtime.ContentTypeAvro, "/", bytes.Clone(body))
	}
	taker.Close()
	for _, text := range []string{
		`{"kind":"handle","aggregate":"basket:1","messages":[{"type":"Shop.AddItem","data":{"Id":"tea"}}]}`, `{"items":[{}]}`, `{"kind":"apply","messages":[{"type":"Shop.ItemAdded","data":"AA=="}]}`,
		`[]`, `{"kind":"execute","state":{"Lines":null,"Coupon":{"string":1}}}`,
	} {
		f.Add("application/json", "/x", []byte(text))
	}
	f.Fuzz(func(t *testing.T, media, path string, body []byte) {
		if path == "" || path[0] != '/' || strings.ContainsAny(path, " \x00\r\n\x7f") || strings.Contains(path, "%") {
			path = "/"
		}
		r := httptest.NewRequest(http.MethodPost, "http://function/", strings.NewReader(string(body)))
		r.URL.Path = path
		r.Header.Set("Content-Type", media)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code < 200 || w.Code == http.StatusServiceUnavailable || w.Body.Len() == 0 {
			t.Errorf("answered %d: %s", w.Code, w.Body)
		}
	})
}
