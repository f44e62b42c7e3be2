package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// parkedFilter are the flags that say which of the list are meant.
type parkedFilter struct {
	aggregate, status, typ, function string
}

func (f *parkedFilter) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.aggregate, "aggregate", "", "only those of this aggregate")
	flags.StringVar(&f.status, "status", "", "only retrying, held or parked ones")
	flags.StringVar(&f.typ, "type", "", "only those of this type: CheckingAccount.WithdrawCash, or WithdrawCash")
	flags.StringVar(&f.function, "function", "", "only those that this function failed on: its Trigger, namespace/name")
}

// some says whether enough is said to release many at once.
func (f *parkedFilter) some() bool { return f.aggregate+f.typ+f.function != "" }

func (f *parkedFilter) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"aggregate": f.aggregate, "status": f.status, "type": f.typ, "function": f.function} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// parkedIncomplete is what a list does not hold, since it is being taken over.
type parkedIncomplete struct {
	Partitions  []int32            `json:"partitions"`
	Dispatchers map[string][]int32 `json:"dispatchers"`
}

// warn says so to people.
func (i *parkedIncomplete) warn(w io.Writer) {
	if i == nil {
		return
	}
	for name, list := range i.Dispatchers {
		fmt.Fprintf(w, "incomplete: partitions %v of dispatcher %s are being taken over; ask again\n", list, name)
	}
	if len(i.Partitions) > 0 {
		fmt.Fprintf(w, "incomplete: partitions %v of the commands are being taken over; ask again\n", i.Partitions)
	}
}

// pages asks for one page after the other; ask returns where the next one begins.
func (f *parkedFilter) pages(ask func(query url.Values) (next string, err error)) error {
	for query := f.query(); ; {
		next, err := ask(query)
		if err != nil || next == "" || next == query.Get("after") {
			return err
		}
		query.Set("after", next)
	}
}

// listParked shows the list, page by page.
func listParked(cmd *cobra.Command, g *globals, f *parkedFilter) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	whole := map[string]any{}
	raw := []json.RawMessage{}
	var items []parkedItem
	err = f.pages(func(query url.Values) (string, error) {
		var page struct {
			Parked     []json.RawMessage `json:"parked"`
			Next       string            `json:"next"`
			Incomplete json.RawMessage   `json:"incomplete"`
		}
		if _, err := c.get(cmd.Context(), "/v1/parked", query, &page); err != nil {
			return "", err
		}
		for _, text := range page.Parked {
			var item parkedItem
			if err := json.Unmarshal(text, &item); err != nil {
				return "", fmt.Errorf("an entry of the answer is not what this version of evento understands: %w", err)
			}
			items = append(items, item)
		}
		raw = append(raw, page.Parked...)
		if len(page.Incomplete) > 0 {
			whole["incomplete"] = page.Incomplete
			var missing parkedIncomplete
			if err := json.Unmarshal(page.Incomplete, &missing); err != nil {
				return "", err
			}
			missing.warn(cmd.ErrOrStderr())
		}
		return page.Next, nil
	})
	if err != nil {
		return err
	}
	if !g.json() {
		return writeParked(cmd.OutOrStdout(), items)
	}
	whole["parked"] = raw
	text, err := json.Marshal(whole)
	if err != nil {
		return err
	}
	return writeJSON(cmd.OutOrStdout(), text)
}

// releaseMany retries or re-issues all that the flags name, page by page.
func releaseMany(cmd *cobra.Command, g *globals, f *parkedFilter, what string) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	released := 0
	var failures []error
	err = f.pages(func(query url.Values) (string, error) {
		var page struct {
			Released []string `json:"released"`
			Failed   []struct {
				Coordinates string `json:"coordinates"`
				Problem     struct {
					Title, Detail string
				} `json:"problem"`
			} `json:"failed"`
			Next       string            `json:"next"`
			Incomplete *parkedIncomplete `json:"incomplete"`
		}
		if err := postPage(cmd.Context(), c, "/v1/parked/"+what+"?"+query.Encode(), &page); err != nil {
			return "", fmt.Errorf("%d were released before: %w", released, err)
		}
		released += len(page.Released)
		for _, at := range page.Released {
			fmt.Fprintln(cmd.OutOrStdout(), at)
		}
		for _, f := range page.Failed {
			failures = append(failures, fmt.Errorf("%s: %s: %s", f.Coordinates, f.Problem.Title, f.Problem.Detail))
		}
		page.Incomplete.warn(cmd.ErrOrStderr())
		return page.Next, nil
	})
	if err != nil {
		return errors.Join(append(failures, err)...)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d released, %d not\n", released, len(failures))
	return errors.Join(failures...)
}

