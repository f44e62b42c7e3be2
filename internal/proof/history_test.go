package proof

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/runtime"
)

// command is a command as its sender knows it, or an event published from outside.
type command struct {
	ID      string
	Source  string
	Entity  string
	Type    string // short: "WithdrawCash"
	Payload map[string]any
	Expect  string // If-Match, or ""
	Publish bool   // it is an event

	mu       sync.Mutex // guards what follows
	attempts []attempt
}

func (c *command) key() runtime.CommandKey {
	return runtime.NewCommandKey(c.Source, runtime.Entity(c.Entity).Aggregate(), c.ID)
}

func (c *command) String() string {
	return fmt.Sprintf("%s %s (%s, %s)", c.Type, c.ID, c.Source, c.Entity)
}

// attempt is one time that a command was sent.
type attempt struct {
	Gateway    string
	Sent, Done time.Time
	Result     result
	Status     int
	Problem    string   // type of the problem document, without its prefix
	Outcome    *outcome // nil when the answer had none
	Err        string
	RetryAfter string // header; "" when the answer had none
	RepeatID   string // the id that a problem document says to repeat with
}

// result is what a sender may believe of an attempt.
type result int

const (
	unknown  result = iota // no answer, or one that says so: it may have been accepted
	failed                 // certainly not accepted
	accepted               // accepted; the outcome came with the answer or comes later
)

// outcome is what the gateway answers about a command.
type outcome struct {
	Command  string  `json:"command"`
	Status   string  `json:"status"`
	Version  uint64  `json:"version"`
	Entity   string  `json:"entity"`
	Type     string  `json:"type"`
	Source   string  `json:"source"`
	Events   []event `json:"events"`
	Code     string  `json:"code"`
	Reason   string  `json:"reason"`
	Attempts int     `json:"attempts"`
}

type event struct {
	ID               string          `json:"id"`
	Type             string          `json:"type"`
	Entity           string          `json:"entity"`
	Version          uint64          `json:"version"`
	Coordinates      string          `json:"coordinates"`
	Time             time.Time       `json:"time"`
	RecordedTime     time.Time       `json:"recorded_time"`
	Cause            string          `json:"cause"`
	CauseCoordinates string          `json:"cause_coordinates"`
	Correlation      string          `json:"correlation"`
	Source           string          `json:"source"`
	Schema           string          `json:"schema"`
	By               string          `json:"by"`
	Payload          json.RawMessage `json:"payload"`
}

// final says whether the outcome is one for ever.
func (o *outcome) final() bool {
	return o != nil && slices.Contains([]string{"done", "refused", "rejected", "parked"}, o.Status)
}

// same returns how two final outcomes of a command differ, "" when they do not.
func (o *outcome) same(other *outcome) string { return verify.Differ(*o, *other) }

// told is a final outcome as the checker takes it, or nil.
func (o *outcome) told() *verify.Outcome {
	if !o.final() {
		return nil
	}
	told := &verify.Outcome{Status: o.Status, Version: o.Version, Full: *o}
	for _, e := range o.Events {
		told.Events = append(told.Events, verify.Shown{Coordinates: e.Coordinates, ID: e.ID, Type: e.Type, Version: e.Version})
	}
	return told
}

func (c *command) add(a attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, a)
}

// tries returns the attempts that have ended so far.
func (c *command) tries() []attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.attempts)
}

// result is accepted when any attempt was, failed when all did, else unknown.
func (c *command) result() result {
	all := failed
	for _, a := range c.tries() {
		switch a.Result {
		case accepted:
			return accepted
		case unknown:
			all = unknown
		}
	}
	return all
}

// answer returns the first final outcome that a sender was told, or nil.
func (c *command) answer() *outcome {
	for _, a := range c.tries() {
		if a.Outcome.final() {
			return a.Outcome
		}
	}
	return nil
}

// history is all that the clients of a run have sent.
type history struct {
	mu       sync.Mutex // guards commands
	commands []*command
}

func (h *history) add(c *command) *command {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands = append(h.commands, c)
	return c
}

func (h *history) all() []*command {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.commands)
}

// counts says how many commands were accepted, failed and are unknown, and how often they were sent.
func (h *history) counts() string {
	var by [3]int
	sent := 0
	for _, c := range h.all() {
		by[c.result()]++
		sent += len(c.tries())
	}
	return fmt.Sprintf("%d accepted, %d failed, %d unknown; sent %d times", by[accepted], by[failed], by[unknown], sent)
}

// slowest tells of the command that its client was busy with for the longest time.
func (h *history) slowest() string {
	var slow *command
	var longest time.Duration
	for _, c := range h.all() {
		tries := c.tries()
		for _, a := range tries {
			if took := a.Done.Sub(a.Sent); took > longest {
				slow, longest = c, took
			}
		}
	}
	if slow == nil {
		return "no command was sent"
	}
	text := fmt.Sprintf("the longest time for an answer was %v: %s", longest.Round(time.Millisecond), slow)
	for _, a := range slow.tries() {
		text += fmt.Sprintf("; %s at %s, after %v: %d %s %s", a.Gateway, a.Sent.Format("15:04:05.000"), a.Done.Sub(a.Sent).Round(time.Millisecond), a.Status, a.Problem, a.Err)
	}
	return text
}
