package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

var (
	// client waits longer for an answer than any command is asked to be waited for.
	client = &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	// plainClient keeps no connection: what it asks may be gone the next moment.
	plainClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
)

func readAll(r *http.Response) ([]byte, error) {
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

const problemPrefix = "urn:evento:problem:"

// send sends a command once and writes down what came of it.
func (g *gateway) send(c *command, wait time.Duration) attempt { return g.sendWithin(c, wait, 0) }

// sendWithin is send by a client that takes no answer after limit for one; 0 is
// the client's own limit.
func (g *gateway) sendWithin(c *command, wait, limit time.Duration) attempt {
	a := attempt{Gateway: g.name, Sent: time.Now()}
	g.post(c, wait, limit, &a)
	a.Done = time.Now()
	a.Result = resultOf(a.Status, a.Problem, a.Outcome)
	c.add(a)
	return a
}

func (g *gateway) post(c *command, wait, limit time.Duration, a *attempt) {
	path, typeOf := "/v1/commands", "command_type"
	if c.Publish {
		path, typeOf = "/v1/events", "event_type"
	}
	body, err := json.Marshal(map[string]any{"entity": c.Entity, typeOf: c.Type, "payload": c.Payload, "id": c.ID, "source": c.Source})
	if err != nil {
		a.Err = err.Error()
		return
	}
	r, err := http.NewRequest(http.MethodPost, g.url+path, bytes.NewReader(body))
	if err != nil {
		a.Err = err.Error()
		return
	}
	r.Header.Set("Content-Type", "application/json")
	if wait > 0 {
		r.Header.Set("Prefer", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	if c.Expect != "" {
		r.Header.Set("If-Match", `"`+c.Expect+`"`)
	}
	if limit > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		r = r.WithContext(ctx)
	}
	a.roundTrip(r)
}

// roundTrip sends a request whose answer is an outcome or a problem.
func (a *attempt) roundTrip(r *http.Request) {
	answer, err := client.Do(r)
	if err != nil {
		a.Err = err.Error()
		return
	}
	text, err := readAll(answer)
	if err != nil {
		a.Err = err.Error() // a status without its answer tells nothing
		return
	}
	a.Status, a.RetryAfter = answer.StatusCode, answer.Header.Get("Retry-After")
	if answer.Header.Get("Content-Type") == "application/problem+json" {
		var doc struct {
			Type    string   `json:"type"`
			Outcome *outcome `json:"outcome"`
			Detail  string   `json:"detail"`
			ID      string   `json:"id"`
		}
		if err := json.Unmarshal(text, &doc); err != nil {
			a.Err = fmt.Sprintf("%v: %s", err, text)
			return
		}
		a.Problem, a.Outcome, a.Err, a.RepeatID = strings.TrimPrefix(doc.Type, problemPrefix), doc.Outcome, doc.Detail, doc.ID
		return
	}
	o := new(outcome)
	if err := json.Unmarshal(text, o); err != nil {
		a.Err = fmt.Sprintf("%v: %s", err, text)
		return
	}
	a.Outcome = o
}

// resultOf says what a sender may believe. What is not certain is unknown: a
// timeout, a connection that ended, a 503 that does not say that nothing was written.
func resultOf(status int, problem string, o *outcome) result {
	switch {
	case status == http.StatusOK || status == http.StatusAccepted:
		return accepted
	case problem == "version-mismatch" && o != nil:
		return accepted // and rejected by the writer, which is an outcome
	case problem == "kafka-away" || problem == "too-many-waiting" || status/100 == 4:
		return failed
	}
	return unknown
}

// outcome asks for the outcome of a command that was sent before.
func (g *gateway) outcome(c *command) (*outcome, error) {
	r, err := http.NewRequest(http.MethodGet, g.url+"/v1/aggregates/"+url.PathEscape(c.Entity)+"/commands/"+url.PathEscape(c.ID)+"?source="+url.QueryEscape(c.Source), nil)
	if err != nil {
		return nil, err
	}
	var a attempt
	askAgain(func() int {
		a = attempt{}
		a.roundTrip(r)
		return a.Status
	})
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("outcome of %s at %s: %d %s %s", c, g.name, a.Status, a.Problem, a.Err)
	}
	return a.Outcome, nil
}

// askAgain repeats a question while it is answered 503: a partition may move at
// any time (a member that was killed is missed when its session ends), and a
// client that heeds Retry-After asks again.
func askAgain(ask func() (status int)) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ask() == http.StatusServiceUnavailable && time.Now().Before(deadline); {
		<-tick.C
	}
}

// fetchOwned is fetch for what only the owner of an aggregate knows.
func fetchOwned(url string) (body []byte, err error) {
	askAgain(func() (status int) {
		body, status, err = fetchStatus(url)
		return status
	})
	return body, err
}

// state asks for the state of an aggregate, as JSON and as Avro, at the same version.
func (g *gateway) state(entity string) (s stateAnswer, err error) {
	at := g.url + "/v1/aggregates/" + url.PathEscape(entity)
	text, err := fetchOwned(at)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w: %s", at, err, text)
	}
	r, err := http.NewRequest(http.MethodGet, at, nil)
	if err != nil {
		return s, err
	}
	r.Header.Set("Accept", "application/avro")
	var answer *http.Response
	askAgain(func() int {
		if answer, err = client.Do(r); err != nil {
			return 0
		}
		s.avro, err = readAll(answer)
		return answer.StatusCode
	})
	if err != nil || answer.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s as Avro: %v, %v", at, answer, err)
	}
	if tag := answer.Header.Get("Etag"); tag != fmt.Sprintf(`"%d"`, s.Version) {
		return s, fmt.Errorf("%s: version %d as JSON and %s as Avro, though nobody writes", at, s.Version, tag)
	}
	return s, nil
}

type stateAnswer struct {
	Entity  string `json:"entity"`
	Version uint64 `json:"version"`
	State   struct {
		Balance struct {
			Minor int64 `json:"minor"`
		} `json:"balance"`
		Status string `json:"status"`
	} `json:"state"`
	avro []byte
}

// events asks for the whole history of an aggregate.
func (g *gateway) events(entity string) ([]event, error) {
	var all []event
	for after := uint64(0); ; {
		text, err := fetchOwned(fmt.Sprintf("%s/v1/aggregates/%s/events?limit=1000&after=%d", g.url, url.PathEscape(entity), after))
		if err != nil {
			return nil, err
		}
		var page struct {
			Events []event `json:"events"`
			Next   uint64  `json:"next"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Events...)
		if page.Next == 0 {
			return all, nil
		}
		after = page.Next
	}
}
