package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// What the gateway shows; the same names everywhere (DESIGN 4).
type (
	event struct {
		ID           string          `json:"id"`
		Type         string          `json:"type"`
		Entity       string          `json:"entity"`
		Version      uint64          `json:"version"`
		Coordinates  string          `json:"coordinates"`
		Time         time.Time       `json:"time"`
		RecordedTime time.Time       `json:"recorded_time"`
		Cause        string          `json:"cause"`
		Correlation  string          `json:"correlation"`
		Payload      json.RawMessage `json:"payload"`
	}
	outcome struct {
		Command  string    `json:"command"`
		Entity   string    `json:"entity"`
		Status   string    `json:"status"` // pending, retrying, held, done, refused, rejected, parked or conflict
		Version  uint64    `json:"version"`
		Events   []event   `json:"events"`
		Code     string    `json:"code"`
		Reason   string    `json:"reason"`
		Attempts int       `json:"attempts"`
		NextTry  time.Time `json:"next_try"`
	}
	aggregate struct {
		Entity  string          `json:"entity"`
		Type    string          `json:"type"`
		Version uint64          `json:"version"`
		State   json.RawMessage `json:"state"`
	}
	eventList struct {
		Events []json.RawMessage `json:"events"`
		Next   json.RawMessage   `json:"next"`
	}
)

// writeJSON writes an answer as it came, indented and with a newline at its end.
func writeJSON(w io.Writer, text []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON (%w): %s", err, short(string(text), 200))
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

// writeOutcome shows what became of a command.
func writeOutcome(w io.Writer, o outcome) error {
	fmt.Fprint(w, o.Status)
	if o.Version > 0 {
		fmt.Fprintf(w, ", version %d", o.Version)
	}
	if o.Attempts > 0 {
		fmt.Fprintf(w, ", after %d attempts", o.Attempts)
	}
	if !o.NextTry.IsZero() {
		fmt.Fprintf(w, ", next try %s", clock(o.NextTry))
	}
	if o.Reason != "" {
		fmt.Fprintf(w, ": %s", o.Reason)
	}
	fmt.Fprintln(w)
	t := table(w)
	for _, e := range o.Events {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", versionText(e.Version), e.Type, compact(e.Payload))
	}
	return t.Flush()
}

// versionText shows a version; records of the platform have none.
func versionText(v uint64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

// table returns a writer of aligned columns, separated by tabs in what is written.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// compact puts a JSON value on one line.
func compact(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return short(string(raw), 200)
	}
	return b.String()
}

// clock shows a time in local time.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}