func postPage(ctx context.Context, c *client, path string, into any) error {
	a, err := c.do(ctx, request{method: http.MethodPost, path: path})
	if err != nil {
		return err
	}
	return a.decode(into)
}

// one or many: coordinates, or flags that say which.
func oneOrMany(f *parkedFilter, args []string) (many bool, err error) {
	switch {
	case len(args) == 1 && f.some():
		return false, usagef("give either coordinates or flags that say which")
	case len(args) == 1:
		return false, nil
	case len(args) == 0 && f.some():
		return true, nil
	}
	return false, usagef("give the coordinates, as `evento parked list` shows them, or --aggregate, --type or --function for all of those (there are %d words)", len(args))
}

func parkedShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show <coordinates>",
		Short: "Show one command or event with its whole content",
		Long: `Shows all of a command that does not succeed, or of an event that dispatchers have
parked: payload, attributes and cause, and why, where, how often and since when it failed.`,
		Example: `  evento parked show kf-evento-commands/3/1042
  evento parked show kf-evento-events/3/77 -o json | jq .message.payload`,
		Args: exactly("the coordinates, as `evento parked list` shows them", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := parkedPath(args[0])
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			var one parkedOne
			a, err := c.get(cmd.Context(), path, nil, &one)
			switch {
			case err != nil:
				return err
			case g.json():
				return writeJSON(cmd.OutOrStdout(), a.body)
			}
			return one.write(cmd.OutOrStdout())
		},
	}
}

type parkedOne struct {
	Parked  []parkedItem `json:"parked"`
	Message *struct {
		event
		Correlation string `json:"correlation"`
		Cause       string `json:"cause"`
		CauseAt     string `json:"cause_coordinates"`
		Source      string `json:"source"`
		Schema      string `json:"schema"`
		Expected    *int64 `json:"expected_version"`
		Trace       string `json:"traceparent"`
		Avro        []byte `json:"payload_avro"`
	} `json:"message"`
	Outcome *event `json:"outcome"`
}

func (o *parkedOne) write(w io.Writer) error {
	t := table(w)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, strings.ReplaceAll(value, "\n", " "))
		}
	}
	for _, p := range o.Parked {
		row("status", p.Status)
		row("dispatcher", p.Dispatcher)
		row("attempts", fmt.Sprint(p.Attempts))
		row("failing since", clock(p.Failing))
		row("next try", clock(p.NextTry))
		row("function", strings.TrimSpace(p.Function+" "+p.Image))
		row("reason", p.Reason)
	}
	if o.Outcome != nil {
		row("outcome", o.Outcome.Type+" "+o.Outcome.ID)
	}
	m := o.Message
	if m == nil {
		row("message", "Kafka does not have it any more")
		return t.Flush()
	}
	row("entity", m.Entity)
	row("type", m.Type)
	row("id", m.ID)
	row("source", m.Source)
	row("time", clock(m.Time))
	row("cause", strings.TrimSpace(m.Cause+" "+m.CauseAt))
	row("correlation", m.Correlation)
	if m.Expected != nil {
		row("expected version", fmt.Sprint(*m.Expected))
	}
	row("schema", m.Schema)
	row("traceparent", m.Trace)
	if len(m.Avro) > 0 {
		row("payload", fmt.Sprintf("%d bytes of Avro that this gateway has no schema for", len(m.Avro)))
	} else {
		row("payload", compact(m.Payload))
	}
	return t.Flush()
}
