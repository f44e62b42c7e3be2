package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// eventsPage is how many events one call asks for.
const eventsPage = 500

func eventsCommand(g *globals) *cobra.Command {
	var (
		after uint64
		limit int
	)
	cmd := &cobra.Command{
		Use:   "events <entity>",
		Short: "Show the history of an aggregate",
		Long: `Shows the events of an aggregate, oldest first. With -o json there is one event
on a line, so that a history of any length can be piped on.`,
		Example: `  evento events checking:54321-90
  evento events checking:54321-90 --after 10 --limit 5
  evento events checking:54321-90 -o json | jq .payload`,
		Args: exactly("the entity, for example: evento events checking:54321-90", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			path, err := aggregatePath(args[0])
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d is negative; 0 shows all", limit)
			}
			show := showEventText
			if g.json() {
				show = showEventJSON
			}
			return eachEvent(cmd.Context(), c, path+"/events", after, limit, func(raw json.RawMessage) error {
				return show(cmd.OutOrStdout(), raw)
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "show the events after this version")
	cmd.Flags().IntVar(&limit, "limit", 0, "show at most so many; 0 shows all")
	return cmd
}

// eachEvent reads a history page by page. limit 0 means all.
func eachEvent(ctx context.Context, c *client, path string, after uint64, limit int, do func(json.RawMessage) error) error {
	query := url.Values{}
	if after > 0 {
		query.Set("after", strconv.FormatUint(after, 10))
	}
	for shown := 0; ; {
		page := eventsPage
		if limit > 0 {
			page = min(page, limit-shown)
		}
		query.Set("limit", strconv.Itoa(page))
		var list eventList
		if _, err := c.get(ctx, path, query, &list); err != nil {
			return err
		}
		for _, e := range list.Events {
			if err := do(e); err != nil {
				return err
			}
			if shown++; shown == limit {
				return nil
			}
		}
		next := nextPage(list.Next)
		if next == "" || next == query.Get("after") {
			return nil
		}
		query.Set("after", next)
	}
}

// nextPage reads where the next page begins; "" when there is none.
func nextPage(raw json.RawMessage) string {
	text := strings.Trim(string(raw), `"`)
	if text == "null" || text == "0" {
		return ""
	}
	return text
}

func showEventJSON(w io.Writer, raw json.RawMessage) error {
	_, err := fmt.Fprintln(w, compact(raw))
	return err
}

func showEventText(w io.Writer, raw json.RawMessage) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("an event of the answer is not what this version of evento understands: %w", err)
	}
	_, err := fmt.Fprintf(w, "%4s  %s  %s  %s\n", versionText(e.Version), clock(e.Time), e.Type, compact(e.Payload))
	return err
}
